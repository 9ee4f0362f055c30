//! Limits of a request's head: the number of its fields, the bytes of its target, its bytes in all.

use axum::{extract::Request, http::StatusCode};

use super::Problem;
use crate::core::RequestLimits;

/// Rejects a request head over a limit. hyper limits heads too, but how exactly depends on the
/// growth of its buffer. The limits here are exact.
pub(super) fn check_head_size(limits: &RequestLimits, request: &Request) -> Result<(), Problem> {
    // The HTTP/1 parser has this limit too.
    if request.headers().len() > limits.fields_max as usize {
        let fields_max = limits.fields_max;
        let detail = format!("a request has at most {fields_max} fields");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
            .with("field", "head")
            .with("fields_max", fields_max)
            .limit_exceeded("too_many_fields"));
    }
    let target = request.uri().path_and_query().map_or(0, |target| target.as_str().len());
    if target > limits.target_bytes_max as usize {
        let bytes_max = limits.target_bytes_max;
        let detail = format!("the target of a request has at most {bytes_max} bytes");
        return Err(Problem::new(StatusCode::URI_TOO_LONG, detail)
            .with("field", "target")
            .with("bytes_max", bytes_max)
            .limit_exceeded("target_too_long"));
    }
    let fields = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len());
    let bytes: usize = target + fields.sum::<usize>();
    if bytes > limits.head_bytes_max as usize {
        let bytes_max = limits.head_bytes_max;
        let detail = format!("the target and fields of a request have at most {bytes_max} bytes");
        return Err(Problem::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, detail)
            .with("field", "head")
            .with("bytes_max", bytes_max)
            .limit_exceeded("head_too_large"));
    }
    Ok(())
}
