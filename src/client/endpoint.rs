//! The hub's base URL, the root certificates it is verified with, and the token to send.

use std::{fmt, path::Path, sync::Arc};

use http::{HeaderValue, Uri};
use hyper_rustls::ConfigBuilderExt;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, WantsVerifier,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, pem::PemObject},
};
use thiserror::Error;

/// A hub's base URL, which may have a path, and the token that requests carry.
#[derive(Clone)]
pub struct Endpoint {
    /// The trusted root certificates; empty for `http://`.
    tls: Arc<ClientConfig>,
    /// Without a slash at its end.
    base: String,
    /// The whole `Authorization` value, marked sensitive so that no debug output shows it.
    authorization: Option<HeaderValue>,
}

/// Why a URL or a token cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It is not `http[s]://host[:port][/path]`. What may be a credential in it is not shown.
    #[error("`{0}` is not a URL of the form http://host:port or https://host:port")]
    NotAUrl(String),
    /// The hub's certificate cannot be verified without roots.
    #[error("the system's root certificates cannot be read: {0}")]
    Roots(String),
    /// A file of roots has none, or cannot be read.
    #[error("{file} has no certificate that can be used as a root: {reason}")]
    RootFile {
        /// The file.
        file: String,
        /// What is wrong.
        reason: String,
    },
    /// The token has characters that a header cannot carry.
    #[error("the token has characters that no token can have")]
    Token,
}

impl Endpoint {
    /// Reads a base URL such as `http://127.0.0.1:3000`. A path is kept, for hubs behind a
    /// proxy; a query or user information is refused. With `https`, the hub's certificate must come
    /// from a root that the system trusts, or from one in the file that the environment variable
    /// `SSL_CERT_FILE` names.
    pub fn parse(url: &str) -> Result<Self, EndpointError> {
        Self::parse_with(url, None)
    }

    /// As [`parse`](Self::parse), with the root certificates of a file in PEM instead of the
    /// system's. The hub's own certificate can be a root, if it is signed by itself.
    pub fn parse_with_roots(url: &str, roots: &Path) -> Result<Self, EndpointError> {
        Self::parse_with(url, Some(roots))
    }

    fn parse_with(url: &str, roots: Option<&Path>) -> Result<Self, EndpointError> {
        let not_a_url = || EndpointError::NotAUrl(without_credentials(url));
        let uri: Uri = url.parse().map_err(|_| not_a_url())?;
        let scheme = match uri.scheme_str() {
            Some(scheme @ ("http" | "https")) => scheme,
            _ => return Err(not_a_url()),
        };
        let authority = uri.authority().ok_or_else(not_a_url)?;
        if authority.host().is_empty() || authority.as_str().contains('@') || uri.query().is_some()
        {
            return Err(not_a_url());
        }
        let path = uri.path().trim_end_matches('/');
        let tls = match (scheme, roots) {
            ("https", Some(file)) => tls_config().with_root_certificates(root_file(file)?),
            ("https", None) => tls_config()
                .with_native_roots()
                .map_err(|error| EndpointError::Roots(error.to_string()))?,
            _ => tls_config().with_root_certificates(RootCertStore::empty()),
        };
        Ok(Self {
            tls: Arc::new(tls.with_no_client_auth()),
            base: format!("{scheme}://{authority}{path}"),
            authorization: None,
        })
    }

    /// Sends `token` as `Authorization: Bearer` with every request.
    pub fn with_token(mut self, token: &str) -> Result<Self, EndpointError> {
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(EndpointError::Token);
        }
        let mut value =
            HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| EndpointError::Token)?;
        value.set_sensitive(true);
        self.authorization = Some(value);
        Ok(self)
    }

    /// The address of a path, which begins with a slash, with a query where there are pairs.
    pub(crate) fn url(&self, path: &str, query: &[(&str, &str)]) -> String {
        let mut url = format!("{}{path}", self.base);
        for (index, (name, value)) in query.iter().enumerate() {
            url.push(if index == 0 { '?' } else { '&' });
            url.push_str(name);
            url.push('=');
            url.push_str(&percent_encode(value));
        }
        url
    }

    pub(crate) fn tls(&self) -> &ClientConfig {
        &self.tls
    }

    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base", &self.base)
            .field("authorization", &self.authorization.is_some())
            .finish()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.base)
    }
}

fn tls_config() -> ConfigBuilder<ClientConfig, WantsVerifier> {
    ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("the provider has the default protocol versions")
}

/// The certificates of a file in PEM, as roots.
fn root_file(path: &Path) -> Result<RootCertStore, EndpointError> {
    let refuse = |reason: &dyn fmt::Display| EndpointError::RootFile {
        file: path.display().to_string(),
        reason: reason.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| refuse(&error))? {
        let certificate = certificate.map_err(|error| refuse(&error))?;
        roots.add(certificate).map_err(|error| refuse(&error))?;
    }
    if roots.is_empty() { Err(refuse(&"it holds no certificate in PEM")) } else { Ok(roots) }
}

/// A text that is not a base URL, to be shown: without what may be a user's or a query.
fn without_credentials(url: &str) -> String {
    let scheme = url.find("://").map_or("", |at| &url[..at + "://".len()]);
    let is_scheme = scheme.trim_end_matches("://").bytes().all(|byte| byte.is_ascii_alphanumeric());
    let (scheme, rest) = url.split_at(if is_scheme { scheme.len() } else { 0 });
    let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(_, rest)| ("***@", rest));
    match rest.split_once(['?', '#']) {
        Some((rest, _)) => format!("{scheme}{user}{rest}?***"),
        None => format!("{scheme}{user}{rest}"),
    }
}

/// `text` as one path part or one query value.
pub(crate) fn percent_encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// All but the unreserved characters of RFC 3986, section 2.3.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base_urls_are_normalised() {
        for (url, base) in [
            ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
            ("http://[::1]:3000/", "http://[::1]:3000"),
            ("http://localhost/hub/", "http://localhost/hub"),
            ("https://hub.example/", "https://hub.example"),
        ] {
            assert_eq!(Endpoint::parse(url).expect(url).to_string(), base);
        }
    }

    #[test]
    fn what_is_not_a_base_url_is_refused() {
        for url in ["", "localhost", "localhost:3000", "/v1", "ftp://a"] {
            assert_eq!(Endpoint::parse(url).err(), Some(EndpointError::NotAUrl(url.into())));
        }
        for (url, shown) in [
            ("http://a?b=c", "http://a?***"),
            ("http://u:p@a/", "http://***@a/"),
            ("u:p@a", "***@a"),
            ("http://u:p?@a/b?c@d#e", "http://***@d?***"),
            ("u:p://@a", "***@a"),
        ] {
            assert_eq!(Endpoint::parse(url).err(), Some(EndpointError::NotAUrl(shown.into())));
        }
    }

    #[test]
    fn query_values_are_encoded() {
        let endpoint = Endpoint::parse("http://a/hub").expect("valid");
        assert_eq!(
            endpoint.url("/v1/events", &[("channel", "a/b c&ї"), ("channel", "**")]),
            "http://a/hub/v1/events?channel=a%2Fb%20c%26%D1%97&channel=%2A%2A"
        );
    }

    #[test]
    fn token_is_checked_and_never_shown() {
        let endpoint = || Endpoint::parse("http://a").expect("valid");
        for token in ["", "a b", "a\r\nX: y", "ї"] {
            assert_eq!(endpoint().with_token(token).err(), Some(EndpointError::Token));
        }
        let endpoint = endpoint().with_token("secret").expect("valid");
        assert!(!format!("{endpoint:?} {:?}", endpoint.authorization()).contains("secret"));
    }
}
