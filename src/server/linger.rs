//! The end of a connection whose client may still be sending.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::sleep,
};

use crate::actors::Socket;

/// Ends a connection whose client may still be sending: shuts down the sending side, and reads
/// until the client closes the connection or `wait` is over. A socket that is closed with unread
/// bytes is reset, and the reset may overtake the last answer (RFC 9112, section 9.6).
pub(super) async fn linger(mut io: Socket, wait: Duration) {
    let draining = async {
        io.shutdown().await?;
        // Boxed: the buffer must not enlarge the future of every connection.
        let mut bytes = vec![0; LINGER_BYTES];
        loop {
            match io.read(&mut bytes).await? {
                0 => return Ok::<_, std::io::Error>(()),
                // The bytes are dropped. A client that sends without a pause is slowed down.
                LINGER_BYTES => sleep(LINGER_PAUSE).await,
                _ => {}
            }
        }
    };
    let _ = tokio::time::timeout(wait, draining).await;
}

/// How long a client may still send after its last answer, before the connection is reset.
pub(super) const LINGER: Duration = Duration::from_secs(2);
/// Bytes of one read, and the pause after a read of that many: at most four megabytes a second.
/// With reads of 4 KiB the hub spent a third of its time on them, under a flood of refused bodies.
const LINGER_BYTES: usize = 32 * 1024;
const LINGER_PAUSE: Duration = Duration::from_millis(8);
