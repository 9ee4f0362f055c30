//! The range of a read of a subscription, and the piece that it returns.

use std::sync::Arc;

use crate::model::{Event, Seq};

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqRange {
    /// The reader has all events up to this seq.
    pub after: Seq,
    /// Only events up to this seq.
    pub through: Seq,
    /// The most events.
    pub events_max: usize,
    /// Stop after this many frame bytes; one event may exceed it.
    pub bytes_max: usize,
}

/// A piece of a subscription's events.
#[derive(Debug, Default)]
pub struct Piece {
    /// Events, in log order.
    pub events: Vec<Arc<Event>>,
    /// After this piece, the reader has all events of the subscription up to this seq.
    pub through: Seq,
    /// Whether the read stopped before the end of the range. The piece may be empty then, since one
    /// read visits a limited number of channels.
    pub more: bool,
}
