//! A publish to a shared log, encoded, until the bridge appends it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::{
    clock::Now,
    shared_answers::ReplyTo,
    submission::{Reply, Submission},
};
use crate::{
    redis::{BackendAddress, Entry, NewEntries, Nonce},
    telemetry::{PublishTrace, Stage, Step, Value},
};

/// A publish that waits to be appended.
pub(super) struct PendingAppend {
    pub(super) new: NewEntries,
    pub(super) bytes: usize,
    pub(super) first_nonce: Nonce,
    pub(super) queued_at: Instant,
    pub(super) reply_to: ReplyTo,
    /// Of a publish that is traced.
    pub(super) trace: Option<Arc<PublishTrace>>,
}

impl PendingAppend {
    /// If the publish is traced, records the append that it was part of, and that it is durable
    /// unless the append failed.
    pub(super) fn trace_append(
        &self,
        server: &BackendAddress,
        times: (Instant, Instant),
        batch_events: usize,
        error: Option<&'static str>,
    ) {
        let Some(trace) = &self.trace else { return };
        let (began, ended) = (times.0.into_std(), times.1.into_std());
        let attributes = vec![
            ("db.system.name", Value::Word("redis")),
            ("db.operation.name", Value::Word("EVALSHA")),
            ("visnyk.backend", Value::Text(server.to_string())),
            ("visnyk.batch.events", Value::Whole(batch_events as u64)),
        ];
        trace.step(Step::RedisAppend, (began, ended), attributes, error);
        if error.is_none() {
            trace.stage_ended(Stage::MakeDurable, self.queued_at.into_std(), Vec::new(), None);
        }
    }

    pub(super) fn new(submission: Submission, reply: Reply, now: Now) -> Self {
        let Submission { events, kind, key, permits, trace } = submission;
        let mut channels = Vec::new();
        let mut entries = Vec::with_capacity(events.len());
        let mut bytes = 0;
        let mut first_nonce = Nonce::default();
        for (index, (entry, draft)) in events.iter().enumerate() {
            let nonce = fastrand::u64(..).to_le_bytes();
            if index == 0 {
                first_nonce = nonce;
            }
            let channel = channels.iter().position(|name| name == entry.name());
            let channel = channel.unwrap_or(channels.len());
            if channel == channels.len() {
                channels.push(entry.name().clone());
            }
            let encoded = Entry::encode(nonce, kind, now.wall_ms, entry.name(), draft);
            bytes += encoded.len();
            entries.push((channel, Bytes::from(encoded)));
        }
        Self {
            new: NewEntries { key, kind, channels, entries },
            bytes,
            first_nonce,
            queued_at: Instant::now(),
            reply_to: ReplyTo { reply, permits },
            trace,
        }
    }
}
