//! Where a subscription starts: the position in the header fields or the query of its request.

use axum::http::{
    HeaderMap, HeaderValue,
    header::{self, GetAll},
};

use super::{Problem, handoff::LAST_EVENT_ID, params::Query};
use crate::model::{LastEvents, Start};

impl Query<'_> {
    /// Where a subscription starts: the first of `Last-Event-ID`, `lastEventId` (or `lastEventID`)
    /// and `last_event_id` in the query, and a poll's `If-None-Match`. Without any of these it
    /// starts as many events back as `last` says, or now.
    ///
    /// A value that a client library sends by itself when it reconnects is never rejected: a page
    /// cannot change it, and a browser does not reconnect after a 4xx. `last_event_id` and `last`
    /// are written by the author of a page, so an invalid one is an error.
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

    /// The last value of parameters that are synonyms; empty ones are ignored.
    fn last_of(&self, names: &[&str]) -> Option<&str> {
        let mut pairs = self.pairs.iter().rev();
        let found = pairs.find(|(name, value)| names.contains(&&**name) && !value.is_empty());
        found.map(|(_, value)| &**value)
    }
}

/// The position in the header fields of one name. Clients and proxies may send several positions,
/// in one field as a list or in several fields; the last valid one counts. If none is valid, the
/// last field that is not empty is an unknown position. `unquote` removes what encloses a position
/// in a list entry: an entity tag has quotes, `Last-Event-ID` has nothing.
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

/// The content of an entity tag (RFC 9110, section 8.8.3), without the suffix that a compressing
/// proxy adds, such as `-gzip` or `;br`. The suffix begins after the digits with which a position
/// ends.
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

/// Most entries of one field that are parsed.
const POSITIONS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use axum::http::Uri;

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
