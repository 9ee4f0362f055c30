//! Parses and checks the parameters of requests, in query, path and header fields.

use std::{borrow::Cow, sync::Arc, time::Duration};

use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};

use super::Problem;
use crate::{
    core::{Limits, SlowPolicy, Subscription, SubscriptionError},
    model::{ChannelName, ChannelSelector, EventType},
};

/// The query of a request, decoded.
#[derive(Debug)]
pub(super) struct Query<'a> {
    /// With U+FFFD in place of what is not UTF-8.
    pub(super) pairs: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    /// Names of parameters with a value that is not UTF-8. It is an error only if the value is
    /// read: gateways and links add parameters of their own.
    malformed: Vec<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    /// Decodes the query.
    pub(super) fn of(uri: &'a Uri) -> Result<Self, Problem> {
        let (mut pairs, mut malformed) = (Vec::new(), Vec::new());
        for pair in uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            if pairs.len() == PARAMETERS_MAX {
                let detail = format!("a query has at most {PARAMETERS_MAX} parameters");
                return Err(Problem::field("query", detail).limit_exceeded("too_many_parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let ((name, _), (value, is_utf8)) = (decode_lossy(name), decode_lossy(value));
            if !is_utf8 {
                malformed.push(name.clone());
            }
            pairs.push((name, value));
        }
        Ok(Self { pairs, malformed })
    }

    fn refuse_malformed(&self, name: &str) -> Result<(), Problem> {
        if self.malformed.iter().any(|malformed| malformed == name) {
            return Err(not_utf8(name));
        }
        Ok(())
    }

    /// All values of a parameter.
    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| &**value)
    }

    /// The value of a parameter that may occur once; a second one is an error.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        self.refuse_malformed(name)?;
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::field(name, format!("`{name}` may be given once")));
        }
        Ok(first)
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

    /// The comment of a stream about a parameter that looks like a misspelled one of `known`. The
    /// request is not rejected: after a 4xx a browser does not reconnect, and the parameter may be
    /// a gateway's.
    pub(super) fn near_miss_comment(&self, known: &[&str]) -> Option<Arc<str>> {
        let (name, near) = self.near_miss(known)?;
        Some(near_miss_text(&name.escape_debug().to_string(), near).into())
    }

    /// The first parameter that looks like a misspelled one of `known`, and the one that is meant.
    fn near_miss<'k>(&self, known: &[&'k str]) -> Option<(&str, &'k str)> {
        self.pairs.iter().find_map(|(name, _)| {
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

    /// The channels, patterns and types of a subscription. `in_path` is the channel or pattern in
    /// the path, on a route that has one; on others the query names them.
    pub(super) fn subscription(
        &self,
        in_path: Option<&str>,
        limits: &Limits,
    ) -> Result<Subscription, Problem> {
        let parse = |text: &str| {
            ChannelSelector::parse(text).map_err(|e| Problem::field("channel", e.to_string()))
        };
        let selectors = match in_path {
            Some(part) => vec![parse(&path_parameter(part, "channel")?)?],
            None => {
                self.refuse_malformed("channel")?;
                self.all("channel").map(parse).collect::<Result<_, _>>()?
            }
        };
        self.refuse_malformed("type")?;
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

/// The idempotency key, if there is one. With two it would be chance which of them counts.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    match (value.to_str(), values.next()) {
        (Ok(key), None) if (1..=KEY_BYTES_MAX).contains(&key.len()) => Ok(Some(key)),
        _ => Err(Problem::field(
            "Idempotency-Key",
            format!(
                "an idempotency key is one field of 1 to {KEY_BYTES_MAX} visible ASCII characters"
            ),
        )),
    }
}

/// Rejects a body on routes that hand off the socket: its bytes might arrive after the hand-off,
/// and would be parsed as the next request.
pub(super) fn refuse_body(has_body: bool) -> Result<(), Problem> {
    if has_body {
        let detail = "this request must not have a body";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail).with("field", "body").closing());
    }
    Ok(())
}

/// Decodes a part of a query: `+` is a space, and all else is percent-encoded UTF-8.
pub(super) fn decode<'a>(text: &'a str, field: &str) -> Result<Cow<'a, str>, Problem> {
    match decode_lossy(text) {
        (text, true) => Ok(text),
        (_, false) => Err(not_utf8(field)),
    }
}

/// The same, with U+FFFD in place of what is not UTF-8, and whether all of it is.
fn decode_lossy(text: &str) -> (Cow<'_, str>, bool) {
    let bytes: Cow<'_, [u8]> = if text.contains('+') {
        let spaced = text.replace('+', " ");
        Cow::Owned(percent_encoding::percent_decode_str(&spaced).collect())
    } else {
        percent_encoding::percent_decode_str(text).into()
    };
    match bytes {
        Cow::Borrowed(bytes) => {
            let text = String::from_utf8_lossy(bytes);
            let is_utf8 = matches!(text, Cow::Borrowed(_));
            (text, is_utf8)
        }
        Cow::Owned(bytes) => match String::from_utf8(bytes) {
            Ok(text) => (text.into(), true),
            Err(error) => (String::from_utf8_lossy(error.as_bytes()).into_owned().into(), false),
        },
    }
}

fn not_utf8(field: &str) -> Problem {
    Problem::field(field, format!("`{field}` must be percent-encoded UTF-8"))
}

/// Most parameters of one query: as many channels and as many types as
/// `connections.subscriptions_max` can be, and others.
const PARAMETERS_MAX: usize = 4_096;
/// Longest parameter name that is compared with known names.
const NEAR_BYTES_MAX: usize = 16;
/// Bytes from which on two characters of a known name may be misspelled, and not only one.
const LONG_BYTES_MIN: usize = 9;
/// Parameters of a stream's query that give its start or its token.
pub(super) const STREAM_PARAMETERS: [&str; 5] =
    ["last", "last_event_id", "lastEventId", "lastEventID", "token"];
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_parameter_that_is_not_utf8_is_an_error_only_where_it_is_read() {
        let limits = Limits::default();
        for (query, field) in [
            ("utm=%ff&channel=a", None),
            ("%ff=1&channel=a&x+%fe=%ff", None),
            ("channel=%ff", Some("channel")),
            ("channel=a&channel=%ff", Some("channel")),
            ("channel=a&type=%ff+", Some("type")),
            ("channel=a&last=%ff", Some("last")),
            ("channel=a&last_event_id=%ff", Some("last_event_id")),
            // What a client library adds by itself refuses nothing.
            ("channel=a&lastEventId=%ff", None),
        ] {
            let uri: Uri = format!("/?{query}").parse().expect("a target");
            let query = Query::of(&uri).expect("a query");
            let start = query.start(&HeaderMap::new(), true);
            let error = query.subscription(None, &limits).err().or(start.err());
            let text = error.map(|error| error.into_parts().2);
            let named = field.map(|field| format!("\"field\":\"{field}\""));
            match (&text, named) {
                (Some(text), Some(named)) => assert!(text.contains(&named), "{uri}: {text}"),
                (text, named) => assert!(text.is_none() && named.is_none(), "{uri}: {text:?}"),
            }
        }
    }
}
