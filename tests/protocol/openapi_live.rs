//! Answers of the real binary against the OpenAPI document: status, media type, headers, schema.

use crate::wire::{Answer, Wire, ask, get, hub, post, published, request};
use serde_json::{Value, json};
use visnyk::model::{ChannelName, ChannelSelector, EventType};

/// Every keyword that the schemas of the document use and this test understands; the others say
/// nothing that could be checked.
const SILENT: [&str; 4] = ["description", "examples", "default", "deprecated"];

#[tokio::test]
async fn answers_are_as_described() {
    let document = document();
    let hub =
        hub(&[("limits.publish.body_bytes_max", "1000"), ("limits.poll.timeout_s", "1")]).await;
    let first = published(&hub, "a", "one").await;
    published(&hub, "a", "two").await;
    published(&hub, "shut", "x").await;
    assert_eq!(ask(&hub, request("DELETE", "/v1/channels/shut", &[], "")).await.status, 204);

    let ended = one_that_ended(&hub).await;
    let mut open = Wire::to(&hub).await;
    open.send(get("/v1/events?channel=**&type=t")).await;
    open.stream_head().await;

    let one = "/v1/channels/{channel}/events";
    let ndjson = [("Content-Type", "application/x-ndjson"), ("Idempotency-Key", "batch")];
    let batch = |lines: &str| request("POST", "/v1/events?channel=b", &ndjson, lines);
    let keyed =
        |body: &str| request("POST", "/v1/channels/a/events", &[("Idempotency-Key", "k")], body);
    let foreign = [("Origin", "http://evil.example")];
    let misdirected = "GET /v1/channels HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned();
    let behind = format!("/v1/channels/a/poll?last_event_id={first}");
    for (path, status, request) in [
        (one, 201, keyed("x")),
        (one, 201, keyed("x")),
        (one, 422, keyed("y")),
        (one, 400, post("/v1/channels/a/events?type=visnyk.x", "x")),
        (one, 403, request("POST", "/v1/channels/a/events", &foreign, "x")),
        (one, 410, post("/v1/channels/shut/events", "x")),
        (one, 413, post("/v1/channels/a/events", &"x".repeat(1001))),
        (one, 204, get("/v1/channels/shut/events")),
        (one, 400, get("/v1/channels/a/events?format=x")),
        ("/v1/events", 201, batch("{\"data\":1}\n{\"data\":[2],\"channel\":\"c/d\"}\n")),
        ("/v1/events", 400, batch("{\"data\":1}\nnot JSON\n")),
        ("/v1/events", 400, get("/v1/events")),
        ("/v1/channels/{channel}/poll", 200, get(&behind)),
        ("/v1/channels/{channel}/poll", 204, get("/v1/channels/a/poll?timeout=0")),
        ("/v1/channels/{channel}/poll", 400, get("/v1/channels/a/poll?timeout=x")),
        ("/v1/channels/{channel}/poll", 410, get("/v1/channels/shut/poll")),
        ("/v1/poll", 200, get("/v1/poll?channel=**&last_event_id=zzzz-1")),
        ("/v1/poll", 204, get("/v1/poll?channel=a&timeout=0")),
        ("/v1/channels", 200, get("/v1/channels?limit=1")),
        ("/v1/channels", 200, get("/v1/channels?after=zzz")),
        ("/v1/channels", 400, get("/v1/channels?limit=0")),
        ("/v1/channels", 421, misdirected),
        ("/v1/channels/{channel}", 200, get("/v1/channels/a")),
        ("/v1/channels/{channel}", 404, get("/v1/channels/none")),
        ("/v1/channels/{channel}", 404, request("DELETE", "/v1/channels/none", &[], "")),
        ("/v1/channels/{channel}", 410, request("DELETE", "/v1/channels/shut", &[], "")),
        ("/v1/connections", 200, get("/v1/connections?limit=1")),
        ("/v1/connections", 200, get("/v1/connections?state=closed")),
        ("/v1/connections", 400, get("/v1/connections?state=x")),
        ("/v1/connections/{id}", 200, get(&format!("/v1/connections/{ended}"))),
        ("/v1/connections/{id}", 404, get("/v1/connections/0")),
        ("/v1/status", 200, get("/v1/status")),
        ("/v1/samples", 200, get("/v1/samples")),
        ("/v1/samples", 400, get("/v1/samples?last=181")),
        ("/healthz", 200, get("/healthz")),
        ("/readyz", 200, get("/readyz")),
        ("/metrics", 200, get("/metrics")),
        ("/openapi.json", 200, get("/openapi.json")),
        ("/publish", 200, post("/publish", r#"{"message":"hello"}"#)),
        ("/publish", 400, post("/publish", "{}")),
        ("/subscribe", 200, get("/subscribe?after=0")),
        ("/subscribe", 200, get("/subscribe")),
        ("/", 200, get("/")),
    ] {
        let answer = ask(&hub, &request).await;
        assert_eq!(answer.status, status, "{request}\n{answer:?}");
        let method = request.split(' ').next().unwrap().to_lowercase();
        described(&document, path, &method, &answer);
    }
    for (path, target) in [
        (one, "/v1/channels/a/events"),
        ("/v1/events", "/v1/events?channel=a"),
        ("/events", "/events"),
    ] {
        let mut wire = Wire::to(&hub).await;
        wire.send(get(target)).await;
        described(&document, path, "get", &wire.stream_head().await.0);
    }
}

/// A stream that is no more; gives its id.
async fn one_that_ended(hub: &visnyk_loadtest::Hub) -> String {
    let mut wire = Wire::to(hub).await;
    wire.send(get("/v1/events?channel=a&hello=1")).await;
    wire.stream_head().await;
    let hello = wire.block().await;
    let id = hello.split('"').find(|part| part.parse::<u64>().is_ok()).unwrap().to_owned();
    drop(wire);
    crate::wire::nothing_is_left(hub).await;
    id
}

#[test]
fn what_does_not_conform_is_caught() {
    let document = document();
    let schema = json!({"$ref": "#/components/schemas/PublishAnswer"});
    let check = |value: Value| conforms(&document, &schema, &value, "$");
    assert_eq!(check(json!({"id": "a-1", "channel": "a"})), Ok(()));
    for bad in [
        json!(null),
        json!({"id": "a-1"}),
        json!({"id": "a-1", "channel": ""}),
        json!({"id": "a-1", "channel": 7}),
        json!({"id": "a 1", "channel": "a"}),
        json!({"id": "a-1", "channel": "a", "more": 1}),
    ] {
        assert!(check(bad.clone()).is_err(), "{bad}");
    }
    let unknown = json!({"type": "string", "surprise": 1});
    assert!(conforms(&document, &unknown, &json!("x"), "$").is_err());
}

/// Checks an answer against what is said of its operation.
fn described(document: &Value, path: &str, method: &str, answer: &Answer) {
    let at = format!("{method} {path} {}", answer.status);
    let responses = &document["paths"][path][method]["responses"];
    let response = resolve(document, &responses[answer.status.to_string()]);
    assert!(response.is_object(), "{at} is not described");
    for name in response["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
        // Only some answers have these, and their descriptions say which.
        let is_optional = ["idempotent-replayed", "connection"].contains(&&*name.to_lowercase());
        assert!(is_optional || answer.has(&name.to_lowercase()), "{at} has no {name}: {answer:?}");
    }
    let Some(content) = response["content"].as_object() else {
        assert!(answer.body.is_empty(), "{at} has a body: {answer:?}");
        return;
    };
    let sent = answer.field("content-type");
    let essence = sent.split(';').next().unwrap_or_default();
    let found =
        content.iter().find(|(media_type, _)| media_type.split(';').next() == Some(essence));
    let (_, media) = found.unwrap_or_else(|| panic!("{at} does not describe {sent:?}"));
    if essence.ends_with("json")
        && let Some(schema) = media.get("schema")
    {
        let verdict = conforms(document, schema, &answer.json(), "$");
        assert_eq!(verdict, Ok(()), "{at}: {}", answer.text());
    }
}

/// Whether a value is as a schema says: the part of JSON Schema 2020-12 that the document uses. A
/// keyword that is not known here is an error.
fn conforms(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    for (keyword, rule) in schema.as_object().ok_or(format!("{at}: no schema"))? {
        let holds = match keyword.as_str() {
            "$ref" => {
                let target = document.pointer(rule.as_str().unwrap().trim_start_matches('#'));
                conforms(document, target.ok_or("a dead reference")?, value, at)?;
                true
            }
            "type" => match rule {
                Value::Array(names) => names.iter().any(|name| is_of_type(value, name)),
                name => is_of_type(value, name),
            },
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "oneOf" => {
                let options = rule.as_array().unwrap().iter();
                options.filter(|o| conforms(document, o, value, at).is_ok()).count() == 1
            }
            "minimum" => value.as_f64().is_none_or(|value| value >= rule.as_f64().unwrap()),
            "maximum" => value.as_f64().is_none_or(|value| value <= rule.as_f64().unwrap()),
            "minLength" => length(value).is_none_or(|length| length >= rule.as_u64().unwrap()),
            "maxLength" => length(value).is_none_or(|length| length <= rule.as_u64().unwrap()),
            "minItems" => {
                value.as_array().is_none_or(|items| items.len() as u64 >= rule.as_u64().unwrap())
            }
            "pattern" => {
                let is_of =
                    |name: &str| document["components"]["schemas"][name]["pattern"] == *rule;
                value.as_str().is_none_or(|text| {
                    if is_of("ChannelName") {
                        return ChannelName::parse(text).is_ok();
                    }
                    if is_of("ChannelSelector") {
                        return ChannelSelector::parse(text).is_ok();
                    }
                    if is_of("EventType") {
                        return EventType::parse(text).is_ok();
                    }
                    assert_eq!(rule, "^[A-Za-z0-9._-]*$", "a pattern that this test does not know");
                    text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
                })
            }
            "format" => match rule.as_str() {
                Some("date-time") => value.as_str().is_none_or(|time| time.ends_with('Z')),
                Some("uri-reference") => value.as_str().is_none_or(|uri| !uri.contains(' ')),
                _ => return Err(format!("{at}: format {rule}")),
            },
            "required" => value.as_object().is_none_or(|object| {
                rule.as_array().unwrap().iter().all(|n| object.contains_key(n.as_str().unwrap()))
            }),
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(member) = value.get(name) {
                        conforms(document, schema, member, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = |name: &String| schema["properties"].get(name).is_some();
                match rule {
                    Value::Bool(true) => true,
                    Value::Bool(false) => {
                        value.as_object().is_none_or(|object| object.keys().all(known))
                    }
                    rule => return Err(format!("{at}: additionalProperties {rule}")),
                }
            }
            "items" => {
                for (n, item) in value.as_array().into_iter().flatten().enumerate() {
                    conforms(document, rule, item, &format!("{at}[{n}]"))?;
                }
                true
            }
            silent if SILENT.contains(&silent) => true,
            unknown => return Err(format!("{at}: keyword {unknown}")),
        };
        if !holds {
            return Err(format!("{at}: {value} against {keyword} {rule}"));
        }
    }
    Ok(())
}

fn is_of_type(value: &Value, name: &Value) -> bool {
    match name.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        other => panic!("type {other}"),
    }
}

fn length(value: &Value) -> Option<u64> {
    value.as_str().map(|text| text.chars().count() as u64)
}

fn resolve<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
        None => value,
    }
}

fn document() -> Value {
    serde_json::from_str(include_str!("../../src/http/openapi.json")).expect("JSON")
}
