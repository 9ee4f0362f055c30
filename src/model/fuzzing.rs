//! Fuzz targets for values: each function takes any bytes and panics if a property does not hold.

use super::{
    ChannelName, ChannelPattern, Draft, EnvelopeEncoding, Epoch, Event, EventEncoding, EventKind,
    EventType, Framing, MessageEncoding, NewEvent, Position, Preamble, Seq, Sse, Start,
    comment_block,
};

/// Positions: a token has one meaning, and a position one token.
pub(crate) fn positions(data: &[u8]) {
    if let Some((numbers, _)) = data.split_first_chunk::<16>() {
        let (high, low) = numbers.split_at(8);
        let number = |bytes: &[u8]| bytes.iter().fold(0, |n: u64, &byte| n << 8 | u64::from(byte));
        let position = Position {
            epoch: Epoch::new(number(high) >> 16, number(high) as u16),
            seq: Seq(number(low)),
        };
        let token = position.to_string();
        assert!(token.len() <= Position::BYTES_MAX, "{token}");
        assert_eq!(Start::parse(&token), Ok(Start::At(position)));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Start::parse(text) {
        Ok(Start::At(position)) => assert_eq!(position.to_string(), text),
        Ok(Start::Unknown(token)) => assert_eq!(token, text),
        Ok(Start::Now) => assert!(matches!(text, "" | "now")),
        Ok(Start::Earliest) => assert_eq!(text, "earliest"),
        Ok(Start::Last(_)) => panic!("{text} was parsed as a number of events"),
        Err(_) => {
            let is_token = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
            assert!(text.len() > Position::BYTES_MAX || !text.chars().all(is_token));
        }
    }
}

/// Frames: data that a publisher sends comes out of a stream unchanged. The first lines are type,
/// reconnection time, channel and a part of the data; the data has the rest.
pub(crate) fn frames(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut parts = text.splitn(4, '\u{1}');
    let mut part = || parts.next().unwrap_or_default();
    let (event_type, retry, channel, data) = (part(), part(), part(), part());
    let new = NewEvent {
        data: data.to_owned(),
        event_type: EventType::parse(event_type).ok(),
        retry_ms: retry.parse().ok(),
    };
    let channel = ChannelName::parse(channel);
    let channel = channel.unwrap_or_else(|_| ChannelName::parse("c").expect("a name"));
    let carried = data.replace("\r\n", "\n").replace('\r', "\n");
    let position = Position { epoch: Epoch::new(1, 2), seq: Seq(data.len() as u64) };
    let frame = Draft::new(&new).finish(position);
    assert_eq!(frame.data(), carried.as_str());
    assert_eq!(frame.event_type(), new.event_type.as_ref().map(EventType::as_str));
    let block = Block {
        event: new.event_type.as_ref().map(|event_type| event_type.as_str().to_owned()),
        data: Some(carried.clone()),
        id: Some(position.to_string()),
        retry: new.retry_ms,
    };
    assert_eq!(read_stream(frame.bytes()), std::slice::from_ref(&block));

    let event = Event {
        seq: position.seq,
        epoch: position.epoch,
        time_ms: data.len() as u64,
        accepted_ms: data.len() as u64,
        channel: channel.clone(),
        kind: EventKind::Published,
        frame,
    };
    for (is_plain, encoding) in
        [(false, &EnvelopeEncoding as &dyn EventEncoding), (true, &MessageEncoding)]
    {
        let mut out = Vec::new();
        encoding.encode(&event, &mut out);
        let blocks = read_stream(&out);
        let [read] = &blocks[..] else { panic!("{blocks:?}") };
        assert_eq!(read.id, block.id);
        assert_eq!(read.event, if is_plain { None } else { block.event.clone().filter(typed) });
        let envelope: serde_json::Value =
            serde_json::from_str(read.data.as_deref().expect("data")).expect("JSON");
        assert_eq!(envelope["data"], carried.as_str());
        assert_eq!(envelope["channel"], channel.as_str());
        assert_eq!(envelope["type"], event.event_type());
    }

    // The hub's own blocks stay what they are, for any input.
    let said = [
        written(|out| {
            Sse.preamble(
                &Preamble {
                    comment: None,
                    retry_ms: 7,
                    position,
                    connection: None,
                    truncated: false,
                    gap: None,
                },
                out,
            );
        }),
        written(|out| Sse.heartbeat(Some(position), out)),
        comment_block(data, 7),
        written(|out| Sse.channel_closed(&channel, out)),
    ];
    let read = read_stream(&said.concat());
    assert_eq!(read.len(), 4, "{read:?}");
    assert!(read[..3].iter().all(|block| block.data.is_none() && block.event.is_none()));
    assert_eq!(read[3].data.as_deref(), Some(channel.as_str()));
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn typed(event_type: &String) -> bool {
    event_type != EventType::DEFAULT
}

/// A block of a stream: the last value of each field, and its data lines joined.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Block {
    event: Option<String>,
    data: Option<String>,
    id: Option<String>,
    retry: Option<u32>,
}

/// Reads a whole stream as the standard says (WHATWG HTML, section 9.2.6), with no regard to speed;
/// it discards an unfinished block at the end.
fn read_stream(bytes: &[u8]) -> Vec<Block> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    // The text after the last line end is not a line yet.
    lines.pop();
    let (mut blocks, mut block, mut begun) = (Vec::new(), Block::default(), false);
    for line in lines {
        if line.is_empty() {
            if begun {
                blocks.push(std::mem::take(&mut block));
            }
            begun = false;
            continue;
        }
        begun = true;
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => block.event = Some(value.to_owned()),
            "data" => {
                block.data = Some(match block.data.take() {
                    None => value.to_owned(),
                    Some(before) => before + "\n" + value,
                });
            }
            "id" if !value.contains('\0') => block.id = Some(value.to_owned()),
            "retry" if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                block.retry = value.parse().ok().or(block.retry);
            }
            _ => {}
        }
    }
    blocks
}

/// Names and patterns: parsing keeps the text, and matching follows its definition. Lines of text,
/// the first of them a pattern.
pub(crate) fn patterns(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.lines();
    let Ok(pattern) = ChannelPattern::parse(lines.next().unwrap_or_default()) else { return };
    let words: Vec<&str> = pattern.segments().collect();
    for line in lines.take(16) {
        let Ok(name) = ChannelName::parse(line) else { continue };
        assert_eq!(name.as_str(), line);
        let segments: Vec<&str> = name.segments().collect();
        assert_eq!(pattern.matches(&name), matches_by_table(&words, &segments), "{pattern} {name}");
    }
}

/// Matching by the definition: whether the first `p` words stand for the first `n` segments, for
/// every `p` and `n`.
pub(crate) fn matches_by_table(words: &[&str], segments: &[&str]) -> bool {
    let mut row = vec![false; segments.len() + 1];
    row[0] = true;
    for &word in words {
        let mut next = vec![false; segments.len() + 1];
        for n in 0..=segments.len() {
            next[n] = match word {
                "**" => row[n] || (n > 0 && next[n - 1]),
                _ => n > 0 && row[n - 1] && (word == "*" || word == segments[n - 1]),
            };
        }
        row = next;
    }
    row[segments.len()]
}
