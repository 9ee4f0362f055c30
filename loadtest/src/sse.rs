//! An event stream, read strictly: line feeds only, and the fields in the order that the hub's
//! documentation gives.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::framing::Framing;
use crate::wire::{Head, PATIENCE, Wire, invalid};

/// How to open a stream.
#[derive(Debug, Clone)]
pub struct SseRequest {
    target: String,
    fields: Vec<(String, String)>,
    receive_buffer_bytes: Option<u32>,
}

impl SseRequest {
    /// A stream of `target`, such as `/v1/events?channel=a&channel=b`.
    pub fn new(target: &str) -> Self {
        Self {
            target: target.to_owned(),
            fields: vec![("Accept".into(), "text/event-stream".into())],
            receive_buffer_bytes: None,
        }
    }

    /// Begins at a position.
    pub fn from(self, position: &str) -> Self {
        self.field("Last-Event-ID", position)
    }

    /// Sends a header field.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Bounds SO_RCVBUF, for a client that will not read.
    pub fn receive_buffer_bytes(mut self, bytes: u32) -> Self {
        self.receive_buffer_bytes = Some(bytes);
        self
    }

    fn to_bytes(&self, address: SocketAddr) -> Vec<u8> {
        let mut request = format!("GET {} HTTP/1.1\r\nHost: {address}\r\n", self.target);
        for (name, value) in &self.fields {
            request += &format!("{name}: {value}\r\n");
        }
        (request + "\r\n").into_bytes()
    }
}

/// One block of a stream: what stands before an empty line.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the fields of an event stream")]
pub struct Block {
    pub comment: Option<String>,
    pub event: Option<String>,
    pub retry_ms: Option<u64>,
    pub data: Option<String>,
    pub id: Option<String>,
}

/// An open stream. To stall, stop asking for blocks: the socket is read only then. Dropped, it
/// closes in good order; see also [`cut`](Self::cut).
#[derive(Debug)]
pub struct SseClient {
    wire: Wire,
    head: Head,
    rest: Framing,
    unread: Vec<u8>,
    position: Option<String>,
    was_cut: bool,
}

impl SseClient {
    /// Connects and reads the head of the answer, whatever its status is. A hub sends it once
    /// the subscription is registered.
    pub async fn connect(address: SocketAddr, request: &SseRequest) -> io::Result<Self> {
        let mut wire = Wire::connect(address, request.receive_buffer_bytes).await?;
        wire.write(&request.to_bytes(address)).await?;
        let head = timeout(PATIENCE, wire.read_head()).await??;
        let rest = head.framing()?;
        Ok(Self { wire, head, rest, unread: Vec::new(), position: None, was_cut: false })
    }

    /// The head of the answer.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// The next block, heartbeats included; `None` at the end of the stream, and an error of the
    /// kind `TimedOut` if none comes in time, after which one can go on asking.
    pub async fn next_block(&mut self, patience: Duration) -> io::Result<Option<Block>> {
        timeout(patience, self.read_block()).await?
    }

    /// The next block that has data; all others before it move the position only.
    pub async fn next_event(&mut self, patience: Duration) -> io::Result<Option<Block>> {
        let event = async {
            loop {
                match self.read_block().await? {
                    Some(block) if block.data.is_none() => {}
                    block => return Ok(block),
                }
            }
        };
        timeout(patience, event).await?
    }

    /// The last id that came.
    pub fn position(&self) -> Option<&str> {
        self.position.as_deref()
    }

    /// Whether a chunked stream has ended without its last chunk: its client is to come back.
    pub fn was_cut(&self) -> bool {
        self.was_cut
    }

    /// Ends the sending side, which a stream has no need of.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.wire.half_close().await
    }

    /// Closes with a reset, whatever is unread.
    pub fn cut(self) -> io::Result<()> {
        self.wire.cut()
    }

    async fn read_block(&mut self) -> io::Result<Option<Block>> {
        let mut searched = 0;
        loop {
            // A comment of no text is a heartbeat, and ends with its line.
            if self.unread.starts_with(b":\n") {
                self.unread.drain(..2);
                return Ok(Some(Block { comment: Some(String::new()), ..Block::default() }));
            }
            let found = self.unread[searched..].windows(2).position(|pair| pair == b"\n\n");
            if let Some(index) = found {
                let bytes: Vec<u8> = self.unread.drain(..searched + index + 2).collect();
                let text = String::from_utf8(bytes).map_err(io::Error::other)?;
                let block = Block::parse(text.trim_end_matches('\n'))?;
                self.position = block.id.clone().or(self.position.take());
                return Ok(Some(block));
            }
            searched = self.unread.len().saturating_sub(1);
            if self.rest == Framing::Ended {
                let rest = String::from_utf8_lossy(&self.unread);
                return match rest.is_empty() {
                    true => Ok(None),
                    false => Err(invalid(format!("the stream ends within a block: {rest:?}"))),
                };
            }
            match self.wire.read_body(&mut self.rest, &mut self.unread).await {
                // Between two chunks.
                Err(error)
                    if error.kind() == io::ErrorKind::UnexpectedEof
                        && self.rest == Framing::CHUNKED =>
                {
                    self.rest = Framing::Ended;
                    self.was_cut = true;
                }
                read => read?,
            }
        }
    }
}

impl Block {
    fn parse(text: &str) -> io::Result<Self> {
        let mut block = Self::default();
        let mut last_rank = 0;
        for line in text.split('\n') {
            let bad = || invalid(format!("line {line:?} in {text:?}"));
            let (name, value) = line.split_once(':').ok_or_else(bad)?;
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            if value.contains('\r') {
                return Err(bad());
            }
            let rank = match name {
                "" => 0,
                "event" => 1,
                "retry" => 2,
                "data" => 3,
                "id" => 4,
                _ => return Err(bad()),
            };
            if rank < last_rank {
                return Err(invalid(format!("fields out of order in {text:?}")));
            }
            last_rank = rank;
            match (name, &mut block.data) {
                ("data", Some(data)) => *data += &format!("\n{value}"),
                ("data", none) => *none = Some(value),
                ("event", _) => block.event = Some(value),
                ("id", _) => block.id = Some(value),
                ("retry", _) => block.retry_ms = Some(value.parse().map_err(|_| bad())?),
                _ => block.comment = Some(value),
            }
        }
        Ok(block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    async fn client(body: &'static str) -> SseClient {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("accepting");
            let mut request = [0; 1_000];
            assert_ne!(socket.read(&mut request).await.expect("a request"), 0);
            let answer =
                format!("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{body}");
            socket.write_all(answer.as_bytes()).await.expect("the test reads");
        });
        let request = SseRequest::new("/v1/events?channel=a").from("p0");
        SseClient::connect(address, &request).await.expect("it answers")
    }

    #[tokio::test]
    async fn blocks_and_events_move_the_position() {
        let body = ": hello\nretry: 2500\nid: p0\n\nevent: t\ndata: a\ndata:  b\nid: p1\n\nid: p2\n\ndata: c\n\n";
        let mut client = client(body).await;
        assert_eq!(client.head().field("content-type"), Some("text/event-stream"));
        let first = client.next_block(PATIENCE).await.expect("a block").expect("not the end");
        assert_eq!((first.retry_ms, first.comment.as_deref()), (Some(2_500), Some("hello")));
        assert_eq!(client.position(), Some("p0"));
        let event = client.next_event(PATIENCE).await.expect("a block").expect("not the end");
        assert_eq!(event.data.as_deref(), Some("a\n b"));
        let event = client.next_event(PATIENCE).await.expect("a block").expect("not the end");
        assert_eq!((event.data.as_deref(), client.position()), (Some("c"), Some("p2")));
        assert_eq!(client.next_event(PATIENCE).await.expect("in order"), None);
    }

    #[tokio::test]
    async fn what_the_documentation_does_not_allow_is_an_error() {
        for body in ["id: 1\ndata: a\n\n", "data: a\r\n\n", "x: 1\n\n", "data\n\n", "data: half\n"]
        {
            let mut client = client(body).await;
            assert!(client.next_block(PATIENCE).await.is_err(), "{body:?}");
        }
    }
}
