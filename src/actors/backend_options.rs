//! The options of a log that several hubs share.

use std::time::Duration;

use crate::redis::{BackendAddress, Credentials, RedisOptions};

/// The log that a hub shares with others.
#[derive(Debug, Clone)]
pub struct BackendOptions {
    /// The server that keeps it.
    pub redis: RedisOptions,
    /// Events that the log keeps, approximately; older ones are removed.
    pub events_max: u64,
    /// Bytes of the events that the log keeps, approximately; the oldest are removed.
    pub bytes_max: u64,
    /// How long the log keeps events, approximately.
    pub age_max: Duration,
    /// The most events of one append, and so of one publish.
    pub batch_events_max: u32,
    /// How long a subscription waits until this hub has shown what another hub has shown already.
    pub catch_up_wait: Duration,
    /// The time between two reports of how many subscribers this hub has.
    pub counts_interval: Duration,
    /// How long such a report counts at the other hubs if no further one comes.
    pub counts_expiry: Duration,
    /// Channels of such a report.
    pub counts_channels_max: u32,
}

impl BackendOptions {
    /// The default options for a server.
    pub fn new(address: BackendAddress) -> Self {
        Self {
            redis: RedisOptions {
                address,
                user: String::new(),
                credentials: Credentials::default(),
                namespace: "visnyk".to_owned(),
            },
            events_max: 200_000,
            bytes_max: 1 << 30,
            age_max: Duration::from_secs(86_400),
            batch_events_max: 256,
            catch_up_wait: Duration::from_millis(5_000),
            counts_interval: Duration::from_millis(2_000),
            counts_expiry: Duration::from_millis(10_000),
            counts_channels_max: 100_000,
        }
    }
}
