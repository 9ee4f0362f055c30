//! The HTTP client for servers to which the hub itself sends requests: issuers of keys, collectors
//! of traces.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

/// A client whose requests have bodies of type `B`.
pub(crate) type HttpsClient<B> = Client<HttpsConnector<HttpConnector>, B>;

/// A client for one server: with plain `http` if `is_plain`, otherwise with `https`, where the
/// server's certificate is checked against the system's roots. It uses no proxy and follows no
/// redirects.
///
/// # Errors
/// The system's root certificates cannot be read.
pub(crate) fn https_client<B>(
    is_plain: bool,
    connect_timeout: Duration,
    pool_idle_timeout: Duration,
) -> io::Result<HttpsClient<B>>
where
    B: Body<Data = Bytes> + Send,
{
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_connect_timeout(Some(connect_timeout));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let connector = if is_plain {
        // The system's roots are not read, so a machine without any can reach a server by plain
        // HTTP.
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
        .pool_idle_timeout(pool_idle_timeout)
        .build(connector.enable_http1().wrap_connector(http)))
}
