//! A TCP socket, which the runtime watches only once somebody has to wait for it.
//!
//! Most streams have sent their request when they are accepted. They are read, answered and handed
//! to a shard's own poller, and tokio never hears of them: to enter its epoll and to leave it again
//! are two system calls, and its record of a socket is an allocation of 256 bytes.

use std::{
    io::{self, Write as _},
    mem::{self, MaybeUninit},
    net::{self, Shutdown, SocketAddr},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    task::coop::poll_proceed,
};

/// A connected socket that never blocks, and the addresses of its ends.
#[derive(Debug)]
pub struct Tcp {
    state: State,
    ends: Ends,
}

/// The addresses of a connection's ends.
#[derive(Debug, Clone, Copy)]
pub struct Ends {
    /// Where it came in at.
    pub local: SocketAddr,
    /// Where it came from.
    pub peer: SocketAddr,
}

#[derive(Debug)]
enum State {
    /// Nobody has waited for it so far.
    Unwatched(net::TcpStream),
    /// By tokio.
    Watched(TcpStream),
    /// It could not be watched, and is closed.
    Lost,
}

impl Tcp {
    /// A socket that is in non-blocking mode already.
    pub fn unwatched(io: net::TcpStream, ends: Ends) -> Self {
        Self { state: State::Unwatched(io), ends }
    }

    /// A socket of the runtime's.
    pub fn watched(io: TcpStream, ends: Ends) -> Self {
        Self { state: State::Watched(io), ends }
    }

    /// The addresses of its ends.
    pub fn ends(&self) -> Ends {
        self.ends
    }

    /// The socket alone, watched by nobody.
    pub fn into_std(self) -> io::Result<net::TcpStream> {
        match self.state {
            State::Unwatched(io) => Ok(io),
            State::Watched(io) => io.into_std(),
            State::Lost => Err(lost()),
        }
    }

    /// The socket watched by the runtime that this is called in.
    pub fn into_tokio(self) -> io::Result<TcpStream> {
        match self.state {
            State::Unwatched(io) => TcpStream::from_std(io),
            State::Watched(io) => Ok(io),
            State::Lost => Err(lost()),
        }
    }

    /// Reads what is there, and is still watched by nobody if nothing is (`WouldBlock`); `None` if
    /// it is watched already. No bytes are the end.
    pub fn read_unwatched(&mut self, bytes_max: usize) -> Option<io::Result<Bytes>> {
        let State::Unwatched(io) = &self.state else { return None };
        let mut chunk = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let length = bytes_max.min(CHUNK_BYTES);
        let read = rustix::io::read(io, &mut chunk[..length]);
        Some(read.map(|(bytes, _)| Bytes::copy_from_slice(bytes)).map_err(io::Error::from))
    }

    /// Waits until there is something to read, or the end.
    pub async fn readable(&mut self) -> io::Result<()> {
        self.watch()?;
        match &self.state {
            State::Watched(io) => io.readable().await,
            State::Unwatched(_) | State::Lost => Err(lost()),
        }
    }

    /// Does something without waiting, as long as nobody watches; `None` once it has to wait, and
    /// is watched. It counts against the task's budget as the runtime's own sockets do: with a peer
    /// that never pauses, the task would never yield.
    fn poll_unwatched<T>(
        &mut self,
        context: &mut Context<'_>,
        mut attempt: impl FnMut(&net::TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<Option<T>>> {
        if !matches!(self.state, State::Unwatched(_)) {
            return Poll::Ready(Ok(None));
        }
        let budget = ready!(poll_proceed(context));
        while let State::Unwatched(io) = &self.state {
            match attempt(io) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.watch()?,
                done => {
                    budget.made_progress();
                    return Poll::Ready(done.map(Some));
                }
            }
        }
        Poll::Ready(Ok(None))
    }

    fn watch(&mut self) -> io::Result<()> {
        self.state = match mem::replace(&mut self.state, State::Lost) {
            State::Unwatched(io) => State::Watched(TcpStream::from_std(io)?),
            state => state,
        };
        Ok(())
    }

    fn in_runtime(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.state {
            State::Watched(io) => Ok(Pin::new(io)),
            State::Unwatched(_) | State::Lost => Err(lost()),
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_unwatched(context, |io| read(io, buffer)))? {
            Some(()) => Poll::Ready(Ok(())),
            None => self.in_runtime()?.poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_unwatched(context, |mut io| io.write(bytes)))? {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => self.in_runtime()?.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_unwatched(context, |mut io| io.write_vectored(slices)))? {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => self.in_runtime()?.poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is kept here.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match ready!(self.poll_unwatched(context, |io| io.shutdown(Shutdown::Write)))? {
            Some(()) => Poll::Ready(Ok(())),
            None => self.in_runtime()?.poll_shutdown(context),
        }
    }
}

/// Reads what there is, as far as the buffer goes, beside it and copies: to read into memory that is
/// not initialized takes `unsafe` or a call that knows how, and to initialize all of the buffer costs
/// more than a request's copy.
fn read(io: &net::TcpStream, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
    let before = buffer.filled().len();
    loop {
        let mut chunk = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let length = buffer.remaining().min(CHUNK_BYTES);
        match rustix::io::read(io, &mut chunk[..length]) {
            Ok((bytes, _)) => {
                buffer.put_slice(bytes);
                if bytes.len() < CHUNK_BYTES || buffer.remaining() == 0 {
                    return Ok(());
                }
            }
            // There was no more than the chunks before.
            Err(_) if buffer.filled().len() > before => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket could not be watched")
}

/// Bytes of one read while nobody watches.
const CHUNK_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::{
        future::{Future, poll_fn},
        pin::pin,
    };

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A socket as it is accepted, and the client's end.
    async fn pair() -> (Tcp, TcpStream) {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connected");
        let (io, peer) = listener.accept().expect("accepted");
        io.set_nonblocking(true).expect("set");
        (Tcp::unwatched(io, Ends { local: address, peer }), client)
    }

    fn is_watched(socket: &Tcp) -> bool {
        matches!(socket.state, State::Watched(_))
    }

    #[tokio::test]
    async fn a_request_that_is_there_is_read_and_answered_without_being_watched() {
        let (mut socket, mut client) = pair().await;
        client.write_all(b"request").await.expect("sent");
        while socket.peek_len() < 7 {
            tokio::task::yield_now().await;
        }
        let mut bytes = [0; 16];
        assert_eq!(socket.read(&mut bytes).await.expect("read"), 7);
        socket.write_all(b"answer").await.expect("written");
        socket.shutdown().await.expect("ended");
        assert!(!is_watched(&socket));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        assert_eq!((&bytes[..7], &answer[..]), (&b"request"[..], &b"answer"[..]));
    }

    #[tokio::test]
    async fn a_look_at_what_is_there_does_not_make_it_watched() {
        let (mut socket, mut client) = pair().await;
        let nothing = socket.read_unwatched(16).expect("nobody watches");
        assert_eq!(nothing.expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"request").await.expect("sent");
        while socket.peek_len() < 7 {
            tokio::task::yield_now().await;
        }
        let first = socket.read_unwatched(3).expect("nobody watches").expect("read");
        let rest = socket.read_unwatched(16).expect("nobody watches").expect("read");
        assert_eq!((&first[..], &rest[..]), (&b"req"[..], &b"uest"[..]));
        drop(client);
        assert!(socket.read_unwatched(16).expect("nobody watches").expect("the end").is_empty());
        assert!(!is_watched(&socket));
        socket.readable().await.expect("there is the end");
        assert!(socket.read_unwatched(16).is_none());
    }

    #[tokio::test]
    async fn what_has_to_wait_is_watched_and_woken() {
        let (mut socket, mut client) = pair().await;
        let reading = tokio::spawn(async move {
            let mut bytes = vec![0; 3];
            socket.read_exact(&mut bytes).await.expect("read");
            (socket, bytes)
        });
        tokio::task::yield_now().await;
        client.write_all(b"abc").await.expect("sent");
        let (mut socket, bytes) = reading.await.expect("it ends");
        assert!(is_watched(&socket) && bytes == b"abc");
        drop(client);
        assert_eq!(socket.read(&mut [0; 1]).await.expect("read"), 0, "the end is told");
    }

    #[tokio::test]
    async fn more_than_the_kernel_takes_is_written_in_time() {
        let (mut socket, mut client) = pair().await;
        let sent: Vec<u8> = (0..16 << 20).map(|n: u32| n as u8).collect();
        let reading = tokio::spawn(async move {
            let mut received = Vec::new();
            client.read_to_end(&mut received).await.expect("read");
            received
        });
        socket.write_all(&sent).await.expect("written");
        assert!(is_watched(&socket));
        drop(socket);
        assert!(reading.await.expect("it ends") == sent);
    }

    #[tokio::test]
    async fn it_says_when_there_is_something_to_read() {
        let (mut socket, mut client) = pair().await;
        let nothing = std::time::Duration::from_millis(1);
        assert!(tokio::time::timeout(nothing, socket.readable()).await.is_err());
        client.write_all(b"x").await.expect("sent");
        socket.readable().await.expect("there is something");
        assert_eq!(socket.read_u8().await.expect("read"), b'x');
        drop(client);
        socket.readable().await.expect("there is the end");
        assert_eq!(socket.read(&mut [0; 1]).await.expect("read"), 0);
    }

    #[tokio::test]
    async fn it_goes_to_the_runtime_and_back() {
        let (socket, mut client) = pair().await;
        let ends = socket.ends();
        let io = socket.into_tokio().expect("watched");
        let io = Tcp::watched(io, ends).into_std().expect("unwatched");
        let mut socket = Tcp::unwatched(io, ends);
        client.write_all(b"x").await.expect("sent");
        assert_eq!(socket.read_u8().await.expect("read"), b'x');
    }

    #[tokio::test]
    async fn a_peer_that_never_pauses_lets_other_tasks_run() {
        let (mut socket, mut client) = pair().await;
        client.write_all(&[0; 1_000]).await.expect("sent");
        // So that all of it is there before the first read.
        while socket.peek_len() < 16 {
            tokio::task::yield_now().await;
        }
        for is_read in [true, false] {
            let mut busy = pin!(async {
                for _ in 0..1_000 {
                    match is_read {
                        true => drop(socket.read_u8().await.expect("read")),
                        false => socket.write_u8(0).await.expect("written"),
                    }
                }
            });
            let mut polls = 0;
            poll_fn(|context| {
                polls += 1;
                busy.as_mut().poll(context)
            })
            .await;
            assert!(polls > 1, "reading: {is_read}");
        }
        assert!(!is_watched(&socket), "it never had to wait for its peer");
    }

    impl Tcp {
        fn peek_len(&self) -> usize {
            let State::Unwatched(io) = &self.state else { panic!("it is watched") };
            io.peek(&mut [0; 16]).unwrap_or(0)
        }
    }
}
