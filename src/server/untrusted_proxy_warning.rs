//! Warns of `X-Forwarded-For` from addresses that are not in `trusted_proxies`. If a proxy is
//! missing there, the limits count all of its clients as one address, or do not count them if the
//! proxy is on this machine. This warning is the only sign of that.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use axum::http::HeaderMap;
use parking_lot::Mutex;

use crate::{http::TrustedProxies, model::ClientAddress};

/// The addresses for which a warning was logged.
#[derive(Debug)]
struct WarnedAddresses {
    warned: Mutex<Vec<IpAddr>>,
    /// Set once the list is full: no further warning is written.
    is_full: AtomicBool,
}

/// Logs a warning for a request with `X-Forwarded-For` from an untrusted address: once for each
/// address, and for at most [`WARNINGS_MAX`] addresses, since any client can send the field.
pub(super) fn warn_untrusted_forwarded_for(client: &ClientAddress, headers: &HeaderMap) {
    static WARNED: WarnedAddresses = WarnedAddresses::new();
    if WARNED.first_time(client, headers) {
        tracing::warn!(
            from = %client.ip(),
            "X-Forwarded-For is ignored: it comes from an address that is not in \
             `trusted_proxies`. If it is a proxy, all its clients count as one"
        );
    }
}

impl WarnedAddresses {
    const fn new() -> Self {
        Self { warned: Mutex::new(Vec::new()), is_full: AtomicBool::new(false) }
    }

    fn first_time(&self, client: &ClientAddress, headers: &HeaderMap) -> bool {
        // The field of a trusted proxy is expected.
        if client.is_forwarded()
            || !TrustedProxies::is_forwarded(headers)
            || self.is_full.load(Ordering::Relaxed)
        {
            return false;
        }
        let mut warned = self.warned.lock();
        if warned.len() >= WARNINGS_MAX || warned.contains(&client.ip()) {
            return false;
        }
        warned.push(client.ip());
        self.is_full.store(warned.len() == WARNINGS_MAX, Ordering::Relaxed);
        true
    }
}

/// Addresses for which a process logs a warning. Few hubs have more proxies, and the first warnings
/// already show what is missing.
const WARNINGS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn client(ip: &str) -> ClientAddress {
        ClientAddress::direct((ip.parse::<IpAddr>().expect("an address"), 1).into())
    }

    fn forwarded() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().expect("a value"));
        headers
    }

    #[test]
    fn untrusted_forwarded_for_is_warned_once_per_address() {
        let warned_addresses = WarnedAddresses::new();
        for ip in ["127.0.0.1", "10.0.0.7", "2001:db8::7"] {
            assert!(
                !warned_addresses.first_time(&client(ip), &HeaderMap::new()),
                "{ip} sends no field"
            );
            assert!(warned_addresses.first_time(&client(ip), &forwarded()), "{ip}");
            assert!(!warned_addresses.first_time(&client(ip), &forwarded()), "{ip} again");
        }
        let believed = ClientAddress::forwarded("192.0.2.1".parse().expect("an address"));
        assert!(!warned_addresses.first_time(&believed, &forwarded()));
    }

    #[test]
    fn warnings_are_bounded() {
        let warned_addresses = WarnedAddresses::new();
        let news =
            |n: usize| warned_addresses.first_time(&client(&format!("10.0.0.{n}")), &forwarded());
        assert!((0..WARNINGS_MAX).all(news));
        assert!(!(0..=WARNINGS_MAX).any(news));
        assert_eq!(warned_addresses.warned.lock().len(), WARNINGS_MAX);
    }
}
