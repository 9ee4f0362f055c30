//! Quotas: connections and events of each client, by the subject of its token and by its address;
//! and events of each channel.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    error::{PublishError, SubscribeError},
    event_rate::{EventRate, Source},
    rate_limits::RateLimits,
};
use crate::{
    actors::{ClientInfo, UsageTable},
    backend::{ChannelEntry, ChannelId},
    core::{AddressLimits, Limits, SubjectLimits, TooFast},
    model::{ClientAddress, Draft, Network},
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
}

impl Quotas {
    pub(super) fn new(limits: &Limits) -> Self {
        let (address, subject) = (&limits.per_address, &limits.per_subject);
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
            per_address: address.clone(),
            per_subject: subject.clone(),
        }
    }

    /// Counts a connection of a client until the result is dropped.
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

    /// Counts events against the rate limit of their source. Each event of a batch counts. If a
    /// channel's limit then rejects the events, they still count for the source.
    pub(super) fn check_source(
        &self,
        source: Option<&Source>,
        events: usize,
    ) -> Result<(), PublishError> {
        let count = u32::try_from(events).unwrap_or(u32::MAX);
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
        Ok(())
    }
}

/// Counts events against the rate limits of their channels.
pub(super) fn check_channels(
    events: &[(Arc<ChannelEntry>, Draft)],
    now_ms: u64,
) -> Result<(), PublishError> {
    let limited = || events.iter().map(|(entry, _)| entry).filter(|entry| entry.is_rate_limited());
    if limited().next().is_none() {
        return Ok(());
    }
    let mut counts: FxHashMap<ChannelId, (&ChannelEntry, u32)> = FxHashMap::default();
    for entry in limited() {
        counts.entry(entry.id()).or_insert((entry, 0)).1 += 1;
    }
    // First rejects a batch that exceeds the burst of a channel and so could never pass, before it
    // counts for other channels.
    for (entry, count) in counts.values() {
        let burst = entry.policy().events_burst;
        if *count > burst {
            return Err(refusal(TooFast::Never { burst }, EventRate::Channel));
        }
    }
    let mut counts = counts.into_values();
    counts.try_for_each(|(entry, count)| {
        entry.take_rate(now_ms, count).map_err(|why| refusal(why, EventRate::Channel))
    })
}

fn take<K: std::hash::Hash + Eq + Clone>(
    rates: Option<&RateLimits<K>>,
    key: &K,
    count: u32,
    rate: EventRate,
) -> Result<(), PublishError> {
    rates.map_or(Ok(()), |rates| rates.take(key, count)).map_err(|why| refusal(why, rate))
}

fn refusal(why: TooFast, rate: EventRate) -> PublishError {
    match why {
        TooFast::Wait(wait) => PublishError::TooFast { rate, wait_ms: wait.as_millis() as u64 },
        TooFast::Never { burst } => PublishError::OverBurst { rate, events_max: burst },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        backend::Registry,
        core::{ChannelPolicies, ChannelRule},
        model::{ChannelName, ChannelPattern, NewEvent},
    };

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
        let mut rule = ChannelRule::new(ChannelPattern::parse("slow/*").expect("a pattern"));
        rule.publish_per_s = Some(2);
        let policies = ChannelPolicies::new(&limits, vec![rule]);
        let registry = Registry::with_policies(&limits, policies);
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
        let source =
            |source: &Option<Source>, events| rate_of(quotas.check_source(source.as_ref(), events));
        assert_eq!(source(&ann, 3), None, "at the burst");
        assert_eq!(source(&ann, 1), Some(EventRate::Subject));
        assert_eq!(source(&remote, 3), Some(EventRate::Address), "over the burst");
        assert_eq!(source(&remote, 2), None);
        assert_eq!(source(&local, 99), None, "this machine does not count");
        let channels = |names: &[&str]| {
            let entry = |text: &&str| {
                let name = ChannelName::parse(text).expect("a name");
                let entry = registry.directory().find_or_create(&name, 0).expect("room");
                (entry, Draft::new(&NewEvent::message("x")))
            };
            check_channels(&names.iter().map(entry).collect::<Vec<_>>(), 1_000)
        };
        assert_eq!(channels(&["a", "a", "b", "a"]), Ok(()), "below");
        assert_eq!(channels(&["a"]), Ok(()), "at the burst");
        let wait_ms = 1_000;
        let rate = EventRate::Channel;
        assert_eq!(channels(&["b", "a"]), Err(PublishError::TooFast { rate, wait_ms }));
        let over = PublishError::OverBurst { rate, events_max: 4 };
        assert_eq!(channels(&["d", "d", "d", "d", "d"]), Err(over));
        assert_eq!(channels(&["slow/a", "slow/a"]), Ok(()), "as many at once as in a second");
        assert_eq!(channels(&["slow/a"]), Err(PublishError::TooFast { rate, wait_ms: 500 }));
    }
}
