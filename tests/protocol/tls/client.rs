//! A client of both protocols, over TLS or without: hyper's, which shares nothing with the hub's
//! own transport.

use std::{net::SocketAddr, sync::Arc};

use http_body_util::BodyExt;
use hyper::{Response, body::Incoming};
use rustls::{ClientConfig, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use visnyk_loadtest::HyperClient;
pub(crate) use visnyk_loadtest::{dial_tls as dial, shake_hands as greet};

use super::{certificate::TlsHub, support::PATIENCE};

/// What a client trusts and offers.
pub(crate) fn tls_config(der: &[u8], alpn: &[&str]) -> Arc<ClientConfig> {
    visnyk_loadtest::tls_config(CertificateDer::from(der), alpn).expect("a certificate")
}

/// A connection on which requests are sent.
#[derive(Clone)]
pub(crate) struct Client(HyperClient);

impl Client {
    /// HTTP/1.1 over a transport.
    pub(crate) async fn http1(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self(HyperClient::http1(io).await.expect("a connection"))
    }

    /// HTTP/1.1 to a hub under TLS.
    pub(crate) async fn tls_http1(hub: &TlsHub) -> Self {
        let config = tls_config(&hub.certificate.der, &["http/1.1"]);
        Self::http1(dial(hub.hub.address(), config).await.expect("a handshake")).await
    }

    /// HTTP/2 over a transport.
    pub(crate) async fn http2(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        Self(HyperClient::http2(io).await.expect("a connection"))
    }

    /// HTTP/2 to a hub under TLS.
    pub(crate) async fn tls_http2(hub: &TlsHub) -> Self {
        let config = tls_config(&hub.certificate.der, &["h2"]);
        Self::http2(dial(hub.hub.address(), config).await.expect("a handshake")).await
    }

    /// HTTP/2 in plain text, by prior knowledge.
    pub(crate) async fn h2c(address: SocketAddr) -> Self {
        Self::http2(TcpStream::connect(address).await.expect("it accepts")).await
    }

    /// Sends a request and waits for the head of its answer.
    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> std::io::Result<Response<Incoming>> {
        self.0.send(method, target, fields, body.to_owned()).await
    }

    /// Sends a request and reads its whole answer.
    pub(crate) async fn ask(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: &str,
    ) -> (u16, String) {
        let response = self.send(method, target, fields, body).await.expect("an answer");
        let status = response.status().as_u16();
        let body = timeout(PATIENCE, response.into_body().collect()).await.expect("in time");
        let body = body.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    /// Publishes an event and gives its position.
    pub(crate) async fn publish(&self, channel: &str, data: &str) -> String {
        let target = format!("/v1/channels/{channel}/events");
        let (status, body) = self.ask("POST", &target, &[], data).await;
        assert_eq!(status, 201, "{body}");
        let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        answer["id"].as_str().expect("a position").to_owned()
    }

    /// Opens a stream of a channel; its first block has come when this returns.
    pub(crate) async fn stream(&self, channel: &str, from: &str) -> Events {
        let target = format!("/v1/channels/{channel}/events");
        self.stream_of(&target, &[("last-event-id", from)]).await
    }

    /// Opens the stream that a target stands for; its first block has come when this returns.
    pub(crate) async fn stream_of(&self, target: &str, fields: &[(&str, &str)]) -> Events {
        let fields = [&[("accept", "text/event-stream")], fields].concat();
        let response = self.send("GET", target, &fields, "").await.expect("a stream");
        assert_eq!(response.status(), 200);
        let mut events = Events { body: response.into_body(), text: String::new() };
        let first = events.block().await.expect("a first block");
        assert!(first.contains("retry:") && first.contains("id:"), "{first:?}");
        events
    }
}

/// A stream's blocks.
pub(crate) struct Events {
    body: Incoming,
    text: String,
}

impl Events {
    /// The next block; `None` at the end.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let rest = self.text.split_off(end + 2);
                return Some(std::mem::replace(&mut self.text, rest));
            }
            let frame = timeout(PATIENCE, self.body.frame()).await.expect("a frame in time")?;
            let data = frame.ok()?.into_data().expect("data");
            self.text += std::str::from_utf8(&data).expect("text");
        }
    }

    /// The data of the next event; `None` at the end.
    pub(crate) async fn data(&mut self) -> Option<String> {
        loop {
            let block = self.block().await?;
            let data: Vec<&str> =
                block.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
            if !data.is_empty() {
                return Some(data.join("\n"));
            }
        }
    }
}

/// The value of a metric.
pub(crate) async fn metric(client: &Client, name: &str) -> f64 {
    let (status, text) = client.ask("GET", "/metrics", &[], "").await;
    assert_eq!(status, 200);
    let values = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.map(|value| value.parse::<f64>().expect("a number")).sum()
}
