//! A span that has ended.

use std::sync::Arc;

use super::ids::{SpanId, TraceId};

/// One span.
#[derive(Debug)]
pub(super) struct Span {
    pub(super) trace: TraceId,
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    /// Whether the parent is a span of another process.
    pub(super) is_parent_remote: bool,
    pub(super) state: Option<Arc<str>>,
    pub(super) name: Name,
    pub(super) kind: Kind,
    /// Nanoseconds since 1970.
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    pub(super) attributes: Vec<(&'static str, Value)>,
    /// Why it failed.
    pub(super) error: Option<&'static str>,
}

/// What a span is called: one of few texts.
#[derive(Debug, Clone, Copy)]
pub(super) enum Name {
    /// Of a stage or a step.
    Fixed(&'static str),
    /// Of a request: its method and its route.
    Route(&'static str, &'static str),
}

/// Which side of a call a span is, with the number that OTLP has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Within the hub.
    Internal = 1,
    /// A request that the hub answers.
    Server = 2,
    /// A request that the hub makes.
    Client = 3,
}

/// The value of an attribute.
#[derive(Debug, Clone)]
pub enum Value {
    /// A text that does not change.
    Word(&'static str),
    /// A text, bounded where it is recorded.
    Text(String),
    /// A number.
    Whole(u64),
    /// Yes or no.
    Flag(bool),
}
