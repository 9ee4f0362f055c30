//! Patterns of web origins in settings: one origin, all subdomains of a domain, or any origin.

use http::uri::Authority;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A pattern of origins: `https://app.example.org`, `https://*.example.org`, or `*`.
///
/// `*.` matches one or more labels; scheme and port must be equal. An opaque origin (`null`, as of
/// a sandboxed frame) matches only `*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct OriginPattern {
    text: String,
    /// The offset of the star, if there is one.
    star: Option<usize>,
}

/// The text is not an origin pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("not an origin such as https://app.example.org or https://*.example.org, nor *")]
pub struct OriginPatternError;

impl OriginPattern {
    /// Parses a pattern.
    ///
    /// # Errors
    /// A text that, except for its star, no browser sends as `Origin`.
    pub fn parse(text: &str) -> Result<Self, OriginPatternError> {
        let star = text.find('*');
        let is_good = match text.split_once("*.") {
            _ if text == ANY => true,
            Some((scheme, domain)) => {
                let origin = format!("{scheme}{domain}");
                scheme.ends_with("://") && is_origin(&origin) && !is_address(domain)
            }
            None => is_origin(text),
        };
        if is_good { Ok(Self { text: text.to_owned(), star }) } else { Err(OriginPatternError) }
    }

    /// Whether the pattern is `*`.
    pub fn is_any(&self) -> bool {
        self.text == ANY
    }

    /// Whether the star stands for all names of a top-level domain, as in `https://*.com`, which
    /// have many owners. `localhost` does not count: all names below it are this machine.
    pub fn covers_top_level_domain(&self) -> bool {
        let domain = self.text.split_once("*.").map(|(_, domain)| domain);
        let host = domain.map(|domain| domain.split(':').next().unwrap_or_default());
        host.is_some_and(|host| !host.contains('.') && host != "localhost")
    }

    /// Whether an `Origin` matches. Browsers send origins in a normal form, so bytes are compared.
    pub fn matches(&self, origin: &[u8]) -> bool {
        let Some(star) = self.star else { return origin == self.text.as_bytes() };
        if self.is_any() {
            return true;
        }
        let (before, after) = (&self.text.as_bytes()[..star], &self.text.as_bytes()[star + 1..]);
        let labels = origin.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
        labels.is_some_and(|labels| labels.split(|byte| *byte == b'.').all(is_label))
    }
}

impl TryFrom<String> for OriginPattern {
    type Error = OriginPatternError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text)
    }
}

impl From<OriginPattern> for String {
    fn from(pattern: OriginPattern) -> Self {
        pattern.text
    }
}

/// Whether a text is an origin as a browser sends it: scheme and authority in lower case, without
/// the default port of the scheme (RFC 6454, section 6.2).
pub(crate) fn is_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else { return false };
    let default_port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => return false,
    };
    let parsed: Option<Authority> = authority.parse().ok();
    parsed.is_some_and(|parsed| {
        !parsed.host().is_empty()
            && !authority.contains(['@', '*'])
            && !authority.ends_with(default_port)
            && !authority.bytes().any(|byte| byte.is_ascii_uppercase())
    })
}

/// Whether the host of an authority is an IP address, which has no subdomains.
fn is_address(authority: &str) -> bool {
    let host = authority.split(':').next().unwrap_or_default();
    let last_label = host.rsplit('.').next().unwrap_or_default();
    host.starts_with('[')
        || last_label.is_empty()
        || last_label.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_label(label: &[u8]) -> bool {
    let is_good = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    !label.is_empty() && label.iter().all(is_good)
}

const ANY: &str = "*";

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, origin: &str) -> bool {
        let pattern = OriginPattern::parse(pattern).expect("a pattern");
        pattern.matches(origin.as_bytes())
    }

    #[test]
    fn an_origin_is_itself_alone() {
        assert!(matches("https://app.example", "https://app.example"));
        for other in [
            "http://app.example",
            "https://app.example:8443",
            "https://app.example.evil.example",
            "https://xapp.example",
            "https://app.example/",
            "https://APP.example",
            "null",
            "",
        ] {
            assert!(!matches("https://app.example", other), "{other}");
        }
    }

    #[test]
    fn a_star_is_one_or_more_labels_of_the_same_scheme_and_port() {
        for origin in
            ["https://a.app.example", "https://b.a.app.example", "https://x-1_.app.example"]
        {
            assert!(matches("https://*.app.example", origin), "{origin}");
        }
        for other in [
            "https://app.example",
            "https://.app.example",
            "https://a..app.example",
            "https://evilapp.example",
            "https://a.app.example:8443",
            "https://a.app.example.evil.example",
            "https://evil.example/.app.example",
            "https://evil.example:1.app.example",
            "https://user@a.app.example",
            "https://evil.example?.app.example",
            "https://evil.example#.app.example",
            "https://evil.example\\.app.example",
            "https://A.app.example",
            "http://a.app.example",
            "null",
        ] {
            assert!(!matches("https://*.app.example", other), "{other}");
        }
        assert!(matches("http://*.app.example:8080", "http://a.app.example:8080"));
        assert!(!matches("http://*.app.example:8080", "http://a.app.example"));
        assert!(matches("http://*.localhost:3000", "http://a.localhost:3000"));
    }

    #[test]
    fn a_star_above_a_single_label_is_found() {
        for (text, expected) in [
            ("https://*.com", true),
            ("https://*.com:8443", true),
            ("https://*.app.example", false),
            ("http://*.localhost:3000", false),
            ("https://app.example", false),
            ("http://intranet", false),
            ("*", false),
        ] {
            let pattern = OriginPattern::parse(text).expect("a pattern");
            assert_eq!(pattern.covers_top_level_domain(), expected, "{text}");
        }
    }

    #[test]
    fn any_is_any_the_opaque_one_too() {
        assert!(matches("*", "https://app.example") && matches("*", "null"));
    }

    #[test]
    fn what_no_browser_sends_is_refused() {
        for text in [
            "",
            "null",
            "app.example",
            "//app.example",
            "https://",
            "https://:8443",
            "https://app.example/",
            "https://app.example:443",
            "http://app.example:80",
            "https://APP.example",
            "https://u@app.example",
            "ftp://app.example",
            "**",
            "https://*",
            "https://*.",
            "https://*app.example",
            "https://app.*.example",
            "https://*.*.example",
            "*.app.example",
            "*://app.example",
            "https://*.app.example/",
            "https://*.app.example:443",
            "https://*.192.0.2.1",
            "https://*.[::1]",
            "https://app.example:*",
        ] {
            assert_eq!(OriginPattern::parse(text), Err(OriginPatternError), "{text}");
        }
    }
}
