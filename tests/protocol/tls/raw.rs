//! An HTTP/2 client that sends the frames that a test chooses, in plain text.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

pub(crate) use visnyk_loadtest::http2_frames::*;

use super::support::PATIENCE;

/// The head of a GET.
pub(crate) fn get_head(path: &str) -> Vec<u8> {
    head("GET", path)
}

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// A connection.
pub(crate) struct Raw {
    pub(crate) io: TcpStream,
}

impl Raw {
    /// Connects and says nothing.
    pub(crate) async fn silent(address: SocketAddr) -> Self {
        Self { io: TcpStream::connect(address).await.expect("it accepts") }
    }

    /// Connects and begins, with settings.
    pub(crate) async fn connect(address: SocketAddr, settings: &[u8]) -> Self {
        let mut raw = Self::silent(address).await;
        let beginning = [PREFACE, &frame(SETTINGS, 0, 0, settings)].concat();
        raw.send(&beginning).await.expect("it reads");
        raw
    }

    /// Sends bytes, if they are taken in time.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.io.write_all(bytes)).await?
    }

    /// Asks for something.
    pub(crate) async fn get(&mut self, stream: u32, path: &str) {
        let head = frame(HEADERS, END_STREAM | END_HEADERS, stream, &get_head(path));
        self.send(&head).await.expect("it reads");
    }

    /// The next frame; `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let read = async {
            let mut header = [0; 9];
            self.io.read_exact(&mut header).await.ok()?;
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let mut payload = vec![0; length];
            self.io.read_exact(&mut payload).await.ok()?;
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
            Some(Frame { kind: header[3], flags: header[4], stream, payload })
        };
        timeout(PATIENCE, read).await.expect("a frame or the end in time")
    }

    /// The next frame of a kind; `None` when the connection is over.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Waits for the end of the connection; gives the reason of the last GOAWAY, if there was one.
    pub(crate) async fn ended(&mut self) -> Option<u32> {
        let mut reason = None;
        let end = async {
            while let Some(frame) = self.next().await {
                if frame.kind == GOAWAY {
                    let bytes = frame.payload[4..8].try_into().expect("a reason");
                    reason = Some(u32::from_be_bytes(bytes));
                }
            }
        };
        timeout(PATIENCE, end).await.expect("the end in time");
        reason
    }
}
