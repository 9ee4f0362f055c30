//! A collector: an HTTP server that takes OTLP in JSON, or behaves as a test wants.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use crate::support::PATIENCE;

/// The server, which ends when this is dropped.
pub(super) struct Collector {
    address: SocketAddr,
    state: Arc<Seen>,
    server: JoinHandle<()>,
}

/// How requests are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Behaviour {
    /// It takes all spans.
    Takes,
    /// It never answers.
    Stalls,
    /// It refuses with a status, and says when to come again if that is given.
    Refuses(u16, Option<&'static str>),
    /// It takes all but so many spans.
    Rejects(u64),
}

struct Seen {
    behaviour: watch::Sender<Behaviour>,
    requests: Mutex<Vec<Request>>,
    changed: watch::Sender<()>,
}

/// One request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) at: Instant,
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
    pub(super) is_taken: bool,
}

/// One span.
#[derive(Debug, Clone)]
pub(super) struct SpanSeen {
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: Option<String>,
    pub(super) state: Option<String>,
    pub(super) name: String,
    pub(super) kind: u64,
    pub(super) flags: u64,
    pub(super) began_ns: u64,
    pub(super) ended_ns: u64,
    /// By key: a text, a number or a boolean.
    pub(super) attributes: HashMap<String, Value>,
    pub(super) is_error: bool,
}

impl Collector {
    pub(super) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Seen {
            behaviour: watch::Sender::new(behaviour),
            requests: Mutex::default(),
            changed: watch::Sender::default(),
        });
        let router = Router::new().route("/v1/traces", post(take)).with_state(Arc::clone(&state));
        let server =
            tokio::spawn(async move { axum::serve(listener, router).await.expect("served") });
        Self { address, state, server }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    pub(super) fn behave(&self, behaviour: Behaviour) {
        self.state.behaviour.send_replace(behaviour);
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().expect("no panic").clone()
    }

    /// The spans of requests that were taken.
    pub(super) fn spans(&self) -> Vec<SpanSeen> {
        let requests = self.requests();
        let taken = requests.iter().filter(|request| request.is_taken);
        taken.flat_map(|request| spans_of(&request.body)).collect()
    }

    /// Waits until the spans are as wanted, and gives them.
    pub(super) async fn wait_for(&self, wanted: impl Fn(&[SpanSeen]) -> bool) -> Vec<SpanSeen> {
        let mut changed = self.state.changed.subscribe();
        let waiting = async {
            while !wanted(&self.spans()) {
                changed.changed().await.expect("the state is kept");
            }
        };
        let waited = timeout(PATIENCE, waiting).await;
        let spans = self.spans();
        assert!(waited.is_ok(), "the spans stay {spans:#?}");
        spans
    }

    /// Waits until there were so many requests.
    pub(super) async fn wait_for_requests(&self, count: usize) {
        let mut changed = self.state.changed.subscribe();
        let waiting = async {
            while self.requests().len() < count {
                changed.changed().await.expect("the state is kept");
            }
        };
        timeout(PATIENCE, waiting).await.expect("requests come");
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn take(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> Response {
    let behaviour = *seen.behaviour.borrow();
    let is_taken = matches!(behaviour, Behaviour::Takes | Behaviour::Rejects(_));
    let body = serde_json::from_slice(&body).expect("JSON");
    let request = Request { at: Instant::now(), headers, body, is_taken };
    seen.requests.lock().expect("no panic").push(request);
    seen.changed.send_replace(());
    match behaviour {
        Behaviour::Takes => axum::Json(json!({})).into_response(),
        Behaviour::Rejects(spans) => {
            let partial = json!({ "rejectedSpans": spans.to_string(), "errorMessage": "too old" });
            axum::Json(json!({ "partialSuccess": partial })).into_response()
        }
        Behaviour::Refuses(status, after) => {
            let status = StatusCode::from_u16(status).expect("a status");
            match after {
                Some(after) => (status, [("retry-after", after)]).into_response(),
                None => status.into_response(),
            }
        }
        Behaviour::Stalls => {
            sleep(100 * PATIENCE).await;
            unreachable!("the test is over by then")
        }
    }
}

/// The spans of one request.
pub(super) fn spans_of(body: &Value) -> Vec<SpanSeen> {
    let resources = body["resourceSpans"].as_array().expect("resources");
    let scopes = resources.iter().flat_map(|it| it["scopeSpans"].as_array().expect("scopes"));
    let spans = scopes.flat_map(|scope| scope["spans"].as_array().expect("spans"));
    spans.map(SpanSeen::of).collect()
}

/// Attributes by key.
pub(super) fn attributes_of(value: &Value) -> HashMap<String, Value> {
    let attributes = value["attributes"].as_array().expect("attributes");
    let pair = |attribute: &Value| {
        let key = attribute["key"].as_str().expect("a key").to_owned();
        let (kind, value) =
            attribute["value"].as_object().and_then(|it| it.iter().next()).expect("a value");
        let value = match kind.as_str() {
            // 64-bit numbers are texts.
            "intValue" => value.as_str().expect("a text").parse::<u64>().expect("a number").into(),
            _ => value.clone(),
        };
        (key, value)
    };
    let found: HashMap<_, _> = attributes.iter().map(pair).collect();
    assert_eq!(found.len(), attributes.len(), "a key is there twice: {value}");
    found
}

impl SpanSeen {
    fn of(span: &Value) -> Self {
        let text = |key: &str| span[key].as_str().map(str::to_owned);
        let number = |key: &str| {
            let text = span[key].as_str().unwrap_or_else(|| panic!("no {key} in {span}"));
            text.parse().unwrap_or_else(|_| panic!("{key} of {span}"))
        };
        Self {
            trace: text("traceId").expect("a trace"),
            id: text("spanId").expect("an id"),
            parent: text("parentSpanId"),
            state: text("traceState"),
            name: text("name").expect("a name"),
            kind: span["kind"].as_u64().expect("a kind"),
            flags: span["flags"].as_u64().expect("flags"),
            began_ns: number("startTimeUnixNano"),
            ended_ns: number("endTimeUnixNano"),
            attributes: attributes_of(span),
            is_error: span["status"]["code"] == 2,
        }
    }

    /// Asserts that it lies within another, whose child it is.
    pub(super) fn is_within(&self, parent: &Self) {
        assert_eq!(self.parent.as_deref(), Some(&*parent.id), "{self:#?} of {parent:#?}");
        let is_nested = parent.began_ns <= self.began_ns
            && self.began_ns <= self.ended_ns
            && self.ended_ns <= parent.ended_ns;
        assert!(is_nested, "{self:#?} of {parent:#?}");
    }
}
