//! The gap event: events that a client should have had are gone.

use super::{ChannelName, Position, labels::labels};

/// Events that a client should have had and that history no longer holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why they are gone.
    pub reason: GapReason,
    /// The position the client asked for, as it sent it, or the beginning of a text that is not
    /// a position; `last=N` if it asked for last events.
    pub requested: String,
    /// Where the stream goes on.
    pub oldest: Position,
    /// The channel that lost them, where one can be named.
    pub channel: Option<ChannelName>,
}

labels! {
    /// Why events are gone.
    #[non_exhaustive]
    pub enum GapReason {
        /// Retention removed them.
        Evicted = "evicted",
        /// The position is from another incarnation of the log.
        Epoch = "epoch",
        /// No hub writes such a token.
        UnknownPosition = "unknown_position",
        /// The connection lagged and its policy skipped them.
        Slow = "slow",
        /// The search for the last events of channels has read as much of the disk as it may; older
        /// ones may be there.
        SearchLimit = "search_limit",
    }
}

impl Gap {
    /// The data of the gap event, a JSON object.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::Map::new();
        json.insert("reason".into(), self.reason.as_str().into());
        json.insert("requested".into(), self.requested.as_str().into());
        json.insert("oldest".into(), self.oldest.to_string().into());
        if let Some(channel) = &self.channel {
            json.insert("channel".into(), channel.as_str().into());
        }
        serde_json::Value::Object(json).to_string()
    }
}
