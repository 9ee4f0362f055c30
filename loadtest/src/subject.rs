//! What is measured: a server that takes events over HTTP and streams them as Server-Sent Events.
//!
//! A scenario knows a server only by this: how a client subscribes to a channel, how an event is
//! published to one, and whose CPU and memory to count.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;

use crate::{failure::Failure, percent_encode};

/// One server under test.
#[derive(Debug, Clone)]
pub struct Subject {
    /// How results call it.
    pub name: String,
    /// Where it listens; loopback only.
    pub address: SocketAddr,
    /// Its processes. Their CPU and memory are summed.
    pub pids: Vec<u32>,
    /// The whole HTTP/1.1 request that subscribes to a channel.
    pub subscribe: fn(&Subject, channel: &str) -> Vec<u8>,
    /// The whole HTTP/1.1 request that publishes `body` to a channel as one event, on a
    /// connection that is kept.
    pub publish: fn(&Subject, channel: &str, body: &[u8]) -> Vec<u8>,
    /// The request that publishes several events to a channel at once, if it has one.
    pub publish_batch: Option<PublishBatch>,
    /// The statuses that accept a publish.
    pub publish_ok: RangeInclusive<u16>,
    /// How an event looks to a subscriber.
    pub delivers: Delivers,
    /// What only some servers have, and some scenarios need.
    pub extras: Extras,
    /// Kills it and starts it again, if it was started to be measured.
    pub restart: Option<Restart>,
}

/// Kills a server, starts it anew where it was, blocks until it listens, and gives its process.
#[derive(Clone)]
pub struct Restart(Arc<dyn Fn() -> Result<u32, Failure> + Send + Sync>);

impl Restart {
    /// One that does this.
    pub fn new(restart: impl Fn() -> Result<u32, Failure> + Send + Sync + 'static) -> Self {
        Self(Arc::new(restart))
    }

    /// Does it.
    pub(crate) fn run(&self) -> Result<u32, Failure> {
        (self.0)()
    }
}

impl fmt::Debug for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Restart").finish_non_exhaustive()
    }
}

/// Requests that not every server understands.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extras {
    /// Subscribes to a channel after the event with this id.
    pub resume: Option<Resume>,
    /// Subscribes to several channels or patterns.
    pub subscribe_many: Option<SubscribeMany>,
    /// Waits for the next events of a channel.
    pub poll: Option<LongPoll>,
    /// Subscribes to a channel as a client that may stop reading: it leaves the others alone, and
    /// stays, although it falls behind.
    pub subscribe_slow: Option<SubscribeSlow>,
    /// Where metrics in the form of Prometheus are, and which of them says how many streams are
    /// open.
    pub streams_metric: Option<(&'static str, &'static str)>,
}

/// The whole HTTP/1.1 request that publishes `bodies` to a channel, one event each.
pub type PublishBatch = fn(&Subject, channel: &str, bodies: &[Vec<u8>]) -> Vec<u8>;

/// The whole HTTP/1.1 request that subscribes to a channel after an event.
pub type Resume = fn(&Subject, channel: &str, last_id: &str) -> Vec<u8>;

/// The whole HTTP/1.1 request that subscribes to several channels or patterns.
pub type SubscribeMany = fn(&Subject, channels: &[String]) -> Vec<u8>;

/// The whole HTTP/1.1 request that subscribes to a channel and bears to fall behind.
pub type SubscribeSlow = fn(&Subject, channel: &str) -> Vec<u8>;

/// How a client waits for events, is answered with them anywhere in the body, and waits again on
/// the same connection.
#[derive(Debug, Clone, Copy)]
pub struct LongPoll {
    /// The fields of an answer that say where its client stands now.
    pub position: &'static [&'static str],
    /// The whole HTTP/1.1 request; `after` has the values of these fields in the answer before, and
    /// is empty in a client's first request.
    pub request: fn(&Subject, channel: &str, after: &[&str]) -> Vec<u8>,
}

/// How an event that was published appears in a stream. The body is printable ASCII without
/// quotes, backslashes or line ends, so it stays as it is inside a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivers {
    /// One `data: ` line for each event, which is the published body and nothing else.
    Data,
    /// Inside `data:` lines, with anything around it; a line may hold several events.
    WithinData,
}

impl Subject {
    /// The hub, by its native API.
    pub fn visnyk(address: SocketAddr, pid: u32) -> Self {
        Self {
            name: "visnyk".into(),
            address,
            pids: vec![pid],
            subscribe: |subject, channel| {
                let target = format!("/v1/channels/{}/events", percent_encode(channel));
                stream_request(subject, &target)
            },
            publish: |subject, channel, body| {
                let target = format!("/v1/channels/{}/events", percent_encode(channel));
                post_request(subject, &target, "text/plain", body)
            },
            publish_batch: Some(|subject, channel, bodies| {
                let target = format!("/v1/channels/{}/events", percent_encode(channel));
                let mut lines = Vec::new();
                for body in bodies {
                    lines.extend_from_slice(b"{\"data\":\"");
                    lines.extend_from_slice(body);
                    lines.extend_from_slice(b"\"}\n");
                }
                post_request(subject, &target, "application/x-ndjson", &lines)
            }),
            publish_ok: 201..=201,
            restart: None,
            delivers: Delivers::Data,
            extras: Extras {
                resume: Some(|subject, channel, last_id| {
                    let target = format!("/v1/channels/{}/events", percent_encode(channel));
                    get_request(subject, &target, &[ACCEPT_STREAM, ("Last-Event-ID", last_id)])
                }),
                subscribe_many: Some(|subject, channels| {
                    let channels: Vec<String> = channels
                        .iter()
                        .map(|name| format!("channel={}", encode_value(name)))
                        .collect();
                    stream_request(subject, &format!("/v1/events?{}", channels.join("&")))
                }),
                poll: Some(LongPoll {
                    position: &["Last-Event-ID"],
                    request: |subject, channel, after| {
                        let channel = percent_encode(channel);
                        poll_request(
                            subject,
                            &format!("/v1/channels/{channel}/poll?timeout=60"),
                            after,
                        )
                    },
                }),
                subscribe_slow: Some(|subject, channel| {
                    let target =
                        format!("/v1/channels/{}/events?slow=skip", percent_encode(channel));
                    stream_request(subject, &target)
                }),
                streams_metric: Some(("/metrics", "visnyk_streams")),
            },
        }
    }

    /// The plain send loop of this crate (`visnyk-loadtest floor`): what any server must spend.
    pub fn floor(address: SocketAddr, pid: u32) -> Self {
        Self {
            name: "floor".into(),
            address,
            pids: vec![pid],
            subscribe: |subject, channel| {
                stream_request(subject, &format!("/{}", percent_encode(channel)))
            },
            publish: |subject, channel, body| {
                post_request(subject, &format!("/{}", percent_encode(channel)), "text/plain", body)
            },
            publish_batch: Some(|subject, channel, bodies| {
                let target = format!("/{}", percent_encode(channel));
                post_request(subject, &target, "text/plain", &bodies.join(&b'\n'))
            }),
            publish_ok: 201..=201,
            restart: None,
            delivers: Delivers::Data,
            extras: Extras {
                poll: Some(LongPoll {
                    position: &["Last-Event-ID"],
                    request: |subject, channel, after| {
                        poll_request(subject, &format!("/poll/{}", percent_encode(channel)), after)
                    },
                }),
                ..Extras::default()
            },
        }
    }
}

/// `GET target` as an event stream.
pub fn stream_request(subject: &Subject, target: &str) -> Vec<u8> {
    get_request(subject, target, &[ACCEPT_STREAM])
}

/// `GET target` with these fields, on a connection that is kept.
pub fn get_request(subject: &Subject, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: {}\r\n", subject.address);
    for (name, value) in fields {
        request += &format!("{name}: {value}\r\n");
    }
    (request + "\r\n").into_bytes()
}

/// `GET target` after the event whose id `after` has, if any.
fn poll_request(subject: &Subject, target: &str, after: &[&str]) -> Vec<u8> {
    let after: Vec<_> = after.iter().map(|id| ("Last-Event-ID", *id)).collect();
    get_request(subject, target, &after)
}

/// `POST target` on a connection that is kept.
pub fn post_request(subject: &Subject, target: &str, media_type: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST {target} HTTP/1.1\r\nHost: {}\r\nContent-Type: {media_type}\r\n\
         Content-Length: {}\r\n\r\n",
        subject.address,
        body.len(),
    );
    [head.as_bytes(), body].concat()
}

/// A pattern keeps its asterisks and slashes.
fn encode_value(name: &str) -> String {
    percent_encode(name).replace("%2F", "/").replace("%2A", "*")
}

const ACCEPT_STREAM: (&str, &str) = ("Accept", "text/event-stream");
