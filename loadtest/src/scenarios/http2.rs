//! Streams that share connections over HTTP/2, in plain text or under TLS, and streams under TLS
//! with a connection each: what one costs.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::{Expect, Inbox, Stamp, now_ns, thread_cpu_ns};
use crate::hyper_client::{HyperClient, dial_tls, tls_config};
use crate::measured::Run;
use crate::{failure::Failure, machine, outcome::Outcome, progress::Progress, subject::Subject};

/// The sizes of `http2`.
#[derive(Debug, Clone, clap::Args, Serialize)]
pub struct Http2 {
    /// Connections.
    #[arg(long, default_value_t = 100)]
    pub connections: usize,
    /// Streams on each.
    #[arg(long, default_value_t = 100)]
    pub streams: usize,
    /// The hub's certificate, in PEM: under TLS then. Start the hub with it by --visnyk-arg.
    #[arg(long, value_name = "FILE")]
    #[serde(rename = "tls", serialize_with = "whether_there")]
    pub cert: Option<PathBuf>,
    /// Speaks HTTP/1.1 instead, one stream on each connection.
    #[arg(long)]
    pub http1: bool,
    /// How long they are left idle before memory is read.
    #[arg(long, default_value_t = 2)]
    pub settle_s: u64,
    /// Events in all.
    #[arg(long, default_value_t = 50)]
    pub events: u32,
    /// Events a second.
    #[arg(long, default_value_t = 10.0)]
    pub rate: f64,
    /// Bytes of data in each event.
    #[arg(long, default_value_t = 128)]
    pub payload: usize,
}

impl Http2 {
    pub(crate) fn run(&self, subject: &Subject, progress: &Progress) -> Result<Outcome, Failure> {
        if subject.name != "visnyk" {
            return Err(Failure::Unsupported("it speaks HTTP/1.1 in plain text alone".into()));
        }
        machine::check_connections(self.connections)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::io("starting a runtime"))?;
        let run = Run::new("http2", self, subject, progress);
        LocalSet::new().block_on(&runtime, self.measure(run))
    }

    async fn measure(&self, mut run: Run<'_>) -> Result<Outcome, Failure> {
        let tls = self.tls()?;
        let streams = if self.http1 { 1 } else { self.streams };
        let total = self.connections * streams;
        let inbox = Rc::new(RefCell::new(Inbox::new(run.subject.delivers)));

        run.progress.begin("connecting", total as u64);
        let before = run.sample()?;
        let (mut links, mut receiving) = (Vec::new(), JoinSet::new());
        for connection in 0..self.connections {
            let link = self.open(run.subject.address, tls.as_ref()).await?;
            for _ in 0..streams {
                let number = receiving.len() as u32;
                let stream = ask(&link, "GET", Bytes::new(), 200).await?;
                receiving.spawn_local(receive(stream, number, Rc::clone(&inbox)));
            }
            links.push(link);
            run.progress.at(((connection + 1) * streams) as u64);
        }
        let connected = run.sample()?;
        let each = |ns: u64, of: u64| ns as f64 / 1_000.0 / of.max(1) as f64;
        let connect_ns = connected.cpu_ns_since(&before);
        run.figure("server_cpu_us_per_connect", each(connect_ns, total as u64));
        run.figure("connections", self.connections as f64);
        run.figure("streams", total as f64);

        run.progress.begin("idle", 0);
        sleep(Duration::from_secs(self.settle_s)).await;
        let idle = run.sample()?;
        let per_stream = |now: u64, then: u64| (now as f64 - then as f64) / total.max(1) as f64;
        let resident = per_stream(idle.resident_bytes, before.resident_bytes);
        run.figure("server_resident_bytes_per_stream", resident);
        let anonymous = per_stream(idle.anonymous_bytes, before.anonymous_bytes);
        run.figure("server_anonymous_bytes_per_stream", anonymous);
        let kernel = per_stream(idle.slab_bytes, before.slab_bytes);
        run.figure("kernel_slab_bytes_per_stream_both_ends", kernel);

        let due = u64::from(self.events) * total as u64;
        run.progress.begin("delivering", due);
        let (sample, cpu_ns) = (run.sample()?, thread_cpu_ns());
        // Opened only now: one that says nothing for a while is closed.
        let publisher = self.open(run.subject.address, tls.as_ref()).await?;
        self.publish(&publisher).await?;
        let mut came = 0;
        let mut last = Instant::now();
        while came < due && last.elapsed() < STALL {
            sleep(LOOK_AGAIN).await;
            let now = inbox.borrow().ledger.deliveries();
            if now > came {
                (came, last) = (now, Instant::now());
            }
            run.progress.at(came);
        }
        let after = run.sample()?;
        run.figure("deliveries", came as f64);
        run.figure("server_cpu_us_per_delivery", each(after.cpu_ns_since(&sample), came));
        run.figure("client_cpu_us_per_delivery", each(thread_cpu_ns() - cpu_ns, came));
        run.figure("server_resident_bytes", after.resident_bytes as f64);

        receiving.abort_all();
        while receiving.join_next().await.is_some() {}
        let mut inbox = inbox.borrow_mut();
        run.latency(&inbox.latency);
        // Each checks its own order; what never came is what is missing of the whole.
        let (mut verified, mut said) = inbox.ledger.close();
        if came < due && verified.is_clean() {
            inbox.ledger.missing(0, 0, came as u32, due as u32);
            (verified, said) = inbox.ledger.close();
        }
        verified.events = self.events.into();
        run.outcome.verified = verified;
        run.progress.end();
        if !verified.is_clean() {
            return Err(Failure::Faulty { first: said, verified });
        }
        Ok(run.outcome)
    }

    /// The settings of TLS; `None` without a certificate.
    fn tls(&self) -> Result<Option<Arc<ClientConfig>>, Failure> {
        let Some(path) = &self.cert else { return Ok(None) };
        let unusable = |why: String| Failure::Unsupported(format!("{}: {why}", path.display()));
        let cert = CertificateDer::from_pem_file(path).map_err(|why| unusable(why.to_string()))?;
        let alpn = if self.http1 { "http/1.1" } else { "h2" };
        tls_config(cert, &[alpn]).map(Some).map_err(|why| unusable(why.to_string()))
    }

    async fn open(
        &self,
        address: SocketAddr,
        tls: Option<&Arc<ClientConfig>>,
    ) -> Result<HyperClient, Failure> {
        let opened = async {
            match tls {
                None => self.speak(TcpStream::connect(address).await?).await,
                Some(tls) => self.speak(dial_tls(address, Arc::clone(tls)).await?).await,
            }
        };
        opened.await.map_err(Failure::io("connecting"))
    }

    async fn speak(
        &self,
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> std::io::Result<HyperClient> {
        if self.http1 { HyperClient::http1(io).await } else { HyperClient::http2(io).await }
    }

    async fn publish(&self, publisher: &HyperClient) -> Result<(), Failure> {
        let (started, started_ns) = (Instant::now(), now_ns());
        for seq in 0..self.events {
            let at = Duration::from_secs_f64(f64::from(seq) / self.rate);
            sleep_until(started + at).await;
            // When it was due, though it may be sent later: the one before is waited for.
            let due_ns = started_ns + at.as_nanos() as u64;
            let mut body = Vec::new();
            Stamp { stream: 0, seq, due_ns }.write(self.payload, &mut body);
            let _ = ask(publisher, "POST", body.into(), 201).await?.collect().await;
        }
        Ok(())
    }
}

/// Results say that it is under TLS, without the path of a certificate.
fn whether_there<S: serde::Serializer>(
    cert: &Option<PathBuf>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(cert.is_some())
}

/// Sends a request to the channel and returns the body of its answer, which must have this status.
async fn ask(
    client: &HyperClient,
    method: &str,
    body: Bytes,
    status: u16,
) -> Result<Incoming, Failure> {
    let fields: &[_] = if method == "GET" { &[("accept", "text/event-stream")] } else { &[] };
    let target = format!("/v1/channels/{CHANNEL}/events");
    let refused =
        |answer: String| Failure::Refused { request: format!("{method} {target}"), answer };
    let answer = client.send(method, &target, fields, body).await;
    let answer = answer.map_err(|error| refused(error.to_string()))?;
    match answer.status() {
        got if got == status => Ok(answer.into_body()),
        got => Err(refused(got.to_string())),
    }
}

/// Receives until its stream ends, which it is not to do.
async fn receive(mut body: Incoming, number: u32, inbox: Rc<RefCell<Inbox>>) {
    let mut expect = Expect::all_of(0);
    let mut rest = Vec::new();
    loop {
        let frame = body.frame().await.and_then(|frame| frame.ok()?.into_data().ok());
        let Some(bytes) = frame else {
            inbox.borrow_mut().ledger.say(|| format!("stream {number} ended"));
            return;
        };
        rest.extend_from_slice(&bytes);
        let mut inbox = inbox.borrow_mut();
        let taken = inbox.read_lines(number, &mut expect, None, &rest, now_ns());
        rest.drain(..taken);
        rest.shrink_to(REST_BYTES_KEPT);
    }
}

const CHANNEL: &str = "load";
/// Deliveries that have not come when nothing has for so long are lost.
const STALL: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Room for half a line that a stream keeps.
const REST_BYTES_KEPT: usize = 256;
