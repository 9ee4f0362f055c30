//! Server-sent events: the framing of streams, and the blocks that are no events.
//!
//! The text of an event itself is a [`Frame`](super::Frame), written once when it is published.
//! Source: WHATWG HTML, section 9.2 "Server-sent events".

use std::io::Write as _;

use super::{
    ChannelName, Event, EventEncoding, EventKind, Gap, Position,
    framing::{Closing, Framing, Preamble},
};

/// Server-sent events as history has them.
#[derive(Debug, Clone, Copy)]
pub struct Sse;

impl EventEncoding for Sse {
    fn name(&self) -> &'static str {
        "sse"
    }

    fn encode(&self, event: &Event, out: &mut Vec<u8>) {
        out.extend_from_slice(event.text());
    }
}

/// Server-sent events in an encoding.
impl<E: EventEncoding> Framing for E {
    fn name(&self) -> &'static str {
        EventEncoding::name(self)
    }

    /// The first block has no data, so it is not an event: it sets the client's reconnection time
    /// and position. Many clients forget an id without data, so `visnyk.hello` has it too. Behind a
    /// gap the client moves on with the gap event, and nothing before has an id: should the
    /// connection break before it, the client comes back from the position that it had, and gets
    /// the gap again.
    fn preamble(&self, preamble: &Preamble<'_>, out: &mut Vec<u8>) {
        let Preamble { comment, retry_ms, position, connection, truncated, gap } = *preamble;
        out.extend_from_slice(b": visnyk\n");
        if let Some(comment) = comment {
            let _ = writeln!(out, ": {}", one_line(comment));
        }
        let _ = writeln!(out, "retry: {retry_ms}");
        let write_id = |out: &mut Vec<u8>| {
            if gap.is_none() {
                id_line(position, out);
            }
            out.push(b'\n');
        };
        write_id(out);
        if let Some(id) = connection {
            let truncated = if truncated { ",\"truncated\":true" } else { "" };
            let _ =
                writeln!(out, "event: visnyk.hello\ndata: {{\"connection\":\"{id}\"{truncated}}}");
            write_id(out);
        }
        if let Some(gap) = gap {
            self.gap(gap, out);
        }
    }

    fn event(&self, event: &Event, out: &mut Vec<u8>) {
        match event.kind {
            EventKind::Published => self.encode(event, out),
            EventKind::Closed => out.extend_from_slice(event.text()),
        }
    }

    /// A line that is a comment, and no empty line behind it: some clients hand each block to the
    /// application, and JSON of no data does not parse.
    fn heartbeat(&self, position: Option<Position>, out: &mut Vec<u8>) {
        match position {
            None => out.extend_from_slice(b":\n"),
            Some(position) => {
                id_line(position, out);
                out.push(b'\n');
            }
        }
    }

    fn gap(&self, gap: &Gap, out: &mut Vec<u8>) {
        let (json, oldest) = (gap.to_json(), gap.oldest);
        let _ = write!(out, "event: visnyk.gap\ndata: {json}\nid: {oldest}\n\n");
    }

    fn channel_closed(&self, channel: &ChannelName, out: &mut Vec<u8>) {
        let _ = write!(out, "event: visnyk.closed\ndata: {}\n\n", channel.as_str());
    }

    fn closing(&self, closing: &Closing, out: &mut Vec<u8>) {
        if let Some(reason) = closing.token {
            let _ =
                write!(out, "event: visnyk.token_expired\ndata: {{\"reason\":\"{reason}\"}}\n\n");
        }
        if let Some(comment) = closing.comment {
            let _ = writeln!(out, ": {comment}");
        }
        let _ = write!(out, "retry: {}\n\n", closing.retry_ms);
    }
}

fn id_line(position: Position, out: &mut Vec<u8>) {
    out.extend_from_slice(b"id: ");
    position.write_to(out);
    out.push(b'\n');
}

/// A comment and a reconnection time: a temporary refusal that an EventSource survives.
pub fn comment_block(comment: &str, retry_ms: u32) -> Vec<u8> {
    let comment = one_line(comment);
    format!(": {comment}\nretry: {retry_ms}\n\n").into_bytes()
}

fn one_line(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}
