//! Loads a certificate and its key: at the start, and when they are renewed.

use std::{path::PathBuf, sync::Arc};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::pair::{Pair, PairFiles, Stamp, TlsError};
use crate::server::Settings;

/// A certificate and its key, read and checked to match.
pub(in crate::server) struct LoadedPair {
    pub(super) files: PairFiles,
    pub(super) pair: Pair,
    pub(super) provider: Arc<CryptoProvider>,
    pub(super) seen: Stamp,
}

impl LoadedPair {
    /// Reads the files that the settings name; `None` if they name none.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub(in crate::server) fn read(settings: &Settings) -> Result<Option<Self>, TlsError> {
        if !settings.has_tls() {
            return Ok(None);
        }
        let files = PairFiles {
            cert: PathBuf::from(&settings.tls_cert),
            key: PathBuf::from(&settings.tls_key),
        };
        Self::read_files(files).map(Some)
    }

    /// Reads a certificate and its key.
    ///
    /// # Errors
    /// Files that cannot be used.
    pub(super) fn read_files(files: PairFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let seen = files.stamp();
        let pair = files.read(&provider)?;
        Ok(Self { files, pair, provider, seen })
    }
}
