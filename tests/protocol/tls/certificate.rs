//! Certificates made for a test, and a hub that serves with one.

use std::path::{Path, PathBuf};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use visnyk_loadtest::{Hub, HubCommand};

/// A certificate with its key, in PEM and as clients see it.
pub(crate) struct Certificate {
    pub(crate) cert_pem: String,
    pub(crate) key_pem: String,
    pub(crate) der: Vec<u8>,
}

impl Certificate {
    /// One for this machine.
    pub(crate) fn new() -> Self {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let CertifiedKey { cert, signing_key } =
            generate_simple_self_signed(names).expect("a certificate");
        let (cert_pem, key_pem) = (cert.pem(), signing_key.serialize_pem());
        Self { cert_pem, key_pem, der: cert.der().to_vec() }
    }
}

/// A hub under TLS, and the files of its certificate.
pub(crate) struct TlsHub {
    pub(crate) hub: Hub,
    pub(crate) certificate: Certificate,
    directory: TempDir,
}

impl TlsHub {
    /// Starts one; settings by the end of their variable.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let certificate = Certificate::new();
        let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
        std::fs::write(&cert, &certificate.cert_pem).expect("it is written");
        std::fs::write(&key, &certificate.key_pem).expect("it is written");
        let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
            .args([Path::new("--tls-cert"), &cert, Path::new("--tls-key"), &key])
            .settings(settings);
        let hub = command.start().await.expect("the hub starts");
        Self { hub, certificate, directory }
    }

    /// The file of the certificate.
    pub(crate) fn cert_file(&self) -> PathBuf {
        self.directory.path().join("cert.pem")
    }

    /// The file of the key.
    pub(crate) fn key_file(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }
}
