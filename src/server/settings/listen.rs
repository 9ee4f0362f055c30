//! An address to listen on, as people write it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An IP address and a port. `localhost:PORT` is read as `127.0.0.1:PORT`. Other names are refused:
/// they could resolve to another address later, at which other clients can reach the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListenAddr(SocketAddr);

impl ListenAddr {
    /// The default: port 3000 of both loopback addresses.
    pub const LOOPBACK: [Self; 2] = [
        Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 3000)),
        Self(SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), 3000)),
    ];

    /// Parses a text into one or more addresses. `:PORT` stands for this port of every address of
    /// the machine.
    pub fn parse_all(text: &str) -> Result<Vec<Self>, ListenAddrError> {
        let port =
            text.trim().strip_prefix(':').filter(|port| port.bytes().all(|b| b.is_ascii_digit()));
        let Some(port) = port else { return Ok(vec![text.parse()?]) };
        let port = port.parse().map_err(|_| ListenAddrError)?;
        let every = [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];
        Ok(every.map(|ip| Self(SocketAddr::new(ip, port))).to_vec())
    }

    /// The address to bind.
    pub fn socket_addr(&self) -> SocketAddr {
        self.0
    }

    /// Whether only programs on this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

impl FromStr for ListenAddr {
    type Err = ListenAddrError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if let Some(port) = text.strip_prefix("localhost:") {
            let port = port.parse().map_err(|_| ListenAddrError)?;
            return Ok(Self(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)));
        }
        text.parse().map(Self).map_err(|_| ListenAddrError)
    }
}

impl TryFrom<String> for ListenAddr {
    type Error = ListenAddrError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ListenAddr> for String {
    fn from(addr: ListenAddr) -> Self {
        addr.to_string()
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(addr: SocketAddr) -> Self {
        Self(addr)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The text is not an address and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an IP address and a port, such as 127.0.0.1:3000 or [::1]:3000")]
pub struct ListenAddrError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_the_v4_loopback() {
        let addr: ListenAddr = "localhost:0".parse().expect("an address");
        assert_eq!(addr.to_string(), "127.0.0.1:0");
        assert!(addr.is_loopback());
    }

    #[test]
    fn a_port_alone_is_that_of_every_address() {
        let parse = |text: &str| {
            let all = ListenAddr::parse_all(text)?;
            Ok(all.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(parse(":8080"), Ok(vec!["0.0.0.0:8080".into(), "[::]:8080".into()]));
        assert_eq!(parse(" 127.0.0.1:1"), Ok(vec!["127.0.0.1:1".into()]));
        assert!(ListenAddr::parse_all(":8080").expect("all").iter().all(|a| !a.is_loopback()));
        for text in [":", ":x", ":+1", ":65536", "::1", ":1:2", "8080"] {
            assert_eq!(parse(text), Err(ListenAddrError), "{text}");
        }
    }

    #[test]
    fn mapped_loopback_is_loopback_and_unspecified_is_not() {
        let parse = |text: &str| text.parse::<ListenAddr>().expect("an address");
        assert!(parse("[::ffff:127.0.0.1]:1").is_loopback());
        assert!(parse("127.8.0.1:1").is_loopback());
        assert!(!parse("0.0.0.0:1").is_loopback());
        assert!(!parse("[::]:1").is_loopback());
    }

    #[test]
    fn names_ports_alone_and_addresses_alone_are_refused() {
        for text in ["", "3000", ":3000", "example.org:80", "127.0.0.1", "::1:3000", "localhost:x"]
        {
            assert_eq!(text.parse::<ListenAddr>(), Err(ListenAddrError), "{text:?}");
        }
    }
}
