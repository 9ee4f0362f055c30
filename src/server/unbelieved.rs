//! Says which proxies are not believed: an operator who forgot to name one sees limits hit all of
//! its clients at once, or nobody, and nothing else tells why.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicBool, Ordering},
};

use axum::http::HeaderMap;
use parking_lot::Mutex;

use crate::{http::TrustedProxies, model::ClientAddress};

/// The addresses that were said.
#[derive(Debug)]
struct Unbelieved {
    said: Mutex<Vec<IpAddr>>,
    /// Nothing more is said, and nobody looks at the list.
    is_full: AtomicBool,
}

/// Warns of a request that was passed on by someone who is not trusted, once for each address and
/// for [`SAID_MAX`] of them in all: anybody can write the field.
pub(super) fn warn_if_unbelieved(client: &ClientAddress, headers: &HeaderMap) {
    static UNBELIEVED: Unbelieved = Unbelieved::new();
    if UNBELIEVED.is_news(client, headers) {
        tracing::warn!(
            from = %client.ip(),
            "X-Forwarded-For is ignored: it comes from an address that is not in \
             `trusted_proxies`. If a proxy is there, all who come by it count as one client"
        );
    }
}

impl Unbelieved {
    const fn new() -> Self {
        Self { said: Mutex::new(Vec::new()), is_full: AtomicBool::new(false) }
    }

    fn is_news(&self, client: &ClientAddress, headers: &HeaderMap) -> bool {
        // Whoever is trusted and sends the field speaks for another.
        if client.is_forwarded()
            || !TrustedProxies::is_forwarded(headers)
            || self.is_full.load(Ordering::Relaxed)
        {
            return false;
        }
        let mut said = self.said.lock();
        if said.len() >= SAID_MAX || said.contains(&client.ip()) {
            return false;
        }
        said.push(client.ip());
        self.is_full.store(said.len() == SAID_MAX, Ordering::Relaxed);
        true
    }
}

/// Addresses that are said in the life of a process: more proxies in front of one hub are rare, and
/// the first ones say what is missing.
const SAID_MAX: usize = 16;

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
    fn whoever_is_not_trusted_is_said_once_from_near_and_far() {
        let unbelieved = Unbelieved::new();
        for ip in ["127.0.0.1", "10.0.0.7", "2001:db8::7"] {
            assert!(!unbelieved.is_news(&client(ip), &HeaderMap::new()), "{ip} sends no field");
            assert!(unbelieved.is_news(&client(ip), &forwarded()), "{ip}");
            assert!(!unbelieved.is_news(&client(ip), &forwarded()), "{ip} again");
        }
        let believed = ClientAddress::forwarded("192.0.2.1".parse().expect("an address"));
        assert!(!unbelieved.is_news(&believed, &forwarded()));
    }

    #[test]
    fn so_many_are_said_and_no_more() {
        let unbelieved = Unbelieved::new();
        let news = |n: usize| unbelieved.is_news(&client(&format!("10.0.0.{n}")), &forwarded());
        assert!((0..SAID_MAX).all(news));
        assert!(!(0..=SAID_MAX).any(news));
        assert_eq!(unbelieved.said.lock().len(), SAID_MAX);
    }
}
