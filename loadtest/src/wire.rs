//! One socket: bytes out, heads and bodies in.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::framing::Framing;

/// The status and the header fields of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// `HTTP/1.1`, or `HTTP/1.0`.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// Names, in lower case, and values, as they came.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// The first value of a field; the name is in lower case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.as_str())
    }

    /// The framing of its body.
    pub fn framing(&self) -> io::Result<Framing> {
        let fields = self.fields.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        Framing::of(self.status, fields).ok_or_else(|| invalid("a body of no known length"))
    }
}

/// A connected socket and what has been read of it but not used yet.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    unread: Vec<u8>,
}

impl Wire {
    /// Takes a connected socket.
    pub fn over(socket: TcpStream) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        Ok(Self { socket, unread: Vec::new() })
    }

    /// Connects; `receive_buffer_bytes` bounds SO_RCVBUF, so that a client which does not read
    /// takes little.
    pub async fn connect(
        address: SocketAddr,
        receive_buffer_bytes: Option<u32>,
    ) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        if let Some(bytes) = receive_buffer_bytes {
            socket.set_recv_buffer_size(bytes)?;
        }
        Self::over(timeout(PATIENCE, socket.connect(address)).await??)
    }

    /// Sends bytes as they are.
    pub async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.socket.write_all(bytes)).await?
    }

    /// Ends the sending side and leaves the receiving side open.
    pub async fn half_close(&mut self) -> io::Result<()> {
        self.socket.shutdown().await
    }

    /// Reads the head of a final answer of HTTP/1.1. Cancelled, it has lost nothing.
    pub async fn read_head(&mut self) -> io::Result<Head> {
        loop {
            let head = self.read_any_head().await?;
            if head.version != "HTTP/1.1" {
                return Err(invalid(format!("an answer of {}", head.version)));
            }
            if head.status >= 200 {
                return Ok(head);
            }
        }
    }

    /// Reads the head of an answer, be it an interim one. Cancelled, it has lost nothing.
    pub async fn read_any_head(&mut self) -> io::Result<Head> {
        parse_head(&self.read_until(b"\r\n\r\n", HEAD_BYTES_MAX).await?)
    }

    /// Appends the next piece of a body to `piece`. Cancelled, it has lost nothing.
    pub async fn read_body(&mut self, rest: &mut Framing, piece: &mut Vec<u8>) -> io::Result<()> {
        if *rest == Framing::Ended {
            return Ok(());
        }
        if self.unread.is_empty() && !self.read_more().await? {
            if *rest != Framing::UntilClose {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *rest = Framing::Ended;
            return Ok(());
        }
        let decoded = rest.decode(&mut self.unread).map_err(|_| invalid("a chunk is malformed"))?;
        piece.extend_from_slice(&self.unread[..decoded.body]);
        self.unread.drain(..decoded.used);
        Ok(())
    }

    /// Closes at once with a reset, as a cable that is pulled and a peer that is killed look to
    /// the other side's kernel sooner or later.
    pub fn cut(self) -> io::Result<()> {
        self.socket.set_zero_linger()
    }

    /// Reads up to and including `end`, which must come within so many bytes. Cancelled, it has
    /// lost nothing.
    pub async fn read_until(&mut self, end: &[u8], bytes_max: usize) -> io::Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            let found = self.unread[searched..].windows(end.len()).position(|part| part == end);
            if let Some(index) = found {
                return Ok(self.unread.drain(..searched + index + end.len()).collect());
            }
            searched = self.unread.len().saturating_sub(end.len() - 1);
            if self.unread.len() > bytes_max {
                return Err(invalid("a line or head is too long"));
            }
            if !self.read_more().await? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Bytes that were read and not used yet.
    pub fn unread(&mut self) -> &mut Vec<u8> {
        &mut self.unread
    }

    /// Reads what comes next; false at the end of the stream.
    pub async fn read_more(&mut self) -> io::Result<bool> {
        Ok(self.socket.read_buf(&mut self.unread).await? > 0)
    }
}

fn parse_head(bytes: &[u8]) -> io::Result<Head> {
    let text = str::from_utf8(bytes).map_err(|_| invalid("a head that is not UTF-8"))?;
    let mut lines = text.trim_end().split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let (version, status) = status_line
        .split_once(' ')
        .filter(|(version, _)| matches!(*version, "HTTP/1.1" | "HTTP/1.0"))
        .and_then(|(version, rest)| Some((version.to_owned(), rest.get(..3)?.parse().ok()?)))
        .ok_or_else(|| invalid(format!("status line {status_line:?}")))?;
    let fields = lines
        .map(|line| {
            let (name, value) =
                line.split_once(':').ok_or_else(|| invalid(format!("field {line:?}")))?;
            Ok((name.to_ascii_lowercase(), value.trim().to_owned()))
        })
        .collect::<io::Result<_>>()?;
    Ok(Head { version, status, fields })
}

pub(crate) fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// For what takes no time on a machine that is alive: connecting, writing, the head of an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const HEAD_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// A wire on which `bytes` come a few at a time and then the end.
    async fn wire(bytes: &'static str) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("accepting");
            for piece in bytes.as_bytes().chunks(3) {
                socket.write_all(piece).await.expect("the test reads on");
                tokio::task::yield_now().await;
            }
        });
        Wire::connect(address, Some(4_096)).await.expect("it listens")
    }

    async fn body(bytes: &'static str) -> io::Result<String> {
        let mut wire = wire(bytes).await;
        let mut rest = wire.read_head().await?.framing()?;
        let mut body = Vec::new();
        while rest != Framing::Ended {
            wire.read_body(&mut rest, &mut body).await?;
        }
        Ok(String::from_utf8(body).expect("UTF-8"))
    }

    #[tokio::test]
    async fn each_framing_is_read_to_its_end() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcX", "abc"),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nX", ""),
            ("HTTP/1.1 200 OK\r\n\r\nabc", "abc"),
            ("HTTP/1.1 204 No Content\r\n\r\nX", ""),
            (
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\nA;x\r\n0123456789\r\n0\r\n\r\nX",
                "ab0123456789",
            ),
            (
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\nContent-Length: 1\r\n\r\na",
                "a",
            ),
        ] {
            assert_eq!(body(answer).await.expect(answer), expected);
        }
    }

    #[tokio::test]
    async fn what_is_cut_short_or_malformed_is_an_error() {
        for answer in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Le",
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
        ] {
            assert!(body(answer).await.is_err(), "{answer}");
        }
    }
}
