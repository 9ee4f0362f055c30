//! `POST /v1/connections/{id}/token`: a fresh token for a living stream.

use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
};

use crate::{
    http::{Problem, authorization, problem::RETRY_AFTER_S, routes::HttpState},
    hub::Renewal,
};

/// The token that the request itself carries becomes that of the connection.
pub(in crate::http) async fn renew(
    State(state): State<HttpState>,
    Path(text): Path<String>,
    request: Request,
) -> Result<StatusCode, Problem> {
    let identity = authorization::identity(&state, request.extensions())?;
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let id = text.parse::<u64>().ok().filter(|_| digits);
    let until_ms = authorization::until_ms(&state, &identity);
    let renewal = match id {
        Some(id) => state.hub.renew(id, identity, until_ms).await,
        None => Some(Renewal::NoSuchConnection),
    };
    match renewal {
        Some(Renewal::Renewed) => Ok(StatusCode::NO_CONTENT),
        Some(Renewal::Ended) => {
            let detail = "the token does not allow all that the connection receives; it is ended";
            Err(Problem::new(StatusCode::FORBIDDEN, detail)
                .with("reason", "permissions")
                .challenge("insufficient_scope", detail))
        }
        Some(Renewal::NoSuchConnection) => {
            let detail = format!("this subject has no connection `{text}`");
            Err(Problem::new(StatusCode::NOT_FOUND, detail).with("connection", text))
        }
        None => {
            let detail = "the connection's shard did not answer";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER_S))
        }
    }
}
