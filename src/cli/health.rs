//! `visnyk health`: whether a hub answers, for health checks of containers.

use std::time::Duration;

use visnyk::client::{Failure, Operator};

use super::{
    CliError,
    hub::{HubArgs, run_once},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk health                                      the process answers
  visnyk health --ready                              new clients may be sent there
  visnyk health --url https://localhost:3000 --ca-cert cert.pem

Exits 0 without output if so, otherwise 1 with the reason on stderr. Needs no token.")]
pub(crate) struct Args {
    /// Asks whether new clients may be sent there (/readyz), not only whether it answers
    /// (/healthz).
    #[arg(long)]
    ready: bool,
    /// Seconds for all of it, the look-up of a name included.
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=60))]
    timeout: u64,
    #[command(flatten)]
    hub: HubArgs,
}

/// Asks the hub once.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let timeout = Duration::from_secs(args.timeout);
    let operator = Operator::new(args.hub.endpoint()?, timeout);
    run_once(async {
        let answer = async {
            if args.ready { operator.is_ready().await } else { operator.is_alive().await }
        };
        match tokio::time::timeout(timeout, answer).await {
            Ok(answer) => answer.map_err(CliError::failed),
            Err(_) => Err(CliError::failed(Failure::Silence(timeout))),
        }
    })
}
