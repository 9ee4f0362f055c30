//! The start of a hub process, up to where it accepts connections: reads keys, binds sockets, opens
//! the log.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::Duration,
};

use listenfd::ListenFd;
use tokio::time::{Instant, sleep};

use super::{
    Settings, authentication, backend,
    listeners::{self, Listeners},
    predecessor::Predecessor,
    rejections::REJECTIONS_MAX,
    run_error::RunError,
    socket_budget::{SocketSplit, files_in_use, files_max},
    tls::LoadedPair,
};
use crate::{
    auth::Verifier,
    core::ConnectionLimits,
    hub::{DiskOptions, Hub, ReadLimits},
};

/// The parts of a process that is ready to accept connections.
pub(super) struct Started {
    pub(super) verifier: Option<Arc<Verifier>>,
    pub(super) certificate: Option<LoadedPair>,
    pub(super) bound: Listeners,
    pub(super) split: SocketSplit,
    pub(super) hub: Hub,
}

/// Starts a hub with `settings`. If this is cancelled, a predecessor continues to run, unless it
/// has begun to close its log.
pub(super) async fn start(settings: &Settings) -> Result<Started, RunError> {
    let shards = match settings.shards {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        shards => shards,
    };
    // Every step that can fail and does not need the log comes first, while a predecessor still
    // serves.
    let verifier = authentication::verifier(settings)?.map(Arc::new);
    let certificate = LoadedPair::read(settings)?;
    let shared = backend::options(settings)?;
    let mut inherited = from_systemd()?;
    let mut predecessor = None;
    if settings.take_over {
        predecessor = Predecessor::find(Path::new(&settings.data_dir)).await?;
    }
    if let Some(predecessor) = &mut predecessor {
        inherited.append(&mut predecessor.listeners);
    }
    let awaits_ports = settings.take_over && predecessor.is_none();
    let bound = bind(settings, shards, &inherited, awaits_ports).await?;
    let mut limits = settings.limits.clone();
    let disk = (!settings.data_dir.is_empty()).then(|| disk_options(settings));
    let log_files = disk.as_ref().map_or(0, |disk| disk.reads.log_files_max());
    let split = split_sockets(&mut limits.connections, shards, log_files);
    let rules = settings.channels.rules.clone();
    let mut builder = Hub::builder().limits(limits).channel_rules(rules).shards(shards);
    if let Some(disk) = disk {
        builder = builder.disk(disk);
    }
    if let Some(shared) = shared {
        builder = builder.backend(shared);
    }
    if let Some(predecessor) = predecessor {
        predecessor.confirm().await?;
    }
    let hub = builder.start().await?;
    Ok(Started { verifier, certificate, bound, split, hub })
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

/// Binds the addresses of the settings. With `awaits_ports` it retries for a moment: a hub that has
/// drained closes its log first, and frees its ports when its process ends.
async fn bind(
    settings: &Settings,
    shards: usize,
    inherited: &[TcpListener],
    awaits_ports: bool,
) -> io::Result<Listeners> {
    let addresses: Vec<SocketAddr> = settings.listen.iter().map(|l| l.socket_addr()).collect();
    let deadline = Instant::now() + PORTS_TIME_MAX;
    loop {
        let (limits, backlog) = (&settings.limits.connections, settings.accept_queue_max);
        match listeners::bind(&addresses, shards, limits, backlog, inherited) {
            Err(error)
                if awaits_ports
                    && error.kind() == io::ErrorKind::AddrInUse
                    && Instant::now() < deadline => {}
            result => return result,
        }
        sleep(PORTS_INTERVAL).await;
    }
}

/// The options of the log on disk.
fn disk_options(settings: &Settings) -> DiskOptions {
    let log = &settings.log;
    let reads = ReadLimits {
        threads: log.read_threads,
        queue_max: log.read_queue_max,
        piece_bytes: log.read_piece_bytes,
        bytes_max: log.read_bytes_max,
        cache_bytes_max: log.read_cache_bytes_max,
        search_bytes_max: log.search_bytes_max,
        search_memory_bytes_max: log.search_memory_bytes_max,
    };
    DiskOptions {
        directory: settings.data_dir.clone().into(),
        sync: log.sync,
        segment_bytes: log.segment_bytes,
        bytes_max: log.bytes_max,
        age_max: Duration::from_secs(log.age_max_s.into()),
        reads,
    }
}

/// Splits the file limit, of which the log takes `log_files`, into sockets for requests and for
/// streams, and lowers the hub's limit of connections to the part for streams.
fn split_sockets(limits: &mut ConnectionLimits, shards: usize, log_files: usize) -> SocketSplit {
    let files_in_use = files_in_use(shards) + REJECTIONS_MAX + log_files;
    let (requests_max, connections_max) = (limits.requests_max, limits.connections_max);
    let split = SocketSplit::of(files_max(), files_in_use, requests_max, connections_max);
    limits.connections_max = u32::try_from(split.streams_max).unwrap_or(u32::MAX);
    tracing::info!(
        sockets_max = split.sockets_max,
        connections_max = limits.connections_max,
        requests_max = split.requests_max,
        "limits of connections, lowered where the limit of open files does not allow the settings"
    );
    split
}

/// How long to wait for the ports of a hub whose process is ending.
const PORTS_TIME_MAX: Duration = Duration::from_secs(3);
const PORTS_INTERVAL: Duration = Duration::from_millis(20);
