//! An issuer's key set on a port of this machine, for as long as a test wants it there.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
};

/// A server that answers every request with the same words.
pub(crate) struct Issuer {
    state: Arc<Mutex<State>>,
    port: u16,
    task: JoinHandle<()>,
}

struct State {
    answer: String,
    asked: usize,
}

impl Issuer {
    pub(crate) async fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State { answer: String::new(), asked: 0 }));
        let issuer = Self { task: tokio::spawn(serve(listener, Arc::clone(&state))), state, port };
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
        self.state.lock().unwrap().answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        );
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/jwks.json", self.port)
    }

    /// Goes away: nobody listens any more.
    pub(crate) async fn goes_away(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn serve(listener: TcpListener, state: Arc<Mutex<State>>) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if socket.read_buf(&mut head).await.unwrap_or(0) == 0 {
                break;
            }
        }
        let answer = {
            let mut state = state.lock().unwrap();
            state.asked += 1;
            state.answer.clone()
        };
        let _ = socket.write_all(answer.as_bytes()).await;
        let _ = socket.shutdown().await;
    }
}
