//! Loads the certificate again when its files have changed, and with each reload of the settings.
//! If the new certificate is unusable, the old one stays in use.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    current::CurrentCertificate,
    loaded_pair::LoadedPair,
    pair::{PairFiles, Stamp, TlsError},
};
use crate::{server::Settings, telemetry::Metrics};

/// The certificate in use, and its files.
#[derive(Debug)]
pub(in crate::server) struct Reloading {
    current: Arc<CurrentCertificate>,
    metrics: Arc<Metrics>,
    /// The files, and their metadata when they were last read.
    seen: Mutex<(PairFiles, Stamp)>,
}

impl Reloading {
    pub(super) fn new(
        current: Arc<CurrentCertificate>,
        metrics: Arc<Metrics>,
        files: PairFiles,
        seen: Stamp,
    ) -> Arc<Self> {
        Arc::new(Self { current, metrics, seen: Mutex::new((files, seen)) })
    }

    /// Checks the files every `every`, until it is dropped.
    pub(in crate::server) async fn watch(self: Arc<Self>, every: Duration) {
        // The first check is a period from now: the files have just been read.
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let certificate = Arc::clone(&self);
            // Files are read on a blocking thread: they may be on a slow disk.
            let checked = tokio::task::spawn_blocking(move || certificate.check());
            if let Err(error) = checked.await {
                return tracing::error!(%error, "the certificate's files are no longer watched");
            }
        }
    }

    /// Reads the files that the settings name, whether they have changed or not; blocks. A failure
    /// is counted. [`replace`](Self::replace) puts the result into use.
    pub(in crate::server) fn read(
        &self,
        settings: &Settings,
    ) -> Result<Option<LoadedPair>, TlsError> {
        LoadedPair::read(settings).inspect_err(|_| {
            self.metrics.tls_reloads_failed.inc();
        })
    }

    /// Replaces the certificate for new handshakes, and watches its files from now on.
    pub(in crate::server) fn replace(&self, loaded: LoadedPair) {
        let LoadedPair { files, pair, seen, .. } = loaded;
        // The lock is held until the pair is in use, so that a check that began earlier does not
        // replace it with an older one.
        let mut watched = self.seen.lock();
        *watched = (files, seen);
        self.metrics.tls_reloads.inc();
        self.current.replace(pair);
    }

    fn check(&self) {
        self.check_by(LoadedPair::read_files);
    }

    /// Reads the files by `read` if they have changed.
    fn check_by(&self, read: impl Fn(PairFiles) -> Result<LoadedPair, TlsError>) {
        let (files, seen) = self.seen.lock().clone();
        // Metadata before contents: a change between the two is found at the next check.
        let stamp = files.stamp();
        if stamp == seen {
            return;
        }
        let read = read(files.clone());
        let mut seen = self.seen.lock();
        if seen.0 != files {
            // A reload has named other files meanwhile.
            return;
        }
        // After a shortage the same files are read again at the next check.
        if !read.as_ref().is_err_and(TlsError::is_shortage) {
            seen.1 = stamp;
        }
        match read {
            Ok(loaded) => {
                self.metrics.tls_reloads.inc();
                self.current.replace(loaded.pair);
            }
            Err(error) => {
                self.metrics.tls_reloads_failed.inc();
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(%error, cause, "the certificate cannot be renewed; the old one stays");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io, time::UNIX_EPOCH};

    use super::*;

    #[test]
    fn files_that_changed_during_a_shortage_are_read_at_the_next_check() {
        let directory = tempfile::tempdir().expect("a directory");
        let files =
            PairFiles { cert: directory.path().join("cert"), key: directory.path().join("key") };
        let write = |at_s| {
            let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("one");
            fs::write(&files.cert, made.cert.pem()).expect("it is written");
            fs::write(&files.key, made.signing_key.serialize_pem()).expect("it is written");
            let cert = fs::File::options().append(true).open(&files.cert).expect("it is there");
            cert.set_modified(UNIX_EPOCH + Duration::from_secs(at_s)).expect("a time");
        };
        write(1);
        let metrics = Metrics::new();
        let LoadedPair { pair, seen, .. } =
            LoadedPair::read_files(files.clone()).expect("they are good");
        let current = CurrentCertificate::new(pair, Arc::clone(&metrics));
        let reloading = Reloading::new(current, Arc::clone(&metrics), files.clone(), seen);
        let counts = || (metrics.tls_reloads.get(), metrics.tls_reloads_failed.get());
        let unreadable = |code| {
            move |files: PairFiles| {
                let source = io::Error::from_raw_os_error(code);
                Err(TlsError::Unreadable { setting: "tls_cert", path: files.cert, source })
            }
        };
        write(2);
        reloading.check_by(unreadable(EMFILE));
        assert_eq!(counts(), (0, 1), "no file is free");
        reloading.check();
        assert_eq!(counts(), (1, 1));
        reloading.check();
        assert_eq!(counts(), (1, 1), "they have not changed");
        write(3);
        reloading.check_by(unreadable(EACCES));
        reloading.check();
        assert_eq!(counts(), (1, 2), "that does not pass by itself");
    }

    /// As Linux numbers them.
    const EACCES: i32 = 13;
    const EMFILE: i32 = 24;
}
