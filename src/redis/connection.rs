//! A connection to a server: one command at a time, each with a time limit.

use std::{
    io::{self, Error, ErrorKind},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use hyper_rustls::ConfigBuilderExt;
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{
    address::{BackendAddress, Endpoint},
    credentials::Credentials,
    error::RedisError,
    resp::{self, Reply},
};

/// How a server is reached.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Its address.
    pub address: BackendAddress,
    /// A user of its access lists; empty for the default one.
    pub user: String,
    /// That user's password, and the root certificates, one of which must have signed the server's.
    pub credentials: Credentials,
    /// The prefix of the keys of the log.
    pub namespace: String,
}

impl RedisOptions {
    /// The name of a key. All of them share one hash tag, so a cluster keeps them together.
    pub(super) fn key(&self, name: &str) -> Bytes {
        Bytes::from(format!("{{{}}}:{name}", self.namespace))
    }
}

/// A connection.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    /// The same socket, to ask the kernel whether the server has closed it.
    socket: OwnedFd,
    buffer: BytesMut,
    out: Vec<u8>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connection {
    /// Authenticates as the user of the options, if they have one.
    pub(super) async fn authenticate(&mut self, options: &RedisOptions) -> Result<(), RedisError> {
        let password = options.credentials.password();
        let password = password.expose();
        let user = options.user.as_bytes();
        let auth: &[&[u8]] = match (user.is_empty(), password.is_empty()) {
            (false, _) => &[b"AUTH", user, password],
            (true, false) => &[b"AUTH", password],
            (true, true) => return Ok(()),
        };
        let answer = self.call(auth, COMMAND_TIME_MAX).await;
        answer.map(drop).map_err(RedisError::without_arguments)
    }

    /// Connects to a server, with TLS if the address asks for it.
    pub(super) async fn connect(
        server: &Endpoint,
        options: &RedisOptions,
        time_max: Duration,
    ) -> Result<Self, RedisError> {
        let (stream, socket) = match timeout(time_max, Self::dial(server, options)).await {
            Ok(connected) => connected.map_err(RedisError::Unreachable)?,
            Err(_) => return Err(RedisError::Unreachable(ErrorKind::TimedOut.into())),
        };
        Ok(Self { stream, socket, buffer: BytesMut::new(), out: Vec::new() })
    }

    async fn dial(
        server: &Endpoint,
        options: &RedisOptions,
    ) -> io::Result<(Box<dyn Stream>, OwnedFd)> {
        let Endpoint { host, port } = server;
        let stream = dial_first(lookup_host((host.as_str(), *port)).await?).await?;
        stream.set_nodelay(true)?;
        let socket = stream.as_fd().try_clone_to_owned()?;
        if !options.address.tls {
            return Ok((Box::new(stream), socket));
        }
        let name = ServerName::try_from(host.clone()).map_err(Error::other)?;
        let connector =
            TlsConnector::from(Arc::new(tls_config(options.credentials.ca().as_deref())?));
        Ok((Box::new(connector.connect(name, stream).await?), socket))
    }

    /// Sends a command and reads its reply. It times out when sending takes longer than `time_max`,
    /// when no byte of the reply comes for `time_max`, and after [`REPLY_PARTS_MAX`] times that in
    /// all: a page of large entries may take long. After any error but [`RedisError::Refused`] and
    /// [`RedisError::Full`], and after cancelling it, the connection must be dropped.
    pub(super) async fn call(
        &mut self,
        parts: &[&[u8]],
        time_max: Duration,
    ) -> Result<Reply, RedisError> {
        // Writing to a socket that the server has closed succeeds, and the outcome would then be
        // unknown. So check first.
        if self.is_closed() {
            return Err(RedisError::Unreachable(ErrorKind::UnexpectedEof.into()));
        }
        self.out.clear();
        resp::write_command(parts, &mut self.out);
        let exchange = async {
            let sent = async {
                self.stream.write_all(&self.out).await?;
                self.stream.flush().await
            };
            timeout(time_max, sent).await??;
            read_reply(&mut self.stream, &mut self.buffer, time_max).await
        };
        let reply = match timeout(time_max * REPLY_PARTS_MAX, exchange).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) if error.kind() != ErrorKind::TimedOut => {
                return Err(RedisError::Broken(error));
            }
            _ => return Err(RedisError::timed_out(time_max)),
        };
        if self.out.capacity() > OUT_BYTES_KEPT {
            self.out = Vec::new();
        }
        match reply {
            Reply::Error(text) => Err(RedisError::answered(&text)),
            reply => Ok(reply),
        }
    }
}

impl Connection {
    /// Whether the server has closed the connection, as far as the kernel knows.
    fn is_closed(&self) -> bool {
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        match recv(&self.socket, &mut [0_u8; 1], flags) {
            Ok((_, bytes)) => bytes == 0,
            Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
        }
    }

    /// Waits until the server closes the connection, on which no command is under way. Cancelling
    /// the wait has no effect.
    pub(super) async fn ended(&mut self) -> RedisError {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(0) => RedisError::Unreachable(ErrorKind::UnexpectedEof.into()),
            Ok(_) => RedisError::Unexpected("a reply to no command"),
            Err(error) => RedisError::Unreachable(error),
        }
    }
}

/// Connects to the first of these addresses that answers.
async fn dial_first(addresses: impl Iterator<Item = SocketAddr>) -> io::Result<TcpStream> {
    let mut error = None;
    for address in addresses {
        match timeout(DIAL_TIME_MAX, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(other)) => error = Some(other),
            Err(_) => error = Some(ErrorKind::TimedOut.into()),
        }
    }
    Err(error.unwrap_or_else(|| Error::new(ErrorKind::NotFound, "the name has no address")))
}

async fn read_reply(
    stream: &mut Box<dyn Stream>,
    buffer: &mut BytesMut,
    time_max: Duration,
) -> io::Result<Reply> {
    loop {
        match resp::take_reply(buffer) {
            Ok(Some(reply)) => return Ok(reply),
            Ok(None) => {}
            Err(malformed) => return Err(Error::new(ErrorKind::InvalidData, malformed)),
        }
        buffer.reserve(READ_BYTES);
        if timeout(time_max, stream.read_buf(buffer)).await?? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}

fn tls_config(ca: Option<&[u8]>) -> io::Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(Error::other)?;
    let Some(ca) = ca else {
        return Ok(builder.with_native_roots()?.with_no_client_auth());
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca) {
        roots.add(certificate.map_err(Error::other)?).map_err(Error::other)?;
    }
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::InvalidData,
            "backend.ca_file has no certificate in PEM",
        ));
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The parts of a command, some of which are made for this command.
#[derive(Debug, Default)]
pub(super) struct Command(Vec<Bytes>);

impl Command {
    pub(super) fn part(&mut self, part: impl Into<Bytes>) -> &mut Self {
        self.0.push(part.into());
        self
    }

    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.part(number.to_string())
    }

    pub(super) fn parts(&self) -> Vec<&[u8]> {
        self.0.iter().map(|part| &part[..]).collect()
    }
}

/// Timeout for connecting to the server, TLS included.
pub const CONNECT_TIME_MAX: Duration = Duration::from_secs(3);
/// Timeout for the TCP connection to each address. The kernel repeats a SYN after one second, then
/// after two more: a new attempt finds a server that is back sooner.
const DIAL_TIME_MAX: Duration = Duration::from_millis(1_200);
/// Timeout for one command: if the server takes no byte of the command, or sends none of its reply,
/// for this long, the connection is given up.
pub(super) const COMMAND_TIME_MAX: Duration = Duration::from_secs(5);
/// A command with its whole reply may take this many times `time_max`.
const REPLY_PARTS_MAX: u32 = 12;
const READ_BYTES: usize = 64 << 10;
/// A buffer of commands that has grown larger is dropped after its command.
const OUT_BYTES_KEPT: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use tokio::{
        net::{TcpListener, TcpSocket},
        time::sleep,
    };

    use super::*;

    const TIME_MAX: Duration = Duration::from_millis(900);

    /// A connection to a server that sends these parts with a pause before each, then nothing more.
    async fn connected(parts: &'static [&'static [u8]], pause: Duration) -> Connection {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            for part in parts {
                sleep(pause).await;
                stream.write_all(part).await.expect("sent");
            }
            sleep(Duration::from_secs(60)).await;
        });
        let stream = TcpStream::connect(address).await.expect("connected");
        let socket = stream.as_fd().try_clone_to_owned().expect("a descriptor");
        Connection { stream: Box::new(stream), socket, buffer: BytesMut::new(), out: Vec::new() }
    }

    #[tokio::test]
    async fn a_reply_may_take_longer_as_a_whole_while_its_bytes_come() {
        let parts: &[&[u8]] = &[b"$8\r\n", b"ab", b"cd", b"ef", b"gh\r\n"];
        let mut connection = connected(parts, TIME_MAX / 3).await;
        let began = tokio::time::Instant::now();
        connection.call(&[b"PING"], TIME_MAX).await.expect("the whole reply");
        assert!(began.elapsed() > TIME_MAX, "it took longer than one wait");
    }

    #[tokio::test]
    async fn an_address_that_does_not_answer_leaves_time_for_the_next_one() {
        // Its queue is full, so the kernel drops what comes.
        let full = TcpSocket::new_v4().expect("a socket");
        full.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
        let dead = full.local_addr().expect("an address");
        let _full = full.listen(1).expect("it listens");
        let mut queued = Vec::new();
        while let Ok(connected) = timeout(TIME_MAX / 3, TcpStream::connect(dead)).await {
            queued.push(connected.expect("connected"));
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let alive = listener.local_addr().expect("an address");
        let dial = timeout(CONNECT_TIME_MAX, dial_first([dead, alive].into_iter()));
        let stream = dial.await.expect("in time").expect("connected");
        assert_eq!(stream.peer_addr().expect("an address"), alive);
        assert!(dial_first([].into_iter()).await.is_err());
    }

    #[tokio::test]
    async fn a_reply_that_stops_breaks_the_connection() {
        let mut connection = connected(&[b"$8\r\n", b"ab"], TIME_MAX / 40).await;
        let error = connection.call(&[b"PING"], TIME_MAX).await.expect_err("no end");
        assert!(matches!(error, RedisError::Broken(_)) && error.leaves_outcome_open(), "{error}");
    }
}
