//! Attacks by TLS handshakes, and honest subscribers over TLS, as the load tool has none.

use std::{
    path::Path,
    rc::Rc,
    sync::{
        Arc, LazyLock, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, ClientConnection};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    runtime::Runtime,
};
use tokio_rustls::client::TlsStream;
use visnyk_loadtest::{Received, dial_tls, tls_config};

use crate::{
    AUDIENCE,
    target::{Target, get, request},
};

/// Writes a certificate and its key for a hub.
pub(crate) fn write_certificate(directory: &Path) {
    let CertifiedKey { cert, signing_key } = &*CERTIFICATE;
    std::fs::write(directory.join("cert.pem"), cert.pem()).expect("a file");
    std::fs::write(directory.join("key.pem"), signing_key.serialize_pem()).expect("a file");
}

/// Handshakes that stop in the middle of their first message.
pub(crate) async fn half_handshakes(target: Target) {
    let hello = client_hello();
    let act = move |target: Target, _| {
        let hello = Rc::clone(&hello);
        async move {
            let mut wire = target.connect().await?;
            wire.send(&hello[..hello.len() / 2]).await?;
            target.got("connections");
            // Until the hub gives it up.
            wire.drop_bytes(usize::MAX).await?;
            Ok(())
        }
    };
    target.by_many(1_000, act).await;
}

/// Handshakes that are begun, which costs the hub a signature each, and never finished.
pub(crate) async fn handshakes(target: Target) {
    let hello = client_hello();
    let act = move |target: Target, _| {
        let hello = Rc::clone(&hello);
        async move {
            let mut wire = target.connect().await?;
            wire.send(&*hello).await?;
            wire.drop_bytes(1).await?;
            target.got("handshakes");
            wire.reset();
            Ok(())
        }
    };
    target.by_many(32, act).await;
}

/// Bytes that are not TLS, and plain requests.
pub(crate) async fn garbage(target: Target) {
    let act = |target: Target, number: usize| async move {
        let mut wire = target.connect().await?;
        match number % 2 {
            0 => wire.send(get("/healthz")).await?,
            _ => wire.send([0x16, 3, 1, 0xFF, 0xFF, 1, 0xFF, 0xFF, 0xFF].repeat(100)).await?,
        }
        wire.drop_bytes(1_000).await?;
        target.got("connections");
        Ok(())
    };
    target.by_many(64, act).await;
}

/// What a client says first.
fn client_hello() -> Rc<[u8]> {
    let name = "localhost".try_into().expect("a name");
    let mut client = ClientConnection::new(config(), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("memory");
    hello.into()
}

/// Honest subscribers over TLS.
pub(crate) struct TlsAudience {
    address: std::net::SocketAddr,
    runtime: Runtime,
    subscribers: u64,
    inbox: Arc<Inbox>,
    events: u32,
}

#[derive(Default)]
struct Inbox {
    received: AtomicU64,
    latencies_us: Mutex<Vec<u64>>,
    faults: Mutex<Vec<String>>,
}

impl TlsAudience {
    pub(crate) fn connect(address: std::net::SocketAddr, subscribers: u64) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let inbox = Arc::<Inbox>::default();
        for _ in 0..subscribers {
            let lines = runtime.block_on(async {
                let mut io = dial(address).await;
                let stream = get(&format!("/v1/channels/{AUDIENCE}/events"));
                io.write_all(stream.as_bytes()).await.expect("it takes a request");
                let mut lines = BufReader::new(io).lines();
                // The first block, after which nothing is missed.
                while !lines
                    .next_line()
                    .await
                    .expect("a stream")
                    .expect("a line")
                    .starts_with("id:")
                {}
                lines
            });
            runtime.spawn(receive(lines, Arc::clone(&inbox)));
        }
        Self { address, runtime, subscribers, inbox, events: 0 }
    }

    /// As that of the load tool does.
    pub(crate) fn receive(
        &mut self,
        events: u32,
        rate: f64,
        begin: impl FnOnce(),
    ) -> Result<Received, String> {
        let inbox = Arc::clone(&self.inbox);
        inbox.latencies().clear();
        let due = inbox.received.load(Ordering::Relaxed) + u64::from(events) * self.subscribers;
        let mut io = self.runtime.block_on(dial(self.address));
        begin();
        let started = Instant::now();
        self.runtime.block_on(async {
            for number in 0..events {
                let at = started + Duration::from_secs_f64(f64::from(number) / rate);
                tokio::time::sleep_until(at.into()).await;
                let at_us = (at - *EPOCH).as_micros();
                let body = format!("{} {at_us}", self.events + number);
                let path = format!("/v1/channels/{AUDIENCE}/events");
                io.write_all(request("POST", &path, "", &body).as_bytes())
                    .await
                    .map_err(|error| error.to_string())?;
                let mut answer = [0; 1_024];
                let count = io.read(&mut answer).await.map_err(|error| error.to_string())?;
                let answer = String::from_utf8_lossy(&answer[..count]);
                if !answer.starts_with("HTTP/1.1 201") {
                    return Err(format!("a publish is answered with {answer:?}"));
                }
            }
            let deadline = Instant::now() + Duration::from_secs(10);
            while inbox.received.load(Ordering::Relaxed) < due && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        })?;
        self.events += events;
        let mut latencies = std::mem::take(&mut *inbox.latencies());
        latencies.sort_unstable();
        let received = inbox.received.load(Ordering::Relaxed);
        let faults = inbox.faults.lock().unwrap_or_else(PoisonError::into_inner);
        if received != due || !faults.is_empty() {
            return Err(format!("{received} of {due} deliveries; {:?}", faults.first()));
        }
        let at = |quantile: f64| {
            Duration::from_micros(latencies[((latencies.len() - 1) as f64 * quantile) as usize])
        };
        let deliveries = latencies.len() as u64;
        Ok(Received { events, deliveries, p50: at(0.5), p99: at(0.99), max: at(1.0) })
    }
}

impl Inbox {
    fn latencies(&self) -> std::sync::MutexGuard<'_, Vec<u64>> {
        self.latencies_us.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives events, each of which must be the one after the last.
async fn receive(mut lines: tokio::io::Lines<BufReader<TlsStream<TcpStream>>>, inbox: Arc<Inbox>) {
    let mut next = 0;
    let why = loop {
        let line = match lines.next_line().await {
            Ok(Some(line)) => line,
            ended => break format!("a stream ends: {ended:?}"),
        };
        let Some(data) = line.strip_prefix("data: ") else { continue };
        let now_us = EPOCH.elapsed().as_micros() as u64;
        let numbers: Vec<u64> = data.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [number, due_us] = numbers[..] else { break format!("{data:?}") };
        if number != next {
            break format!("{number} came for {next}");
        }
        next += 1;
        inbox.latencies().push(now_us.saturating_sub(due_us));
        inbox.received.fetch_add(1, Ordering::Relaxed);
    };
    inbox.faults.lock().unwrap_or_else(PoisonError::into_inner).push(why);
}

/// The status and body of an answer over TLS.
pub(crate) async fn ask(
    address: std::net::SocketAddr,
    target: &str,
) -> std::io::Result<(u16, String)> {
    let mut io = dial_tls(address, config()).await?;
    io.write_all(request("GET", target, "Connection: close\r\n", "").as_bytes()).await?;
    let mut answer = String::new();
    io.read_to_string(&mut answer).await?;
    let status = answer.get(9..12).and_then(|status| status.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    status.zip(body).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

async fn dial(address: std::net::SocketAddr) -> TlsStream<TcpStream> {
    dial_tls(address, config()).await.expect("a handshake")
}

fn config() -> Arc<ClientConfig> {
    static CONFIG: LazyLock<Arc<ClientConfig>> =
        LazyLock::new(|| tls_config(CERTIFICATE.cert.der().clone(), &[]).expect("a certificate"));
    Arc::clone(&CONFIG)
}

static CERTIFICATE: LazyLock<CertifiedKey<rcgen::KeyPair>> =
    LazyLock::new(|| generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate"));
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
