//! The range of a read of a subscription, and the piece that it returns.

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
    /// Stop after this many frame bytes; one event may exceed it.
    pub bytes_max: usize,
}

/// A piece of a subscription's events.
#[derive(Debug, Default)]
pub struct Piece {
    /// Events, in log order.
    pub events: Vec<Arc<Event>>,
    /// The reader then has all events of the subscription up to here.
    pub through: Seq,
    /// Whether the read stopped before the end of the range. The piece may be empty then, since one
    /// read visits a limited number of channels.
    pub more: bool,
}
