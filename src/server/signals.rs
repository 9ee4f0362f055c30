//! The signals of a hub process: SIGTERM and SIGINT end it, SIGHUP has its settings read again
//! ([`Reloader`](super::reload::Reloader)), SIGUSR2 switches debug logging, and SIGUSR1 does nothing.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry;

/// The streams of received signals.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Tools that rotate logs send the first. A process that does not handle these signals is ended
    /// by them.
    user: [Signal; 2],
}

impl Signals {
    /// Handles the signals from now on.
    pub(super) fn receive() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
        })
    }

    /// Waits for the next SIGTERM or SIGINT. Cancelling it loses none.
    pub(super) async fn next_end(&mut self) {
        let [user1, user2] = &mut self.user;
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = user1.recv() => tracing::info!("SIGUSR1: it does nothing here"),
                _ = user2.recv() => toggle_debug(),
            }
        }
    }
}

/// Switches the hub's log level to `debug`, or back to the level of the settings. The line that
/// says so is written at any level.
fn toggle_debug() {
    telemetry::print(match telemetry::toggle_debug() {
        Some(true) => "SIGUSR2: debug lines are logged; another one ends it\n",
        Some(false) => "SIGUSR2: the log level is that of the settings again\n",
        None => "SIGUSR2: this process has another log\n",
    });
}
