//! What the client commands share: the hub's URL and token, and a runtime.

use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use tokio::runtime;
use visnyk::{
    client::{Endpoint, EndpointError, OperateError, Operator},
    telemetry,
};

use super::CliError;

/// The hub to talk to, and the token to send.
#[derive(Debug, clap::Args)]
pub(crate) struct HubArgs {
    /// Base URL of the hub; http:// may be left out, and so may the host in :3000. With https its
    /// certificate must be signed by a root that the system trusts, or by one in the file that
    /// SSL_CERT_FILE or --ca-cert names.
    // Not parsed by clap, whose errors would print the URL and any password in it.
    #[arg(
        long,
        env = "VISNYK_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:3000",
        help_heading = "Hub"
    )]
    url: String,
    /// Bearer token to send, if the hub requires authentication.
    #[arg(long, env = "VISNYK_TOKEN", hide_env_values = true, help_heading = "Hub")]
    token: Option<String>,
    /// File with the only root certificates to trust, in PEM: the hub's own certificate, if it is
    /// signed by itself.
    #[arg(long, env = "VISNYK_CA_CERT", value_name = "FILE", help_heading = "Hub")]
    ca_cert: Option<PathBuf>,
}

impl HubArgs {
    pub(crate) fn endpoint(self) -> Result<Endpoint, CliError> {
        let usage = |error: EndpointError| {
            let flag = match error {
                EndpointError::RootFile { .. } => "--ca-cert",
                _ => "--url or --token",
            };
            CliError::Usage(format!("{flag}: {error}"))
        };
        let url = with_scheme(&self.url);
        let endpoint = match &self.ca_cert {
            Some(roots) => Endpoint::parse_with_roots(&url, roots),
            None => Endpoint::parse(&url),
        };
        let endpoint = endpoint.map_err(usage)?;
        match self.token.filter(|token| !token.is_empty()) {
            None => Ok(endpoint),
            Some(token) => endpoint.with_token(&token).map_err(usage),
        }
    }

    /// The hub as commands for operators use it.
    pub(crate) fn operator(self) -> Result<Operator, CliError> {
        Ok(Operator::new(self.endpoint()?, ANSWER_TIMEOUT))
    }
}

/// `host:port` means plain HTTP there, and `:port` plain HTTP on this machine, as in `--listen
/// :PORT` of the hub.
fn with_scheme(url: &str) -> String {
    match url {
        url if url.contains("://") || url.is_empty() => url.to_owned(),
        url if url.starts_with(':') => format!("http://127.0.0.1{url}"),
        url => format!("http://{url}"),
    }
}

/// Prints a message to stderr; errors are ignored.
pub(crate) fn say(words: &str) {
    telemetry::print_named(words);
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

/// Runs a command that ends by itself; Ctrl-C makes it fail.
pub(crate) fn run_once<T>(
    command: impl Future<Output = Result<T, CliError>>,
) -> Result<T, CliError> {
    run_until_interrupted(command, || Err(CliError::failed("interrupted")))
}

/// Waits for one answer of a hub; Ctrl-C makes it fail.
pub(crate) fn ask<T>(answer: impl Future<Output = Result<T, OperateError>>) -> Result<T, CliError> {
    run_once(async { answer.await.map_err(CliError::failed) })
}

/// Timeout for one answer. A hub gathers a page of connections within a second.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_url_lacks_is_plain_http_on_this_machine() {
        for (given, meant) in [
            ("hub:3000", "http://hub:3000"),
            ("localhost", "http://localhost"),
            (":8080", "http://127.0.0.1:8080"),
            ("[::1]:3000/hub", "http://[::1]:3000/hub"),
            ("https://hub", "https://hub"),
            ("ftp://hub", "ftp://hub"),
            ("", ""),
        ] {
            assert_eq!(with_scheme(given), meant);
        }
    }
}
