//! Trusted proxies, which report the address of the client in `X-Forwarded-For`.
//!
//! Similar fields (`Forwarded`, `X-Real-IP`) are not read: a proxy forwards a field that it does
//! not know as its client wrote it. The list is read from the right: each proxy appends the address
//! of its peer, so a client can forge everything left of the right-most untrusted address.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::ClientAddress;

/// An address, or a block of them: `10.0.0.7`, `10.0.0.0/8`, `2001:db8::/32`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProxyBlock(IpNet);

impl FromStr for ProxyBlock {
    type Err = ProxyBlockError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let block = match text.parse::<IpAddr>() {
            Ok(ip) => IpNet::from(ip.to_canonical()),
            Err(_) => text.parse().map_err(|_| ProxyBlockError)?,
        };
        // `10.1.2.3/8` has a mistake in address or length, and `/0` would trust every peer.
        if block.addr() != block.network() || block.prefix_len() == 0 {
            return Err(ProxyBlockError);
        }
        Ok(Self(block))
    }
}

impl TryFrom<String> for ProxyBlock {
    type Error = ProxyBlockError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ProxyBlock> for String {
    fn from(block: ProxyBlock) -> Self {
        block.to_string()
    }
}

impl fmt::Display for ProxyBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            return self.0.addr().fmt(f);
        }
        self.0.fmt(f)
    }
}

/// The text is neither an address nor a block whose host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address or a block such as 10.0.0.0/8")]
pub struct ProxyBlockError;

/// The trusted proxies. All clones share them.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Arc<ArcSwap<Vec<ProxyBlock>>>);

impl TrustedProxies {
    /// Trusts all addresses in these blocks.
    pub fn new(blocks: &[ProxyBlock]) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(blocks.to_vec())))
    }

    /// Trusts these blocks instead, from now on.
    pub(crate) fn replace(&self, blocks: &[ProxyBlock]) {
        self.0.store(Arc::new(blocks.to_vec()));
    }

    /// Whether an address belongs to a trusted proxy.
    pub fn contains(&self, ip: IpAddr) -> bool {
        // A linear search, since most hubs have no proxy, and others have few.
        let blocks = self.0.load();
        !blocks.is_empty() && {
            let ip = ip.to_canonical();
            blocks.iter().any(|block| block.0.contains(&ip))
        }
    }

    /// Whether a request has `X-Forwarded-For`.
    pub fn is_forwarded(headers: &HeaderMap) -> bool {
        headers.contains_key(FORWARDED_FOR)
    }

    /// The client of a request from `peer`. If `peer` is a trusted proxy, it is the right-most
    /// address in `X-Forwarded-For` that is not a trusted proxy. If the list, read from the right,
    /// ends or is malformed before such an address, the last proxy that was read, or else `peer`,
    /// counts as the client.
    pub fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> ClientAddress {
        if !self.contains(peer.ip()) {
            return ClientAddress::direct(peer);
        }
        let mut last = None;
        let fields: Vec<_> = headers.get_all(FORWARDED_FOR).iter().collect();
        let hops = fields.iter().rev().flat_map(|field| {
            // Split as bytes: a client may send invalid UTF-8, which must not hide the entries that
            // proxies appended.
            field.as_bytes().rsplit(|&byte| byte == b',')
        });
        // Empty members of a list do not count (RFC 9110, section 5.6.1.2).
        let hops = hops.filter(|hop| !hop.trim_ascii().is_empty());
        for hop in hops.take(HOPS_MAX) {
            let Some(ip) = hop_address(hop) else { break };
            last = Some(ip);
            if !self.contains(ip) {
                break;
            }
        }
        match last {
            Some(ip) => ClientAddress::forwarded(ip),
            None if fields.is_empty() => ClientAddress::direct(peer),
            None => ClientAddress::forwarded(peer.ip()),
        }
    }
}

/// An address as proxies write it: alone, in brackets, with a port.
fn hop_address(hop: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(hop).ok()?.trim();
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ip.to_canonical());
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip().to_canonical());
    }
    let bare = text.strip_prefix('[')?.strip_suffix(']')?;
    bare.parse::<std::net::Ipv6Addr>().ok().map(|ip| IpAddr::V6(ip).to_canonical())
}

/// The field in which proxies list the addresses of their peers.
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Most entries of the list that are read.
const HOPS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn proxies(blocks: &[&str]) -> TrustedProxies {
        let parse = |text: &&str| text.parse().expect("a block");
        TrustedProxies::new(&blocks.iter().map(parse).collect::<Vec<_>>())
    }

    fn client(peer: &str, fields: &[&str]) -> (String, bool) {
        let proxies = proxies(&["127.0.0.1", "10.0.0.0/8", "2001:db8::/32"]);
        let mut headers = HeaderMap::new();
        for field in fields {
            headers
                .append(FORWARDED_FOR, HeaderValue::from_bytes(field.as_bytes()).expect("a value"));
        }
        let found = proxies.client(SocketAddr::new(peer.parse().expect("an address"), 1), &headers);
        (found.ip().to_string(), found.is_forwarded())
    }

    #[test]
    fn an_untrusted_proxy_does_not_change_the_client_address() {
        for peer in ["192.0.2.1", "127.0.0.2", "11.0.0.0", "2001:db9::1"] {
            assert_eq!(client(peer, &["198.51.100.1"]), (peer.to_owned(), false));
        }
        assert_eq!(
            TrustedProxies::default()
                .client(
                    "127.0.0.1:1".parse().expect("an address"),
                    &HeaderMap::from_iter([(
                        FORWARDED_FOR,
                        "198.51.100.1".parse().expect("a value")
                    )]),
                )
                .ip()
                .to_string(),
            "127.0.0.1"
        );
    }

    #[test]
    fn the_right_most_that_is_no_trusted_proxy_is_the_client() {
        for (fields, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            // The entry that the client itself sent is left of the proxy's.
            (&["198.51.100.9, 192.0.2.1"], "192.0.2.1"),
            (&["198.51.100.9", "192.0.2.1"], "192.0.2.1"),
            (&["198.51.100.9, 192.0.2.1, 10.1.1.1 , 127.0.0.1"], "192.0.2.1"),
            (&["198.51.100.9, 192.0.2.1", "10.1.1.1", "10.2.2.2"], "192.0.2.1"),
            // The list has only proxies: the left-most counts.
            (&["10.3.3.3, 10.1.1.1"], "10.3.3.3"),
            (&["2001:db9::7"], "2001:db9::7"),
            (&["[2001:db9::7]:4711"], "2001:db9::7"),
            (&["[2001:db9::7]"], "2001:db9::7"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            (&["192.0.2.1, ::ffff:10.0.0.1"], "192.0.2.1"),
            (&["192.0.2.1, , 10.1.1.1"], "192.0.2.1"),
            (&["198.51.100.9,", " ,192.0.2.1,", "", "10.1.1.1,,"], "192.0.2.1"),
        ] {
            assert_eq!(client("127.0.0.1", fields), (expected.to_owned(), true), "{fields:?}");
        }
        assert_eq!(client("::ffff:10.0.0.1", &["192.0.2.1"]).0, "192.0.2.1", "a mapped proxy");
    }

    #[test]
    fn what_cannot_be_read_leaves_the_last_that_could() {
        for (fields, expected) in [
            (&["unknown"][..], "127.0.0.1"),
            (&[""], "127.0.0.1"),
            (&[" ,, "], "127.0.0.1"),
            (&["192.0.2.1, evil"], "127.0.0.1"),
            (&["192.0.2.1, evil, 10.1.1.1"], "10.1.1.1"),
            (&["192.0.2.1", "\u{e4}"], "127.0.0.1"),
            (&["192.0.2.1.5"], "127.0.0.1"),
            (&["192.0.2.1/24"], "127.0.0.1"),
            (&["[192.0.2.1]"], "127.0.0.1"),
        ] {
            assert_eq!(client("127.0.0.1", fields), (expected.to_owned(), true), "{fields:?}");
        }
        assert_eq!(
            client("127.0.0.1", &[]),
            ("127.0.0.1".to_owned(), false),
            "it speaks for itself"
        );
    }

    #[test]
    fn hops_are_looked_at_up_to_a_bound() {
        let row = |proxies: usize| format!("192.0.2.1{}", ", 10.0.0.9".repeat(proxies));
        assert_eq!(client("127.0.0.1", &[&row(HOPS_MAX - 1)]).0, "192.0.2.1");
        assert_eq!(client("127.0.0.1", &[&row(HOPS_MAX)]).0, "10.0.0.9");
    }

    #[test]
    fn a_block_is_an_address_or_a_whole_block() {
        for (text, normal) in [
            ("10.0.0.7", "10.0.0.7"),
            ("10.0.0.7/32", "10.0.0.7"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("::1", "::1"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
            ("2001:db8::/32", "2001:db8::/32"),
        ] {
            assert_eq!(text.parse::<ProxyBlock>().map(String::from), Ok(normal.to_owned()));
        }
        for text in
            ["", "localhost", "10.0.0.7/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "10.0.0", "*"]
        {
            assert_eq!(text.parse::<ProxyBlock>(), Err(ProxyBlockError), "{text:?}");
        }
    }

    #[test]
    fn an_address_of_ipv4_is_the_same_however_a_proxy_writes_it() {
        for hop in ["192.0.2.1", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]", "[::ffff:192.0.2.1]:5"] {
            let ip = hop_address(hop.as_bytes()).expect("an address");
            assert_eq!(ip.to_string(), "192.0.2.1", "{hop}");
        }
    }
}
