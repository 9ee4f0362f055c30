//! A client of HTTP/2, in plain text or under TLS, and of HTTP/1.1 under TLS: hyper's, since what
//! is measured with it is memory of the server, and not how little a client can do.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The settings of a client that trusts one certificate and offers these protocols.
///
/// # Errors
///
/// The certificate cannot be parsed.
pub fn tls_config(
    certificate: CertificateDer<'_>,
    alpn: &[&str],
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.into_owned())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

/// Connects to an address and does the TLS handshake with `localhost`.
pub async fn dial_tls(
    address: SocketAddr,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let io = timeout(PATIENCE, TcpStream::connect(address)).await??;
    io.set_nodelay(true)?;
    shake_hands(io, config).await
}

/// Does the TLS handshake with `localhost` on an open connection.
pub async fn shake_hands(
    io: TcpStream,
    config: Arc<ClientConfig>,
) -> io::Result<TlsStream<TcpStream>> {
    let name = "localhost".try_into().expect("it is a name");
    timeout(PATIENCE, TlsConnector::from(config).connect(name, io)).await?
}

/// A connection on which requests are sent.
#[derive(Debug, Clone)]
pub enum HyperClient {
    /// One request after the other.
    Http1(Arc<Mutex<conn::http1::SendRequest<Full<Bytes>>>>),
    /// Many at a time.
    Http2(conn::http2::SendRequest<Full<Bytes>>),
}

impl HyperClient {
    /// HTTP/1.1 over a transport.
    pub async fn http1(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<Self> {
        let opened = conn::http1::handshake(TokioIo::new(io)).await;
        let (sender, connection) = opened.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self::Http1(Arc::new(sender.into())))
    }

    /// HTTP/2 over a transport, by prior knowledge.
    pub async fn http2(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> io::Result<Self> {
        let opened = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io)).await;
        let (sender, connection) = opened.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    /// Sends a request and waits for the head of its answer.
    pub async fn send(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> io::Result<Response<Incoming>> {
        let request = Request::builder().method(method);
        let request = match self {
            Self::Http1(_) => request.uri(target).header("host", "localhost"),
            Self::Http2(_) => request.uri(format!("https://localhost{target}")),
        };
        let request =
            fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = request.body(Full::new(body.into())).map_err(io::Error::other)?;
        let answered = async {
            match self {
                Self::Http1(sender) => {
                    let mut sender = sender.lock().await;
                    sender.ready().await?;
                    sender.send_request(request).await
                }
                Self::Http2(sender) => {
                    let mut sender = sender.clone();
                    sender.ready().await?;
                    sender.send_request(request).await
                }
            }
        };
        timeout(PATIENCE, answered).await?.map_err(io::Error::other)
    }
}

/// A limit for what takes milliseconds on a machine that is not stuck.
const PATIENCE: Duration = Duration::from_secs(30);
