//! The authority of a URI: a host and a port, as in `Host`, `:authority` and `Origin`.

use std::net::{IpAddr, Ipv6Addr};

/// A host, and a port if there is one (RFC 3986, section 3.2).
#[derive(Debug, Clone, Copy)]
pub(super) struct Authority<'a> {
    text: &'a str,
    host: &'a str,
    port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses an authority. `None` if it is malformed, such as with several hosts, or has user
    /// information: the host of `localhost:1@evil.example` is not `localhost`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']')?;
                host.parse::<Ipv6Addr>().ok()?;
                (host, port)
            }
            None => {
                let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
                host.bytes().all(is_name_byte).then_some((host, port))?
            }
        };
        let port = match port {
            "" | ":" => None,
            _ => {
                let digits = port.strip_prefix(':')?;
                let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
                Some(digits.parse().ok().filter(|_| is_number)?)
            }
        };
        Some(Self { text, host, port })
    }

    /// The text as received.
    pub(super) fn as_str(&self) -> &'a str {
        self.text
    }

    /// The host; an IPv6 address without its brackets.
    pub(super) fn host(&self) -> &'a str {
        self.host
    }

    /// Whether host and port are the same. An authority without a port has `default_port`.
    pub(super) fn is_same(&self, other: &Authority<'_>, default_port: u16) -> bool {
        let port = |authority: &Authority<'_>| authority.port.unwrap_or(default_port);
        is_same_host(self.host, other.host) && port(self) == port(other)
    }
}

/// Whether two hosts are the same: a name may have any case, and an address has several forms.
pub(super) fn is_same_host(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other) || address(one).is_some_and(|own| address(other) == Some(own))
}

/// The address that a host is, without brackets.
pub(super) fn address(host: &str) -> Option<IpAddr> {
    host.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// The port of an `http` or `https` URI without one.
pub(super) fn default_port(scheme: &str) -> Option<u16> {
    match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    }
}

/// Whether a byte may be in a host name (RFC 3986, `reg-name`). A comma may not, although it may in
/// the RFC: proxies join two fields with a comma.
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_one_host_and_a_port() {
        for (text, host, port) in [
            ("hub.example", "hub.example", None),
            ("hub.example:", "hub.example", None),
            ("hub_1.example:8443", "hub_1.example", Some(8443)),
            ("127.0.0.1:3000", "127.0.0.1", Some(3000)),
            ("[::1]", "::1", None),
            ("[::1]:3000", "::1", Some(3000)),
            ("", "", None),
        ] {
            let parsed = Authority::parse(text).map(|parsed| (parsed.host, parsed.port));
            assert_eq!(parsed, Some((host, port)), "{text}");
        }
        for text in [
            "127.0.0.1:3000, evil.example",
            "a,b",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a\\b",
            "u@a",
            "localhost:1@evil.example",
            "a:b",
            "a:+1",
            "a:65536",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[a]",
            "[]",
            "\u{456}",
        ] {
            assert!(Authority::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn authorities_are_compared_with_the_port_that_is_meant() {
        let is_same = |one, other, port| {
            let (one, other) = (Authority::parse(one), Authority::parse(other));
            one.expect("one").is_same(&other.expect("one"), port)
        };
        assert!(is_same("hub.example", "HUB.example:443", 443));
        assert!(is_same("hub.example:8443", "hub.example:8443", 443));
        assert!(is_same("[::1]:80", "[0:0::1]", 80));
        assert!(is_same("127.0.0.1", "[::ffff:127.0.0.1]:80", 80));
        assert!(!is_same("hub.example", "hub.example:443", 80));
        assert!(!is_same("hub.example:8443", "hub.example", 443));
        assert!(!is_same("hub.example", "hub.example.evil.example", 443));
    }
}
