//! Where spans are exported to, and the header fields for the collector.

use std::{fmt, str::FromStr};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};
use thiserror::Error;

use crate::auth::Secret;

/// The URL of a collector's traces, without credentials.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorUrl(Uri);

/// A text is not the URL of a collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is not a URL of the form http://HOST:PORT/v1/traces without a user and a query")]
pub struct CollectorUrlError;

impl CollectorUrl {
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }

    pub(super) fn is_plain(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }
}

impl FromStr for CollectorUrl {
    type Err = CollectorUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let uri: Uri = text.parse().map_err(|_| CollectorUrlError)?;
        let authority = uri.authority().ok_or(CollectorUrlError)?;
        let host = authority.host();
        let is_bare = authority.as_str() == host || authority.port_u16().is_some();
        let is_http = matches!(uri.scheme_str(), Some("http" | "https"));
        // `http` leaves out a fragment.
        let is_whole = is_bare && !host.is_empty() && uri.query().is_none() && !text.contains('#');
        if !is_http || !is_whole || authority.as_str().contains('@') || uri.path() == "/" {
            return Err(CollectorUrlError);
        }
        Ok(Self(uri))
    }
}

impl fmt::Display for CollectorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Header fields of each export.
#[derive(Clone, Default)]
pub struct CollectorHeaders(pub(super) HeaderMap);

/// A text is not a list of header fields. It is not shown, since it may hold a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("it is not a list of header fields of the form name=value,name=value")]
pub struct CollectorHeadersError;

impl CollectorHeaders {
    /// Parses `name=value,name=value`; a value may have `=` in it.
    ///
    /// # Errors
    /// Another form, or a field that the hub writes itself.
    pub fn parse(text: &Secret) -> Result<Self, CollectorHeadersError> {
        let text = str::from_utf8(text.expose()).map_err(|_| CollectorHeadersError)?;
        let mut headers = HeaderMap::new();
        for field in text.split(',').map(str::trim).filter(|field| !field.is_empty()) {
            let (name, value) = field.split_once('=').ok_or(CollectorHeadersError)?;
            let name: HeaderName = name.trim().parse().map_err(|_| CollectorHeadersError)?;
            let mut value =
                HeaderValue::from_str(value.trim()).map_err(|_| CollectorHeadersError)?;
            value.set_sensitive(true);
            if OWN.contains(&name) {
                return Err(CollectorHeadersError);
            }
            headers.append(name, value);
        }
        Ok(Self(headers))
    }
}

impl fmt::Debug for CollectorHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the hub or its HTTP client writes.
const OWN: [HeaderName; 5] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::HOST,
    header::CONNECTION,
    header::TRANSFER_ENCODING,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_has_a_url_with_a_path_and_no_credentials() {
        for good in [
            "http://127.0.0.1:4318/v1/traces",
            "https://otel.example/v1/traces",
            "http://[::1]:4318/v1/traces",
        ] {
            assert_eq!(good.parse::<CollectorUrl>().expect(good).to_string(), good);
        }
        for bad in [
            "",
            "127.0.0.1:4318",
            "http://127.0.0.1:4318",
            "http://127.0.0.1:4318/",
            "grpc://127.0.0.1:4317/v1/traces",
            "http://ann:planted@otel.example/v1/traces",
            "https://otel.example/v1/traces?key=planted",
            "https://otel.example/v1/traces#planted",
            "http://host:port/v1/traces",
        ] {
            assert_eq!(bad.parse::<CollectorUrl>(), Err(CollectorUrlError), "{bad}");
        }
    }

    #[test]
    fn header_fields_are_parsed_and_not_shown() {
        let parse = |text: &str| CollectorHeaders::parse(&Secret::new(text));
        let headers = parse("authorization=Basic planted==, x-team = a").expect("two fields");
        assert_eq!(headers.0["authorization"], "Basic planted==");
        assert_eq!(headers.0["x-team"], "a");
        assert!(!format!("{headers:?}").contains("planted"));
        assert!(parse("").expect("none").0.is_empty());
        for bad in ["a", "a b=c", "a=b,c", "=b", "a=\u{7}", "Content-Length=3", "host=x"] {
            assert_eq!(parse(bad).err(), Some(CollectorHeadersError), "{bad}");
        }
    }
}
