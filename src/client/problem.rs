//! Why a hub refused a request: an RFC 9457 problem, or the status alone from another server.

use std::fmt;

use http::StatusCode;
use serde::Deserialize;

/// A refusal: its status and, if the hub wrote it, what was wrong with what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The HTTP status.
    pub status: StatusCode,
    /// What kind of problem it is.
    pub title: Option<String>,
    /// What happened this time.
    pub detail: Option<String>,
    /// The offending field.
    pub field: Option<String>,
    /// The offending line of a batch, counted from 1.
    pub line: Option<u64>,
}

impl Problem {
    /// Reads the body of an answer: a problem document, or a line of text, such as the answer of a
    /// TLS port to plain HTTP. Any other body, such as a proxy's page, is ignored, so only the
    /// status is known.
    pub(crate) fn read(status: StatusCode, body: &[u8]) -> Self {
        #[derive(Deserialize, Default)]
        #[serde(default)]
        struct Members {
            title: Option<String>,
            detail: Option<String>,
            field: Option<String>,
            line: Option<u64>,
        }
        let Members { title, detail, field, line } =
            serde_json::from_slice(body).unwrap_or_default();
        let detail = detail.or_else(|| line_of_text(body));
        Self { status, title, detail, field, line }
    }

    /// The same request may succeed a little later.
    pub(crate) fn is_temporary(&self) -> bool {
        match self.status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => true,
            StatusCode::NOT_IMPLEMENTED | StatusCode::HTTP_VERSION_NOT_SUPPORTED => false,
            status => status.is_server_error(),
        }
    }
}

/// The one line of a short text.
fn line_of_text(body: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?.trim();
    let is_line = text.len() <= LINE_BYTES_MAX
        && text.starts_with(char::is_alphabetic)
        && !text.contains(char::is_control);
    is_line.then(|| text.to_owned())
}

/// Bytes of a text that is shown as the hub's reason.
const LINE_BYTES_MAX: usize = 200;

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        if let Some(text) = self.detail.as_ref().or(self.title.as_ref()) {
            write!(f, ": {text}")?;
        }
        match (&self.field, self.line) {
            (Some(field), Some(line)) => write!(f, " (`{field}`, line {line})"),
            (Some(field), None) => write!(f, " (`{field}`)"),
            (None, Some(line)) => write!(f, " (line {line})"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_document_is_read_and_shown() {
        let body = br#"{"type":"about:blank","title":"Bad line","status":400,"detail":"no data","line":3}"#;
        let problem = Problem::read(StatusCode::BAD_REQUEST, body);
        assert_eq!(problem.to_string(), "400 Bad Request: no data (line 3)");
        assert_eq!(problem.line, Some(3));
    }

    #[test]
    fn a_line_of_text_is_shown() {
        let problem = Problem::read(StatusCode::BAD_REQUEST, b"this port speaks TLS\n");
        assert_eq!(problem.to_string(), "400 Bad Request: this port speaks TLS");
    }

    #[test]
    fn any_other_body_leaves_the_status() {
        for body in [&b""[..], b"<html>", b"[1]", b"{\"line\":-1}", b"two\nlines", &[b'x'; 201]] {
            let problem = Problem::read(StatusCode::BAD_GATEWAY, body);
            assert_eq!(problem.to_string(), "502 Bad Gateway");
        }
    }

    #[test]
    fn only_what_time_can_heal_is_temporary() {
        for (status, temporary) in [
            (400, false),
            (404, false),
            (408, true),
            (429, true),
            (500, true),
            (501, false),
            (503, true),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Problem::read(status, b"").is_temporary(), temporary, "{status}");
        }
    }
}
