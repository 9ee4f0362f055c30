//! How many connections are behind, by reason, and how far they lag. Shards count both about every
//! second, not at each change.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

/// The metrics of one hub.
#[derive(Debug)]
pub struct BehindMetrics {
    connections: Family<State, Gauge>,
    lag_events: Gauge,
}

/// The connections that are behind, of one shard or of all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BehindCounts {
    /// In the order of [`BehindMetrics::STATES`].
    pub connections: [u32; BehindMetrics::STATES.len()],
    /// Events that they lag together.
    pub lag_events: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    state: &'static str,
}

impl BehindMetrics {
    /// Why a connection is behind, as reports on connections say it.
    pub const STATES: [&'static str; 4] = ["blocked", "replaying", "catching_up", "ending"];

    /// Replaces the counts that a shard has shown before.
    pub fn replace(&self, before: &BehindCounts, now: &BehindCounts) {
        for (index, state) in Self::STATES.into_iter().enumerate() {
            let (before, now) = (before.connections[index], now.connections[index]);
            if before != now {
                self.connections
                    .get_or_create(&State { state })
                    .inc_by(i64::from(now) - i64::from(before));
            }
        }
        self.lag_events.inc_by(now.lag_events as i64 - before.lag_events as i64);
    }

    /// The counts of all shards.
    pub fn counts(&self) -> BehindCounts {
        let count = |state| {
            let gauge = self.connections.get_or_create(&State { state });
            u32::try_from(gauge.get()).unwrap_or_default()
        };
        BehindCounts {
            connections: Self::STATES.map(count),
            lag_events: u64::try_from(self.lag_events.get()).unwrap_or_default(),
        }
    }

    pub(super) fn register(&self, r: &mut Registry) {
        r.register(
            "connections_behind",
            "Streams and polls that have not been sent everything, counted about every second, \
             on a shard with over 8,000 connections up to every ten seconds",
            self.connections.clone(),
        );
        r.register(
            "lag_events",
            "Events that connections lag, all together, counted about every second, on a shard \
             with over 8,000 connections up to every ten seconds",
            self.lag_events.clone(),
        );
    }
}

impl Default for BehindMetrics {
    fn default() -> Self {
        let connections = Family::<State, Gauge>::default();
        for state in Self::STATES {
            drop(connections.get_or_create(&State { state }));
        }
        Self { connections, lag_events: Gauge::default() }
    }
}
