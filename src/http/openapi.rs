//! The OpenAPI 3.1 description of the HTTP interface. A test compares it with the table of routes.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

/// The document.
pub(super) fn document() -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/json"), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (headers, include_str!("openapi.json")).into_response()
}
