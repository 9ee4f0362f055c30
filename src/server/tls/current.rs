//! The certificate for new handshakes. Open connections keep the one of their handshake.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::RwLock;
use rustls::{
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use super::pair::Pair;
use crate::telemetry::Metrics;

/// The certificate in use.
#[derive(Debug)]
pub(super) struct CurrentCertificate {
    certified: RwLock<Arc<CertifiedKey>>,
    metrics: Arc<Metrics>,
}

impl CurrentCertificate {
    pub(super) fn new(pair: Pair, metrics: Arc<Metrics>) -> Arc<Self> {
        let current = Self { certified: RwLock::new(Arc::clone(&pair.certified)), metrics };
        current.replace(pair);
        Arc::new(current)
    }

    /// Replaces the certificate for new handshakes.
    pub(super) fn replace(&self, pair: Pair) {
        let expires = pair.expires.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.metrics.tls_certificate_expires.set(expires.as_secs() as i64);
        match pair.expires.duration_since(SystemTime::now()) {
            Ok(left) => {
                tracing::info!(days_left = left.as_secs() / DAY_S, "a certificate is in use")
            }
            Err(_) => tracing::warn!("the certificate in use has expired: clients will refuse it"),
        }
        *self.certified.write() = pair.certified;
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.certified.read()))
    }
}

const DAY_S: u64 = 86_400;
