//! What `publish` and `subscribe` share: the hub's URL and token, and a runtime.

use std::error::Error;
use std::fmt::Write;
use std::future::Future;

use tokio::runtime;
use visnyk::{
    client::{Endpoint, EndpointError},
    telemetry,
};

use super::CliError;

/// The hub to talk to, and the token to send.
#[derive(Debug, clap::Args)]
pub(crate) struct HubArgs {
    /// Base URL of the hub. Under https its certificate must come from a root that the system trusts,
    /// or from one in the file that SSL_CERT_FILE names.
    // Parsed behind the parser of the command line, which shows what it refuses as it was given.
    #[arg(
        long,
        env = "VISNYK_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:3000"
    )]
    url: String,
    /// Token to show, if the hub wants one.
    #[arg(long, env = "VISNYK_TOKEN", hide_env_values = true)]
    token: Option<String>,
}

impl HubArgs {
    pub(crate) fn endpoint(self) -> Result<Endpoint, CliError> {
        let usage = |error: EndpointError| CliError::Usage(format!("--url or --token: {error}"));
        let endpoint = Endpoint::parse(&self.url).map_err(usage)?;
        match self.token.filter(|token| !token.is_empty()) {
            None => Ok(endpoint),
            Some(token) => endpoint.with_token(&token).map_err(usage),
        }
    }
}

/// Says something on stderr. One that is closed changes nothing for the command.
pub(crate) fn say(words: &str) {
    telemetry::print(&format!("visnyk: {words}\n"));
}

/// An error and its causes on one line, for progress messages.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        write!(text, ": {error}").expect("a String takes it");
        cause = error.source();
    }
    text
}

/// Runs a client command to its end or to Ctrl-C, which gives `interrupted`.
pub(crate) fn run_until_interrupted<T>(
    command: impl Future<Output = Result<T, CliError>>,
    interrupted: impl FnOnce() -> Result<T, CliError>,
) -> Result<T, CliError> {
    let runtime =
        runtime::Builder::new_current_thread().enable_all().build().map_err(CliError::failed)?;
    let result = runtime.block_on(async {
        tokio::select! {
            result = command => result,
            _ = tokio::signal::ctrl_c() => interrupted(),
        }
    });
    // A write to a pipe that is never read must not keep the process.
    runtime.shutdown_background();
    result
}
