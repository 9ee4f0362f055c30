//! Requests to one hub over pooled connections.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::{AUTHORIZATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;

use super::certificate::CertificateRejected;
use super::endpoint::Endpoint;
use super::failure::Failure;
use super::problem::Problem;

/// Connections to one hub. Nothing above this file knows how bytes travel.
#[derive(Debug)]
pub(crate) struct Link {
    endpoint: Endpoint,
    http: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
}

/// Why an exchange failed.
#[derive(Debug, Error)]
pub(crate) enum ExchangeError {
    /// Another attempt may help.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The hub would refuse the request again.
    #[error("{0}")]
    Refused(Problem),
    /// The hub's certificate is not accepted, and a further attempt does not help.
    #[error(transparent)]
    Certificate(#[from] CertificateRejected),
    /// The body of the answer is larger than this client accepts.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

impl Link {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        connector.set_nodelay(true);
        connector.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(endpoint.tls().clone())
            .https_or_http()
            .enable_http1()
            .wrap_connector(connector);
        let http = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE_TIMEOUT)
            .build(connector);
        Self { endpoint, http }
    }

    /// A request with everything that all requests carry.
    pub(crate) fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
    ) -> http::request::Builder {
        let mut builder = Request::builder()
            .method(method)
            .uri(self.endpoint.url(path, query))
            .header(USER_AGENT, concat!("visnyk/", env!("CARGO_PKG_VERSION")));
        if let Some(authorization) = self.endpoint.authorization() {
            builder = builder.header(AUTHORIZATION, authorization);
        }
        builder
    }

    /// Sends a request and waits up to `patience` for the head of a 2xx answer; any other
    /// status is an error.
    pub(crate) async fn send(
        &self,
        request: Request<Full<Bytes>>,
        patience: Duration,
    ) -> Result<Response<Incoming>, ExchangeError> {
        let response = tokio::time::timeout(patience, self.http.request(request))
            .await
            .map_err(|_| Failure::Silence(patience))?
            .map_err(|error| match CertificateRejected::found_in(&error) {
                Some(rejected) => ExchangeError::Certificate(rejected),
                None => Failure::Connection(Box::new(error)).into(),
            })?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status();
        let retry_after = retry_after(response.headers());
        // A refusal without a readable body is still a refusal.
        let body = read_body(response, PROBLEM_BYTES_MAX, patience).await.unwrap_or_default();
        let problem = Problem::read(status, &body);
        if problem.is_temporary() {
            return Err(Failure::Refused { problem, retry_after }.into());
        }
        Err(ExchangeError::Refused(problem))
    }
}

/// The whole body of an answer, of at most `bytes_max` bytes, within `patience`.
pub(crate) async fn read_body(
    response: Response<Incoming>,
    bytes_max: usize,
    patience: Duration,
) -> Result<Bytes, ExchangeError> {
    let body = Limited::new(response.into_body(), bytes_max).collect();
    match tokio::time::timeout(patience, body).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(ExchangeError::TooLarge(bytes_max)),
        Ok(Err(error)) => Err(Failure::Connection(error).into()),
        Err(_) => Err(Failure::Silence(patience).into()),
    }
}

/// RFC 9110, section 10.2.3: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?;
    let wait = match value.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let date = httpdate::parse_http_date(value).ok()?;
            date.duration_since(SystemTime::now()).unwrap_or_default()
        }
    };
    Some(wait.min(RETRY_AFTER_MAX))
}

/// Timeout for the connection to one address; a name with several addresses shares it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const POOL_IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest `Retry-After`: a mistake of a server must not silence a client for days.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Bytes of a refusal that are read.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_capped() {
        let soon = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        for (value, low, high) in [
            ("7", 7, 7),
            (&soon, 90, 100),
            ("86400", 300, 300),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 0, 0),
        ] {
            let value = HeaderValue::from_str(value).expect("a header value");
            let wait = retry_after(&HeaderMap::from_iter([(RETRY_AFTER, value)])).expect("a wait");
            assert!((low..=high).contains(&wait.as_secs()), "{wait:?}");
        }
        let nonsense = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static("soon"))]);
        assert_eq!(retry_after(&nonsense), None);
    }
}
