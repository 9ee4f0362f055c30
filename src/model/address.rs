//! The client's network address, and the address that limits count it by.

// The values alone: sockets are in `std::net`.
use ::core::net::{IpAddr, SocketAddr};

/// The address of a client, and how the hub knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    ip: IpAddr,
    is_forwarded: bool,
}

impl ClientAddress {
    /// The peer address of the connection is the client's own.
    pub fn direct(peer: SocketAddr) -> Self {
        Self { ip: peer.ip().to_canonical(), is_forwarded: false }
    }

    /// A trusted proxy names the client's address.
    pub fn forwarded(ip: IpAddr) -> Self {
        Self { ip: ip.to_canonical(), is_forwarded: true }
    }

    /// The client's address. An IPv4-mapped IPv6 address is an IPv4 address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Whether a proxy named it. Then it never counts as this machine, even if it is a loopback
    /// address.
    pub fn is_forwarded(&self) -> bool {
        self.is_forwarded
    }

    /// Whether the client is a program of this machine, and not behind a proxy.
    pub fn is_this_machine(&self) -> bool {
        !self.is_forwarded && self.ip.is_loopback()
    }

    /// What limits count it by.
    pub fn network(&self) -> Network {
        Network::of(self.ip)
    }
}

/// What limits per address count by: an IPv4 address, or the /64 of an IPv6 address, which is what
/// a single customer is given and can fill with addresses at will (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Network {
    /// An IPv4 address.
    V4([u8; 4]),
    /// The first half of an IPv6 address.
    V6([u8; 8]),
}

impl Network {
    /// The network of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip.to_canonical() {
            IpAddr::V4(ip) => Self::V4(ip.octets()),
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, h, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g, h])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        Network::of(text.parse().expect("an address"))
    }

    #[test]
    fn ipv6_counts_by_its_first_half_and_ipv4_whole() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff:ffff:ffff:ffff"));
        assert_ne!(network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("::ffff:192.0.2.1"), network("::ffff:192.0.2.2"));
        let mapped = ClientAddress::direct("[::ffff:127.0.0.1]:1".parse().expect("an address"));
        assert!(mapped.is_this_machine());
    }

    #[test]
    fn a_forwarded_address_is_never_this_machine() {
        let loopback = "127.0.0.1".parse().expect("an address");
        assert!(!ClientAddress::forwarded(loopback).is_this_machine());
        assert!(ClientAddress::direct((loopback, 1).into()).is_this_machine());
    }
}
