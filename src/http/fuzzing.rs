//! Fuzz targets of requests before the hub sees them: queries, paths, fields, batches.

use std::collections::BTreeMap;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Uri},
};
use serde_json::{Value, value::RawValue};

use super::{
    Access, OriginPattern, TrustedProxies,
    credentials::Credential,
    params::{Query, channel_in_path, idempotency_key},
    v1::envelope::parse_batch,
};
use crate::{
    core::Limits,
    model::{ChannelName, Start},
};

/// A request target, and then header fields, a line each.
pub(crate) fn requests(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let target = lines.next().unwrap_or_default();
    let mut headers = HeaderMap::new();
    for line in lines.take(16) {
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    let Ok(uri) = Uri::try_from(target) else { return };
    no_token_is_left(&uri, &headers);
    let limits = Limits::default();
    if let Ok(key) = idempotency_key(&headers) {
        assert!(key.is_none_or(|key| (1..=255).contains(&key.len())));
    }
    for part in uri.path().split('/') {
        if let Ok(name) = channel_in_path(part) {
            let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
            assert_eq!(decoded.ok().as_deref(), Some(name.as_str()));
        }
    }
    let Ok(query) = Query::of(&uri) else { return };
    // A second reader, which repairs what is not UTF-8 in the same way.
    let second: Vec<(String, String)> =
        serde_urlencoded::from_str(uri.query().unwrap_or_default()).expect("any query");
    for name in ["channel", "type", "last_event_id", "timeout", "token", "slow"] {
        let values = second.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert!(query.all(name).eq(values.clone()), "{name} of {uri}");
        if let Ok(one) = query.one(name) {
            assert!(values.clone().count() <= 1 && one == values.clone().next());
        }
    }
    if let Ok(wait) = query.wait(&limits) {
        assert!(wait.as_secs() <= limits.poll.timeout_max_s.into());
    }
    if let Ok(subscription) = query.subscription(None, &limits) {
        let wanted = second.iter().filter(|(key, _)| key == "channel").count();
        assert!(wanted > 0, "{uri}: {subscription:?}");
    }
    let _ = (query.slow_policy(), query.switch("hello"));
    // Only what a page's author writes is refused.
    let is_written = query.all("last_event_id").any(|value| !value.is_empty())
        || query.all("last").next().is_some();
    for is_poll in [false, true] {
        match query.start(&headers, is_poll) {
            Ok(Start::Unknown(text)) => assert!(text.len() <= Start::UNKNOWN_BYTES_MAX),
            Ok(_) => {}
            Err(_) => assert!(is_written, "{uri} {headers:?}"),
        }
    }
}

/// Whatever else a request carries, and whether its token is taken or refused.
fn no_token_is_left(uri: &Uri, headers: &HeaderMap) {
    let access =
        Access { query_token: true, cookie: Some("session".to_owned()), ..Access::default() };
    for takes_query in [false, true] {
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = headers.clone();
        let _ = Credential::take(&mut request, &access, takes_query);
        let left: Vec<(String, String)> =
            serde_urlencoded::from_str(request.uri().query().unwrap_or_default())
                .expect("any query");
        assert!(left.iter().all(|(name, _)| name != "token"), "{uri} has {left:?} left");
        assert_eq!(request.uri().path(), uri.path());
    }
}

/// A batch, to a channel or to the channels of its lines: what is taken of it means what a second
/// reader of its JSON says.
pub(crate) fn envelopes(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let in_path = ChannelName::parse("in/path").expect("a name");
    let by_path = parse_batch(text, Some(&in_path), None, EVENTS_MAX);
    let by_line = parse_batch(text, None, None, EVENTS_MAX);
    // A byte order mark is passed over.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    for (is_by_line, events) in [(false, by_path), (true, by_line)] {
        let Ok(events) = events else { continue };
        assert!(events.len() <= EVENTS_MAX && events.len() == lines.len());
        for ((channel, event), line) in events.iter().zip(&lines) {
            let envelope: BTreeMap<String, Box<RawValue>> =
                serde_json::from_str(line).expect("JSON");
            let member = |name: &str| -> Value {
                let raw = envelope.get(name);
                raw.map_or(Value::Null, |raw| serde_json::from_str(raw.get()).expect("JSON"))
            };
            // A number may not fit any type here; it is passed on as it is.
            match serde_json::from_str(envelope["data"].get()) {
                Ok(Value::String(data)) => assert_eq!(event.data, data),
                Ok(other) => {
                    let carried: Value = serde_json::from_str(&event.data).expect("JSON");
                    assert_eq!(carried, other);
                    assert!(!event.data.contains(['\n', '\r']), "{line}");
                }
                Err(_) => {
                    serde_json::from_str::<&RawValue>(&event.data).expect("JSON");
                }
            }
            assert_eq!(
                member("type").as_str(),
                event.event_type.as_ref().map(|event_type| event_type.as_str())
            );
            assert_eq!(member("retry").as_u64(), event.retry_ms.map(u64::from));
            let named = member("channel");
            assert_eq!(named.is_string(), is_by_line);
            assert_eq!(channel.as_str(), named.as_str().unwrap_or("in/path"));
        }
    }
}

/// `X-Forwarded-For`, a line each: whatever a client writes into it, what the proxy that is
/// believed appends is what counts.
pub(crate) fn forwarded(data: &[u8]) {
    let blocks = ["10.0.0.0/8", "fd00::/8"].map(|block| block.parse().expect("a block"));
    let proxies = TrustedProxies::new(&blocks);
    let client_of = |peer: &str, fields: &[&[u8]]| {
        let mut headers = HeaderMap::new();
        for field in fields {
            if let Ok(value) = HeaderValue::from_bytes(field.trim_ascii()) {
                headers.append("x-forwarded-for", value);
            }
        }
        proxies.client(peer.parse().expect("an address"), &headers)
    };
    let lines: Vec<&[u8]> = data.split(|&byte| byte == b'\n').take(8).collect();
    // The field is ignored if the peer is not a proxy.
    let stranger = client_of("192.0.2.1:5", &lines);
    assert!(!stranger.is_forwarded() && stranger.ip().to_string() == "192.0.2.1");
    // In a field of its own, and behind what the client wrote.
    for (seen, counts) in [("203.0.113.9", "203.0.113.9"), ("[2001:db8::7]:80", "2001:db8::7")] {
        let mut with_own = lines.clone();
        with_own.push(seen.as_bytes());
        let behind: Vec<u8> = [data, b", ", seen.as_bytes()].concat();
        let behind: Vec<u8> = behind.into_iter().filter(|byte| *byte != b'\n').collect();
        for fields in [&with_own[..], &[&behind[..]]] {
            if fields.iter().all(|field| HeaderValue::from_bytes(field.trim_ascii()).is_ok()) {
                let client = client_of("10.0.0.1:5", fields);
                assert!(client.is_forwarded());
                assert_eq!(client.ip().to_string(), counts);
                // A proxy in front of that one adds itself.
                let mut fields = fields.to_vec();
                fields.push(b"10.9.9.9");
                assert_eq!(client_of("[fd00::1]:5", &fields).ip().to_string(), counts);
            }
        }
    }
    let _ = client_of("10.0.0.1:5", &lines);
}

/// A pattern of origins, and origins, a line each: what is let in is the pattern itself, or has its
/// scheme and its end, with labels of a name between them and nothing else.
pub(crate) fn origins(data: &[u8]) {
    let mut lines = data.split(|&byte| byte == b'\n');
    let Ok(text) = std::str::from_utf8(lines.next().unwrap_or_default()) else { return };
    let Ok(pattern) = OriginPattern::parse(text) else { return };
    assert_eq!(pattern.is_any(), text == "*");
    for origin in lines.take(16) {
        let expected = match (text, text.split_once("*.")) {
            ("*", _) => true,
            (_, None) => origin == text.as_bytes(),
            (_, Some((scheme, domain))) => {
                let labels = std::str::from_utf8(origin)
                    .ok()
                    .and_then(|origin| origin.strip_prefix(scheme)?.strip_suffix(domain))
                    .and_then(|labels| labels.strip_suffix('.'));
                let is_good =
                    |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c);
                labels.is_some_and(|labels| {
                    labels.split('.').all(|label| !label.is_empty() && label.chars().all(is_good))
                })
            }
        };
        assert_eq!(pattern.matches(origin), expected, "{text}: {}", origin.escape_ascii());
        if expected && !pattern.is_any() {
            // What a browser makes of it is a page below that domain, of that scheme.
            let origin = std::str::from_utf8(origin).expect("it matched a text");
            let (scheme, host) = origin.split_once("://").expect("an origin");
            assert!(text.starts_with(scheme) && !host.contains(['/', '@', '?', '#', '\\', ' ']));
        }
    }
}

const EVENTS_MAX: usize = 8;
