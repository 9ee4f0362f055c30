//! Requests and answers on one kept connection.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::framing::Framing;
use crate::wire::{Head, Wire};

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status and header fields.
    pub head: Head,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The status code.
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The body as JSON, null if it is not JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_default()
    }
}

/// A client that keeps one connection and makes a new one when it must.
#[derive(Debug)]
pub struct Exchange {
    address: SocketAddr,
    wire: Option<Wire>,
}

impl Exchange {
    /// Connects with the first request.
    pub fn new(address: SocketAddr) -> Self {
        Self { address, wire: None }
    }

    /// Sends a request and reads the whole answer within `patience`. After an error, or an
    /// answer that closes, the next request has a new connection. Nothing is repeated.
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &[u8],
        patience: Duration,
    ) -> io::Result<Answer> {
        let mut request = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in fields {
            request += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() || method == "POST" {
            request += &format!("Content-Length: {}\r\n", body.len());
        }
        request += "\r\n";
        let request = [request.as_bytes(), body].concat();
        self.send(&request, patience).await
    }

    /// Sends these very bytes and reads one answer.
    pub async fn send(&mut self, request: &[u8], patience: Duration) -> io::Result<Answer> {
        let mut wire = match self.wire.take() {
            Some(wire) => wire,
            None => Wire::connect(self.address, None).await?,
        };
        wire.write(request).await?;
        let (answer, reusable) = timeout(patience, read_answer(&mut wire)).await??;
        self.wire = reusable.then_some(wire);
        Ok(answer)
    }

    /// Closes the connection with a reset, if there is one.
    pub fn cut(&mut self) -> io::Result<()> {
        self.wire.take().map_or(Ok(()), Wire::cut)
    }
}

/// The answer, and whether the connection can carry another one.
async fn read_answer(wire: &mut Wire) -> io::Result<(Answer, bool)> {
    let head = wire.read_head().await?;
    let mut rest = head.framing()?;
    let close = head.field("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
    let reusable = rest != Framing::UntilClose && !close;
    let mut body = Vec::new();
    let is_stream = head.field("content-type").is_some_and(|t| t.contains("event-stream"));
    while rest != Framing::Ended {
        match wire.read_body(&mut rest, &mut body).await {
            // A stream that its client is to resume has no last chunk.
            Err(error) if is_stream && error.kind() == io::ErrorKind::UnexpectedEof => break,
            read => read?,
        }
    }
    let body = String::from_utf8(body).map_err(io::Error::other)?;
    Ok((Answer { head, body }, reusable))
}
