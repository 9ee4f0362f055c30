//! `visnyk serve`: runs the hub.

use tokio::runtime;
use visnyk::{server, telemetry};

use super::{CliError, settings};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    settings: settings::SettingsArgs,
}

/// Runs the hub until a signal has drained it.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let effective = args.settings.load()?;
    let log = &effective.settings().log;
    telemetry::init_logs(log.format, &log.level).map_err(CliError::failed)?;
    if !effective.service_links().is_empty() {
        tracing::info!(
            variables = effective.service_links().join(" "),
            "ignoring variables that a container platform sets for a service"
        );
    }
    let settings = effective.into_settings();
    server::prepare();
    runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("visnyk-control")
        .enable_all()
        .build()
        .map_err(CliError::failed)?
        .block_on(server::run(settings))
        .map_err(CliError::failed)
}

/// These threads run the log, the channels and the supervisors. Requests and delivery have their own:
/// each shard is a thread with a runtime of its own, so more workers would only take its core away.
const WORKER_THREADS: usize = 2;
