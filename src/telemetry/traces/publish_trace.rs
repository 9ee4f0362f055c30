//! The trace of one publish: the ids of its spans and one clock for all of them.
//!
//! It goes along with the publish through all stages. A stage is a span with children, so its id is
//! known from the beginning; a step has none. Both are recorded when they have ended.

use std::{
    net::IpAddr,
    sync::Arc,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    context::TraceContext,
    ids::{SpanId, TraceId},
    span::{Kind, Name, Span, Value},
    span_queue::SpanQueue,
};
use crate::model::labels;

/// A publish that is traced.
#[derive(Debug)]
pub struct PublishTrace {
    spans: Arc<SpanQueue>,
    id: TraceId,
    /// The span of the client, if the trace began there.
    parent: Option<SpanId>,
    state: Option<Arc<str>>,
    /// The spans of the stages.
    stages: [SpanId; Stage::ALL.len()],
    /// When it began, by both clocks: the wall clock may be set meanwhile.
    began: Instant,
    began_ns: u64,
}

labels! {
    /// A part of a publish that has parts itself.
    pub enum Stage {
        /// The request, until its answer is made.
        Request = "request",
        /// From the parsed body to the outcome.
        Publish = "publish",
        /// From the log's queue until the events are shown.
        Append = "append",
        /// Until the events are durable; not in memory.
        MakeDurable = "make_durable",
        /// From when the events were shown until the last shard is through with them.
        FanOut = "fan_out",
    }
}

labels! {
    /// A part of a stage.
    pub enum Step {
        /// Waits for late shards and for permits.
        Admit = "admit",
        /// Is put in the order of the log.
        Prepare = "prepare",
        /// The batch is written to the log on disk.
        Write = "write",
        /// That is fsynced.
        Sync = "fsync",
        /// A call of the server that keeps a shared log.
        RedisAppend = "redis append",
        /// The events go into histories and the head moves.
        Show = "show",
        /// One round of a shard.
        Round = "round",
    }
}

/// What a request is, for its span.
#[derive(Debug)]
pub struct RequestFacts<'a> {
    /// Its method.
    pub method: &'static str,
    /// Its route, with `{channel}` for a name.
    pub route: &'static str,
    /// Its path.
    pub path: &'a str,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The version of HTTP.
    pub version: &'static str,
    /// The address of its client.
    pub client: Option<IpAddr>,
    /// Its id in the access log.
    pub request_id: &'a str,
    /// The status of its answer; `None` if it was cancelled before there was one.
    pub status: Option<u16>,
}

impl PublishTrace {
    /// A trace that begins now; `context` is that of its request.
    pub(super) fn new(
        spans: Arc<SpanQueue>,
        id: TraceId,
        context: Option<TraceContext>,
    ) -> Arc<Self> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let (parent, state) =
            context.map_or((None, None), |context| (Some(context.parent), context.state));
        Arc::new(Self {
            spans,
            id,
            parent,
            state,
            stages: std::array::from_fn(|_| SpanId::random()),
            began: Instant::now(),
            began_ns: u64::try_from(since_1970.as_nanos()).unwrap_or(u64::MAX),
        })
    }

    /// Records the span of its request, which is answered or cancelled now.
    pub fn request_ended(&self, facts: RequestFacts<'_>) {
        let mut end = facts.path.len().min(PATH_BYTES_MAX);
        while !facts.path.is_char_boundary(end) {
            end -= 1;
        }
        let path = &facts.path[..end];
        let mut attributes = vec![
            ("http.request.method", Value::Word(facts.method)),
            ("http.route", Value::Word(facts.route)),
            ("url.path", Value::Text(path.to_owned())),
            ("url.scheme", Value::Word(facts.scheme)),
            ("network.protocol.version", Value::Word(facts.version)),
            ("visnyk.request_id", Value::Text(facts.request_id.to_owned())),
        ];
        if let Some(client) = facts.client {
            attributes.push(("client.address", Value::Text(client.to_string())));
        }
        let error = match facts.status {
            None => {
                attributes.push(("error.type", Value::Word(CANCELLED)));
                Some(CANCELLED)
            }
            Some(status) => {
                attributes.push(("http.response.status_code", Value::Whole(status.into())));
                // A 4xx is the mistake of the client (HTTP semantic conventions).
                let is_error = status >= 500;
                if is_error {
                    attributes.push(("error.type", Value::Text(status.to_string())));
                }
                is_error.then_some("the hub did not serve the request")
            }
        };
        self.spans.push(Span {
            name: Name::Route(facts.method, facts.route),
            kind: Kind::Server,
            parent: self.parent,
            is_parent_remote: self.parent.is_some(),
            ..self.span(self.id_of(Stage::Request), self.began, Instant::now(), attributes, error)
        });
    }

    /// Records a stage that has ended now; `error` says why it failed, in a word.
    pub fn stage_ended(
        &self,
        stage: Stage,
        began: Instant,
        mut attributes: Vec<(&'static str, Value)>,
        error: Option<&'static str>,
    ) {
        if let Some(error) = error {
            attributes.push(("error.type", Value::Word(error)));
        }
        self.spans.push(Span {
            name: Name::Fixed(stage.as_str()),
            parent: stage.parent().map(|parent| self.id_of(parent)),
            ..self.span(self.id_of(stage), began, Instant::now(), attributes, error)
        });
    }

    /// Records a step that has ended; `error` says why it failed, in a word.
    pub fn step(
        &self,
        step: Step,
        (began, ended): (Instant, Instant),
        mut attributes: Vec<(&'static str, Value)>,
        error: Option<&'static str>,
    ) {
        if let Some(error) = error {
            attributes.push(("error.type", Value::Word(error)));
        }
        self.spans.push(Span {
            name: Name::Fixed(step.as_str()),
            kind: if step == Step::RedisAppend { Kind::Client } else { Kind::Internal },
            parent: Some(self.id_of(step.stage())),
            ..self.span(SpanId::random(), began, ended, attributes, error)
        });
    }

    fn span(
        &self,
        id: SpanId,
        began: Instant,
        ended: Instant,
        attributes: Vec<(&'static str, Value)>,
        error: Option<&'static str>,
    ) -> Span {
        Span {
            trace: self.id,
            id,
            parent: None,
            is_parent_remote: false,
            state: self.state.clone(),
            name: Name::Fixed(""),
            kind: Kind::Internal,
            began_ns: self.at(began),
            ended_ns: self.at(ended),
            attributes,
            error,
        }
    }

    /// Nanoseconds since 1970.
    fn at(&self, when: Instant) -> u64 {
        let since = when.saturating_duration_since(self.began).as_nanos();
        self.began_ns.saturating_add(u64::try_from(since).unwrap_or(u64::MAX))
    }

    fn id_of(&self, stage: Stage) -> SpanId {
        self.stages[stage as usize]
    }
}

impl Stage {
    fn parent(self) -> Option<Self> {
        match self {
            Self::Request => None,
            Self::Publish => Some(Self::Request),
            Self::Append | Self::FanOut => Some(Self::Publish),
            Self::MakeDurable => Some(Self::Append),
        }
    }
}

impl Step {
    fn stage(self) -> Stage {
        match self {
            Self::Admit => Stage::Publish,
            Self::Prepare | Self::Show => Stage::Append,
            Self::Write | Self::Sync | Self::RedisAppend => Stage::MakeDurable,
            Self::Round => Stage::FanOut,
        }
    }
}

/// Why a part failed whose future was dropped.
pub(super) const CANCELLED: &str = "cancelled";
/// Bytes of a path in a span.
const PATH_BYTES_MAX: usize = 512;
