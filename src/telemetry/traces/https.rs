//! The HTTP client of exports.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use super::collector::CollectorUrl;

pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client for one collector. The certificate of an `https` one is checked against the system's roots;
/// no proxy is asked, and redirects are not followed.
pub(super) fn client_for(url: &CollectorUrl, connect_timeout: Duration) -> io::Result<HttpClient> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(connect_timeout));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector = if url.is_plain() {
        // A machine without certificates can still reach a collector beside it.
        let none = rustls::ClientConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()
            .expect("the provider has the default protocol versions")
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        HttpsConnectorBuilder::new().with_tls_config(none).https_or_http()
    } else {
        HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)?.https_only()
    };
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .build(connector.enable_http1().wrap_connector(http)))
}

/// Longer than the time between two exports.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
