//! `visnyk serve`: runs the hub.

use std::time::Duration;

use tokio::runtime;
use visnyk::{server, telemetry};

use super::{CliError, settings};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk --demo                              on port 3000 of this machine, with something to look at
  visnyk --data-dir /var/lib/visnyk          history on disk
  VISNYK_JWT_SECRET=… visnyk --listen :8080  every address of this machine, with authentication

All settings are in docs/configuration.md; `visnyk config` prints those in force.")]
pub(crate) struct Args {
    #[command(flatten)]
    settings: settings::SettingsArgs,
}

/// Runs the hub until a signal has drained it.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let effective = args.settings.load()?;
    let log = &effective.settings().log;
    telemetry::init_logs(log.format, &log.level, log.queue_bytes_max).map_err(CliError::failed)?;
    if !effective.service_links().is_empty() {
        tracing::info!(
            variables = effective.service_links().join(" "),
            "ignoring variables that a container platform sets for a service"
        );
    }
    server::prepare();
    let runtime = runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("visnyk-control")
        .enable_all()
        .build()
        .map_err(CliError::failed)?;
    let result = runtime.block_on(server::run(effective));
    // A certificate on a disk that does not answer, or a name server, must not keep the process.
    runtime.shutdown_timeout(SHUT_DOWN_TIME_MAX);
    result.map_err(CliError::failed)
}

/// These threads run the log, the channels and the supervisors. Requests and delivery have their
/// own: each shard is a thread with a runtime of its own, so more workers would only take its core
/// away.
const WORKER_THREADS: usize = 2;
/// How long the end of the process waits for work that cannot be cancelled.
const SHUT_DOWN_TIME_MAX: Duration = Duration::from_secs(1);
