//! Encodings of an event other than its plain frame.

use jiff::{Timestamp, fmt::temporal::DateTimePrinter};

use super::{Event, EventType};

/// How a stream of server-sent events writes one. A front door brings its own; the hub shares the
/// bytes among all connections that use the same one. It is a [`Framing`](super::Framing).
pub trait EventEncoding: Send + Sync + 'static {
    /// The name of the encoding: two encodings with one name are the same.
    fn name(&self) -> &'static str;

    /// Appends the whole SSE block of `event` to `out`.
    fn encode(&self, event: &Event, out: &mut Vec<u8>);
}

/// `format=envelope`: the data is the JSON envelope.
#[derive(Debug, Clone, Copy)]
pub struct EnvelopeEncoding;

impl EventEncoding for EnvelopeEncoding {
    fn name(&self) -> &'static str {
        "envelope"
    }

    fn encode(&self, event: &Event, out: &mut Vec<u8>) {
        if event.event_type() != EventType::DEFAULT {
            out.extend_from_slice(b"event: ");
            out.extend_from_slice(event.event_type().as_bytes());
            out.push(b'\n');
        }
        MessageEncoding.encode(event, out);
    }
}

/// `format=message`: the envelope without an `event` field. `EventSource` dispatches by event name;
/// without the field, one `message` listener gets events of every type.
#[derive(Debug, Clone, Copy)]
pub struct MessageEncoding;

impl EventEncoding for MessageEncoding {
    fn name(&self) -> &'static str {
        "message"
    }

    fn encode(&self, event: &Event, out: &mut Vec<u8>) {
        out.extend_from_slice(b"data: ");
        write_envelope(event, out);
        out.extend_from_slice(b"\nid: ");
        event.position().write_to(out);
        out.extend_from_slice(b"\n\n");
    }
}

/// Appends `{"id","channel","type","time","data"}` to `out`, on one line.
pub(super) fn write_envelope(event: &Event, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"id\":\"");
    event.position().write_to(out);
    out.extend_from_slice(b"\",\"channel\":");
    write_json_string(event.channel.as_str(), out);
    out.extend_from_slice(b",\"type\":");
    write_json_string(event.event_type(), out);
    out.extend_from_slice(b",\"time\":\"");
    let time = timestamp(event.time_ms);
    TIME_PRINTER.print_timestamp(&time, &mut *out).expect("a Vec takes it");
    out.extend_from_slice(b"\",\"data\":");
    write_json_string(&event.data(), out);
    out.push(b'}');
}

fn write_json_string(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a string is always JSON, and a Vec takes it");
}

/// A time as RFC 3339 in UTC with milliseconds.
pub fn rfc3339_millis(unix_ms: u64) -> String {
    TIME_PRINTER.timestamp_to_string(&timestamp(unix_ms))
}

fn timestamp(unix_ms: u64) -> Timestamp {
    let ms = i64::try_from(unix_ms).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

/// Writes times as RFC 3339 in UTC with milliseconds.
const TIME_PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ChannelName, Epoch, NewEvent, Position, Seq};

    #[test]
    fn an_event_of_any_type_is_a_plain_message_in_the_message_format() {
        let position = Position { epoch: Epoch::new(0, 10), seq: Seq(4) };
        let new = NewEvent {
            event_type: Some(EventType::parse("paid").expect("a type")),
            ..NewEvent::message("x")
        };
        let event = Event::published(position, &ChannelName::parse("a").expect("a name"), 0, &new);
        let mut out = Vec::new();
        MessageEncoding.encode(&event, &mut out);
        assert_eq!(
            String::from_utf8(out).expect("UTF-8"),
            "data: {\"id\":\"a-4\",\"channel\":\"a\",\"type\":\"paid\",\
             \"time\":\"1970-01-01T00:00:00.000Z\",\"data\":\"x\"}\nid: a-4\n\n"
        );
    }

    #[test]
    fn an_envelope_is_one_line_of_json_whatever_the_data() {
        let position = Position { epoch: Epoch::new(0, 10), seq: Seq(3) };
        let channel = ChannelName::parse("a/\"b\"").expect("a name");
        let new = NewEvent::message("x\n\"y\"\u{2028}");
        let event = Event::published(position, &channel, 1_767_323_045_678, &new);
        let mut out = Vec::new();
        EnvelopeEncoding.encode(&event, &mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        assert_eq!(
            text,
            "data: {\"id\":\"a-3\",\"channel\":\"a/\\\"b\\\"\",\"type\":\"message\",\
             \"time\":\"2026-01-02T03:04:05.678Z\",\"data\":\"x\\n\\\"y\\\"\u{2028}\"}\nid: a-3\n\n"
        );
    }
}
