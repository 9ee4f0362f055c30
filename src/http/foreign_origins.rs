//! Logs each origin whose pages send requests although CORS does not allow it. The browser does not
//! show the reason to the page, so this line is where its author finds it.

use axum::http::HeaderValue;
use parking_lot::Mutex;

/// The origins that were logged.
#[derive(Debug, Default)]
pub(super) struct ForeignOrigins {
    logged: Mutex<Vec<HeaderValue>>,
}

impl ForeignOrigins {
    /// Logs an origin that CORS does not allow, once. Any client can send the field, so at most
    /// [`LOGGED_MAX`] origins are logged.
    pub(super) fn log_once(&self, origin: &HeaderValue) {
        let text = origin.to_str().unwrap_or_default();
        if self.is_new(origin) {
            tracing::warn!(
                origin = text,
                "a page of another origin may not use this hub; `cors_origins` (--cors-origin \
                 {text}) lets it"
            );
        }
    }

    fn is_new(&self, origin: &HeaderValue) -> bool {
        let mut logged = self.logged.lock();
        if logged.len() >= LOGGED_MAX || origin.len() > ORIGIN_BYTES_MAX || logged.contains(origin)
        {
            return false;
        }
        logged.push(origin.clone());
        true
    }
}

/// Most origins that a process logs.
const LOGGED_MAX: usize = 64;
/// Most bytes of an origin that is logged: scheme, host and port are shorter.
const ORIGIN_BYTES_MAX: usize = 300;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_logged_once_and_so_many_in_all() {
        let origins = ForeignOrigins::default();
        let is_new = |n: usize| {
            origins.is_new(&HeaderValue::from_str(&format!("https://{n}")).expect("one"))
        };
        assert!((0..LOGGED_MAX).all(is_new));
        assert!(!(0..=LOGGED_MAX).any(is_new));
        let long = HeaderValue::from_str(&"x".repeat(ORIGIN_BYTES_MAX + 1)).expect("one");
        assert!(!ForeignOrigins::default().is_new(&long));
    }
}
