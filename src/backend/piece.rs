//! What is read of a subscription, and a piece of what is found.

use std::sync::Arc;

use crate::model::{Event, Seq};

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqRange {
    /// The reader has all events up to here.
    pub after: Seq,
    /// No further than this.
    pub through: Seq,
    /// Events at most.
    pub events_max: usize,
    /// No event more once there are as many frame bytes.
    pub bytes_max: usize,
}

/// A piece of a subscription's events.
#[derive(Debug, Default)]
pub struct Piece {
    /// Events, in log order.
    pub events: Vec<Arc<Event>>,
    /// The reader then has all events of the subscription up to here.
    pub through: Seq,
    /// Whether that is not all of the range. There need not be an event yet: one look goes only so
    /// far.
    pub more: bool,
}
