//! An issuer's key set on a port of this machine, for as long as a test wants it there.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{authority::Authority, wire::PATIENCE};

/// A server that answers every request with the same words.
pub(crate) struct Issuer {
    answer: Arc<Mutex<String>>,
    asked: watch::Receiver<usize>,
    /// Without a path.
    base: String,
    task: JoinHandle<()>,
}

impl Issuer {
    pub(crate) async fn start(keys: &[Value]) -> Self {
        Self::serving(keys, None).await
    }

    /// One that speaks TLS, with a certificate for `name`.
    pub(crate) async fn start_tls(keys: &[Value], authority: &Authority, name: &str) -> Self {
        Self::serving(keys, Some(authority.acceptor(name))).await
    }

    async fn serving(keys: &[Value], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answer, (count, asked)) = (Arc::<Mutex<String>>::default(), watch::channel(0));
        let base = match tls {
            None => format!("http://127.0.0.1:{port}"),
            Some(_) => format!("https://localhost:{port}"),
        };
        let task = tokio::spawn(serve(listener, tls, Arc::clone(&answer), count));
        let issuer = Self { answer, asked, base, task };
        issuer.publishes(keys);
        issuer
    }

    /// Has these keys from now on.
    pub(crate) fn publishes(&self, keys: &[Value]) {
        self.answers("200 OK", &json!({ "keys": keys }).to_string());
    }

    /// Answers like this from now on; the status may carry more header lines.
    pub(crate) fn answers(&self, status: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        let _answer = self.answer.lock().unwrap();
        *self.asked.borrow()
    }

    /// Waits until it has been asked so many times more. By the second of them, what it said to the
    /// first has been read.
    pub(crate) async fn is_asked_again(&self, times: usize) {
        let (mut asked, until) = (self.asked.clone(), self.asked() + times);
        let waited = timeout(PATIENCE, asked.wait_for(|asked| *asked >= until)).await;
        waited.expect("it is not asked any more").unwrap();
    }

    pub(crate) fn url(&self) -> String {
        format!("{}/jwks.json", self.base)
    }

    /// Stops listening.
    pub(crate) async fn goes_away(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    answer: Arc<Mutex<String>>,
    count: watch::Sender<usize>,
) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        match &tls {
            None => answer_one(socket, &answer, &count).await,
            // A client that does not trust the certificate goes away.
            Some(tls) => {
                if let Ok(socket) = tls.accept(socket).await {
                    answer_one(socket, &answer, &count).await;
                }
            }
        }
    }
}

async fn answer_one(
    mut socket: impl AsyncRead + AsyncWrite + Unpin,
    answer: &Mutex<String>,
    count: &watch::Sender<usize>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let answer = {
        // Counted with the answer it gets: what is asked after a change is counted after it.
        let answer = answer.lock().unwrap();
        count.send_modify(|asked| *asked += 1);
        answer.clone()
    };
    let _ = socket.write_all(answer.as_bytes()).await;
    let _ = socket.shutdown().await;
}
