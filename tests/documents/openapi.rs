//! The OpenAPI document against the table of routes, and against itself.

use std::collections::BTreeSet;

use serde_json::Value;
use visnyk::http::ROUTES;
use visnyk::server::Settings;

#[test]
fn every_route_is_described_and_nothing_else() {
    let document = document();
    let mut described = BTreeSet::new();
    for (path, item) in object(&document["paths"]) {
        for method in object(item).keys().filter(|key| *key != "parameters") {
            described.insert(format!("{} {path}", method.to_uppercase()));
        }
    }
    let mut routed = BTreeSet::new();
    for route in ROUTES {
        // HEAD is everywhere where GET is, and OPTIONS everywhere: the text says so.
        for method in route.allow.split(", ").filter(|m| !matches!(*m, "HEAD" | "OPTIONS")) {
            routed.insert(format!("{method} {}", route.path));
        }
    }
    assert_eq!(described, routed);
}

#[test]
fn it_is_openapi_3_1_of_this_version() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(document["info"]["license"]["identifier"], env!("CARGO_PKG_LICENSE"));
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    walk(&document, &mut |value| {
        if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
            let pointer = reference.strip_prefix('#').expect("references stay in the document");
            assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            used.insert(reference.to_owned());
        }
        // Security schemes are named and not referred to.
        for alternative in value.get("security").and_then(Value::as_array).into_iter().flatten() {
            for name in object(alternative).keys() {
                used.insert(format!("#/components/securitySchemes/{name}"));
            }
        }
    });
    for (kind, components) in object(&document["components"]) {
        for name in object(components).keys() {
            let reference = format!("#/components/{kind}/{name}");
            assert!(used.contains(&reference), "nothing refers to {reference}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own_and_answers() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, item) in object(&document["paths"]) {
        for (method, operation) in object(item).iter().filter(|(key, _)| *key != "parameters") {
            let name = operation["operationId"].as_str().expect("a name");
            assert!(names.insert(name.to_owned()), "{name} is there twice");
            assert!(operation["summary"].is_string(), "{method} {path}");
            let has_success = object(&operation["responses"]).keys().any(|s| s.starts_with('2'));
            assert!(has_success, "{method} {path}");
        }
    }
}

#[test]
fn stated_defaults_and_bounds_are_those_of_the_limits() {
    let document = document();
    let poll = Settings::default().limits.poll;
    let parameter = |name: &str| document["components"]["parameters"][name]["schema"].clone();
    assert_eq!(parameter("PollTimeout")["default"], poll.timeout_s);
    assert_eq!(parameter("PollTimeout")["maximum"], poll.timeout_max_s);
    assert_eq!(parameter("PollLimit")["default"], poll.limit);
    assert_eq!(parameter("PollLimit")["maximum"], poll.limit_max);
}

fn document() -> Value {
    serde_json::from_str(include_str!("../../src/http/openapi.json")).expect("JSON")
}

fn object(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().expect("an object")
}

fn walk(value: &Value, visit: &mut impl FnMut(&Value)) {
    visit(value);
    match value {
        Value::Object(members) => members.values().for_each(|member| walk(member, visit)),
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}
