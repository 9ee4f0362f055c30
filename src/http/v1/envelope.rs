//! Parses a batch: one JSON object `{"data":…,"type"?,"retry"?,"channel"?}` a line (NDJSON).

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    http::Problem,
    model::{ChannelName, EventType, NewEvent, RETRY_MS_MAX},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "even_null")]
    data: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    event_type: Option<&'a RawValue>,
    #[serde(borrow)]
    retry: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
}

/// Keeps `"data":null` as data; by default serde would read it as a missing member.
fn even_null<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Parses a batch. If there is a channel in the path (`in_path`), all events go to it. Otherwise
/// each line names its channel; lines that name none go to `default_channel`. If a line is invalid,
/// the whole batch is rejected, with the number of the line.
pub(in crate::http) fn parse_batch(
    body: &str,
    in_path: Option<&ChannelName>,
    default_channel: Option<&ChannelName>,
    events_max: usize,
) -> Result<Vec<(ChannelName, NewEvent)>, Problem> {
    let mut events = Vec::new();
    // A byte order mark is passed over (RFC 8259, section 8.1).
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    for (index, line) in body.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        if events.len() == events_max {
            return Err(crate::hub::PublishError::TooMany { events_max }.into());
        }
        let event = parse_line(line, in_path, default_channel);
        events.push(event.map_err(|problem| problem.with("line", index + 1))?);
    }
    if events.is_empty() {
        return Err(Problem::field("body", "a batch has at least one line"));
    }
    Ok(events)
}

fn parse_line(
    line: &str,
    in_path: Option<&ChannelName>,
    default_channel: Option<&ChannelName>,
) -> Result<(ChannelName, NewEvent), Problem> {
    // serde would take an array for the members in their order.
    if line.trim_start().starts_with('[') {
        let detail = "a line is an envelope {\"data\":…}, and no array";
        return Err(Problem::field("body", detail));
    }
    let envelope: Envelope<'_> = serde_json::from_str(line).map_err(|error| {
        Problem::field("body", format!("not an envelope {{\"data\":…}}: {}", reason(&error)))
            .with("column", error.column())
    })?;
    let Some(data) = envelope.data else {
        return Err(Problem::field("data", "an event has data"));
    };
    let named: Option<String> = member("channel", envelope.channel, "a string")?;
    let channel = match (in_path, named, default_channel) {
        (Some(_), Some(_), _) => {
            let detail = "the channel is in the path; `channel` is for batches to /v1/events";
            return Err(Problem::field("channel", detail));
        }
        (Some(name), None, _) | (None, None, Some(name)) => name.clone(),
        (None, Some(text), _) => ChannelName::parse(&text)
            .map_err(|error| Problem::field("channel", error.to_string()))?,
        (None, None, None) => {
            return Err(Problem::field("channel", "name the channel of the event"));
        }
    };
    let event_type: Option<String> = member("type", envelope.event_type, "a string")?;
    let event_type = event_type.as_deref().map(EventType::parse).transpose();
    let what = format!("a whole number from 0 to {RETRY_MS_MAX}");
    let retry_ms = member("retry", envelope.retry, &what)?;
    if retry_ms.is_some_and(|retry_ms| retry_ms > RETRY_MS_MAX) {
        return Err(Problem::field("retry", format!("`retry` is {what}")));
    }
    let event = NewEvent {
        data: data_text(data)?,
        event_type: event_type.map_err(|error| Problem::field("type", error.to_string()))?,
        retry_ms,
    };
    Ok((channel, event))
}

/// The message of an error without "at line 1 column n": each line of the batch is parsed by
/// itself, so for serde_json every line is the first.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(&*text, |(reason, _)| reason).to_owned()
}

/// Parses an optional member other than `data`; `null` counts as absent.
fn member<T: DeserializeOwned>(
    name: &str,
    raw: Option<&RawValue>,
    what: &str,
) -> Result<Option<T>, Problem> {
    let value = raw.map(|raw| serde_json::from_str(raw.get())).transpose();
    value.map_err(|error| {
        // A value of the wrong type is a data error. A malformed value, such as a string with a
        // lone surrogate, keeps the message of serde_json.
        let detail = if error.is_data() { format!("`{name}` is {what}") } else { reason(&error) };
        Problem::field(name, detail)
    })
}

/// The data of an event: the content of a JSON string, or the text of any other JSON value without
/// white space between tokens.
fn data_text(raw: &RawValue) -> Result<String, Problem> {
    let text = raw.get();
    if text.starts_with('"') {
        return serde_json::from_str(text).map_err(|error| Problem::field("data", reason(&error)));
    }
    let mut compact = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        compact.push(c);
    }
    Ok(compact)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(line: &str) -> String {
        let name = ChannelName::parse("c").expect("a name");
        parse_line(line, Some(&name), None).expect("an envelope").1.data
    }

    #[test]
    fn a_string_is_the_data_and_other_json_its_compact_text() {
        assert_eq!(data(r#"{"data":"a\nb"}"#), "a\nb");
        assert_eq!(
            data(r#"{"data": {"z": 1.0, "a": [ true , null ]} }"#),
            r#"{"z":1.0,"a":[true,null]}"#
        );
        assert_eq!(data(r#"{"data": {"k": " \" \\" } }"#), r#"{"k":" \" \\"}"#);
        assert_eq!(data(r#"{"data":12345678901234567890.10}"#), "12345678901234567890.10");
        assert_eq!(data(r#"{"data":null}"#), "null");
    }

    proptest! {
        #[test]
        fn no_line_panics(line in ".{0,80}") {
            let _ = parse_line(&line, None, None);
        }

        #[test]
        fn compact_text_means_the_same(text in "[a-z\"\\\\ \n]{0,20}", n: i32) {
            let value = serde_json::json!({"a": [text, n], " b ": {"c": text}});
            let pretty = serde_json::to_string_pretty(&value).expect("JSON").replace('\n', " ");
            let back: serde_json::Value =
                serde_json::from_str(&data(&format!("{{\"data\":{pretty}}}"))).expect("JSON");
            prop_assert_eq!(back, value);
        }
    }
}
