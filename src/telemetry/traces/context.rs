//! The fields `traceparent` and `tracestate` of a request. Source: W3C Trace Context, Level 1.
//!
//! A `traceparent` that is malformed or occurs twice is ignored. A malformed `tracestate` is left
//! out, and the `traceparent` counts.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::ids::{SpanId, TraceId, hexadecimal};

/// What a request says about the trace that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TraceContext {
    pub(super) trace: TraceId,
    /// The span of the client that the request was made in.
    pub(super) parent: SpanId,
    /// Whether the client records its part of the trace.
    pub(super) is_sampled: bool,
    /// The `tracestate` of other tracing systems, unchanged.
    pub(super) state: Option<Arc<str>>,
}

impl TraceContext {
    /// The context of a request.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACEPARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let mut context = Self::parse(parent.as_bytes())?;
        context.state = state_of(headers);
        Some(context)
    }

    /// Parses a `traceparent` (section 3.2). One of a later version may be longer.
    fn parse(text: &[u8]) -> Option<Self> {
        let version = hexadecimal(text.get(..2)?, 2)?;
        let is_whole = match version {
            0 => text.len() == PARENT_BYTES,
            VERSION_FORBIDDEN => false,
            _ => text.len() == PARENT_BYTES || text.get(PARENT_BYTES) == Some(&b'-'),
        };
        if !is_whole || [2, 35, 52].iter().any(|&dash| text[dash] != b'-') {
            return None;
        }
        Some(Self {
            trace: TraceId::parse(&text[3..35])?,
            parent: SpanId::parse(&text[36..52])?,
            is_sampled: hexadecimal(&text[53..55], 2)? & SAMPLED != 0,
            state: None,
        })
    }
}

/// The members of all `tracestate` fields in their order (section 3.3), if they are sane.
fn state_of(headers: &HeaderMap) -> Option<Arc<str>> {
    let mut state = String::new();
    let mut keys: Vec<&str> = Vec::new();
    for field in headers.get_all(TRACESTATE) {
        for member in field.to_str().ok()?.split(',') {
            let member = member.trim_matches([' ', '\t']);
            if member.is_empty() {
                continue;
            }
            let (key, value) = member.split_once('=')?;
            if !is_key(key) || !is_value(value) || keys.contains(&key) {
                return None;
            }
            keys.push(key);
            if !state.is_empty() {
                state.push(',');
            }
            state += member;
            if keys.len() > MEMBERS_MAX || state.len() > STATE_BYTES_MAX {
                return None;
            }
        }
    }
    (!state.is_empty()).then(|| state.into())
}

/// `vendor`, or `tenant@system`.
fn is_key(key: &str) -> bool {
    let is_rest = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-*/".contains(c);
    let is_vendor = |text: &str, bytes_max: usize| {
        (1..=bytes_max).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.chars().all(is_rest)
    };
    match key.split_once('@') {
        None => is_vendor(key, 256),
        Some((tenant, system)) => {
            (1..=241).contains(&tenant.len())
                && tenant.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && tenant.chars().all(is_rest)
                && is_vendor(system, 14)
        }
    }
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|byte| matches!(byte, b' '..=b'~') && !b",=".contains(&byte))
}

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
/// Bytes of a `traceparent` of version 0.
const PARENT_BYTES: usize = 55;
const VERSION_FORBIDDEN: u128 = 0xff;
/// The flag of a client that records its spans.
const SAMPLED: u128 = 1;
const MEMBERS_MAX: usize = 32;
/// The bytes of a `tracestate` that vendors should pass on at least.
const STATE_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn of(fields: &[(&'static str, &str)]) -> Option<TraceContext> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).expect("a value"));
        }
        TraceContext::of(&headers)
    }

    #[test]
    fn a_traceparent_is_taken_only_if_it_is_whole_and_of_a_known_form() {
        let context = of(&[("traceparent", GOOD)]).expect("it is good");
        assert_eq!(context.trace.to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(context.parent.to_string(), "b7ad6b7169203331");
        assert!(context.is_sampled && context.state.is_none());
        let unsampled = GOOD.replace("-01", "-00");
        assert!(!of(&[("traceparent", &unsampled)]).expect("it is good").is_sampled);
        // Flags that are not known are ignored.
        assert!(of(&[("traceparent", &GOOD.replace("-01", "-ff"))]).expect("good").is_sampled);
        // A later version may say more.
        for later in [GOOD.replacen("00", "cc", 1), GOOD.replacen("00", "01", 1) + "-what-comes"] {
            assert_eq!(of(&[("traceparent", &later)]).expect("good").parent, context.parent);
        }
        for bad in [
            "",
            "garbage",
            "00",
            &GOOD[..54],
            &format!("{GOOD}-more"),
            &format!("{GOOD}0"),
            &format!("cc{}.more", &GOOD[2..]),
            &GOOD.replacen("00", "ff", 1),
            &GOOD.replacen("00", "0x", 1),
            &GOOD.to_uppercase(),
            &GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            &GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            &GOOD.replace("-b7", "_b7"),
            &GOOD.replace("0af", "g-f"),
            &GOOD.replace("-01", "-0g"),
            &GOOD.replace("-01", "-+1"),
        ] {
            assert_eq!(of(&[("traceparent", bad)]), None, "{bad}");
        }
        assert_eq!(of(&[("traceparent", GOOD), ("traceparent", GOOD)]), None, "it is there twice");
        assert_eq!(of(&[("tracestate", "a=1")]), None);
    }

    #[test]
    fn a_tracestate_is_taken_whole_or_not_at_all() {
        let state = |fields: &[&str]| {
            let mut all = vec![("traceparent", GOOD)];
            all.extend(fields.iter().map(|field| ("tracestate", *field)));
            of(&all).expect("the traceparent is good").state.map(|state| state.to_string())
        };
        let many = |members: usize| {
            let members: Vec<String> = (0..members).map(|n| format!("k{n}=v")).collect();
            members.join(",")
        };
        let long = |bytes: usize| format!("a={},b={}", "x".repeat(255), "x".repeat(bytes - 260));
        for (fields, expected) in [
            (vec!["rojo=1,congo=t61rcWkgMzE"], Some("rojo=1,congo=t61rcWkgMzE")),
            (vec!["a=1 , b=2", "c=3"], Some("a=1,b=2,c=3")),
            (vec![",a=1,,"], Some("a=1")),
            (vec!["fw529a3039@dt=FfIiIiIi"], Some("fw529a3039@dt=FfIiIiIi")),
            (vec![""], None),
            (vec!["a"], None),
            (vec!["A=1"], None),
            (vec!["1a=1"], None),
            (vec!["a=1,a=2"], None),
            (vec!["a=1", "b==2"], None),
            (vec!["a@=1"], None),
            (vec!["a="], None),
        ] {
            assert_eq!(state(&fields).as_deref(), expected, "{fields:?}");
        }
        assert!(state(&[&many(32)]).is_some() && state(&[&many(33)]).is_none());
        assert!(state(&[&long(512)]).is_some_and(|state| state.len() == 512));
        assert!(state(&[&long(513)]).is_none());
    }
}
