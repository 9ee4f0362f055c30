//! What is measured: a server that takes events over HTTP and streams them as Server-Sent Events.
//!
//! A scenario knows a server only by this: how a client subscribes to a channel, how an event is
//! published to one, and whose CPU and memory to count.

use std::net::SocketAddr;
use std::ops::RangeInclusive;

use crate::percent_encode;

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
}

/// The whole HTTP/1.1 request that publishes `bodies` to a channel, one event each.
pub type PublishBatch = fn(&Subject, channel: &str, bodies: &[Vec<u8>]) -> Vec<u8>;

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
            delivers: Delivers::Data,
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
            delivers: Delivers::Data,
        }
    }
}

/// `GET target` as an event stream.
pub fn stream_request(subject: &Subject, target: &str) -> Vec<u8> {
    let host = subject.address;
    format!("GET {target} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n").into()
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
