//! A batch of events under one idempotency key, written as NDJSON while it is gathered.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};

use bytes::Bytes;
use serde::{Deserialize, Serialize, de};
use serde_json::value::RawValue;
use thiserror::Error;

/// One event on its way to a hub: a line of a batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    data: Box<RawValue>,
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    event_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retry: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
}

/// Why a line is not an envelope.
#[derive(Debug, Error)]
#[error("not an envelope like {{\"data\":…,\"type\":…}}")]
pub struct EnvelopeError(#[from] serde_json::Error);

impl Envelope {
    /// An event whose data is `text`.
    pub fn text(text: &str) -> Self {
        let data = serde_json::value::to_raw_value(text).expect("any string is JSON");
        Self { data, event_type: None, retry: None, channel: None }
    }

    /// An event whose data is the compact text of a JSON value, or what a JSON string says.
    pub fn json(value: &RawValue) -> Self {
        let data = match compact(value.get()) {
            Cow::Borrowed(_) => value.to_owned(),
            Cow::Owned(text) => {
                RawValue::from_string(text).expect("JSON without its white space is JSON")
            }
        };
        Self { data, event_type: None, retry: None, channel: None }
    }

    /// Reads one NDJSON line: `{"data":…,"type"?,"retry"?,"channel"?}`.
    pub fn parse(line: &str) -> Result<Self, EnvelopeError> {
        // serde would take an array for the members in their order.
        if line.trim_start().starts_with('[') {
            return Err(EnvelopeError(de::Error::custom("an array")));
        }
        let mut envelope: Self = serde_json::from_str(line)?;
        // A line may hold a carriage return between two tokens, which ends a line elsewhere.
        if let Cow::Owned(text) = compact(envelope.data.get()) {
            envelope.data = RawValue::from_string(text)?;
        }
        Ok(envelope)
    }

    /// Sets the type where the event has none.
    pub fn or_type(mut self, event_type: Option<&str>) -> Self {
        self.event_type = self.event_type.or_else(|| event_type.map(str::to_owned));
        self
    }

    /// Sets the channel where the event names none.
    pub fn or_channel(mut self, channel: &str) -> Self {
        self.channel.get_or_insert_with(|| channel.to_owned());
        self
    }
}

/// Events that a hub accepts as a whole or not at all.
#[derive(Debug)]
pub struct Batch {
    channel: Option<String>,
    idempotency_key: String,
    body: Vec<u8>,
    events: usize,
}

/// The batch has no room for one more event: publish it first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the batch is full")]
pub struct BatchFull;

impl Batch {
    /// Most events of a batch: the default limit of a hub that shares its log; other hubs accept
    /// more.
    pub const EVENTS_MAX: usize = 256;
    /// Most bytes of a batch with more than one event: a quarter of a hub's default limit.
    pub const BYTES_MAX: usize = 256 * 1024;

    /// A batch for one channel; its events name none.
    pub fn to(channel: &str) -> Self {
        Self::new(Some(channel.to_owned()))
    }

    /// A batch whose events each name their channel.
    pub fn across() -> Self {
        Self::new(None)
    }

    /// Adds an event. A single event may be larger than [`BYTES_MAX`](Self::BYTES_MAX): whether
    /// it is too large is for the hub to say.
    pub fn push(&mut self, envelope: &Envelope) -> Result<(), BatchFull> {
        if self.events == Self::EVENTS_MAX {
            return Err(BatchFull);
        }
        let before = self.body.len();
        serde_json::to_writer(&mut self.body, envelope).expect("an envelope is JSON");
        self.body.push(b'\n');
        if self.events > 0 && self.body.len() > Self::BYTES_MAX {
            self.body.truncate(before);
            return Err(BatchFull);
        }
        self.events += 1;
        Ok(())
    }

    /// Events in it.
    pub fn len(&self) -> usize {
        self.events
    }

    /// Whether it has no events; no hub takes an empty batch.
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// The one channel, unless the events name theirs.
    pub(crate) fn channel(&self) -> Option<&str> {
        self.channel.as_deref()
    }

    pub(crate) fn idempotency_key(&self) -> &str {
        &self.idempotency_key
    }

    pub(crate) fn into_body(self) -> Bytes {
        self.body.into()
    }

    fn new(channel: Option<String>) -> Self {
        Self { channel, idempotency_key: new_idempotency_key(), body: Vec::new(), events: 0 }
    }
}

/// 128 random bits that no other publisher will choose; they are not secret.
pub(crate) fn new_idempotency_key() -> String {
    // The keys of a `RandomState` come from the operating system, unlike fastrand's seed.
    let hasher = RandomState::new();
    format!("{:016x}{:016x}", hasher.hash_one(0), hasher.hash_one(fastrand::u64(..)))
}

/// Valid JSON without the white space between its tokens.
fn compact(json: &str) -> Cow<'_, str> {
    let is_space = |c: char| matches!(c, ' ' | '\n' | '\r' | '\t');
    if !json.contains(is_space) {
        return Cow::Borrowed(json);
    }
    let (mut in_string, mut escaped) = (false, false);
    let keep = |c: &char| {
        if in_string {
            in_string = escaped || *c != '"';
            escaped = !escaped && *c == '\\';
            return true;
        }
        in_string = *c == '"';
        !is_space(*c)
    };
    Cow::Owned(json.chars().filter(keep).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(batch: Batch) -> String {
        String::from_utf8(batch.into_body().to_vec()).expect("JSON is UTF-8")
    }

    #[test]
    fn events_become_lines() {
        let mut batch = Batch::across();
        let array = r#"[{"a" : "x \" y",
            "b":[1.50, null]}]"#;
        let rows: Vec<Box<RawValue>> = serde_json::from_str(array).expect("JSON");
        for envelope in [
            Envelope::text("two\nlines").or_type(Some("note")),
            Envelope::json(&rows[0]).or_channel("a"),
            Envelope::parse("{\"data\": {\r\"n\": 1}, \"type\":\"own\"}")
                .expect("an envelope")
                .or_type(Some("other")),
        ] {
            batch.push(&envelope).expect("room");
        }
        assert_eq!(batch.len(), 3);
        assert_eq!(
            body(batch),
            concat!(
                r#"{"data":"two\nlines","type":"note"}"#,
                "\n",
                r#"{"data":{"a":"x \" y","b":[1.50,null]},"channel":"a"}"#,
                "\n",
                r#"{"data":{"n":1},"type":"own"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn lines_that_are_no_envelope_are_refused() {
        for line in ["", "x", "1", "{}", r#"{"data":1,"tpye":"a"}"#, r#"{"data":1}2"#] {
            assert!(Envelope::parse(line).is_err(), "{line}");
        }
        assert!(Envelope::parse(r#"{"data":null}"#).is_ok());
    }

    #[test]
    fn batch_is_bounded_in_events() {
        let mut batch = Batch::to("a");
        let tick = Envelope::text("x");
        for _ in 0..Batch::EVENTS_MAX {
            assert_eq!(batch.push(&tick), Ok(()));
        }
        assert_eq!(batch.push(&tick), Err(BatchFull));
        assert_eq!(batch.len(), Batch::EVENTS_MAX);
    }

    #[test]
    fn batch_is_bounded_in_bytes_but_one_event_always_fits() {
        let line = |bytes: usize| Envelope::text(&"x".repeat(bytes - "{\"data\":\"\"}\n".len()));
        let half = Batch::BYTES_MAX / 2;
        for (second, fits) in [(half - 1, true), (half, true), (half + 1, false)] {
            let mut batch = Batch::to("a");
            batch.push(&line(half)).expect("room");
            assert_eq!(batch.push(&line(second)).is_ok(), fits);
            assert_eq!(batch.len(), if fits { 2 } else { 1 });
            assert_eq!(body(batch).len(), if fits { half + second } else { half });
        }
        assert_eq!(Batch::to("a").push(&line(2 * Batch::BYTES_MAX)), Ok(()));
    }

    #[test]
    fn each_batch_has_its_own_key() {
        let (a, b) = (Batch::to("a"), Batch::to("a"));
        assert_eq!(a.idempotency_key().len(), 32);
        assert_ne!(a.idempotency_key(), b.idempotency_key());
    }
}
