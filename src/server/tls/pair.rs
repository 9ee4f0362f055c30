//! A certificate chain and its key, read from files in PEM.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use rustls::{
    crypto::CryptoProvider,
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};
use thiserror::Error;
use x509_cert::der::Decode;

use crate::{auth::bounded_file, server::socket_budget::is_no_file};

/// Why a certificate and its key cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{setting}: {} cannot be read", path.display())]
    Unreadable {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file does not hold a certificate or a key in PEM.
    #[error("{setting}: {} does not hold a certificate or a key in PEM: {reason}", path.display())]
    NotPem {
        /// Which setting names it.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: pem::Error,
    },
    /// The first certificate is malformed.
    #[error("tls_cert: {} begins with a malformed certificate", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// The key is of an unknown kind, or does not match the certificate.
    #[error("tls_key does not go with tls_cert: {0}")]
    Unfit(rustls::Error),
}

impl TlsError {
    /// Whether the process or the system has no file or no memory for reading them, which passes.
    pub(super) fn is_shortage(&self) -> bool {
        match self {
            Self::Unreadable { source, .. } => {
                is_no_file(source) || source.kind() == io::ErrorKind::OutOfMemory
            }
            _ => false,
        }
    }
}

/// Where a certificate and its key are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PairFiles {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

/// A certificate chain with its matching key.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) certified: Arc<CertifiedKey>,
    /// When it expires.
    pub(super) expires: SystemTime,
}

/// Metadata of the two files, by which a change is noticed without reading them: modification time,
/// length and inode. `None` for a missing file.
pub(super) type Stamp = [Option<(SystemTime, u64, u64)>; 2];

impl PairFiles {
    /// Reads the certificate and its key.
    ///
    /// # Errors
    /// Files that cannot be read, are not PEM, or do not match.
    pub(super) fn read(&self, provider: &CryptoProvider) -> Result<Pair, TlsError> {
        let bad_cert =
            |reason| TlsError::NotPem { setting: "tls_cert", path: self.cert.clone(), reason };
        let bytes = read("tls_cert", &self.cert)?;
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&bytes).collect::<Result<_, _>>().map_err(bad_cert)?;
        let first = chain.first().ok_or_else(|| bad_cert(pem::Error::NoItemsFound))?;
        let expires =
            expiry(first).ok_or_else(|| TlsError::Malformed { path: self.cert.clone() })?;
        let bytes = zeroize::Zeroizing::new(read("tls_key", &self.key)?);
        let key = PrivateKeyDer::from_pem_slice(&bytes).map_err(|reason| TlsError::NotPem {
            setting: "tls_key",
            path: self.key.clone(),
            reason,
        })?;
        let certified = CertifiedKey::from_der(chain, key, provider).map_err(TlsError::Unfit)?;
        Ok(Pair { certified: Arc::new(certified), expires })
    }

    /// The metadata of the files now.
    pub(super) fn stamp(&self) -> Stamp {
        [&self.cert, &self.key].map(|path| stamp(path))
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    #[cfg(unix)]
    let file = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let file = 0;
    Some((metadata.modified().ok()?, metadata.len(), file))
}

/// When a certificate expires (RFC 5280, section 4.1): `Validity` is the fifth field of what is
/// signed, after version, serial number, signature algorithm and issuer.
fn expiry(certificate: &[u8]) -> Option<SystemTime> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    Some(certificate.tbs_certificate.validity.not_after.to_system_time())
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    bounded_file::read(path, FILE_BYTES_MAX).map_err(|source| TlsError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}

/// Limit of such a file. A chain of certificates has a few KiB.
const FILE_BYTES_MAX: u64 = 256 * 1024;
