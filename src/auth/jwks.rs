//! The keys at an issuer's JWKS URL: cached, refreshed at a bounded rate, and kept while the issuer
//! cannot be reached.
//!
//! No redirects are followed, no proxy is used, and the size and time of the answer are limited.
//! The certificate of an `https` issuer is checked against the system's roots.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use parking_lot::{Mutex, RwLock};
use thiserror::Error;

use super::{
    JwksUrl, KeyError, KeySet,
    https::{HttpsClient, https_client},
};

/// Why the keys could not be fetched.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The connection failed or was broken.
    #[error("the issuer cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The fetch took longer than [`FETCH_TIME_MAX`].
    #[error("the issuer did not answer within {} s", FETCH_TIME_MAX.as_secs())]
    TimedOut,
    /// The status was not 200.
    #[error("the issuer answered with status {0}")]
    Status(StatusCode),
    /// The answer is not a set of keys.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The system's certificates cannot be read.
    #[error("the system's root certificates cannot be read")]
    Roots(#[source] std::io::Error),
}

/// The keys of one issuer.
pub struct Jwks {
    url: JwksUrl,
    client: HttpsClient<Empty<Bytes>>,
    keys: RwLock<Option<Arc<KeySet>>>,
    /// The shortest time between two refreshes for unknown keys.
    refresh_min_ms: AtomicU64,
    last_attempt: Mutex<Option<Instant>>,
    /// Locked by the task that fetches, so that others wait for the same answer.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

impl Jwks {
    /// A source without keys. The first refresh fetches them.
    ///
    /// # Errors
    /// The system's root certificates cannot be read.
    pub fn new(url: JwksUrl, refresh_min: Duration) -> Result<Self, FetchError> {
        let is_plain = url.uri().scheme_str() == Some("http");
        let client =
            https_client(is_plain, FETCH_TIME_MAX, POOL_IDLE_TIMEOUT).map_err(FetchError::Roots)?;
        Ok(Self {
            url,
            client,
            keys: RwLock::default(),
            refresh_min_ms: AtomicU64::new(refresh_min.as_millis() as u64),
            last_attempt: Mutex::default(),
            fetching: Arc::default(),
        })
    }

    /// Sets the shortest time between two refreshes for unknown keys. Fetched keys are kept.
    pub fn set_refresh_min(&self, refresh_min: Duration) {
        self.refresh_min_ms.store(refresh_min.as_millis() as u64, Ordering::Relaxed);
    }

    fn refresh_min(&self) -> Duration {
        Duration::from_millis(self.refresh_min_ms.load(Ordering::Relaxed))
    }

    /// The keys of the last successful fetch. They are empty if the issuer has withdrawn all its
    /// keys; `None` before the first fetch.
    pub fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.read().clone()
    }

    /// Fetches the keys, because no known key verifies a token. Does nothing if the last fetch,
    /// successful or not, began within the shortest time between two refreshes. A call while a
    /// fetch is under way waits for that fetch.
    ///
    /// It takes at most twice [`FETCH_TIME_MAX`]: the fetch under way, and one of its own if the
    /// shortest time has passed by then. Cancelling the call does not cancel the fetch, so that a
    /// client that disconnects does not keep others from getting the keys.
    pub async fn refresh_for_unknown(self: &Arc<Self>) {
        let asked = Instant::now();
        let fetching = Arc::clone(&self.fetching).lock_owned().await;
        let is_soon = self.last_attempt.lock().is_some_and(|last| {
            // A fetch that began after this call has the keys that it needs.
            last >= asked || last.elapsed() < self.refresh_min()
        });
        if !is_soon {
            let jwks = Arc::clone(self);
            let fetch = tokio::spawn(async move {
                let _fetching = fetching;
                jwks.fetch_and_log().await;
            });
            let _ = fetch.await;
        }
    }

    /// Fetches the keys now, and then periodically, until it is dropped.
    pub async fn keep_fresh(&self, every: Duration) {
        loop {
            {
                let _fetching = self.fetching.lock().await;
                self.fetch_and_log().await;
            }
            // Without keys no token is accepted, so the next attempt comes sooner.
            let wait = if self.keys().is_none() { self.refresh_min().min(every) } else { every };
            tokio::time::sleep(wait).await;
        }
    }

    async fn fetch_and_log(&self) {
        *self.last_attempt.lock() = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => {
                if keys.is_empty() {
                    tracing::warn!(
                        "the issuer has no keys: all its tokens are refused from now on"
                    );
                } else {
                    tracing::debug!(keys = keys.len(), "the issuer's keys were fetched");
                }
                *self.keys.write() = Some(Arc::new(keys));
            }
            // This needs no throttle, since attempts are at least `refresh_min` apart.
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                let kept = self.keys().map_or(0, |keys| keys.len());
                tracing::warn!(%error, cause, kept, "the issuer's keys could not be fetched");
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, FetchError> {
        let request = Request::get(self.url.uri().clone())
            .header(header::ACCEPT, "application/jwk-set+json, application/json")
            .header(header::USER_AGENT, concat!("visnyk/", env!("CARGO_PKG_VERSION")))
            .body(Empty::new())
            .expect("a checked URL and plain headers");
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| FetchError::Unreachable(Box::new(error)))?;
            if response.status() != StatusCode::OK {
                return Err(FetchError::Status(response.status()));
            }
            let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
            let body = body.map_err(FetchError::Unreachable)?.to_bytes();
            Ok(KeySet::from_jwks(&body)?)
        };
        tokio::time::timeout(FETCH_TIME_MAX, exchange).await.map_err(|_| FetchError::TimedOut)?
    }
}

impl fmt::Debug for Jwks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwks").field("url", &self.url).finish_non_exhaustive()
    }
}

/// How long a fetch may take. A token with an unknown key waits for it.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);
/// Limit of the answer. A set of keys has a few kilobytes.
const BODY_BYTES_MAX: usize = 256 * 1024;
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// The example of RFC 8037, appendix A.2.
    const KEYS: &str = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k","alg":"EdDSA",
        "x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;

    #[tokio::test]
    async fn a_client_that_leaves_cancels_no_fetch() {
        let issuer = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/keys", issuer.local_addr().expect("its address"));
        let url = JwksUrl::parse(&url).expect("a URL");
        let jwks = Arc::new(Jwks::new(url, Duration::from_secs(300)).expect("no roots to read"));
        let asking = tokio::spawn({
            let jwks = Arc::clone(&jwks);
            async move { jwks.refresh_for_unknown().await }
        });
        let (mut io, _) = issuer.accept().await.expect("it is asked");
        asking.abort();
        assert!(asking.await.is_err_and(|ended| ended.is_cancelled()));
        let waiting = tokio::spawn({
            let jwks = Arc::clone(&jwks);
            async move { jwks.refresh_for_unknown().await }
        });
        assert!(io.read(&mut [0; 1_024]).await.expect("a request") > 0);
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", KEYS.len());
        io.write_all(format!("{head}{KEYS}").as_bytes()).await.expect("it reads");
        waiting.await.expect("it ends");
        assert!(jwks.keys().is_some_and(|keys| !keys.is_empty()));
    }
}
