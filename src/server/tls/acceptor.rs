//! Performs the TLS handshake of an accepted socket, within a timeout.

use std::{io, sync::Arc, time::Duration};

use rustls::{ServerConfig, crypto::aws_lc_rs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    current::CurrentCertificate, loaded_pair::LoadedPair, pair::TlsError, reloading::Reloading,
};
use crate::{
    actors::{Socket, Tcp},
    server::{Settings, preface::Protocol},
    telemetry::{LogThrottle, Metrics},
};

/// Performs TLS handshakes.
#[derive(Clone)]
pub(in crate::server) struct Acceptor(Arc<TlsConfigs>);

struct TlsConfigs {
    for_serving: TlsAcceptor,
    /// For connections that are rejected before the HTTP server gets them. Its ALPN offers no
    /// HTTP/2.
    for_rejecting: TlsAcceptor,
    handshake_timeout: Duration,
    metrics: Arc<Metrics>,
    report: LogThrottle,
}

impl Acceptor {
    /// An acceptor with this certificate.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub(in crate::server) fn new(
        loaded: LoadedPair,
        settings: &Settings,
        metrics: &Arc<Metrics>,
    ) -> Result<(Self, Arc<Reloading>), TlsError> {
        let LoadedPair { files, pair, provider, seen } = loaded;
        let current = CurrentCertificate::new(pair, Arc::clone(metrics));
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Unfit)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as Arc<_>);
        // Stateless tickets: clients resume without a full handshake, and the hub stores no
        // session.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Unfit)?;
        config.send_tls13_tickets = 1;
        config.alpn_protocols = ALPN.map(<[u8]>::to_vec).to_vec();
        let mut for_rejecting = config.clone();
        for_rejecting.alpn_protocols = ALPN[1..].iter().map(|name| name.to_vec()).collect();
        let acceptor = Self(Arc::new(TlsConfigs {
            for_serving: Arc::new(config).into(),
            for_rejecting: Arc::new(for_rejecting).into(),
            handshake_timeout: Duration::from_secs(settings.header_read_timeout_s.into()),
            metrics: Arc::clone(metrics),
            report: LogThrottle::default(),
        }));
        let metrics = Arc::clone(metrics);
        Ok((acceptor, Reloading::new(current, metrics, files, seen)))
    }

    /// Performs the handshake and returns the protocol that ALPN chose; `None` if it fails, which
    /// is counted.
    pub(in crate::server) async fn handshake(&self, io: TcpStream) -> Option<(Socket, Protocol)> {
        let shared = &self.0;
        let negotiated = timeout(shared.handshake_timeout, async {
            if is_plain_http(&io).await? {
                return Ok(Err(io));
            }
            Ok::<_, io::Error>(Ok(shared.for_serving.accept(io).await?))
        });
        match negotiated.await {
            Ok(Ok(Ok(io))) => {
                let protocol = match io.get_ref().1.alpn_protocol() {
                    Some(HTTP2) => Protocol::Http2,
                    _ => Protocol::Http1,
                };
                return Some((io.into(), protocol));
            }
            Ok(Ok(Err(mut io))) => {
                self.note("plain_http");
                answer_plain_http(&mut io).await;
            }
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => self.note("protocol"),
            Ok(Err(_)) => self.note("closed"),
            Err(_) => self.note("timeout"),
        }
        None
    }

    fn note(&self, reason: &'static str) {
        self.0.metrics.tls_handshakes_failed.count(reason);
        if let Some(times) = self.0.report.due() {
            tracing::info!(reason, times, "TLS handshakes fail");
        }
    }

    /// Performs the handshake of a connection that is to be rejected.
    pub(in crate::server) async fn handshake_to_reject<'a>(
        &self,
        io: &'a mut Tcp,
    ) -> io::Result<TlsStream<&'a mut Tcp>> {
        self.0.for_rejecting.accept(io).await
    }
}

/// Whether the first byte is a letter. Every HTTP request begins with a letter, and no TLS record
/// does.
async fn is_plain_http(io: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    match io.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0].is_ascii_alphabetic()),
    }
}

/// Answers a client that speaks plain HTTP, in plain HTTP, that this port speaks TLS.
async fn answer_plain_http(io: &mut TcpStream) {
    let answered = async {
        io.write_all(PLAIN_HTTP.as_bytes()).await?;
        io.shutdown().await?;
        // A socket that is closed with unread bytes is reset, and the reset may overtake the
        // answer.
        let mut bytes = [0; 1_024];
        while io.read(&mut bytes).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    let _ = timeout(ANSWER_TIME_MAX, answered).await;
}

const HTTP2: &[u8] = b"h2";
/// The ALPN protocols, the preferred one first.
const ALPN: [&[u8]; 3] = [HTTP2, b"http/1.1", b"http/1.0"];
const PLAIN_HTTP: &str = "HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 55\r\n\
    connection: close\r\n\r\n\
    this port speaks TLS: ask again with https:// in front\n";
/// How long a client that speaks plain HTTP may take to read its answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_plain_http_has_the_length_it_says() {
        let (head, body) = PLAIN_HTTP.split_once("\r\n\r\n").expect("a head and a body");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
    }
}
