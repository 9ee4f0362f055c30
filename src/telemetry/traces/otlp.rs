//! The JSON of OTLP: spans as a collector takes them. Source: OTLP 1.x, "JSON Protobuf Encoding",
//! and `opentelemetry/proto/trace/v1/trace.proto`. Ids are hexadecimal there, 64-bit numbers are
//! texts.

use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeSeq};

use super::span::{Name, Span, Value};

/// What the spans of one process have in common.
#[derive(Debug)]
pub(super) struct Resource {
    pub(super) service: String,
    /// Tells this process from others of the service.
    pub(super) instance: String,
    /// The name of its machine or node.
    pub(super) host: String,
}

/// The body of an export.
pub(super) fn encode(resource: &Resource, spans: &[Span]) -> Bytes {
    let request = ExportRequest {
        resource_spans: [ResourceSpans {
            resource: AttributesOf {
                attributes: Attributes(&[
                    ("service.name", Value::Text(resource.service.clone())),
                    ("service.version", Value::Word(env!("CARGO_PKG_VERSION"))),
                    ("service.instance.id", Value::Text(resource.instance.clone())),
                    ("host.name", Value::Text(resource.host.clone())),
                ]),
            },
            scope_spans: [ScopeSpans {
                scope: Scope { name: "visnyk", version: env!("CARGO_PKG_VERSION") },
                spans: Spans(spans),
            }],
        }],
    };
    serde_json::to_vec(&request).expect("it has texts and numbers alone").into()
}

/// How many spans a collector refused, as its answer says; those without one took all.
pub(super) fn rejected_spans(answer: &[u8]) -> (u64, String) {
    let answer: ExportAnswer = serde_json::from_slice(answer).unwrap_or_default();
    let partial = answer.partial_success;
    let rejected = match &partial.rejected_spans {
        serde_json::Value::String(text) => text.parse().unwrap_or(0),
        number => number.as_u64().unwrap_or(0),
    };
    (rejected, partial.error_message)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExportRequest<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: AttributesOf<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct AttributesOf<'a> {
    attributes: Attributes<'a>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Spans<'a>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

struct Spans<'a>(&'a [Span]);

impl Serialize for Spans<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(SpanJson::of))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanJson<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    flags: u32,
    name: String,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Attributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    message: &'static str,
    code: u8,
}

impl<'a> SpanJson<'a> {
    fn of(span: &'a Span) -> Self {
        let remote = if span.is_parent_remote { PARENT_IS_REMOTE } else { 0 };
        Self {
            trace_id: span.trace.to_string(),
            span_id: span.id.to_string(),
            parent_span_id: span.parent.map(|parent| parent.to_string()),
            trace_state: span.state.as_deref(),
            flags: SAMPLED | REMOTE_IS_KNOWN | remote,
            name: match span.name {
                Name::Fixed(name) => name.to_owned(),
                Name::Route(method, route) => format!("{method} {route}"),
            },
            kind: span.kind as u8,
            start_time_unix_nano: span.began_ns.to_string(),
            end_time_unix_nano: span.ended_ns.to_string(),
            attributes: Attributes(&span.attributes),
            status: span.error.map(|message| Status { message, code: STATUS_ERROR }),
        }
    }
}

struct Attributes<'a>(&'a [(&'static str, Value)]);

impl Serialize for Attributes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for (key, value) in self.0 {
            let value = match value {
                Value::Word(text) => AnyValue::Text(text),
                Value::Text(text) => AnyValue::Text(text),
                Value::Whole(number) => AnyValue::Whole(number.to_string()),
                Value::Flag(flag) => AnyValue::Flag(*flag),
            };
            list.serialize_element(&KeyValue { key, value })?;
        }
        list.end()
    }
}

#[derive(Serialize)]
struct KeyValue<'a> {
    key: &'static str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
enum AnyValue<'a> {
    #[serde(rename = "stringValue")]
    Text(&'a str),
    #[serde(rename = "intValue")]
    Whole(String),
    #[serde(rename = "boolValue")]
    Flag(bool),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ExportAnswer {
    partial_success: PartialSuccess,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PartialSuccess {
    rejected_spans: serde_json::Value,
    error_message: String,
}

/// The flags of a span: the lowest eight bits are those of the trace.
const SAMPLED: u32 = 0x001;
const REMOTE_IS_KNOWN: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;
const STATUS_ERROR: u8 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_rejects_is_a_text_or_a_number() {
        for (answer, expected) in [
            ("{}", (0, "")),
            ("", (0, "")),
            ("not JSON", (0, "")),
            (r#"{"partialSuccess":{}}"#, (0, "")),
            (r#"{"partialSuccess":{"rejectedSpans":"3","errorMessage":"full"}}"#, (3, "full")),
            (r#"{"partialSuccess":{"rejectedSpans":4}}"#, (4, "")),
            (r#"{"partialSuccess":{"rejectedSpans":-1}}"#, (0, "")),
        ] {
            let (rejected, message) = rejected_spans(answer.as_bytes());
            assert_eq!((rejected, &*message), expected, "{answer}");
        }
    }
}
