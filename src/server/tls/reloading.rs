//! Loads a new certificate when its files have changed, or on SIGHUP. If the new one is unusable,
//! the old one stays in use.

use std::{sync::Arc, time::Duration};

use rustls::crypto::CryptoProvider;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at},
};

use super::{
    current::CurrentCertificate,
    pair::{PairFiles, Stamp},
};
use crate::{server::service_manager, telemetry::Metrics};

/// Watches the files of a certificate.
pub(in crate::server) struct Reloading {
    pub(super) files: PairFiles,
    pub(super) current: Arc<CurrentCertificate>,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) metrics: Arc<Metrics>,
    /// The files' metadata when they were last read.
    pub(super) seen: Stamp,
}

impl Reloading {
    /// Checks the files every `every`, and at once on SIGHUP, until it is dropped.
    ///
    /// # Errors
    /// The signal cannot be received.
    pub(in crate::server) fn run(
        self,
        every: Duration,
    ) -> std::io::Result<impl Future<Output = ()> + Send> {
        let hangup = signal(SignalKind::hangup())?;
        Ok(self.watch(every, hangup))
    }

    async fn watch(mut self, every: Duration, mut hangup: Signal) {
        // The first check is a period from now: the files have just been read.
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = ticks.tick() => false,
                _ = hangup.recv() => true,
            };
            if asked {
                service_manager::reloading();
            }
            // Files are read on a blocking thread: they may be on a slow disk.
            let checked = tokio::task::spawn_blocking(move || {
                self.check(asked);
                self
            });
            match checked.await {
                Ok(back) => self = back,
                Err(error) => {
                    return tracing::error!(%error, "the certificate's files are no longer watched");
                }
            }
            if asked {
                service_manager::reloaded();
            }
        }
    }

    fn check(&mut self, asked: bool) {
        // Metadata before contents: a change between the two is found at the next check.
        let stamp = self.files.stamp();
        if stamp == self.seen && !asked {
            return;
        }
        self.seen = stamp;
        match self.files.read(&self.provider) {
            Ok(pair) => {
                self.metrics.tls_reloads.inc();
                self.current.replace(pair);
            }
            Err(error) => {
                self.metrics.tls_reloads_failed.inc();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the certificate cannot be renewed; the old one stays");
            }
        }
    }
}
