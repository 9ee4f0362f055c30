//! The URL of an issuer's keys. It is checked, and shown without credentials.

use std::fmt;

use http::Uri;
use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

use super::REDACTED;

/// A checked URL of an issuer's keys: `https`, or `http` to a loopback address.
#[derive(Clone, PartialEq, Eq)]
pub struct JwksUrl(Uri);

/// The text of such a URL in the settings, valid or not. Parts of it that may be credentials are
/// not shown.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct JwksUrlText(String);

/// Why a URL cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JwksUrlError {
    /// The text is not such a URL.
    #[error("it is not a URL of the form https://host/path")]
    NotAUrl,
    /// The scheme is `http`, and the host is not a loopback address: an attacker on the network
    /// could replace the keys.
    #[error(
        "an attacker on the network could replace keys over plain http; only http to a loopback \
         address is taken"
    )]
    Plain,
}

impl JwksUrl {
    /// Checks a URL.
    pub fn parse(text: &str) -> Result<Self, JwksUrlError> {
        let uri: Uri = text.parse().map_err(|_| JwksUrlError::NotAUrl)?;
        let authority = uri.authority().ok_or(JwksUrlError::NotAUrl)?;
        // A URL that was copied from where it is shown has `***` for its query.
        let is_redacted = uri.query() == Some(REDACTED);
        let host = authority.host();
        // In `https://ann:password?@host`, the text after the colon is not a port.
        let is_host_and_port = authority.as_str() == host || authority.port_u16().is_some();
        if authority.as_str().contains('@') || host.is_empty() || !is_host_and_port || is_redacted {
            return Err(JwksUrlError::NotAUrl);
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self(uri)),
            Some("http") if is_loopback(host) => Ok(Self(uri)),
            Some("http") => Err(JwksUrlError::Plain),
            _ => Err(JwksUrlError::NotAUrl),
        }
    }

    /// The URL to fetch.
    pub(super) fn uri(&self) -> &Uri {
        &self.0
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.0.scheme_str(), self.0.authority());
        let (scheme, authority) = scheme.zip(authority).expect("they were checked");
        write!(f, "{scheme}://{authority}{}", self.0.path())?;
        if self.0.query().is_some() { write!(f, "?{REDACTED}") } else { Ok(()) }
    }
}

impl fmt::Debug for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl JwksUrlText {
    /// The text, unchecked.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Checks the text.
    ///
    /// # Errors
    /// It is not a URL from which keys may be fetched.
    pub fn parse(&self) -> Result<JwksUrl, JwksUrlError> {
        JwksUrl::parse(&self.0)
    }
}

impl fmt::Display for JwksUrlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(url) = self.parse() {
            return write!(f, "{url}");
        }
        // In a text that is not a URL credentials can be anywhere: nothing is shown that may be
        // user information or a query.
        let (scheme, rest) = self.0.split_once("://").unwrap_or(("", &self.0));
        let is_scheme = scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !scheme.is_empty() && is_scheme {
            write!(f, "{scheme}://")?;
        }
        let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, r)| (Some(user), r));
        if user.is_some() {
            write!(f, "{REDACTED}@")?;
        }
        match rest.split_once(['?', '#']) {
            Some((rest, _)) => write!(f, "{}?{REDACTED}", rest.escape_debug()),
            None => write!(f, "{}", rest.escape_debug()),
        }
    }
}

impl fmt::Debug for JwksUrlText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for JwksUrlText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_http_is_for_this_machine_alone() {
        for good in ["https://id.example/jwks", "http://127.0.0.1:8/", "http://[::1]/k"] {
            assert!(JwksUrl::parse(good).is_ok(), "{good}");
        }
        for plain in ["http://id.example/jwks", "http://127.0.0.1.evil.example/", "http://10.0.0.1"]
        {
            assert_eq!(JwksUrl::parse(plain), Err(JwksUrlError::Plain), "{plain}");
        }
        for bad in ["", "/jwks", "ftp://a/", "https://", "https://u:p@id.example/", "file:///k"] {
            assert_eq!(JwksUrl::parse(bad), Err(JwksUrlError::NotAUrl), "{bad}");
        }
    }

    #[test]
    fn credentials_in_a_url_are_not_shown() {
        for (text, shown) in [
            ("", ""),
            ("https://id.example/jwks", "https://id.example/jwks"),
            ("https://id.example/jwks?key=planted", "https://id.example/jwks?***"),
            ("https://ann:planted@id.example/jwks", "https://***@id.example/jwks"),
            ("https://ann:planted?@id.example/jwks?planted", "https://***@id.example/jwks?***"),
            ("ann:planted@id.example#planted", "***@id.example?***"),
            ("http://id.example/?planted", "http://id.example/?***"),
            ("https://id.example/?***", "https://id.example/?***"),
        ] {
            let written = JwksUrlText::new(text);
            assert_eq!(written.to_string(), shown);
            assert_eq!(format!("{written:?}"), format!("\"{shown}\""));
        }
        // A shown URL is not fetched.
        assert!(JwksUrl::parse("https://id.example/?***").is_err());
    }
}
