//! Parses and checks the parameters of requests, in query, path and header fields.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::http::{
    HeaderMap, HeaderValue, StatusCode, Uri,
    header::{self, GetAll},
};

use super::{Problem, handoff::LAST_EVENT_ID};
use crate::{
    core::{Limits, SlowPolicy, Subscription, SubscriptionError},
    model::{ChannelName, ChannelSelector, EventType, LastEvents, Start},
};

/// The query of a request, decoded.
#[derive(Debug)]
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Decodes the query. A value that is not UTF-8 is an error.
    pub(super) fn of(uri: &'a Uri) -> Result<Self, Problem> {
        let mut pairs = Vec::new();
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == PARAMETERS_MAX {
                let detail = format!("a query has at most {PARAMETERS_MAX} parameters");
                return Err(Problem::field("query", detail).limit_exceeded("too_many_parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            pairs.push((decode(name, "query")?, decode(value, name)?));
        }
        Ok(Self(pairs))
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// The value of a parameter that may occur once; a second one is an error.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::field(name, format!("`{name}` may be given once")));
        }
        Ok(first)
    }

    /// The last value of parameters that are synonyms; empty ones are ignored.
    fn last_of(&self, names: &[&str]) -> Option<&str> {
        let mut pairs = self.0.iter().rev();
        let found = pairs.find(|(name, value)| names.contains(&&**name) && !value.is_empty());
        found.map(|(_, value)| &**value)
    }

    /// Rejects a parameter that looks like a misspelled one of `known`: with a misspelled `type` an
    /// event would have no type, and reach all subscribers. Other unknown parameters are ignored,
    /// since gateways add them.
    pub(super) fn refuse_near_misses(&self, known: &[&str]) -> Result<(), Problem> {
        match self.near_miss(known) {
            Some((name, near)) => Err(Problem::field(name, near_miss_text(name, near))),
            None => Ok(()),
        }
    }

    /// The comment of a stream about a parameter that looks like a misspelled one of `known`. The request
    /// is not rejected: after a 4xx a browser does not reconnect, and the parameter may be a gateway's.
    pub(super) fn near_miss_comment(&self, known: &[&str]) -> Option<Arc<str>> {
        let (name, near) = self.near_miss(known)?;
        Some(near_miss_text(&name.escape_debug().to_string(), near).into())
    }

    /// The first parameter that looks like a misspelled one of `known`, and the one that is meant.
    fn near_miss<'k>(&self, known: &[&'k str]) -> Option<(&str, &'k str)> {
        self.0.iter().find_map(|(name, _)| {
            if name.len() > NEAR_BYTES_MAX || known.contains(&&**name) {
                return None;
            }
            let lower = name.to_ascii_lowercase();
            let is_near = |known: &&str| {
                // `last-event-id` differs from `last_event_id` in two characters.
                let distance_max = if known.len() < LONG_BYTES_MIN { 1 } else { 2 };
                strsim::osa_distance(&lower, &known.to_ascii_lowercase()) <= distance_max
            };
            known.iter().copied().find(is_near).map(|near| (&**name, near))
        })
    }

    /// A whole number between two bounds.
    pub(super) fn number(&self, name: &str, min: u32, max: u32) -> Result<Option<u32>, Problem> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        let number = text.parse::<u32>().ok().filter(|_| digits);
        if let Some(number) = number.filter(|number| (min..=max).contains(number)) {
            return Ok(Some(number));
        }
        let detail = format!("`{name}` must be a whole number from {min} to {max}");
        let problem = Problem::field(name, detail);
        let is_past = number.is_some_and(|number| number > max);
        Err(if is_past { problem.limit_exceeded("over_maximum") } else { problem })
    }

    /// The channels, patterns and types that a subscription names.
    pub(super) fn subscription(&self, limits: &Limits) -> Result<Subscription, Problem> {
        let mut selectors = Vec::new();
        for text in self.all("channel") {
            let selector = ChannelSelector::parse(text);
            selectors.push(selector.map_err(|e| Problem::field("channel", e.to_string()))?);
        }
        self.subscription_to(selectors, limits)
    }

    /// As [`subscription`](Self::subscription), with the channel or pattern in the path.
    pub(super) fn subscription_in_path(
        &self,
        part: &str,
        limits: &Limits,
    ) -> Result<Subscription, Problem> {
        let selector = ChannelSelector::parse(&path_parameter(part, "channel")?)
            .map_err(|error| Problem::field("channel", error.to_string()))?;
        self.subscription_to(vec![selector], limits)
    }

    /// As [`subscription`](Self::subscription), with the channels given elsewhere.
    fn subscription_to(
        &self,
        selectors: Vec<ChannelSelector>,
        limits: &Limits,
    ) -> Result<Subscription, Problem> {
        let mut types = Vec::new();
        for text in self.all("type") {
            let parsed = EventType::parse(text);
            types.push(parsed.map_err(|e| Problem::field("type", e.to_string()))?);
        }
        let max = limits.connections.subscriptions_max.into();
        Subscription::new(selectors, types, max).map_err(|error| {
            let (field, bound) = match error {
                SubscriptionError::TooManyTypes { .. } => ("type", Some("too_many_subscriptions")),
                SubscriptionError::TooMany { .. } => ("channel", Some("too_many_subscriptions")),
                SubscriptionError::TooIntricate => ("channel", Some("too_intricate")),
                _ => ("channel", None),
            };
            let problem = Problem::field(field, error.to_string());
            match bound {
                Some(bound) => problem.limit_exceeded(bound),
                None => problem,
            }
        })
    }

    /// Where a subscription starts: the first of `Last-Event-ID`, `lastEventId` (or `lastEventID`) and
    /// `last_event_id` in the query, and a poll's `If-None-Match`. Without any of these it starts as
    /// many events back as `last` says, or now.
    ///
    /// A value that a client library sends by itself when it reconnects is never rejected: a page
    /// cannot change it, and a browser does not reconnect after a 4xx. `last_event_id` and `last` are
    /// written by the author of a page, so an invalid one is an error.
    pub(super) fn start(&self, headers: &HeaderMap, is_poll: bool) -> Result<Start, Problem> {
        // `last` is checked even if there is a position, which replaces it.
        let last = self.number("last", 1, LastEvents::MAX)?.and_then(LastEvents::new);
        if let Some(start) = last_valid_position(headers.get_all(LAST_EVENT_ID), |text| text) {
            return Ok(start);
        }
        if let Some(text) = self.last_of(&["lastEventId", "lastEventID"]) {
            return Ok(Start::parse_any(text));
        }
        if let Some(text) = self.last_of(&["last_event_id"]) {
            return parse_start("last_event_id", text);
        }
        if is_poll
            && let Some(start) =
                last_valid_position(headers.get_all(header::IF_NONE_MATCH), opaque_tag)
        {
            return Ok(start);
        }
        Ok(last.map_or(Start::Now, Start::Last))
    }

    /// How long a poll waits for events.
    pub(super) fn wait(&self, limits: &Limits) -> Result<Duration, Problem> {
        let poll = &limits.poll;
        let seconds = self.number("timeout", 0, poll.timeout_max_s)?.unwrap_or(poll.timeout_s);
        Ok(Duration::from_secs(seconds.into()))
    }

    /// The policy for a stream that lags.
    pub(super) fn slow_policy(&self) -> Result<Option<SlowPolicy>, Problem> {
        match self.one("slow")? {
            None => Ok(None),
            Some("disconnect") => Ok(Some(SlowPolicy::Disconnect)),
            Some("skip") => Ok(Some(SlowPolicy::Skip)),
            Some(_) => Err(Problem::field("slow", "`slow` is `disconnect` or `skip`")),
        }
    }

    /// Whether a parameter is `1`; it may also be `0` or absent.
    pub(super) fn switch(&self, name: &str) -> Result<bool, Problem> {
        match self.one(name)? {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(Problem::field(name, format!("`{name}` is `0` or `1`"))),
        }
    }
}

fn near_miss_text(name: &str, near: &str) -> String {
    format!("there is no parameter `{name}`: did you mean `{near}`?")
}

/// A channel name from a path or query.
pub(super) fn channel_name(field: &str, text: &str) -> Result<ChannelName, Problem> {
    ChannelName::parse(text).map_err(|error| Problem::field(field, error.to_string()))
}

/// The parameter of a path, percent-decoded.
pub(super) fn path_parameter<'a>(part: &'a str, field: &str) -> Result<Cow<'a, str>, Problem> {
    let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
    decoded.map_err(|_| Problem::field(field, format!("`{field}` in the path must be UTF-8")))
}

/// The channel that a path names.
pub(super) fn channel_in_path(part: &str) -> Result<ChannelName, Problem> {
    channel_name("channel", &path_parameter(part, "channel")?)
}

/// The idempotency key, if there is one.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    match value.to_str() {
        Ok(key) if !key.is_empty() && key.len() <= KEY_BYTES_MAX => Ok(Some(key)),
        _ => Err(Problem::field(
            "Idempotency-Key",
            format!("an idempotency key is 1 to {KEY_BYTES_MAX} visible ASCII characters"),
        )),
    }
}

/// Rejects a body on routes that hand off the socket: its bytes might arrive after the hand-off, and
/// would be parsed as the next request.
pub(super) fn refuse_body(has_body: bool) -> Result<(), Problem> {
    if has_body {
        let detail = "this request must not have a body";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail).with("field", "body").closing());
    }
    Ok(())
}

/// The position in the header fields of one name. Clients and proxies may send several positions, in
/// one field as a list or in several fields; the last valid one counts. If none is valid, the last
/// field that is not empty is an unknown position. `unquote` removes what encloses a position in a
/// list entry: an entity tag has quotes, `Last-Event-ID` has nothing.
fn last_valid_position(
    fields: GetAll<'_, HeaderValue>,
    unquote: fn(&str) -> &str,
) -> Option<Start> {
    let mut unknown_start = None;
    for field in fields.iter().rev() {
        let text = String::from_utf8_lossy(field.as_bytes());
        let entries = text.rsplit(',').take(POSITIONS_MAX).map(|entry| unquote(entry.trim()));
        for entry in entries.filter(|entry| !entry.is_empty()) {
            match Start::parse(entry) {
                Ok(Start::Unknown(_)) | Err(_) => {}
                // In a list `now` and `earliest` are ordinary words of some other text.
                Ok(Start::Now | Start::Earliest) if text.contains(',') => {}
                Ok(start) => return Some(start),
            }
            unknown_start.get_or_insert_with(|| Start::parse_any(text.trim()));
        }
    }
    unknown_start
}

/// The content of an entity tag (RFC 9110, section 8.8.3), without the suffix that a compressing proxy
/// adds, such as `-gzip` or `;br`. The suffix begins after the digits with which a position ends.
fn opaque_tag(text: &str) -> &str {
    let text = text.strip_prefix("W/").unwrap_or(text);
    let tag = text.strip_prefix('"').unwrap_or(text);
    if let Some((epoch, rest)) = tag.split_once('-') {
        let added = rest.trim_start_matches(|char: char| char.is_ascii_digit());
        if !added.starts_with(|char: char| char.is_ascii_alphanumeric()) {
            return &tag[..epoch.len() + 1 + rest.len() - added.len()];
        }
    }
    tag.strip_suffix('"').unwrap_or(text)
}

fn parse_start(field: &str, text: &str) -> Result<Start, Problem> {
    Start::parse(text).map_err(|error| Problem::field(field, error.to_string()))
}

/// Decodes a part of a query: `+` is a space, and all else is percent-encoded UTF-8.
pub(super) fn decode<'a>(text: &'a str, field: &str) -> Result<Cow<'a, str>, Problem> {
    let spaced: Cow<'a, str> =
        if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    let refuse = |_| Problem::field(field, format!("`{field}` must be percent-encoded UTF-8"));
    match spaced {
        Cow::Borrowed(text) => {
            percent_encoding::percent_decode_str(text).decode_utf8().map_err(refuse)
        }
        Cow::Owned(text) => percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .map(|text| Cow::Owned(text.into_owned()))
            .map_err(refuse),
    }
}

/// Most parameters of one query: as many channels and as many types as `connections.subscriptions_max` can be,
/// and others.
const PARAMETERS_MAX: usize = 4_096;
/// Longest parameter name that is compared with known names.
const NEAR_BYTES_MAX: usize = 16;
/// Bytes from which on two characters of a known name may be misspelled, and not only one.
const LONG_BYTES_MIN: usize = 9;
/// Parameters of a stream's query that give its start or its token.
pub(super) const STREAM_PARAMETERS: [&str; 5] =
    ["last", "last_event_id", "lastEventId", "lastEventID", "token"];
/// Most entries of one field that are parsed.
const POSITIONS_MAX: usize = 16;
/// Longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn start_of(fields: &[(&'static str, &[u8])], query: &str) -> Result<Start, Problem> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            let value = HeaderValue::from_bytes(value).expect("a value");
            headers.append(*name, value);
        }
        let uri: Uri = format!("/?{query}").parse().expect("a target");
        Query::of(&uri).expect("a query").start(&headers, true)
    }

    fn at(token: &str) -> Start {
        let start = Start::parse(token).expect("a token");
        assert!(matches!(start, Start::At(_)), "{token}");
        start
    }

    #[test]
    fn whatever_a_header_says_it_is_a_position_or_an_unknown_one() {
        for name in ["last-event-id", "if-none-match"] {
            let long = "x".repeat(30_000);
            for foreign in [
                "urn:uuid:5e94c686-2c0b-4f9b-958c-92ccc3bbb4eb",
                "5e94c686-2d9",
                "\u{456}\u{434}",
                "a b",
                "now, later",
                "\"",
                "*",
                &long,
                &",1".repeat(10_000),
            ] {
                let start = start_of(&[(name, foreign.as_bytes())], "").ok();
                assert_eq!(start, Some(Start::parse_any(foreign)), "{name}");
                assert!(matches!(start, Some(Start::Unknown(_))), "{name}: {foreign}");
            }
            let start = start_of(&[(name, b"\xff\t\x80")], "").ok();
            assert_eq!(start, Some(Start::Unknown("\u{fffd}\t\u{fffd}".into())), "{name}");
            for (value, start) in [
                ("", Start::Now),
                (" ", Start::Now),
                (",,", Start::Now),
                ("earliest", Start::Earliest),
                ("a-1, b-2", at("b-2")),
                ("a-1,urn:uuid,", at("a-1")),
            ] {
                assert_eq!(start_of(&[(name, value.as_bytes())], "").ok(), Some(start), "{value}");
            }
            let start = start_of(&[(name, b"a-1"), (name, b"b-2"), (name, b"")], "").ok();
            assert_eq!(start, Some(at("b-2")), "{name}");
            let start = start_of(&[(name, b"a-1"), (name, b"foreign")], "").ok();
            assert_eq!(start, Some(at("a-1")), "{name}");
        }
    }

    #[test]
    fn an_entity_tag_is_read_without_what_proxies_have_added() {
        for tag in [
            "a-1",
            "\"a-1\"",
            "W/\"a-1\"",
            "W/\"a-1-gzip\"",
            "\"a-1-gzip\"",
            "\"a-1--gzip\"",
            "\"a-1;gzip\"",
            "\"a-1-br\"",
            "\"a-1:dtagent\"",
            "\"a-1\"-gzip",
            "W/\"a-1",
            "W/\"x\", W/\"a-1-gzip\"",
            "\"b-2\", \"a-1\"",
        ] {
            assert_eq!(
                start_of(&[("if-none-match", tag.as_bytes())], "").ok(),
                Some(at("a-1")),
                "{tag}"
            );
        }
        for (tag, start) in [
            ("\"\"", Start::Now),
            ("W/\"\"", Start::Now),
            ("W/\"now\"", Start::Now),
            ("\"a-1x\"", Start::Unknown("\"a-1x\"".into())),
            ("\"a-\"", Start::Unknown("\"a-\"".into())),
        ] {
            assert_eq!(
                start_of(&[("if-none-match", tag.as_bytes())], "").ok(),
                Some(start),
                "{tag}"
            );
        }
        let decorated = start_of(&[("last-event-id", b"a-1-gzip")], "").ok();
        assert_eq!(decorated, Some(Start::Unknown("a-1-gzip".into())), "no proxy changes an id");
    }

    #[test]
    fn near_misses_are_named_and_others_are_not() {
        let known = [&STREAM_PARAMETERS[..], &["channel", "type", "hello"]].concat();
        let near = |query: &str| {
            let uri: Uri = format!("/?{query}").parse().expect("a target");
            Query::of(&uri).expect("a query").near_miss_comment(&known)
        };
        for (query, name, meant) in [
            ("typ=a", "typ", "type"),
            ("Type=a", "Type", "type"),
            ("utm=1&chanel=a&typ=b", "chanel", "channel"),
            ("last-event-id=a-1", "last-event-id", "last_event_id"),
            ("LASTEVENTID=a-1", "LASTEVENTID", "last_event_id"),
            ("lst=1", "lst", "last"),
            ("type%0A=1", "type\\n", "type"),
        ] {
            let said = format!("there is no parameter `{name}`: did you mean `{meant}`?");
            assert_eq!(near(query).as_deref(), Some(&*said), "{query}");
        }
        let long = format!("{}=1", "last_event_id".repeat(9));
        for query in ["", "type=a&last=1&token=x&lastEventId=a-1", "utm_source=a&x=&_=17", &long] {
            assert_eq!(near(query), None, "{query}");
        }
    }

    #[test]
    fn any_position_beats_how_many_events_back() {
        let back = |count| Start::Last(LastEvents::new(count).expect("within its bounds"));
        for (fields, query, start) in [
            (&[][..], "last=1", back(1)),
            (&[], "last=1000&last_event_id=", back(1_000)),
            (&[], "last=5&last_event_id=a-1", at("a-1")),
            (&[], "last=5&last_event_id=earliest", Start::Earliest),
            (&[], "last=5&lastEventId=a-1", at("a-1")),
            (&[("last-event-id", &b"a-1"[..])], "last=5", at("a-1")),
            (&[("last-event-id", b"urn:uuid")], "last=5", Start::Unknown("urn:uuid".into())),
            (&[("if-none-match", b"W/\"a-1\"")], "last=5", at("a-1")),
        ] {
            assert_eq!(start_of(fields, query).ok(), Some(start), "{query}");
        }
        for bad in ["", "0", "1001", "-1", "+1", "1.0", "ten", "99999999999", "1&last=2"] {
            let query = format!("last={bad}");
            assert!(start_of(&[], &query).is_err(), "{query}");
            assert!(start_of(&[("last-event-id", b"a-1")], &query).is_err(), "{query}");
        }
    }

    #[test]
    fn of_several_positions_the_one_a_reconnecting_client_adds_wins() {
        let (id, tag) = (("last-event-id", &b"a-1"[..]), ("if-none-match", &b"a-2"[..]));
        for (fields, query, start) in [
            (&[id, tag][..], "lastEventId=a-3", at("a-1")),
            (&[tag], "lastEventId=a-3&last_event_id=a-4", at("a-3")),
            (&[tag], "lastEventID=a-3&last_event_id=earliest", at("a-3")),
            (&[tag], "last_event_id=earliest&lastEventId=a-3", at("a-3")),
            (&[tag], "last_event_id=&lastEventId=a-3", at("a-3")),
            (&[tag], "last_event_id=a-3&lastEventId=", at("a-3")),
            (&[tag], "lastEventId=a-4&lastEventID=a-3", at("a-3")),
            (&[tag], "lastEventId=a-4&lastEventId=a-3&lastEventId=", at("a-3")),
            (&[tag], "last_event_id=a-4&last_event_id=a-3", at("a-3")),
            (&[tag], "last_event_id=&lastEventId=", at("a-2")),
            (&[], "last_event_id=earliest", Start::Earliest),
            (&[], "lastEventId=a%20b", Start::Unknown("a b".into())),
            (&[], "", Start::Now),
        ] {
            assert_eq!(start_of(fields, query).ok(), Some(start), "{query}");
        }
        assert!(start_of(&[], "last_event_id=a%20b").is_err(), "the page's author wrote that");
    }
}
