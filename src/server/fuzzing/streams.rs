//! The client's reader of streams: it reads what a slower and simpler one reads, wherever the pieces
//! are cut.

use crate::{
    client::{SseEvent, SseItem, SseLimits, SseParser},
    model::fuzzing::read_stream,
};

/// The first byte says how long the pieces are; the rest is the stream.
pub(super) fn streams(data: &[u8]) {
    let Some((&length, stream)) = data.split_first() else { return };
    let read = |pieces: usize, limits: SseLimits| {
        let (mut parser, mut items) = (SseParser::new(limits), Vec::new());
        let pieces = stream.chunks(pieces.max(1));
        let result = pieces.map(|piece| parser.push(piece, &mut items)).find(Result::is_err);
        (items, result)
    };
    let whole = read(stream.len(), SseLimits::default());
    let cut = read(1 + usize::from(length % 16), SseLimits::default());
    assert_eq!(whole, cut);
    let tight = SseLimits { line_bytes_max: 24, event_bytes_max: 32 };
    assert_eq!(read(stream.len(), tight), read(1 + usize::from(length % 16), tight));

    let mut expected = Vec::new();
    let (mut id, mut given) = (String::new(), String::new());
    for block in read_stream(stream) {
        id = block.id.unwrap_or(id);
        let event_type = block.event.filter(|event_type| !event_type.is_empty());
        let event_type = event_type.unwrap_or_else(|| "message".to_owned());
        if let Some(data) = block.data {
            expected.push(SseItem::Event(SseEvent { event_type, data, id: id.clone() }));
        } else if id != given {
            expected.push(SseItem::Position(id.clone()));
        }
        given.clone_from(&id);
    }
    let (mut items, result) = whole;
    assert!(result.is_none());
    items.retain(|item| matches!(item, SseItem::Event(_) | SseItem::Position(_)));
    assert_eq!(items, expected);
}
