//! What requests say in their query and headers, checked.

use std::{borrow::Cow, time::Duration};

use axum::http::{HeaderMap, StatusCode, Uri, header};

use super::{Problem, handoff::LAST_EVENT_ID};
use crate::{
    core::{Limits, SlowPolicy, Subscription, SubscriptionError},
    model::{ChannelName, ChannelSelector, EventType, Start},
};

/// The query of a request, decoded.
#[derive(Debug)]
pub(super) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    /// Decodes the query; a value that is not UTF-8 is refused, not repaired.
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

    /// The one value of a parameter; two are refused.
    pub(super) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let first = values.next();
        if values.next().is_some() {
            return Err(Problem::field(name, format!("`{name}` may be given once")));
        }
        Ok(first)
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

    /// As [`subscription`](Self::subscription), with the channels given elsewhere.
    pub(super) fn subscription_to(
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

    /// Where a subscription starts: the `Last-Event-ID` header, or one of the query's names for
    /// it, or a poll's `If-None-Match`.
    pub(super) fn start(&self, headers: &HeaderMap, is_poll: bool) -> Result<Start, Problem> {
        if let Some(value) = headers.get(LAST_EVENT_ID).filter(|value| !value.is_empty()) {
            let text = value.to_str().map_err(|_| {
                Problem::field("Last-Event-ID", "a position consists of A-Z a-z 0-9 . _ -")
            })?;
            return parse_start("Last-Event-ID", text);
        }
        for name in ["last_event_id", "lastEventId", "lastEventID"] {
            if let Some(text) = self.one(name)? {
                return parse_start(name, text);
            }
        }
        if is_poll && let Some(value) = headers.get(header::IF_NONE_MATCH) {
            let text = value.to_str().ok().map(str::trim).filter(|text| !text.contains(','));
            let Some(text) = text else {
                let detail = "here it holds one position, as the `ETag` of the last answer gave it";
                return Err(Problem::field("If-None-Match", detail));
            };
            let tag = text.strip_prefix("W/").unwrap_or(text);
            let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            return parse_start("If-None-Match", bare.unwrap_or(tag));
        }
        Ok(Start::Now)
    }

    /// How long a poll waits.
    pub(super) fn wait(&self, limits: &Limits) -> Result<Duration, Problem> {
        let poll = &limits.poll;
        let seconds = self.number("timeout", 0, poll.timeout_max_s)?.unwrap_or(poll.timeout_s);
        Ok(Duration::from_secs(seconds.into()))
    }

    /// What happens to a stream that lags.
    pub(super) fn slow_policy(&self) -> Result<Option<SlowPolicy>, Problem> {
        match self.one("slow")? {
            None => Ok(None),
            Some("disconnect") => Ok(Some(SlowPolicy::Disconnect)),
            Some("skip") => Ok(Some(SlowPolicy::Skip)),
            Some(_) => Err(Problem::field("slow", "`slow` is `disconnect` or `skip`")),
        }
    }

    /// A switch: absent, `0` or `1`.
    pub(super) fn switch(&self, name: &str) -> Result<bool, Problem> {
        match self.one(name)? {
            None | Some("0") => Ok(false),
            Some("1") => Ok(true),
            Some(_) => Err(Problem::field(name, format!("`{name}` is `0` or `1`"))),
        }
    }
}

/// A channel name from a path or query.
pub(super) fn channel_name(field: &str, text: &str) -> Result<ChannelName, Problem> {
    ChannelName::parse(text).map_err(|error| Problem::field(field, error.to_string()))
}

/// The channel that a path names, percent-decoded as one part.
pub(super) fn channel_in_path(part: &str) -> Result<String, Problem> {
    let decoded = percent_encoding::percent_decode_str(part).decode_utf8();
    decoded
        .map(Cow::into_owned)
        .map_err(|_| Problem::field("channel", "a channel name must be UTF-8"))
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

/// A request whose body has to be looked at has none on routes that give their socket away: what
/// came later on the connection would be taken for the next request.
pub(super) fn refuse_body(has_body: bool) -> Result<(), Problem> {
    if has_body {
        let detail = "this request must not have a body";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail).with("field", "body").closing());
    }
    Ok(())
}

fn parse_start(field: &str, text: &str) -> Result<Start, Problem> {
    Start::parse(text).map_err(|error| Problem::field(field, error.to_string()))
}

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

/// Parameters of one query.
const PARAMETERS_MAX: usize = 512;
/// Bytes of an idempotency key.
const KEY_BYTES_MAX: usize = 255;
