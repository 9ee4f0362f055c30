//! Arguments and replies of the Lua script `log.lua`.

use bytes::Bytes;

use super::{connection::Command, entry::Nonce, error::RedisError, resp::Reply};
use crate::{
    core::IdempotencyKey,
    model::{ChannelName, Epoch, EventKind, Seq},
};

/// The text of the script.
pub(super) const SCRIPT: &str = include_str!("log.lua");

/// Entries to append together: all of them or none.
#[derive(Debug)]
pub struct NewEntries {
    /// Names the publish, so that a retry appends nothing.
    pub key: Option<IdempotencyKey>,
    /// What they are; a closing event is alone.
    pub kind: EventKind,
    /// Their channels, each once.
    pub channels: Vec<ChannelName>,
    /// The entries, encoded, each with the index of its channel.
    pub entries: Vec<(usize, Bytes)>,
}

impl Default for NewEntries {
    fn default() -> Self {
        Self { key: None, kind: EventKind::Published, channels: Vec::new(), entries: Vec::new() }
    }
}

/// What the log remembers, and for how long.
#[derive(Debug, Clone)]
pub struct AppendLimits {
    /// Entries that the stream keeps, approximately.
    pub events_max: u64,
    /// The bytes of these entries, approximately.
    pub bytes_max: u64,
    /// How long they are kept, in milliseconds, approximately.
    pub age_ms: u64,
    /// How long an idempotency key is remembered, in milliseconds.
    pub keys_ms: u64,
    /// How many idempotency keys are remembered.
    pub keys_max: u64,
    /// How long a channel stays closed, in milliseconds.
    pub closed_ms: u64,
    /// How many closed channels are remembered.
    pub closed_max: u64,
    /// The channels without a kept entry whose newest seq is remembered, at least.
    pub quiet_channels_max: u64,
}

/// The newest entry that this hub has shown. The script rejects an append if the log does not
/// contain it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    /// The epoch.
    pub epoch: Epoch,
    /// The newest seq.
    pub seq: Seq,
    /// The nonce of its entry; none if no event has that seq.
    pub nonce: Option<Nonce>,
}

/// The answer to an append.
#[derive(Debug, PartialEq, Eq)]
pub enum Appended {
    /// What became of each submission, and the newest seq after them.
    Done {
        /// In the order of the submissions.
        outcomes: Vec<SubmissionOutcome>,
        /// The newest seq.
        last: Seq,
        /// Entries that are kept.
        kept: u64,
        /// Bytes of them, about.
        kept_bytes: u64,
    },
    /// Nothing was appended: the log does not contain the fence.
    Fenced,
}

/// The outcome of one submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmissionOutcome {
    /// It is in the log.
    Taken {
        /// Its first seq.
        first: Seq,
        /// How many events it has.
        events: u64,
    },
    /// The same submission was appended before under its key.
    Replayed {
        /// Its first seq.
        first: Seq,
        /// How many events it has.
        events: u64,
    },
    /// Another submission was appended before under its key.
    KeyReused,
    /// A channel is closed.
    Closed(ChannelName),
    /// The server has no memory left: nothing was appended.
    Full,
}

/// Adds an append to a command.
pub(super) fn write_append(
    command: &mut Command,
    fence: &Fence,
    limits: &AppendLimits,
    submissions: &[NewEntries],
) {
    let nonce = fence.nonce.map(|nonce| Bytes::copy_from_slice(&nonce)).unwrap_or_default();
    command.part("append").number(fence.epoch.to_u64()).number(fence.seq.0).part(nonce);
    command.number(limits.events_max).number(limits.bytes_max).number(limits.age_ms);
    command.number(limits.keys_ms).number(limits.keys_max);
    command.number(limits.closed_ms).number(limits.closed_max).number(limits.quiet_channels_max);
    command.number(submissions.len() as u64);
    for submission in submissions {
        let key = submission.key.map(|key| key.to_bytes());
        let (scope, sent) = match &key {
            Some(bytes) => bytes.split_at(IdempotencyKey::BYTES / 2),
            None => (&[][..], &[][..]),
        };
        command.part(Bytes::copy_from_slice(scope)).part(Bytes::copy_from_slice(sent));
        command.part(match submission.kind {
            EventKind::Published => "p",
            EventKind::Closed => "c",
        });
        command.number(submission.channels.len() as u64);
        for channel in &submission.channels {
            command.part(Bytes::copy_from_slice(channel.as_str().as_bytes()));
        }
        command.number(submission.entries.len() as u64);
        for (channel, entry) in &submission.entries {
            command.number(*channel as u64).part(entry.clone());
        }
    }
}

/// Reads the answer to an append of `submissions` submissions.
pub(super) fn read_appended(reply: &Reply, submissions: usize) -> Result<Appended, RedisError> {
    let parts = reply.array().ok_or(UNEXPECTED)?;
    match parts.first().and_then(Reply::text) {
        Some("lost" | "epoch") => return Ok(Appended::Fenced),
        Some("ok") => {}
        _ => return Err(UNEXPECTED),
    }
    let last = parts.get(1).and_then(Reply::number).map(Seq).ok_or(UNEXPECTED)?;
    let outcomes = parts.get(2).and_then(Reply::array).ok_or(UNEXPECTED)?;
    let outcomes: Vec<_> = outcomes.iter().map_while(read_outcome).collect();
    let number = |index: usize| parts.get(index).and_then(Reply::number).ok_or(UNEXPECTED);
    let (kept_bytes, kept) = (number(3)?, number(4)?);
    match outcomes.len() == submissions {
        true => Ok(Appended::Done { outcomes, last, kept, kept_bytes }),
        false => Err(UNEXPECTED),
    }
}

fn read_outcome(reply: &Reply) -> Option<SubmissionOutcome> {
    let parts = reply.array()?;
    let number = |index: usize| parts.get(index)?.number();
    Some(match parts.first()?.text()? {
        "taken" => SubmissionOutcome::Taken { first: Seq(number(1)?), events: number(2)? },
        "replayed" => SubmissionOutcome::Replayed { first: Seq(number(1)?), events: number(2)? },
        "reused" => SubmissionOutcome::KeyReused,
        "full" => SubmissionOutcome::Full,
        "closed" => SubmissionOutcome::Closed(ChannelName::parse(parts.get(1)?.text()?).ok()?),
        _ => return None,
    })
}

/// After this error the outcome of an append is unknown.
const UNEXPECTED: RedisError = RedisError::Unexpected("the answer of the script");
