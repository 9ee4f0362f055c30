//! What to measure and where results go: the options of every run.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::ValueEnum;

/// What to measure, and where to put what was found.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// A hub that runs already, such as http://127.0.0.1:3000; otherwise each run starts one.
    #[arg(long, global = true, requires = "pid", value_name = "URL")]
    pub(crate) against: Option<String>,
    /// Its processes.
    #[arg(long, global = true, requires = "against")]
    pub(crate) pid: Vec<u32>,
    /// The hub to start; by default the `visnyk` beside this program.
    #[arg(long, global = true, value_name = "PATH", conflicts_with = "against")]
    pub(crate) visnyk: Option<PathBuf>,
    /// An argument for that hub; once for each.
    #[arg(long, global = true, value_name = "ARG", allow_hyphen_values = true)]
    pub(crate) visnyk_arg: Vec<String>,
    /// Measures this too, in turn with the hub.
    #[arg(long, global = true)]
    pub(crate) interleave: Option<Other>,
    /// How often each is measured.
    #[arg(long, global = true, default_value_t = 1)]
    pub(crate) rounds: u32,
    /// Appends a line of JSON for each run to this file.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
}

/// What the hub is measured beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Other {
    /// The plain send loop.
    Floor,
    /// The hub without its log on disk, where the scenario gives it one.
    Memory,
}

impl Options {
    /// Where the hub that runs already listens.
    pub(crate) fn address(&self) -> Result<Option<SocketAddr>, String> {
        let Some(url) = &self.against else { return Ok(None) };
        let authority = url.trim_start_matches("http://").trim_end_matches('/');
        let address = authority.parse().map_err(|_| format!("{url} is not http://ADDRESS:PORT"))?;
        Ok(Some(address))
    }
}
