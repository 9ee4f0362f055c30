//! Fuzz target of the client: its SSE parser reads what a slower and simpler one reads, wherever
//! the pieces are cut.
//!
//! The table is its own, as the client shares no code with the hub.

use std::time::Duration;

use super::{SseEvent, SseItem, SseLimits, SseParser};

/// A target takes any bytes and panics if a property does not hold.
pub type Target = fn(&[u8]);

/// The client's targets, as `server::fuzzing` has the hub's.
pub const TARGETS: &[(&str, Target)] = &[("streams", streams)];

/// The first byte says how long the pieces are; the rest is the stream.
fn streams(data: &[u8]) {
    let Some((&length, stream)) = data.split_first() else { return };
    let read = |pieces: usize, limits: SseLimits| {
        let (mut parser, mut items) = (SseParser::new(limits), Vec::new());
        let mut pieces = stream.chunks(pieces.max(1));
        let failed = pieces.find_map(|piece| parser.push(piece, &mut items).err());
        (items, failed)
    };
    let whole = read(stream.len(), SseLimits::default());
    let cut = read(1 + usize::from(length % 16), SseLimits::default());
    assert_eq!(whole, cut);
    let tight = SseLimits { line_bytes_max: 24, event_bytes_max: 32 };
    assert_eq!(read(stream.len(), tight), read(1 + usize::from(length % 16), tight));
    assert_eq!(whole, (read_slowly(stream), None));
}

/// Reads a whole stream as the standard says (WHATWG HTML, section 9.2.6): all text, then lines,
/// with no regard to speed.
fn read_slowly(stream: &[u8]) -> Vec<SseItem> {
    let text = String::from_utf8_lossy(stream);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let (mut items, mut id, mut id_given) = (Vec::new(), String::new(), String::new());
    let (mut event_type, mut data) = (String::new(), Vec::new());
    // The text after the last line end is not a line yet.
    for line in text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "" if line.is_empty() => {
                let named = Some(std::mem::take(&mut event_type)).filter(|name| !name.is_empty());
                let event_type = named.unwrap_or_else(|| "message".to_owned());
                if !data.is_empty() {
                    let data = std::mem::take(&mut data).join("\n");
                    items.push(SseItem::Event(SseEvent { event_type, data, id: id.clone() }));
                } else if id != id_given {
                    items.push(SseItem::Position(id.clone()));
                }
                id_given.clone_from(&id);
            }
            "" if !value.is_empty() => items.push(SseItem::Comment(value.to_owned())),
            "event" => value.clone_into(&mut event_type),
            "data" => data.push(value),
            "id" if !value.contains('\0') => value.clone_into(&mut id),
            "retry" if value.bytes().all(|byte| byte.is_ascii_digit()) => {
                let retry = value.parse().map(Duration::from_millis);
                items.extend(retry.map(SseItem::Retry));
            }
            _ => {}
        }
    }
    items
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_seed_and_every_input_that_broke_something_passes() {
        for (name, target) in TARGETS {
            let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds").join(name);
            let mut count = 0;
            for file in fs::read_dir(seeds).expect("a directory of seeds") {
                let path = file.expect("a directory").path();
                // Said when it fails.
                println!("{}", path.display());
                target(&fs::read(path).expect("a seed"));
                count += 1;
            }
            assert!(count > 0, "{name} has no seeds");
        }
    }
}
