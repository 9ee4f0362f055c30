//! A client of HTTP/2, in plain text or under TLS, and of HTTP/1.1 under TLS: hyper's, since what is
//! measured with it is memory of the server, and not how little a client can do.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::failure::Failure;

/// The certificate that it trusts, and the protocol that it speaks.
pub(crate) struct Trust {
    tls: Option<TlsConnector>,
    http1: bool,
}

/// A connection.
pub(crate) enum Link {
    Http1(tokio::sync::Mutex<conn::http1::SendRequest<Full<Bytes>>>),
    Http2(conn::http2::SendRequest<Full<Bytes>>),
}

/// The body of a stream.
pub(crate) struct Body(Incoming);

impl Trust {
    /// The certificate in a file and no other; without one nothing is encrypted.
    pub(crate) fn of(cert: Option<&Path>, http1: bool) -> Result<Self, Failure> {
        let Some(path) = cert else { return Ok(Self { tls: None, http1 }) };
        let unusable = |why: String| Failure::Unsupported(format!("{}: {why}", path.display()));
        let cert = CertificateDer::from_pem_file(path).map_err(|why| unusable(why.to_string()))?;
        let mut roots = RootCertStore::empty();
        roots.add(cert).map_err(|why| unusable(why.to_string()))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|why| unusable(why.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name: &[u8] = if http1 { b"http/1.1" } else { b"h2" };
        config.alpn_protocols = vec![name.to_vec()];
        Ok(Self { tls: Some(Arc::new(config).into()), http1 })
    }
}

impl Link {
    pub(crate) async fn open(address: SocketAddr, trust: &Trust) -> Result<Self, Failure> {
        let opened = async {
            let io = TcpStream::connect(address).await?;
            io.set_nodelay(true)?;
            match &trust.tls {
                None => Self::speak(io, trust.http1).await,
                Some(tls) => {
                    let name = ServerName::try_from("localhost").expect("it is a name");
                    Self::speak(tls.connect(name, io).await?, trust.http1).await
                }
            }
        };
        let late = || Failure::Late { what: "a connection".into(), waited: PATIENCE };
        timeout(PATIENCE, opened).await.map_err(|_| late())?.map_err(Failure::io("connecting"))
    }

    async fn speak(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        http1: bool,
    ) -> std::io::Result<Self> {
        let io = TokioIo::new(io);
        if http1 {
            let (sender, connection) =
                conn::http1::handshake(io).await.map_err(std::io::Error::other)?;
            tokio::spawn(connection);
            return Ok(Self::Http1(sender.into()));
        }
        let (sender, connection) = conn::http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(std::io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self::Http2(sender))
    }

    /// Opens an event stream.
    pub(crate) async fn stream(&self, target: &str) -> Result<Body, Failure> {
        let request = Request::get(self.uri(target)).header("accept", "text/event-stream");
        let request = request.body(Full::default()).expect("it is a request");
        Ok(Body(self.send(request, 200).await?.into_body()))
    }

    /// Publishes.
    pub(crate) async fn post(&self, target: &str, body: Vec<u8>) -> Result<(), Failure> {
        let request = Request::post(self.uri(target)).body(Full::new(body.into()));
        let answer = self.send(request.expect("it is a request"), 201).await?;
        let _ = answer.into_body().collect().await;
        Ok(())
    }

    fn uri(&self, target: &str) -> String {
        match self {
            Self::Http1(_) => target.to_owned(),
            Self::Http2(_) => format!("https://localhost{target}"),
        }
    }

    async fn send(
        &self,
        mut request: Request<Full<Bytes>>,
        status: u16,
    ) -> Result<Response<Incoming>, Failure> {
        let asked = format!("{} {}", request.method(), request.uri().path());
        let refused = |answer: String| Failure::Refused { request: asked.clone(), answer };
        let sent = async {
            match self {
                Self::Http1(sender) => {
                    let host = "localhost".parse().expect("it is a value");
                    request.headers_mut().insert("host", host);
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
        let late = || Failure::Late { what: asked.clone(), waited: PATIENCE };
        let answer = timeout(PATIENCE, sent).await.map_err(|_| late())?;
        let answer = answer.map_err(|error| refused(error.to_string()))?;
        if answer.status().as_u16() != status {
            return Err(refused(answer.status().to_string()));
        }
        Ok(answer)
    }
}

impl Body {
    /// What came next; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        self.0.frame().await?.ok()?.into_data().ok()
    }
}

/// For what takes no time on a machine that is alive.
const PATIENCE: Duration = Duration::from_secs(30);
