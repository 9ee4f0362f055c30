//! A TCP proxy of our own, which delays, drips, holds back and cuts what goes through it, per
//! direction. What it passes on it passes on byte by byte.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A proxy in front of a server; it ends when it is dropped, with its connections.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    target: Arc<Mutex<SocketAddr>>,
    to_server: watch::Sender<Flow>,
    to_client: watch::Sender<Flow>,
    cuts: watch::Sender<u64>,
    accepting: JoinHandle<()>,
}

/// What happens to the bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// They are passed on.
    Pass,
    /// They wait, as in a network that has come apart; connections stay, and new ones are made.
    Hold,
    /// Each piece waits for up to this time.
    Delay(Duration),
    /// They are passed on in pieces of up to so many bytes, with a millisecond between them.
    Drip(usize),
}

/// The direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    ToServer,
    ToClient,
}

impl Proxy {
    /// Starts one.
    pub(crate) async fn start(target: SocketAddr, seed: u64) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let target = Arc::new(Mutex::new(target));
        let (to_server, to_client) =
            (watch::Sender::new(Flow::Pass), watch::Sender::new(Flow::Pass));
        let cuts = watch::Sender::new(0);
        let accepting = tokio::spawn(accept(
            listener,
            Arc::clone(&target),
            [to_server.subscribe(), to_client.subscribe()],
            cuts.subscribe(),
            fastrand::Rng::with_seed(seed),
        ));
        Self { address, target, to_server, to_client, cuts, accepting }
    }

    /// Where its clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what happens to a direction, of the connections that there are, too.
    pub(crate) fn set(&self, direction: Direction, flow: Flow) {
        match direction {
            Direction::ToServer => self.to_server.send_replace(flow),
            Direction::ToClient => self.to_client.send_replace(flow),
        };
    }

    /// Resets all connections that there are. What they held back is gone.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// New connections lead to another server.
    pub(crate) fn lead_to(&self, target: SocketAddr) {
        *self.target.lock() = target;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(
    listener: TcpListener,
    target: Arc<Mutex<SocketAddr>>,
    flows: [watch::Receiver<Flow>; 2],
    mut cuts: watch::Receiver<u64>,
    mut rng: fastrand::Rng,
) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        cuts.borrow_and_update();
        let (target, flows, cuts) = (*target.lock(), flows.clone(), cuts.clone());
        tokio::spawn(connection(client, target, flows, cuts, rng.fork()));
    }
}

async fn connection(
    mut client: TcpStream,
    target: SocketAddr,
    [to_server, to_client]: [watch::Receiver<Flow>; 2],
    mut cuts: watch::Receiver<u64>,
    mut rng: fastrand::Rng,
) {
    // A reset unless both sides have ended in good order.
    let set_linger = |socket: &TcpStream, time| SockRef::from(socket).set_linger(time);
    let _ = (client.set_nodelay(true), set_linger(&client, Some(Duration::ZERO)));
    let server = tokio::select! {
        server = TcpStream::connect(target) => server,
        _ = cuts.changed() => return,
    };
    let Ok(mut server) = server else { return };
    let _ = (server.set_nodelay(true), set_linger(&server, Some(Duration::ZERO)));
    let ((from_client, into_client), (from_server, into_server)) = (client.split(), server.split());
    let both = async {
        tokio::try_join!(
            pump(from_client, into_server, to_server, rng.fork()),
            pump(from_server, into_client, to_client, rng.fork()),
        )
    };
    let ended = tokio::select! {
        ended = both => ended,
        _ = cuts.changed() => return,
    };
    if ended.is_ok() {
        let _ = (set_linger(&client, None), set_linger(&server, None));
    }
}

/// Passes on until the end of a direction, which it passes on, too.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut flow: watch::Receiver<Flow>,
    mut rng: fastrand::Rng,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        let mut rest = &buffer[..count];
        // The end waits like the bytes before it.
        if rest.is_empty() {
            wait_while_held(&mut flow).await?;
            to.shutdown().await?;
            return Ok(());
        }
        while !rest.is_empty() {
            wait_while_held(&mut flow).await?;
            let current = *flow.borrow();
            let piece = match current {
                Flow::Pass => rest.len(),
                // It was changed in between.
                Flow::Hold => continue,
                Flow::Delay(most) => {
                    sleep(most.mul_f64(rng.f64())).await;
                    rest.len()
                }
                Flow::Drip(most) => {
                    sleep(Duration::from_millis(1)).await;
                    rng.usize(1..=most).min(rest.len())
                }
            };
            // It may have been held while this slept.
            if *flow.borrow() == Flow::Hold {
                continue;
            }
            to.write_all(&rest[..piece]).await?;
            rest = &rest[piece..];
        }
    }
}

async fn wait_while_held(flow: &mut watch::Receiver<Flow>) -> std::io::Result<()> {
    let passes = flow.wait_for(|flow| *flow != Flow::Hold).await;
    passes.map(drop).map_err(std::io::Error::other)
}

/// The proxy does what it says.
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;

    async fn pair() -> (Proxy, TcpStream, TcpStream) {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(server.local_addr().unwrap(), 1).await;
        let client = TcpStream::connect(proxy.address()).await.unwrap();
        let (server, _) = server.accept().await.unwrap();
        (proxy, client, server)
    }

    async fn read(stream: &mut TcpStream, bytes: usize) -> Vec<u8> {
        let mut read = vec![0; bytes];
        stream.read_exact(&mut read).await.unwrap();
        read
    }

    #[tokio::test]
    async fn proxy_passes_on_every_byte_in_order_in_each_flow() {
        let (proxy, mut client, mut server) = pair().await;
        let bytes: Vec<u8> = (0..20_000_u32).map(|n| n as u8).collect();
        for flow in [Flow::Pass, Flow::Delay(Duration::from_millis(5)), Flow::Drip(2_000)] {
            proxy.set(Direction::ToServer, flow);
            proxy.set(Direction::ToClient, flow);
            client.write_all(&bytes).await.unwrap();
            assert!(read(&mut server, bytes.len()).await == bytes, "{flow:?}");
            server.write_all(&bytes).await.unwrap();
            assert!(read(&mut client, bytes.len()).await == bytes, "{flow:?}");
        }
        client.shutdown().await.unwrap();
        assert_eq!(server.read(&mut [0]).await.unwrap(), 0, "the end");
    }

    #[tokio::test]
    async fn proxy_holds_one_direction_and_passes_on_the_other() {
        let (proxy, mut client, mut server) = pair().await;
        proxy.set(Direction::ToServer, Flow::Hold);
        client.write_all(b"held").await.unwrap();
        server.write_all(b"passed").await.unwrap();
        assert_eq!(read(&mut client, 6).await, b"passed");
        let early = timeout(Duration::from_millis(50), server.read(&mut [0])).await;
        assert!(early.is_err(), "{early:?}");
        proxy.set(Direction::ToServer, Flow::Pass);
        assert_eq!(read(&mut server, 4).await, b"held");
    }

    #[tokio::test]
    async fn proxy_resets_both_sides_and_loses_what_it_held() {
        let (proxy, mut client, mut server) = pair().await;
        proxy.set(Direction::ToServer, Flow::Hold);
        client.write_all(b"held").await.unwrap();
        sleep(Duration::from_millis(20)).await;
        proxy.cut();
        for side in [&mut client, &mut server] {
            assert!(side.read(&mut [0]).await.is_err(), "a reset");
        }
    }
}
