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

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::hub::Sample;

    #[test]
    fn samples_are_described_with_every_reason() {
        let document: Value = serde_json::from_str(include_str!("openapi.json")).expect("JSON");
        let kinds = &document["components"]["schemas"]["Sample"]["properties"]["rejections"];
        let mut described: Vec<(&str, &str)> = Vec::new();
        for (kind, schema) in kinds["properties"].as_object().expect("kinds") {
            let reasons = schema["properties"].as_object().expect("reasons");
            described.extend(reasons.keys().map(|reason| (kind.as_str(), reason.as_str())));
        }
        let mut rejections: Vec<_> = Sample::rejection_names().collect();
        described.sort_unstable();
        rejections.sort_unstable();
        assert_eq!(described, rejections);
    }
}
