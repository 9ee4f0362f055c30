//! A TCP socket, which is registered with the runtime only once a task has to wait for it.
//!
//! Most streams have sent their request when they are accepted. They are read, answered and handed
//! to a shard's own poller, and tokio never hears of them: to enter its epoll and to leave it again
//! are two system calls, and its record of a socket is an allocation of 256 bytes.

use std::{
    future::poll_fn,
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
    addrs: SocketAddrs,
}

/// The addresses of a connection's ends.
#[derive(Debug, Clone, Copy)]
pub struct SocketAddrs {
    /// Where it came in at.
    pub local: SocketAddr,
    /// Where it came from.
    pub peer: SocketAddr,
}

#[derive(Debug)]
enum State {
    /// No task has waited for it so far.
    Unregistered(net::TcpStream),
    /// With tokio.
    Registered(TcpStream),
    /// It could not be registered, and is closed.
    Lost,
}

impl Tcp {
    /// A socket that is in non-blocking mode already.
    pub fn unregistered(io: net::TcpStream, addrs: SocketAddrs) -> Self {
        Self { state: State::Unregistered(io), addrs }
    }

    /// A socket of the runtime's.
    pub fn registered(io: TcpStream, addrs: SocketAddrs) -> Self {
        Self { state: State::Registered(io), addrs }
    }

    /// The addresses of its ends.
    pub fn addrs(&self) -> SocketAddrs {
        self.addrs
    }

    /// The socket alone, registered nowhere.
    pub fn into_std(self) -> io::Result<net::TcpStream> {
        match self.state {
            State::Unregistered(io) => Ok(io),
            State::Registered(io) => io.into_std(),
            State::Lost => Err(lost()),
        }
    }

    /// The socket, registered with the runtime that this is called in.
    pub fn into_tokio(self) -> io::Result<TcpStream> {
        match self.state {
            State::Unregistered(io) => TcpStream::from_std(io),
            State::Registered(io) => Ok(io),
            State::Lost => Err(lost()),
        }
    }

    /// Reads what is there, and stays unregistered if nothing is (`WouldBlock`); `None` if it is
    /// registered. No bytes are the end.
    pub fn read_unregistered(&mut self, bytes_max: usize) -> Option<io::Result<Bytes>> {
        let State::Unregistered(io) = &self.state else { return None };
        let mut chunk = [MaybeUninit::<u8>::uninit(); CHUNK_BYTES];
        let length = bytes_max.min(CHUNK_BYTES);
        let read = rustix::io::read(io, &mut chunk[..length]);
        Some(read.map(|(bytes, _)| Bytes::copy_from_slice(bytes)).map_err(io::Error::from))
    }

    /// Waits until there is something to read, or the end.
    pub async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context)).await
    }

    /// Whether there may be something to read, or the end; if not, `context` is woken then. Only
    /// the last task that asked is woken.
    pub fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.register()?;
        match &self.state {
            State::Registered(io) => io.poll_read_ready(context),
            State::Unregistered(_) | State::Lost => Poll::Ready(Err(lost())),
        }
    }

    /// Does something without waiting, as long as it is not registered; `None` once it has to wait,
    /// and is registered. It counts against the task's budget as the runtime's own sockets do: with
    /// a peer that never pauses, the task would never yield.
    fn poll_unregistered<T>(
        &mut self,
        context: &mut Context<'_>,
        mut attempt: impl FnMut(&net::TcpStream) -> io::Result<T>,
    ) -> Poll<io::Result<Option<T>>> {
        if !matches!(self.state, State::Unregistered(_)) {
            return Poll::Ready(Ok(None));
        }
        let budget = ready!(poll_proceed(context));
        while let State::Unregistered(io) = &self.state {
            match attempt(io) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.register()?,
                done => {
                    budget.made_progress();
                    return Poll::Ready(done.map(Some));
                }
            }
        }
        Poll::Ready(Ok(None))
    }

    fn register(&mut self) -> io::Result<()> {
        self.state = match mem::replace(&mut self.state, State::Lost) {
            State::Unregistered(io) => State::Registered(TcpStream::from_std(io)?),
            state => state,
        };
        Ok(())
    }

    fn in_runtime(&mut self) -> io::Result<Pin<&mut TcpStream>> {
        match &mut self.state {
            State::Registered(io) => Ok(Pin::new(io)),
            State::Unregistered(_) | State::Lost => Err(lost()),
        }
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match ready!(self.poll_unregistered(context, |io| read(io, buffer)))? {
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
        match ready!(self.poll_unregistered(context, |mut io| io.write(bytes)))? {
            Some(taken) => Poll::Ready(Ok(taken)),
            None => self.in_runtime()?.poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match ready!(self.poll_unregistered(context, |mut io| io.write_vectored(slices)))? {
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
        match ready!(self.poll_unregistered(context, |io| io.shutdown(Shutdown::Write)))? {
            Some(()) => Poll::Ready(Ok(())),
            None => self.in_runtime()?.poll_shutdown(context),
        }
    }
}

/// Reads into a stack buffer and copies. Reading into `buffer` directly needs `unsafe`, and zeroing
/// it costs more than this copy.
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
    io::Error::new(io::ErrorKind::NotConnected, "the socket could not be registered")
}

/// Bytes of one read while it is not registered.
const CHUNK_BYTES: usize = 4 * 1024;

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A socket as it is accepted, and the client's end.
    async fn pair() -> (Tcp, TcpStream) {
        let listener = net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("connected");
        let (io, peer) = listener.accept().expect("accepted");
        io.set_nonblocking(true).expect("set");
        (Tcp::unregistered(io, SocketAddrs { local: address, peer }), client)
    }

    fn is_registered(socket: &Tcp) -> bool {
        matches!(socket.state, State::Registered(_))
    }

    #[tokio::test]
    async fn a_request_that_is_there_is_read_and_answered_without_registration() {
        let (mut socket, mut client) = pair().await;
        client.write_all(b"request").await.expect("sent");
        while socket.peek_len() < 7 {
            tokio::task::yield_now().await;
        }
        let mut bytes = [0; 16];
        assert_eq!(socket.read(&mut bytes).await.expect("read"), 7);
        socket.write_all(b"answer").await.expect("written");
        socket.shutdown().await.expect("ended");
        assert!(!is_registered(&socket));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.expect("read");
        assert_eq!((&bytes[..7], &answer[..]), (&b"request"[..], &b"answer"[..]));
    }

    #[tokio::test]
    async fn a_read_of_what_is_there_does_not_register_it() {
        let (mut socket, mut client) = pair().await;
        let nothing = socket.read_unregistered(16).expect("not registered");
        assert_eq!(nothing.expect_err("nothing").kind(), io::ErrorKind::WouldBlock);
        client.write_all(b"request").await.expect("sent");
        while socket.peek_len() < 7 {
            tokio::task::yield_now().await;
        }
        let first = socket.read_unregistered(3).expect("not registered").expect("read");
        let rest = socket.read_unregistered(16).expect("not registered").expect("read");
        assert_eq!((&first[..], &rest[..]), (&b"req"[..], &b"uest"[..]));
        drop(client);
        assert!(socket.read_unregistered(16).expect("not registered").expect("the end").is_empty());
        assert!(!is_registered(&socket));
        socket.readable().await.expect("there is the end");
        assert!(socket.read_unregistered(16).is_none());
    }

    #[tokio::test]
    async fn what_has_to_wait_is_registered_and_woken() {
        let (mut socket, mut client) = pair().await;
        let reading = tokio::spawn(async move {
            let mut bytes = vec![0; 3];
            socket.read_exact(&mut bytes).await.expect("read");
            (socket, bytes)
        });
        tokio::task::yield_now().await;
        client.write_all(b"abc").await.expect("sent");
        let (mut socket, bytes) = reading.await.expect("it ends");
        assert!(is_registered(&socket) && bytes == b"abc");
        drop(client);
        assert_eq!(socket.read(&mut [0; 1]).await.expect("read"), 0, "the end is read");
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
        assert!(is_registered(&socket));
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
        let addrs = socket.addrs();
        let io = socket.into_tokio().expect("watched");
        let io = Tcp::registered(io, addrs).into_std().expect("unregistered");
        let mut socket = Tcp::unregistered(io, addrs);
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
        assert!(!is_registered(&socket), "it never had to wait for its peer");
    }

    impl Tcp {
        fn peek_len(&self) -> usize {
            let State::Unregistered(io) = &self.state else { panic!("it is watched") };
            io.peek(&mut [0; 16]).unwrap_or(0)
        }
    }
}
