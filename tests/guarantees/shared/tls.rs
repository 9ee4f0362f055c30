//! A Redis server with TLS, and a certificate of its own for `localhost`.

use tempfile::TempDir;
use visnyk_loadtest::RedisServer;

/// The server.
pub(super) struct TlsServer {
    pub(super) server: RedisServer,
    /// Its port with TLS.
    pub(super) port: String,
    /// The file with its certificate.
    pub(super) certificate: String,
    directory: TempDir,
}

impl TlsServer {
    pub(super) fn start(settings: &[&str]) -> Self {
        let made =
            rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let directory = tempfile::tempdir().expect("a directory");
        let certificate = written(&directory, "certificate.pem", &made.cert.pem());
        let key = written(&directory, "key.pem", &made.signing_key.serialize_pem());
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = free.local_addr().expect("an address").port().to_string();
        drop(free);
        let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
        let rest = ["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"];
        let server =
            RedisServer::start(&[settings, &["--tls-port", &port], &files[..], &rest[..]].concat());
        Self { server, port, certificate, directory }
    }

    /// Writes a file that lives as long as the server; its path.
    pub(super) fn file(&self, name: &str, text: &str) -> String {
        written(&self.directory, name, text)
    }
}

fn written(directory: &TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).expect("it is written");
    path.to_str().expect("UTF-8").to_owned()
}
