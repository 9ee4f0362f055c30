//! Limits connections: the sockets of each address, the new connections a second of each address,
//! and those of all addresses together.
//!
//! The limits are checked when a connection has been accepted, before anything is read from it. The
//! limits of an address do not apply to trusted proxies, which serve many clients, nor to loopback
//! addresses, unless `limits.per_address.loopback` is set. Addresses of an IPv6 network count as
//! one.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use crate::{
    actors::{Usage, UsageTable},
    core::{AddressLimits, Limits, TooFast},
    http::{TemporaryRejection, TrustedProxies},
    hub::RateLimits,
    model::{ClientAddress, Network},
};

/// Limits new connections of all shards together.
#[derive(Clone)]
pub(super) struct ConnectionLimiter(Arc<SocketCounts>);

struct SocketCounts {
    limits: AddressLimits,
    proxies: TrustedProxies,
    sockets: Arc<UsageTable<Network>>,
    /// Rates of new connections; `None` if they are not limited.
    by_address: Option<RateLimits<Network>>,
    in_all: Option<RateLimits<()>>,
}

/// The count of a socket among those of its address, until it is dropped; `None` if the address is
/// not limited.
pub(super) type AddressCount = Option<Usage<Network>>;

/// Why a new connection is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RejectReason {
    /// The address has reached its limit of sockets.
    TooMany,
    /// The address exceeds its rate of new connections.
    TooOften {
        /// The time after which the next connection is within the rate.
        wait: Duration,
    },
    /// All addresses together exceed the hub's rate of new connections.
    AllTooOften {
        /// The time after which the next connection is within the rate.
        wait: Duration,
    },
}

impl ConnectionLimiter {
    pub(super) fn new(limits: &Limits, proxies: TrustedProxies) -> Self {
        let (address, connections) = (&limits.per_address, &limits.connections);
        Self(Arc::new(SocketCounts {
            limits: address.clone(),
            proxies,
            sockets: Arc::default(),
            by_address: RateLimits::new(address.new_per_s, address.new_burst, address.rates_max),
            in_all: RateLimits::new(connections.new_per_s, connections.new_burst, 1),
        }))
    }

    /// Admits a new connection, or returns why it is rejected.
    pub(super) fn admit(&self, peer: SocketAddr) -> Result<AddressCount, RejectReason> {
        let counts = &*self.0;
        let network = self.counted_network(peer);
        let counted = match network {
            Some(network) if counts.limits.requests_max > 0 => {
                let usage = counts.sockets.take(&network, counts.limits.requests_max);
                Some(usage.ok_or(RejectReason::TooMany)?)
            }
            _ => None,
        };
        // The rate of the address comes first: connections over it use up nothing of the hub's
        // rate.
        if let Some((rates, network)) = counts.by_address.as_ref().zip(network) {
            rates.take(&network, 1).map_err(|why| RejectReason::TooOften { wait: wait(why) })?;
        }
        if let Some(rates) = &counts.in_all {
            rates.take(&(), 1).map_err(|why| RejectReason::AllTooOften { wait: wait(why) })?;
        }
        Ok(counted)
    }

    /// Counts the socket of an answered poll, which is open already, even above the limit.
    pub(super) fn count_existing(&self, peer: SocketAddr) -> AddressCount {
        let network = self.counted_network(peer).filter(|_| self.0.limits.requests_max > 0);
        network.and_then(|network| self.0.sockets.take(&network, u32::MAX))
    }

    /// The key under which a peer is counted; `None` if it is not limited.
    fn counted_network(&self, peer: SocketAddr) -> Option<Network> {
        let client = ClientAddress::direct(peer);
        let is_counted = self.0.limits.count(client) && !self.0.proxies.contains(peer.ip());
        is_counted.then(|| client.network())
    }
}

impl RejectReason {
    /// The metric label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::TooMany => "address_requests_max",
            Self::TooOften { .. } => "address_rate",
            Self::AllTooOften { .. } => "rate",
        }
    }

    /// The answer to the client.
    pub(super) fn to_rejection(self) -> TemporaryRejection {
        match self {
            Self::TooMany => {
                TemporaryRejection::client_fault("this address has as many connections as it may")
            }
            Self::TooOften { wait } => {
                TemporaryRejection::client_fault("this address connects too often").after(wait)
            }
            Self::AllTooOften { wait } => TemporaryRejection::hub_fault(
                "the hub's limit of new connections a second is reached",
            )
            .after(wait),
        }
    }
}

/// The time to wait. `TooFast::Never` does not occur: a burst is at least one connection.
fn wait(why: TooFast) -> Duration {
    match why {
        TooFast::Wait(wait) => wait,
        TooFast::Never { .. } => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 4_711)
    }

    #[test]
    fn an_address_has_no_more_sockets_than_it_may_and_a_v6_network_counts_as_one() {
        let mut limits = Limits::default();
        limits.per_address.requests_max = 2;
        let limiter = ConnectionLimiter::new(&limits, TrustedProxies::default());
        for (one, same, other) in [
            ("192.0.2.1", "::ffff:192.0.2.1", "192.0.2.2"),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff::1", "2001:db8:0:2::1"),
        ] {
            let first = limiter.admit(peer(one)).expect("below");
            let second = limiter.admit(peer(same)).expect("at the bound");
            assert_eq!(limiter.admit(peer(one)).err(), Some(RejectReason::TooMany));
            assert!(limiter.admit(peer(other)).is_ok());
            let kept = limiter.count_existing(peer(one));
            drop((first, second));
            let _third = limiter.admit(peer(one)).expect("two have gone");
            assert!(limiter.admit(peer(one)).is_err(), "what is kept counts");
            drop(kept);
        }
    }

    #[test]
    fn proxies_and_this_machine_are_not_counted() {
        let mut limits = Limits::default();
        limits.per_address.requests_max = 1;
        limits.per_address.new_burst = 1;
        let proxies = TrustedProxies::new(&["10.0.0.0/8".parse().expect("a block")]);
        let limiter = ConnectionLimiter::new(&limits, proxies.clone());
        for ip in ["10.1.2.3", "127.0.0.1", "::1"] {
            for _ in 0..3 {
                assert!(limiter.admit(peer(ip)).is_ok_and(|counted| counted.is_none()), "{ip}");
            }
        }
        limits.per_address.loopback = true;
        let limiter = ConnectionLimiter::new(&limits, proxies);
        let _first = limiter.admit(peer("127.0.0.1")).expect("room");
        assert_eq!(limiter.admit(peer("127.0.0.1")).err(), Some(RejectReason::TooMany));
        assert!(limiter.admit(peer("10.1.2.3")).is_ok_and(|counted| counted.is_none()));
    }

    #[test]
    fn new_connections_are_limited_by_rate() {
        let mut limits = Limits::default();
        (limits.per_address.new_per_s, limits.per_address.new_burst) = (1, 2);
        (limits.connections.new_per_s, limits.connections.new_burst) = (1, 3);
        let limiter = ConnectionLimiter::new(&limits, TrustedProxies::default());
        for _ in 0..2 {
            assert!(limiter.admit(peer("192.0.2.1")).is_ok());
        }
        let third = limiter.admit(peer("192.0.2.1")).err();
        let is_soon = |wait: Duration| wait > Duration::ZERO && wait <= Duration::from_secs(1);
        assert!(
            matches!(third, Some(RejectReason::TooOften { wait }) if is_soon(wait)),
            "{third:?}"
        );
        assert!(limiter.admit(peer("192.0.2.2")).is_ok(), "the third of all");
        let fourth = limiter.admit(peer("127.0.0.1")).err();
        assert!(
            matches!(fourth, Some(RejectReason::AllTooOften { .. })),
            "all are all: {fourth:?}"
        );
    }
}
