//! Runs a hub until a signal ends it.

use std::io;

use super::Settings;

/// Runs a hub with `settings` until SIGTERM or SIGINT has drained it.
pub async fn run(settings: Settings) -> io::Result<()> {
    let _ = settings;
    Err(io::Error::other("this build has no server yet"))
}
