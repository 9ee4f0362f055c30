//! The signals of a hub process: SIGTERM and SIGINT end it, SIGUSR2 switches debug logging, and
//! SIGHUP and SIGUSR1 do not end it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::telemetry;

/// The streams of received signals.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    /// Tools that rotate logs send the first. A process that does not handle these signals is ended
    /// by them.
    user: [Signal; 2],
    has_tls: bool,
}

impl Signals {
    /// Handles the signals from now on. With TLS a SIGHUP also reloads the certificate
    /// ([`Reloading`](super::tls::Reloading)).
    pub(super) fn receive(has_tls: bool) -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
            user: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            has_tls,
        })
    }

    /// Waits for the next SIGTERM or SIGINT. Cancelling it loses none.
    pub(super) async fn next_end(&mut self) {
        let [user1, user2] = &mut self.user;
        loop {
            let name = tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => "SIGHUP",
                _ = user1.recv() => "SIGUSR1",
                _ = user2.recv() => "SIGUSR2",
            };
            match (name, self.has_tls) {
                ("SIGHUP", true) => tracing::info!("SIGHUP: the certificate is read anew"),
                ("SIGHUP", false) => tracing::info!(
                    "SIGHUP: nothing to reload without TLS; settings are read at the start alone"
                ),
                ("SIGUSR2", _) => toggle_debug(),
                _ => tracing::info!("{name}: it does nothing here"),
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
