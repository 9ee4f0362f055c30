//! The signals of a hub process. SIGTERM and SIGINT end it. SIGUSR2 switches debug logging on and
//! off, and SIGUSR1 does nothing. SIGHUP reloads the settings, which
//! [`Reloader`](super::reload::Reloader) does.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry;

/// The streams of received signals.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// SIGUSR1, which tools that rotate logs send, and SIGUSR2. A process that does not handle them
    /// is ended by them.
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

    /// Waits for the next SIGTERM or SIGINT. Cancelling the wait loses no signal.
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

/// Switches the hub's log level to `debug`, or back to the level of the settings. Prints which
/// of the two it is now, at any log level.
fn toggle_debug() {
    telemetry::print(match telemetry::toggle_debug() {
        Some(true) => "SIGUSR2: debug lines are logged; another one ends it\n",
        Some(false) => "SIGUSR2: the log level is that of the settings again\n",
        None => "SIGUSR2: the log level of this process cannot be switched\n",
    });
}
