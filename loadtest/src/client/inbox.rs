//! Events out of the bytes of a stream, checked and timed where they lie.

use hdrhistogram::Histogram;
use memchr::memchr;

use super::latency::latencies;
use super::ledger::Ledger;
use super::publishers::Sent;
use super::stamp::{BEGIN, Stamp};
use crate::subject::Delivers;

/// What a connection must receive next.
#[derive(Debug, Clone)]
pub(crate) enum Expect {
    /// Of this stream this event, and then the one after.
    One { stream: u32, next: Next },
    /// Of each of these streams, in their order, this event.
    Many(Box<[(u32, Next)]>),
}

/// The event that a stream goes on with; or, until it has begun, the one that it begins with at the
/// latest, for a subscriber that comes while events flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next(u32);

impl Next {
    /// Where nothing is known about where a stream begins.
    const ANYWHERE: Self = Self(u32::MAX);
    /// Marks a stream that has not begun.
    const OPEN: u32 = 1 << 31;

    fn exactly(seq: u32) -> Self {
        Self(seq)
    }

    fn by(seq: u32) -> Self {
        Self(seq | Self::OPEN)
    }

    fn has_begun(self) -> bool {
        self.0 & Self::OPEN == 0
    }

    fn seq(self) -> u32 {
        self.0 & !Self::OPEN
    }

    /// The first event that has not come and must, of a stream of `events`.
    pub(crate) fn due_of(self, events: u32) -> u32 {
        if self == Self::ANYWHERE { events.saturating_sub(1) } else { self.seq() }
    }

    /// Whether all events of a stream have come.
    pub(crate) fn is_after(self, events: u32) -> bool {
        self.has_begun() && self.seq() >= events
    }
}

impl Expect {
    /// All events of a stream.
    pub(crate) fn all_of(stream: u32) -> Self {
        Self::all_from(stream, 0)
    }

    /// All events of a stream from this one on.
    pub(crate) fn all_from(stream: u32, seq: u32) -> Self {
        Self::One { stream, next: Next::exactly(seq) }
    }

    /// All events of several, which are given in their order.
    pub(crate) fn all_of_many(streams: impl IntoIterator<Item = u32>) -> Self {
        Self::Many(streams.into_iter().map(|stream| (stream, Next::exactly(0))).collect())
    }

    /// Takes the next event of each stream as it comes.
    pub(crate) fn begin_anywhere(&mut self) {
        match self {
            Self::One { next, .. } => *next = Next::ANYWHERE,
            Self::Many(streams) => {
                streams.iter_mut().for_each(|(_, next)| *next = Next::ANYWHERE);
            }
        }
    }

    /// Of streams that may begin anywhere, demands what has not been sent yet: the subscription
    /// stands.
    fn begin_by(&mut self, sent: &Sent) {
        let by = |stream: u32, next: &mut Next| {
            if *next == Next::ANYWHERE {
                *next = Next::by(sent.of(stream));
            }
        };
        match self {
            Self::One { stream, next } => by(*stream, next),
            Self::Many(streams) => streams.iter_mut().for_each(|(stream, next)| by(*stream, next)),
        }
    }

    /// Expects nothing of the streams that nothing has come of.
    pub(crate) fn forget_unseen(&mut self) {
        if let Self::Many(streams) = self {
            *streams = streams.iter().copied().filter(|(_, next)| next.has_begun()).collect();
        }
    }

    #[inline]
    fn next_of(&mut self, stream: u32) -> Option<&mut Next> {
        match self {
            Self::One { stream: only, next } => (*only == stream).then_some(next),
            Self::Many(streams) => {
                let index = streams.binary_search_by_key(&stream, |(stream, _)| *stream).ok()?;
                Some(&mut streams[index].1)
            }
        }
    }

    /// Its streams, each with the next event.
    pub(crate) fn streams(&self) -> Vec<(u32, Next)> {
        match self {
            Self::One { stream, next } => vec![(*stream, *next)],
            Self::Many(streams) => streams.to_vec(),
        }
    }
}

/// The last `id:` of a connection, kept where a scenario resumes from it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LastId {
    length: u8,
    bytes: [u8; ID_BYTES_MAX],
}

impl LastId {
    /// None yet.
    pub(crate) const NONE: Self = Self { length: 0, bytes: [0; ID_BYTES_MAX] };

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    fn set(&mut self, id: &[u8]) {
        let length = id.len().min(ID_BYTES_MAX);
        self.bytes[..length].copy_from_slice(&id[..length]);
        self.length = length as u8;
    }
}

/// The longest position that the hub's API allows.
const ID_BYTES_MAX: usize = 40;

/// Everything that deliveries are entered into.
#[derive(Debug)]
pub(crate) struct Inbox {
    delivers: Delivers,
    pub(crate) ledger: Ledger,
    pub(crate) latency: Histogram<u64>,
    /// What has been sent so far, where subscribers come while events flow: of what is sent after
    /// one has its response head, it must receive all.
    pub(crate) sent: Option<Sent>,
}

impl Inbox {
    pub(crate) fn new(delivers: Delivers) -> Self {
        Self { delivers, ledger: Ledger::default(), latency: latencies(), sent: None }
    }

    /// A connection's response head has just been read.
    pub(crate) fn begin(&self, expect: &mut Expect) {
        if let Some(sent) = &self.sent {
            expect.begin_by(sent);
        }
    }

    /// Takes the whole lines of `bytes` and gives how many bytes they are.
    pub(crate) fn read_lines(
        &mut self,
        connection: u32,
        expect: &mut Expect,
        mut last_id: Option<&mut LastId>,
        bytes: &[u8],
        now_ns: u64,
    ) -> usize {
        let mut from = 0;
        while let Some(length) = memchr(b'\n', &bytes[from..]) {
            let line = &bytes[from..from + length];
            from += length + 1;
            match line {
                [b'd', b'a', b't', b'a', b':', data @ ..] => {
                    self.read_data(connection, expect, data, now_ns);
                }
                [b'i', b'd', b':', id @ ..] => {
                    if let Some(last_id) = &mut last_id {
                        last_id.set(id.trim_ascii());
                    }
                }
                [b'e', b'v', b'e', b'n', b't', b':', event @ ..]
                    if event.starts_with(b" visnyk.gap") =>
                {
                    self.ledger.gap(connection);
                }
                _ => {}
            }
        }
        from
    }

    #[inline]
    fn read_data(&mut self, connection: u32, expect: &mut Expect, data: &[u8], now_ns: u64) {
        match self.delivers {
            Delivers::Data => {
                let data = data.strip_prefix(b" ").unwrap_or(data);
                match Stamp::read(data) {
                    Some((stamp, length)) if length == data.len() => {
                        self.enter(connection, expect, stamp, now_ns);
                    }
                    _ => self.read_other(connection, data),
                }
            }
            Delivers::WithinData => self.read_text(connection, expect, data, now_ns),
        }
    }

    /// Takes the events in a text, whatever is around them.
    pub(crate) fn read_text(
        &mut self,
        connection: u32,
        expect: &mut Expect,
        text: &[u8],
        now_ns: u64,
    ) {
        let mut rest = text;
        while let Some(at) = memchr(BEGIN, rest) {
            rest = &rest[at..];
            let Some((stamp, length)) = Stamp::read(rest) else {
                return self.ledger.corrupt(connection, rest);
            };
            self.enter(connection, expect, stamp, now_ns);
            rest = &rest[length..];
        }
    }

    /// Data of the hub's own events is JSON, and never begins as an event of ours does.
    fn read_other(&mut self, connection: u32, data: &[u8]) {
        if data.first() == Some(&b'{') {
            self.ledger.say(|| format!("connection {connection} received {}", data.escape_ascii()));
        } else {
            self.ledger.corrupt(connection, data);
        }
    }

    #[inline]
    fn enter(&mut self, connection: u32, expect: &mut Expect, stamp: Stamp, now_ns: u64) {
        let Stamp { stream, seq, due_ns } = stamp;
        let Some(next) = expect.next_of(stream) else {
            return self.ledger.corrupt(connection, format!("stream {stream}").as_bytes());
        };
        let due = next.seq();
        if seq < due && next.has_begun() {
            return self.ledger.behind(connection, stream, due, seq);
        }
        if seq > due {
            self.ledger.ahead(connection, stream, due, seq);
        }
        *next = Next::exactly(seq + 1);
        self.ledger.delivered();
        self.latency.saturating_record(now_ns.saturating_sub(due_ns) / 1_000);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(seq: u32) -> String {
        let mut body = Vec::new();
        Stamp { stream: 4, seq, due_ns: 1_000 }.write(100, &mut body);
        String::from_utf8(body).expect("it is printable")
    }

    fn read(delivers: Delivers, text: &str) -> (Inbox, Expect, LastId, usize) {
        let mut inbox = Inbox::new(delivers);
        let mut expect = Expect::all_of(4);
        let mut id = LastId::NONE;
        let used = inbox.read_lines(9, &mut expect, Some(&mut id), text.as_bytes(), 51_000);
        (inbox, expect, id, used)
    }

    #[test]
    fn whole_lines_are_entered_and_the_rest_is_left() {
        let whole = format!(": hi\nid: a-0\n\ndata: {}\nid: a-1\n\n", event(0));
        let text = format!("{whole}data: {}", event(1));
        let (inbox, expect, id, used) = read(Delivers::Data, &text);
        assert_eq!(used, whole.len());
        assert_eq!(expect.streams(), [(4, Next::exactly(1))]);
        assert_eq!(id.as_bytes(), b"a-1");
        assert_eq!((inbox.latency.len(), inbox.latency.max()), (1, 50));
        assert!(inbox.ledger.close().0.is_clean());
    }

    #[test]
    fn events_within_other_text_are_found() {
        let text = format!("data:[{{\"m\":\"{}\"}},{{\"m\":\"{}\"}}]\n", event(0), event(1));
        let (inbox, expect, ..) = read(Delivers::WithinData, &text);
        assert_eq!(expect.streams(), [(4, Next::exactly(2))]);
        assert_eq!(inbox.ledger.close().0.deliveries, 2);
    }

    #[test]
    fn new_subscriber_begins_by_what_was_sent_when_it_had_its_head() {
        let lost = |first: u32| {
            let mut inbox = Inbox::new(Delivers::Data);
            inbox.sent = Some(Sent::so_far(&[0, 0, 0, 0, 6]));
            let mut expect = Expect::all_of(4);
            expect.begin_anywhere();
            inbox.begin(&mut expect);
            let text: String = (first..9).map(|seq| format!("data: {}\n", event(seq))).collect();
            inbox.read_lines(9, &mut expect, None, text.as_bytes(), 51_000);
            assert!(first == 9 || expect.streams()[0].1.is_after(9));
            inbox.ledger.close().0.lost + u64::from(9 - expect.streams()[0].1.due_of(9))
        };
        assert_eq!([4, 5, 6, 7, 8, 9].map(lost), [0, 0, 0, 1, 2, 3]);
    }

    #[test]
    fn gap_is_a_fault() {
        let text = format!("data: {}\n\nevent: visnyk.gap\ndata: {{}}\n\n", event(0));
        let verified = read(Delivers::Data, &text).0.ledger.close().0;
        assert_eq!((verified.gaps, verified.is_clean()), (1, false));
    }

    #[test]
    fn every_fault_is_counted() {
        let faults = |events: &[String]| {
            let text: String = events.iter().map(|event| format!("data: {event}\n\n")).collect();
            let verified = read(Delivers::Data, &text).0.ledger.close().0;
            (verified.lost, verified.repeated, verified.reordered, verified.corrupt)
        };
        assert_eq!(faults(&[event(0), event(1)]), (0, 0, 0, 0));
        assert_eq!(faults(&[event(0), event(2)]), (1, 0, 0, 0));
        assert_eq!(faults(&[event(0), event(0), event(1)]), (0, 1, 0, 0));
        assert_eq!(faults(&[event(0), event(2), event(1)]), (0, 0, 1, 0));
        assert_eq!(faults(&[event(0).replace('0', "1")]), (0, 0, 0, 1));
        assert_eq!(faults(&[event(0) + "x"]), (0, 0, 0, 1));
    }
}
