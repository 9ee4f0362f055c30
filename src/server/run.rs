//! The life of a hub process: start, serve until a termination signal or a take-over, drain, stop.

use std::{
    future::{pending, ready},
    io,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep_until, timeout, timeout_at},
};

use super::{
    Settings,
    connection_limits::ConnectionLimiter,
    demo,
    front::HttpFront,
    handover::{HandoverSocket, Successor},
    rejections::Rejections,
    reload::{KeyRefresh, Reloader, http_settings},
    run_counts::RunCounts,
    run_error::RunError,
    service_manager,
    settings::{Effective, SECRET_BYTES_MIN},
    signals::Signals,
    socket_budget::SocketBudget,
    starting::{Started, start},
    tls::Acceptor,
    traces::{Traces, flush_time_max},
};
use crate::{
    actors::Front,
    http::{Dispatcher, OriginPattern, ReloadRequests, TrustedProxies},
    hub::Hub,
    model::Position,
    telemetry,
};

/// Runs a hub with `settings` until SIGTERM or SIGINT, then drains it and returns. A second SIGTERM
/// or SIGINT cuts the drain short. At SIGHUP the settings are read again, and those that a running
/// hub can change are applied. SIGUSR2 switches debug logging on and off. SIGUSR1 does nothing.
///
/// # Errors
/// An address that cannot be bound, or a failure that the actors' supervisors could not contain.
pub async fn run(settings: Effective) -> Result<(), RunError> {
    let mut signals = Signals::receive()?;
    run_until(settings, async || signals.next_end().await).await
}

/// As [`run`]; `next_signal` completes once for each termination signal, so that tests can send
/// their own.
pub(super) async fn run_until(
    effective: Effective,
    mut next_signal: impl AsyncFnMut(),
) -> Result<(), RunError> {
    let settings = effective.settings().clone();
    // Handled from now on, so that a SIGHUP during the start causes a reload after it.
    let hangup = signal(SignalKind::hangup())?;
    let started = tokio::select! {
        started = start(&settings) => started?,
        () = next_signal() => {
            tracing::info!("stopped before it had started");
            return Ok(());
        }
    };
    let Started { verifier, certificate, bound, split, hub } = started;
    let mut key_refresh = KeyRefresh::default();
    key_refresh.follow(verifier.as_deref(), &settings);
    let acceptor = certificate.map(|loaded| Acceptor::new(loaded, &settings, hub.counters()));
    let (tls, certificate) = acceptor.transpose()?.unzip();
    let watching = certificate.clone().map(|certificate| {
        let every = Duration::from_secs(settings.tls_reload_s.into());
        tokio::spawn(certificate.watch(every))
    });
    let (close, closing) = watch::channel(false);
    let (accept_no_more, accepts_no_more) = watch::channel(false);
    let budget = SocketBudget::new(hub.clone(), split);
    let (reloads, reload_requests) = ReloadRequests::new();
    let traces = Traces::start(&settings, &hub.counters().traces)?;
    let tracer = traces.as_ref().map(|traces| Arc::clone(&traces.tracer));
    let http = http_settings(&settings, verifier.clone(), tracer.clone());
    let dispatcher = Dispatcher::new(hub.clone(), http, Some(reloads));
    let proxies = TrustedProxies::new(&settings.trusted_proxies);
    let shards = bound.by_shard.len();
    let front = HttpFront {
        listeners: bound.by_shard,
        hub: hub.clone(),
        dispatcher: dispatcher.clone(),
        header_read_timeout: Duration::from_secs(settings.header_read_timeout_s.into()),
        keep_alive: Duration::from_secs(
            settings.keep_alive_s.max(settings.header_read_timeout_s).into(),
        ),
        accepts_no_more,
        closing,
        http2: settings.limits.http2.clone(),
        write_stall: Duration::from_secs(settings.limits.connections.write_stall_s.into()),
        rejections: Rejections::new(budget.clone(), dispatcher.clone(), tls.clone()),
        tls,
        budget: budget.clone(),
        limiter: ConnectionLimiter::new(&settings.limits, proxies.clone()),
        proxies: proxies.clone(),
        request_limits: settings.limits.requests.clone(),
    };
    let front = Arc::new(front);
    hub.serve(Arc::clone(&front) as Arc<dyn Front>);
    let mut handover_tasks = JoinSet::new();
    if let Some(handover) = handover_socket(&settings) {
        handover_tasks.spawn(handover.pass_on(Arc::clone(&front)));
    }
    let mut counts = RunCounts::new();
    log_started(&settings, &bound.addresses, shards, &hub);
    print_startup(&settings, &bound.addresses);
    service_manager::ready(&bound.addresses);
    let (current, mut current_settings) = watch::channel(settings.clone());
    let reloader = Reloader {
        running: Arc::new(effective),
        verifier,
        key_refresh,
        certificate,
        hub: hub.clone(),
        dispatcher,
        proxies,
        tracer,
        current,
    };
    let reloader = tokio::spawn(reloader.run(hangup, reload_requests));
    let demo = settings.demo.then(|| tokio::spawn(demo::run(hub.clone())));

    let end = tokio::select! {
        () = next_signal() => Ok(None),
        why = hub.failed() => Err(RunError::Failed(why)),
        successor = successor(&mut handover_tasks) => Ok(Some(successor)),
    };
    drop(front);
    // From now on a process that would take over waits until this process exits.
    handover_tasks.shutdown().await;
    for task in [watching, demo].into_iter().flatten() {
        task.abort();
    }
    let successor = end?;
    let settings = current_settings.borrow().clone();
    service_manager::stopping(stop_time_max(&settings));
    let has_successor = successor.is_some();
    if let Some(successor) = successor {
        tracing::info!("another process takes over");
        let _ = accept_no_more.send(true);
        wait_for_close(&hub, hub.close_log(), &mut next_signal).await?;
        if let Err(error) = successor.log_is_closed().await {
            let why = format!("the process that took over is gone: {error}");
            return Err(RunError::Failed(why));
        }
    }
    if settings.drain_delay_s > 0 && !has_successor {
        hub.become_unready();
        tracing::info!(
            delay_s = settings.drain_delay_s,
            "not ready; the drain begins after the delay, or at a second signal"
        );
        tokio::select! {
            () = drain_delay(&mut current_settings) => {}
            () = next_signal() => {}
            why = hub.failed() => return Err(RunError::Failed(why)),
        }
    }
    counts.drain_begins(hub.counters());
    let settings = current_settings.borrow().clone();
    let mut window = Duration::from_secs(settings.drain_window_s.into());
    if has_successor {
        // Events that are published from now on reach only clients of the successor, so the streams
        // of this process end soon, and their clients reconnect to the successor.
        window = window.min(HANDOVER_WINDOW);
    }
    let draining = async {
        // Logged when the drain has begun: from then on a hub without a durable log refuses
        // publishes.
        hub.draining().await;
        tracing::info!(window_s = window.as_secs(), "draining; another signal cuts it short");
    };
    let failure = tokio::select! {
        _ = async { tokio::join!(hub.drain(window), draining) } => None,
        () = next_signal() => {
            tracing::warn!("a second signal cuts the drain short");
            None
        }
        why = hub.failed() => Some(why),
    };
    if let Some(why) = failure {
        return Err(RunError::Failed(why));
    }
    // Idle connections are closed, and requests under way have time to be answered.
    let _ = (accept_no_more.send(true), close.send(true));
    let _ = timeout(last_answers_time_max(&settings), budget.emptied()).await;
    wait_for_close(&hub, hub.shut_down(), &mut next_signal).await?;
    if let Some(traces) = traces {
        traces.finish(&settings, next_signal()).await;
    }
    counts.log_stopped(hub.counters());
    reloader.abort();
    Ok(())
}

/// Waits for the delay before a drain. A reload meanwhile may change the delay, and with it the
/// time that the stop takes.
async fn drain_delay(settings: &mut watch::Receiver<Settings>) {
    let begun = Instant::now();
    loop {
        let delay = Duration::from_secs(settings.borrow_and_update().drain_delay_s.into());
        let changed = timeout_at(begun + delay, settings.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            sleep_until(begun + delay).await;
            return;
        }
        service_manager::stopping(stop_time_max(&settings.borrow()));
    }
}

/// How long requests under way may take after all streams have ended.
fn last_answers_time_max(settings: &Settings) -> Duration {
    Duration::from_millis(settings.limits.publish.wait_ms.into()) + LAST_ANSWERS
}

/// The longest time that the stop takes, if the log is closed within [`LOG_CLOSING`].
fn stop_time_max(settings: &Settings) -> Duration {
    let drain_s = u64::from(settings.drain_delay_s) + u64::from(settings.drain_window_s);
    Duration::from_secs(drain_s)
        + last_answers_time_max(settings)
        + LOG_CLOSING
        + flush_time_max(settings)
}

/// Listens for a successor, if there is a log on disk. If that fails, the hub runs, but a successor
/// cannot take over.
fn handover_socket(settings: &Settings) -> Option<HandoverSocket> {
    if settings.data_dir.is_empty() {
        return None;
    }
    let socket = HandoverSocket::listen(Path::new(&settings.data_dir));
    let warn = |error: &io::Error| tracing::warn!(%error, "this hub cannot be taken over from");
    socket.inspect_err(warn).ok()
}

/// Waits for a process that takes over the listening sockets.
async fn successor(handover_tasks: &mut JoinSet<Successor>) -> Successor {
    loop {
        match handover_tasks.join_next().await {
            Some(Ok(successor)) => return successor,
            Some(Err(error)) => tracing::error!(%error, "this hub cannot be taken over from now"),
            None => pending().await,
        }
    }
}

/// Waits for `closing`, which closes the log or stops all actors. Another signal cuts it short,
/// which is a failure.
async fn wait_for_close(
    hub: &Hub,
    closing: impl Future<Output = ()>,
    next_signal: &mut impl AsyncFnMut(),
) -> Result<(), RunError> {
    tokio::select! {
        () = closing => {}
        () = next_signal() => {
            return Err(RunError::Failed("a signal cut the closing of the log short".to_owned()));
        }
    }
    tokio::select! {
        biased;
        // A failure to close the log is reported by `failed`, so that is polled first.
        why = hub.failed() => Err(RunError::Failed(why)),
        () = ready(()) => Ok(()),
    }
}

/// Logs the start: version, addresses, where history is, and the settings that matter most.
fn log_started(settings: &Settings, addresses: &[SocketAddr], shards: usize, hub: &Hub) {
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let has_disk = !settings.data_dir.is_empty();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        addresses = addresses.join(" "),
        shards,
        history = hub.status().history,
        data_dir = has_disk.then_some(&*settings.data_dir),
        head = %Position { epoch: hub.epoch(), seq: hub.head() },
        tls = settings.has_tls(),
        authentication = settings.authenticates(),
        quickstart = settings.quickstart,
        log_level = settings.log.level,
        access_log = settings.log.access,
        "the hub has started"
    );
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
    // Printed with a single write, so that a script never reads part of an address.
    telemetry::print(&words);
}

/// The startup lines about authentication and TLS.
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
        words += "no TLS: tokens and events can be read on the way; \
                  set tls_cert and tls_key, or put a TLS proxy in front\n";
    }
    if (1..SECRET_BYTES_MIN).contains(&settings.jwt_secret.len()) {
        words += "WEAK SECRET: a secret of less than 32 bytes can be found by trying\n";
    }
    words
}

/// The longest drain window once another process has taken over.
const HANDOVER_WINDOW: Duration = Duration::from_secs(1);
/// Time for the last answers to be written, in addition to the time that a publisher may wait for
/// permits.
const LAST_ANSWERS: Duration = Duration::from_millis(500);
/// Time allowed for closing the log.
const LOG_CLOSING: Duration = Duration::from_secs(30);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_signal_cuts_the_closing_of_the_log_short() {
        let hub = Hub::builder().shards(1).start().await.expect("it starts");
        let ended = wait_for_close(&hub, pending(), &mut async || ()).await;
        assert!(matches!(ended, Err(RunError::Failed(_))), "{ended:?}");
        let ended = wait_for_close(&hub, hub.shut_down(), &mut async || pending().await).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
}
