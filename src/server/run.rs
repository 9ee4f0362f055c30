//! Runs a hub until a signal ends it.

use std::{
    future::{pending, ready},
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use listenfd::ListenFd;
use thiserror::Error;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{sleep, timeout},
};

use super::{
    AuthenticationError, Settings, TlsError, authentication,
    connection_limits::ConnectionLimiter,
    demo,
    front::HttpFront,
    handover::{HandoverSocket, Predecessor, Successor},
    listeners,
    rejections::{REJECTIONS_MAX, Rejections},
    settings::SECRET_BYTES_MIN,
    signals::Signals,
    socket_budget::{SocketBudget, SocketSplit, files_in_use, files_max},
    tls::Acceptor,
};
use crate::{
    actors::Front,
    auth::Verifier,
    core::ConnectionLimits,
    http::{Cors, Dispatcher, HttpSettings, OriginPattern, RejectionWriter, TrustedProxies},
    hub::{DiskOptions, Hub, StartError},
    telemetry,
};

/// Why a hub process ended otherwise than by a signal.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RunError {
    /// An address cannot be listened on, or signals cannot be received.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The actors did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The keys of the settings cannot be used.
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    /// The certificate of the settings or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// An actor that the hub cannot go on without has failed.
    #[error("{0}")]
    Failed(String),
}

/// Runs a hub with `settings` until SIGTERM or SIGINT; then it is drained, and this returns. A
/// second one cuts the drain short. SIGHUP, SIGUSR1 and SIGUSR2 end nothing.
///
/// # Errors
/// An address that cannot be bound, or a failure that the actors' supervisors could not contain.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let mut signals = Signals::receive(settings.has_tls())?;
    run_until(settings, async || signals.next_end().await).await
}

/// As [`run`], with a future instead of signals.
pub(super) async fn run_until(
    settings: Settings,
    mut next_signal: impl AsyncFnMut(),
) -> Result<(), RunError> {
    let shards = match settings.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    };
    let addresses: Vec<SocketAddr> = settings.listen.iter().map(|l| l.socket_addr()).collect();
    let backlog = settings.accept_queue_max;
    let mut inherited = from_systemd()?;
    let mut predecessor = predecessor(&settings).await?;
    if let Some(predecessor) = &mut predecessor {
        inherited.append(&mut predecessor.listeners);
    }
    let bound =
        listeners::bind(&addresses, shards, &settings.limits.connections, backlog, inherited)?;

    let verifier = authentication::verifier(&settings)?.map(Arc::new);
    let fresh_keys = verifier.as_ref().and_then(|verifier| verifier.jwks()).map(|jwks| {
        let every = Duration::from_secs(settings.auth.jwks_refresh_s.into());
        let jwks = Arc::clone(jwks);
        tokio::spawn(async move { jwks.keep_fresh(every).await })
    });
    let mut limits = settings.limits.clone();
    let split = split_sockets(&mut limits.connections, shards);
    let mut builder = Hub::builder().limits(limits).shards(shards);
    if !settings.data_dir.is_empty() {
        builder = builder.disk(disk_options(&settings));
    }
    if let Some(mut predecessor) = predecessor {
        let waiting = spawn_blocking(move || predecessor.wait_for_log());
        waiting.await.map_err(io::Error::from)??;
    }
    let hub = builder.start().await?;
    let (tls, reloading) = Acceptor::new(&settings, hub.counters())?.unzip();
    let reloading = match reloading {
        Some(reloading) => {
            let every = Duration::from_secs(settings.tls_reload_s.into());
            Some(tokio::spawn(reloading.run(every)?))
        }
        None => None,
    };
    let (close, closing) = watch::channel(false);
    let (accept_no_more, accepts_no_more) = watch::channel(false);
    let budget = SocketBudget::new(hub.clone(), split);
    let http = http_settings(&settings, verifier);
    let connections = &settings.limits.connections;
    let writer = RejectionWriter::new(&http, connections.retry_min_ms..=connections.retry_max_ms);
    let proxies = TrustedProxies::new(&settings.trusted_proxies);
    let front = HttpFront {
        listeners: bound.by_shard,
        hub: hub.clone(),
        dispatcher: Dispatcher::new(hub.clone(), http),
        header_read_timeout: Duration::from_secs(settings.header_read_timeout_s.into()),
        keep_alive: Duration::from_secs(
            settings.keep_alive_s.max(settings.header_read_timeout_s).into(),
        ),
        accepts_no_more,
        closing,
        http2: settings.limits.http2.clone(),
        write_stall: Duration::from_secs(connections.write_stall_s.into()),
        rejections: Rejections::new(budget.clone(), writer, tls.clone()),
        tls,
        budget: budget.clone(),
        limiter: ConnectionLimiter::new(&settings.limits, proxies.clone()),
        proxies,
        request_limits: settings.limits.requests.clone(),
    };
    let front = Arc::new(front);
    hub.serve(Arc::clone(&front) as Arc<dyn Front>);
    let handover = handover_socket(&settings);
    print_startup(&settings, &bound.addresses);
    let demo = settings.demo.then(|| tokio::spawn(demo::publish(hub.clone())));

    let mut is_taken_over = false;
    let failure = loop {
        tokio::select! {
            () = next_signal() => break None,
            why = hub.failed() => break Some(why),
            successor = successor(handover.as_ref()) => {
                match hand_over(successor, &front, &hub, &accept_no_more).await {
                    Ok(()) => {
                        is_taken_over = true;
                        break None;
                    }
                    Err(error) => tracing::warn!(%error, "the hub was not taken over"),
                }
            }
        }
    };
    drop(front);
    if let Some(demo) = demo {
        demo.abort();
    }
    for task in [fresh_keys, reloading].into_iter().flatten() {
        task.abort();
    }
    if let Some(why) = failure {
        return Err(RunError::Failed(why));
    }
    if settings.drain_delay_s > 0 && !is_taken_over {
        hub.become_unready();
        tracing::info!(
            delay_s = settings.drain_delay_s,
            "not ready; the drain begins after the delay, or at a second signal"
        );
        tokio::select! {
            () = sleep(Duration::from_secs(settings.drain_delay_s.into())) => {}
            () = next_signal() => {}
            why = hub.failed() => return Err(RunError::Failed(why)),
        }
    }
    let mut window = Duration::from_secs(settings.drain_window_s.into());
    if is_taken_over {
        // What is published now only clients of the other process get.
        window = window.min(HANDOVER_WINDOW);
    }
    tracing::info!(window_s = window.as_secs(), "draining; another signal cuts it short");
    let failure = tokio::select! {
        () = hub.drain(window) => None,
        () = next_signal() => {
            tracing::warn!("a second signal cuts the drain short");
            None
        }
        why = hub.failed() => Some(why),
    };
    if let Some(why) = failure {
        return Err(RunError::Failed(why));
    }
    // Requests under way are answered; what is idle is closed.
    let _ = (accept_no_more.send(true), close.send(true));
    let wait = Duration::from_millis(settings.limits.publish.wait_ms.into()) + LAST_ANSWERS;
    let _ = timeout(wait, budget.emptied()).await;
    hub.shut_down().await;
    tokio::select! {
        biased;
        // The log could not be closed.
        why = hub.failed() => return Err(RunError::Failed(why)),
        () = ready(()) => {}
    }
    tracing::info!("stopped");
    Ok(())
}

/// The listening sockets that systemd passes (`sd_listen_fds(3)`).
fn from_systemd() -> io::Result<Vec<TcpListener>> {
    let mut passed = ListenFd::from_env();
    let mut listeners = Vec::new();
    for index in 0..passed.len() {
        listeners.extend(passed.take_tcp_listener(index)?);
    }
    Ok(listeners)
}

/// The hub to take over from.
async fn predecessor(settings: &Settings) -> io::Result<Option<Predecessor>> {
    if !settings.take_over {
        return Ok(None);
    }
    let data_dir = PathBuf::from(&settings.data_dir);
    spawn_blocking(move || Predecessor::ask(&data_dir)).await?
}

/// Where a hub with a log on disk waits for its successor.
fn handover_socket(settings: &Settings) -> Option<HandoverSocket> {
    if settings.data_dir.is_empty() {
        return None;
    }
    let socket = HandoverSocket::listen(Path::new(&settings.data_dir));
    let warn = |error: &io::Error| tracing::warn!(%error, "this hub cannot be taken over from");
    socket.inspect_err(warn).ok()
}

async fn successor(handover: Option<&HandoverSocket>) -> io::Result<Successor> {
    match handover {
        Some(handover) => handover.successor().await,
        None => pending().await,
    }
}

/// Passes sockets and log on.
async fn hand_over(
    successor: io::Result<Successor>,
    front: &Arc<HttpFront>,
    hub: &Hub,
    accept_no_more: &watch::Sender<bool>,
) -> io::Result<()> {
    let (mut successor, passing) = (successor?, Arc::clone(front));
    let passed = spawn_blocking(move || {
        successor.pass_on(passing.listeners.iter().flatten())?;
        Ok::<_, io::Error>(successor)
    });
    let successor = passed.await??;
    tracing::info!("another process takes over");
    let _ = accept_no_more.send(true);
    hub.close_log().await;
    // From here on the other process has all that it needs, or has ended.
    if let Err(error) = spawn_blocking(move || successor.log_is_closed()).await? {
        tracing::warn!(%error, "the process that took over is gone");
    }
    Ok(())
}

/// The log on disk, as it is set.
fn disk_options(settings: &Settings) -> DiskOptions {
    let log = &settings.log;
    DiskOptions {
        directory: settings.data_dir.clone().into(),
        sync: log.sync,
        segment_bytes: log.segment_bytes,
        bytes_max: log.bytes_max,
        age_max: Duration::from_secs(log.age_max_s.into()),
    }
}

/// Divides the sockets that the file limit leaves, and lowers the hub's limit to its part of them.
fn split_sockets(limits: &mut ConnectionLimits, shards: usize) -> SocketSplit {
    let files_in_use = files_in_use(shards) + REJECTIONS_MAX;
    let (requests_max, connections_max) = (limits.requests_max, limits.connections_max);
    let split = SocketSplit::of(files_max(), files_in_use, requests_max, connections_max);
    limits.connections_max = u32::try_from(split.streams_max).unwrap_or(u32::MAX);
    tracing::info!(
        sockets_max = split.sockets_max,
        connections_max = limits.connections_max,
        requests_max = split.requests_max,
        "how many connections there may be; open files are the bound where it is less than was set"
    );
    split
}

fn http_settings(settings: &Settings, verifier: Option<Arc<Verifier>>) -> HttpSettings {
    HttpSettings {
        quickstart: settings.quickstart,
        plain_refusals: settings.plain_refusals,
        faults: settings.faults,
        body_read_timeout_s: settings.body_read_timeout_s,
        allowed_hosts: settings.allowed_hosts.clone(),
        access: authentication::access(settings, verifier),
        hsts_max_age_s: settings.hsts_max_age_s,
        cors: Cors {
            origins: settings.cors_origins.clone(),
            credentials: settings.cors.credentials,
            max_age_s: settings.cors.max_age_s,
        },
    }
}

/// Prints the hub's addresses, and warnings about missing protection. Scripts wait for the first
/// line.
fn print_startup(settings: &Settings, addresses: &[SocketAddr]) {
    let mut words = String::new();
    let scheme = if settings.has_tls() { "https" } else { "http" };
    for address in addresses {
        words += &format!("listening on {scheme}://{address}\n");
    }
    if settings.quickstart
        && let Some(address) = addresses.first()
    {
        words += &format!("console at {scheme}://{address}/\n");
    }
    let on_loopback = addresses.iter().all(|address| address.ip().to_canonical().is_loopback());
    words += &protection(settings, on_loopback);
    if !on_loopback && !settings.authenticates() && settings.allowed_hosts.is_empty() {
        words += "any Host: web pages reach this hub by names of their own; set allowed_hosts\n";
    }
    if settings.cors_origins.iter().any(OriginPattern::is_any) {
        words += "CORS: web pages of any origin may use this hub\n";
    } else if settings.quickstart && !settings.authenticates() {
        words += "quickstart: web pages of any origin may use the channel `default`\n";
    }
    if settings.faults {
        words += if settings.authenticates() {
            "FAULTS: a client with an `admin` token can crash parts of this hub\n"
        } else {
            "FAULTS: anyone who reaches this hub can crash parts of it\n"
        };
    }
    // In one piece, so that no reader gets half an address.
    telemetry::print(&words);
}

/// What is protected, and what is not.
fn protection(settings: &Settings, on_loopback: bool) -> String {
    let mut words = String::new();
    if !settings.authenticates() {
        words += if on_loopback {
            "no authentication: every program on this machine may publish and subscribe\n"
        } else {
            "INSECURE: no authentication, and reachable from other machines\n"
        };
        return words;
    }
    words += "clients need a token to publish";
    if settings.allow_anonymous.is_empty() {
        words += " and to subscribe\n";
    } else {
        let patterns: Vec<&str> =
            settings.allow_anonymous.iter().map(|pattern| pattern.as_str()).collect();
        words += &format!("; without one they may subscribe to {}\n", patterns.join(", "));
    }
    if !on_loopback && !settings.has_tls() {
        words += "no TLS: tokens and events can be read on the way; set tls_cert and tls_key, or put a TLS proxy in front\n";
    }
    if (1..SECRET_BYTES_MIN).contains(&settings.jwt_secret.len()) {
        words += "WEAK SECRET: one of less than 32 bytes can be found by trying\n";
    }
    words
}

/// Over which time streams are ended once another process has taken over.
const HANDOVER_WINDOW: Duration = Duration::from_secs(1);
/// How long the last answers may take to go out, beyond the time a publisher may wait for room.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
