//! Quotas: connections and events of one client, by its token's subject and by its address; and
//! events of one channel.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    error::{PublishError, SubscribeError},
    event_rate::{EventRate, Source},
    rate_limits::{RateLimits, TooFast},
};
use crate::{
    actors::{ClientInfo, UsageTable},
    core::{AddressLimits, Limits, SubjectLimits},
    model::{ChannelName, ClientAddress, Network, NewEvent},
};

/// The counts of all clients of a hub.
#[derive(Debug)]
pub(super) struct Quotas {
    per_address: AddressLimits,
    per_subject: SubjectLimits,
    of_address: Arc<UsageTable<Network>>,
    of_subject: Arc<UsageTable<Arc<str>>>,
    by_address: Option<RateLimits<Network>>,
    by_subject: Option<RateLimits<Arc<str>>>,
    to_channel: Option<RateLimits<ChannelName>>,
}

impl Quotas {
    pub(super) fn new(limits: &Limits) -> Self {
        let (address, subject) = (&limits.per_address, &limits.per_subject);
        let channels = &limits.channels;
        Self {
            of_address: Arc::default(),
            of_subject: Arc::default(),
            by_address: RateLimits::new(
                address.events_per_s,
                address.events_burst,
                address.rates_max,
            ),
            by_subject: RateLimits::new(
                subject.events_per_s,
                subject.events_burst,
                subject.rates_max,
            ),
            to_channel: RateLimits::new(
                channels.events_per_s,
                channels.events_burst,
                channels.channels_max,
            ),
            per_address: address.clone(),
            per_subject: subject.clone(),
        }
    }

    /// Counts a connection of a client; it counts as long as the result lives.
    pub(super) fn count_connection(
        &self,
        client: Option<ClientAddress>,
        subject: Option<&Arc<str>>,
    ) -> Result<Option<Box<ClientInfo>>, SubscribeError> {
        let connections_max = self.per_address.connections_max;
        let counted = client.filter(|client| self.per_address.count(*client));
        let of_address = match counted.filter(|_| connections_max > 0) {
            None => None,
            Some(client) => {
                let usage = self.of_address.take(&client.network(), connections_max);
                Some(usage.ok_or(SubscribeError::TooManyOfAddress { connections_max })?)
            }
        };
        let connections_max = self.per_subject.connections_max;
        let of_subject = match subject.filter(|_| connections_max > 0) {
            None => None,
            Some(subject) => {
                let usage = self.of_subject.take(subject, connections_max);
                Some(usage.ok_or(SubscribeError::TooManyOfSubject { connections_max })?)
            }
        };
        Ok(ClientInfo::new(client, of_address, of_subject))
    }

    /// Counts events against the rates of their source and their channels. A batch counts as its
    /// events. What a source has used up is not given back when a channel then refuses.
    pub(super) fn check_rates(
        &self,
        source: Option<&Source>,
        events: &[(ChannelName, NewEvent)],
    ) -> Result<(), PublishError> {
        let count = u32::try_from(events.len()).unwrap_or(u32::MAX);
        match source {
            Some(Source::Subject(subject)) => {
                take(self.by_subject.as_ref(), subject, count, EventRate::Subject)?;
            }
            Some(Source::Client(client)) if self.per_address.count(*client) => {
                let network = client.network();
                take(self.by_address.as_ref(), &network, count, EventRate::Address)?;
            }
            _ => {}
        }
        let Some(rates) = &self.to_channel else { return Ok(()) };
        if let [(only, _)] = events {
            return take(Some(rates), only, 1, EventRate::Channel);
        }
        let mut counts: FxHashMap<&ChannelName, u32> = FxHashMap::default();
        for (channel, _) in events {
            *counts.entry(channel).or_default() += 1;
        }
        let mut counts = counts.into_iter();
        counts
            .try_for_each(|(channel, count)| take(Some(rates), channel, count, EventRate::Channel))
    }
}

fn take<K: std::hash::Hash + Eq + Clone>(
    rates: Option<&RateLimits<K>>,
    key: &K,
    count: u32,
    rate: EventRate,
) -> Result<(), PublishError> {
    rates.map_or(Ok(()), |rates| rates.take(key, count)).map_err(|why| match why {
        TooFast::Wait(wait) => PublishError::TooFast { rate, wait_ms: wait.as_millis() as u64 },
        TooFast::Never { burst } => PublishError::OverBurst { rate, events_max: burst },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(text: &str) -> Option<ClientAddress> {
        Some(ClientAddress::direct(std::net::SocketAddr::new(text.parse().expect("an address"), 1)))
    }

    #[test]
    fn connections_are_counted_by_address_and_by_subject() {
        let mut limits = Limits::default();
        limits.per_address.connections_max = 2;
        limits.per_subject.connections_max = 3;
        let quotas = Quotas::new(&limits);
        let sub: Arc<str> = "ann".into();
        let first = quotas.count_connection(client("192.0.2.1"), Some(&sub)).expect("below");
        let second =
            quotas.count_connection(client("192.0.2.1"), Some(&sub)).expect("at the bound");
        let third = quotas.count_connection(client("192.0.2.1"), None);
        assert_eq!(third.err(), Some(SubscribeError::TooManyOfAddress { connections_max: 2 }));
        let third =
            quotas.count_connection(client("192.0.2.2"), Some(&sub)).expect("another address");
        let fourth = quotas.count_connection(client("192.0.2.2"), Some(&sub));
        assert_eq!(fourth.err(), Some(SubscribeError::TooManyOfSubject { connections_max: 3 }));
        let fourth = quotas.count_connection(client("192.0.2.2"), None).expect("without a subject");
        let fifth = quotas.count_connection(client("192.0.2.2"), None);
        assert!(fifth.is_err(), "what the subject was refused has taken nothing of the address");
        drop((first, second, third, fourth));
        assert!(quotas.count_connection(client("192.0.2.1"), Some(&sub)).is_ok());
    }

    #[test]
    fn this_machine_is_counted_only_if_that_is_set_and_forwarded_ones_always() {
        for loopback in [false, true] {
            let mut limits = Limits::default();
            limits.per_address.connections_max = 1;
            limits.per_address.loopback = loopback;
            let quotas = Quotas::new(&limits);
            for (client, counted) in [
                (client("127.0.0.1"), loopback),
                (client("::1"), loopback),
                (Some(ClientAddress::forwarded("127.0.0.2".parse().expect("an address"))), true),
                (None, false),
            ] {
                let first = quotas.count_connection(client, None).expect("room");
                assert_eq!(
                    quotas.count_connection(client, None).is_err(),
                    counted,
                    "{client:?} {loopback}"
                );
                assert_eq!(first.is_some(), counted, "nothing is kept of who is not counted");
            }
        }
    }

    #[test]
    fn events_are_counted_by_source_and_by_channel() {
        let mut limits = Limits::default();
        (limits.per_subject.events_per_s, limits.per_subject.events_burst) = (1, 3);
        (limits.per_address.events_per_s, limits.per_address.events_burst) = (1, 2);
        (limits.channels.events_per_s, limits.channels.events_burst) = (1, 4);
        let quotas = Quotas::new(&limits);
        let name = |text: &str| ChannelName::parse(text).expect("a name");
        let events = |names: &[&str]| -> Vec<_> {
            names.iter().map(|text| (name(text), NewEvent::message("x"))).collect()
        };
        let rate_of = |result: Result<(), PublishError>| match result {
            Ok(()) => None,
            Err(PublishError::TooFast { rate, .. } | PublishError::OverBurst { rate, .. }) => {
                Some(rate)
            }
            Err(other) => panic!("{other}"),
        };
        let ann = Some(Source::Subject("ann".into()));
        let remote = client("192.0.2.1").map(Source::Client);
        let local = client("127.0.0.1").map(Source::Client);
        let pass = |source: &Option<Source>, names: &[&str]| {
            rate_of(quotas.check_rates(source.as_ref(), &events(names)))
        };
        assert_eq!(pass(&ann, &["a", "b", "a"]), None, "at the burst");
        assert_eq!(pass(&ann, &["c"]), Some(EventRate::Subject));
        assert_eq!(pass(&remote, &["c", "c", "c"]), Some(EventRate::Address), "over the burst");
        assert_eq!(pass(&remote, &["c", "c"]), None);
        assert_eq!(pass(&local, &["a", "a"]), None, "the channel's burst is four");
        assert_eq!(pass(&local, &["b", "a"]), Some(EventRate::Channel));
        assert_eq!(pass(&None, &["d", "d", "d", "d", "d"]), Some(EventRate::Channel));
    }
}
