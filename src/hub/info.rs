//! Information about a hub: channels, limits, metrics, health.

use std::sync::Arc;

use tokio::task::yield_now;

use super::handle::Hub;
use crate::{
    actors::Elsewhere,
    backend::ChannelInfo,
    core::Limits,
    model::{ChannelName, Epoch, Seq},
    telemetry::Metrics,
};

/// How the subscribers of a channel were counted over the hubs that share a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubsCounted {
    /// How many hubs were counted, this one among them. Those whose reports have expired are not.
    pub hubs: u32,
    /// The age of the oldest report of another hub, in milliseconds.
    pub age_ms: u64,
    /// Why subscribers may be missing: `backend_away`, `late` or `busy` if this hub is counted
    /// alone, and `too_many_channels` if a hub has more channels or patterns than it reports,
    /// `settling` if hubs may not have reported since the server was there again. None if all that
    /// hubs have reported is counted.
    pub incomplete: Option<&'static str>,
}

impl Hub {
    /// One channel, if it exists, with the subscribers of this hub.
    pub fn channel(&self, name: &ChannelName) -> Option<ChannelInfo> {
        let entry = self.0.registry.directory().find(name)?;
        Some(self.0.registry.info(&entry, self.epoch()))
    }

    /// One channel, if it exists, with its subscribers at all hubs that share the log, and how they
    /// were counted; the latter is there only if the log is shared. Waits a second for the server
    /// at most.
    pub async fn channel_at_all_hubs(
        &self,
        name: &ChannelName,
    ) -> Option<(ChannelInfo, Option<HubsCounted>)> {
        let Some(shared) = self.0.log.shared() else { return Some((self.channel(name)?, None)) };
        let elsewhere = shared.elsewhere(name).await;
        let own = self.channel(name);
        let (sum, incomplete) = match elsewhere {
            Ok(sum) if sum.hubs_unknown > 0 => (sum, Some("too_many_channels")),
            Ok(sum) if !sum.is_settled => (sum, Some("settling")),
            Ok(sum) => (sum, None),
            Err(why) => (Elsewhere::default(), Some(why.as_str())),
        };
        // Another hub has subscribers of it, and it has had no event.
        let mut info = own.or_else(|| sum.is_named.then(|| self.0.registry.empty_info(name)))?;
        info.subscribers = info.subscribers.saturating_add(sum.streams);
        info.pollers = info.pollers.saturating_add(sum.pollers);
        Some((info, Some(HubsCounted { hubs: sum.hubs + 1, age_ms: sum.age_ms, incomplete })))
    }

    /// Up to `limit` channels after the name `after`, in the order of their names.
    pub async fn channels(&self, after: Option<&str>, limit: usize) -> Vec<ChannelInfo> {
        self.channels_where("", after, limit, |_| true).await
    }

    /// As [`channels`](Self::channels), but only channels whose names begin with `prefix`, and that
    /// `wanted` accepts. It examines a bounded number of names at a time, none of them without the
    /// prefix, and yields in between. Cancelling it has no effect.
    pub async fn channels_where(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
        wanted: impl Fn(&ChannelName) -> bool,
    ) -> Vec<ChannelInfo> {
        let (registry, epoch) = (&self.0.registry, self.epoch());
        let mut infos = Vec::new();
        let mut last: Option<ChannelName> = None;
        while infos.len() < limit {
            let from = last.as_ref().map(ChannelName::as_str).or(after);
            let missing = limit - infos.len();
            let (found, next) = registry.directory().page(prefix, from, missing, &wanted);
            infos.extend(found.iter().map(|entry| registry.info(entry, epoch)));
            if next.is_none() || infos.len() == limit {
                break;
            }
            last = next;
            yield_now().await;
        }
        infos
    }

    /// The current limits.
    pub fn limits(&self) -> Arc<Limits> {
        self.0.limits.load_full()
    }

    /// The epoch of its log.
    pub fn epoch(&self) -> Epoch {
        self.0.store.epoch()
    }

    /// The newest event in its log.
    pub fn head(&self) -> Seq {
        self.0.store.head()
    }

    /// The hub's clock: milliseconds since 1970 that never go back.
    pub fn now_ms(&self) -> u64 {
        self.0.clock.now_ms()
    }

    /// The wall-clock time, as the clock is set now, of a moment of [`now_ms`](Self::now_ms).
    pub fn wall_ms_at(&self, at_ms: u64) -> u64 {
        self.0.clock.wall_ms_at(at_ms)
    }

    /// Its metrics, as Prometheus scrapes them.
    pub fn metrics(&self) -> String {
        self.0.metrics.render()
    }

    /// The counters, for the layers around the hub to add to.
    pub(crate) fn counters(&self) -> &Arc<Metrics> {
        &self.0.metrics
    }

    /// How many streams and polls have been admitted and have not ended.
    pub fn connections_admitted(&self) -> u32 {
        self.0.connections.admitted()
    }

    /// Whether load balancers should send clients here: publishes and subscriptions are accepted,
    /// and no drain is about to begin.
    pub fn is_ready(&self) -> bool {
        self.0.lifecycle.is_ready()
    }

    /// Whether the server of a log that it shares with other hubs cannot be reached.
    pub fn is_backend_away(&self) -> bool {
        self.0.log.shared().is_some_and(|shared| shared.following.is_away())
    }

    /// Whether the hub loads the histories of a shared log again, since it missed events or some
    /// were lost. Subscriptions wait meanwhile.
    pub fn is_loading(&self) -> bool {
        self.0.log.shared().is_some_and(|shared| shared.following.is_loading())
    }

    /// Whether it drains, or is shut down.
    pub fn is_draining(&self) -> bool {
        self.0.lifecycle.is_draining()
    }

    /// Completes with the reason when the hub has failed for good. The program should then exit,
    /// and its service manager restart it.
    pub async fn failed(&self) -> String {
        self.0.lifecycle.failed().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Publication, StreamRequest};

    #[tokio::test]
    async fn a_page_has_every_wanted_channel_however_many_are_not() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let names: Vec<String> = (10..30).map(|n| format!("c/{n}")).collect();
        for name in &names {
            let name = ChannelName::parse(name).expect("a name");
            let event = crate::model::NewEvent::message("x");
            hub.publish(Publication::one(name, event)).await.expect("published");
        }
        let listed = |channels: Vec<ChannelInfo>| -> Vec<String> {
            channels.iter().map(|info| info.channel.to_string()).collect()
        };
        assert_eq!(listed(hub.channels(None, 99).await), names);
        for limit in 0..22 {
            let all = &names[..limit.min(20)];
            assert_eq!(listed(hub.channels(None, limit).await), all);
        }
        assert_eq!(listed(hub.channels(Some("c/14"), 2).await), ["c/15", "c/16"]);
        let last = |name: &ChannelName| name.as_str().ends_with('9');
        assert_eq!(listed(hub.channels_where("", None, 9, last).await), ["c/19", "c/29"]);
        assert_eq!(listed(hub.channels_where("", None, 1, last).await), ["c/19"]);
        assert_eq!(listed(hub.channels_where("", Some("c/19"), 1, last).await), ["c/29"]);
        assert!(hub.channels_where("", None, 9, |_| false).await.is_empty());
        let stream = StreamRequest::channel("c/10").expect("a channel");
        let _admitted = hub.admit_stream(stream).expect("room");
        assert_eq!(hub.channels(None, 1).await[0].subscribers, 1);
    }

    #[tokio::test]
    async fn a_page_of_a_prefix_looks_at_no_other_names() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let directory = hub.0.registry.directory();
        let others = (0..50).flat_map(|n| [format!("a/{n}"), format!("z/{n}")]);
        for name in others.chain(["m".into(), "m/1".into(), "m/2".into(), "ma".into()]) {
            let name = ChannelName::parse(&name).expect("a name");
            directory.find_or_create(&name, 0).expect("room");
        }
        let looked_at = std::cell::RefCell::new(Vec::new());
        let page = |prefix: &str, after: Option<&str>| {
            let (found, next) = directory.page(prefix, after, 99, |name| {
                looked_at.borrow_mut().push(name.to_string());
                true
            });
            let found: Vec<_> = found.iter().map(|entry| entry.name().to_string()).collect();
            assert_eq!(looked_at.take(), found);
            (found.join(" "), next.map(|name| name.to_string()))
        };
        assert_eq!(page("m/", None), ("m/1 m/2".into(), None));
        assert_eq!(page("m/", Some("a/7")), ("m/1 m/2".into(), None), "after a name before all");
        assert_eq!(page("m/", Some("m/1")), ("m/2".into(), None));
        assert_eq!(page("m/", Some("m/2")), (String::new(), None));
        assert_eq!(page("m/", Some("z/1")), (String::new(), None));
        assert_eq!(page("m", None), ("m m/1 m/2".into(), Some("m/2".into())), "a look is bounded");
        assert_eq!(page("m", Some("m/2")), ("ma".into(), None));
        assert_eq!(page("n", None), (String::new(), None));
    }
}
