//! One client of the model: what it has received, compared with what it must receive.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

use bytes::Bytes;

use super::{
    pipe::Pipe,
    retention::Retention,
    world::{Ask, World},
};
use crate::{
    actors::{shard::lane::ROUND, slot_key::SlotKey, subscriber::Form},
    backend::LAST_EVENTS_MAX,
    core::{CloseReason, SlowPolicy, Transport},
    model::{
        CHUNK_HEAD_BYTES, CHUNK_TAIL_BYTES, ChannelName, ChannelSelector, EnvelopeEncoding, Event,
        EventEncoding, EventKind, EventType, LAST_CHUNK, Position, Seq, Start, TransferCoding,
    },
};

/// A client, with its own account of the events that it must receive.
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) engine: usize,
    pub(super) key: Option<SlotKey>,
    pub(super) pipe: Pipe,
    pub(super) ask: Ask,
    selectors: Vec<ChannelSelector>,
    pub(super) ended: Option<CloseReason>,
    /// The client has received all events up to this seq, or is excused from them.
    at: u64,
    /// Events that were lost before the client came, and were reported or not asked for.
    excused: BTreeSet<u64>,
    /// Events older than the last ones that the client asked for: it must not receive them.
    unwanted: BTreeSet<u64>,
    /// Events beyond the limit of those that all its channels together start with: they may come if
    /// others are lost meanwhile.
    capped: BTreeSet<u64>,
    /// The head of the log when the client came.
    came_at: u64,
    /// Events that were lost before the start was found; the client is excused from them if it gets
    /// a gap.
    excused_by_gap: BTreeSet<u64>,
    gap: GapDue,
    /// Events up to this seq do not count as lag.
    replay_through: u64,
    /// Bytes that were parsed.
    parsed: usize,
    blocks: usize,
    seen_closed: HashSet<String>,
    /// Whether it has lagged beyond its bound since the last action of its policy.
    was_over: bool,
    /// Whether events that it must receive were lost since the last action of its policy.
    fell_off: bool,
    /// The policy must act before any event after this seq.
    must_skip_after: Option<u64>,
    /// Since when it has accepted no byte that was due, and since when no byte at all.
    pub(super) blocked_ms: Option<u64>,
    pub(super) written_ms: u64,
    written: usize,
    /// When its engine last had nothing left to do, if the client was behind then: the bytes that
    /// it had accepted, and the seq up to which the engine had the log.
    behind_at_rest: Option<(usize, u64)>,
    /// Its position when it last had everything while its engine had nothing left to do.
    live_at: u64,
}

/// Whether the client must get a gap at its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GapDue {
    Never,
    Perhaps,
    Must(&'static str),
}

impl Client {
    /// A client that is about to attach. The log as it is now says what it must receive.
    pub(super) fn new(
        world: &World,
        kept: &Retention,
        engine: usize,
        ask: Ask,
        pipe: Pipe,
    ) -> Self {
        let head = world.backend.head().0;
        let selectors = ask.selectors.iter().map(|s| ChannelSelector::parse(s).unwrap()).collect();
        let mut client = Self {
            id: 0,
            engine,
            key: None,
            pipe,
            selectors,
            ended: None,
            at: 0,
            excused: BTreeSet::new(),
            unwanted: BTreeSet::new(),
            capped: BTreeSet::new(),
            came_at: head,
            excused_by_gap: BTreeSet::new(),
            gap: GapDue::Never,
            replay_through: head,
            parsed: 0,
            blocks: 0,
            seen_closed: HashSet::new(),
            was_over: false,
            fell_off: false,
            must_skip_after: None,
            blocked_ms: None,
            written_ms: world.now_ms,
            written: 0,
            behind_at_rest: None,
            live_at: head,
            ask,
        };
        (client.at, client.gap) = match &client.ask.start {
            Start::Now => (head, GapDue::Never),
            Start::Earliest | Start::Last(_) => (0, GapDue::Never),
            Start::Unknown(_) => (0, GapDue::Must("unknown_position")),
            Start::At(at) if at.epoch != world.backend.epoch() => (0, GapDue::Must("epoch")),
            Start::At(at) if at.seq.0 > head => (0, GapDue::Must("unknown_position")),
            Start::At(at) if client.lost(world, kept, at.seq.0).next().is_some() => {
                (at.seq.0, GapDue::Must("evicted"))
            }
            Start::At(at) if kept.is_vague() => (at.seq.0, GapDue::Perhaps),
            Start::At(at) => (at.seq.0, GapDue::Never),
        };
        client.excused = client.lost(world, kept, client.at).collect();
        if let Start::Last(each) = client.ask.start {
            client.start_with_last(world, kept, each.get());
        }
        client
    }

    /// The newest `each` wanted events of each channel, and of these together the newest.
    fn start_with_last(&mut self, world: &World, kept: &Retention, each: usize) {
        let mut left: HashMap<&ChannelName, usize> = HashMap::new();
        let mut included = Vec::new();
        let (mut unwanted, mut between) = (BTreeSet::new(), HashMap::new());
        for event in world.log.iter().rev().filter(|event| self.matches(event)) {
            let left = left.entry(&event.channel).or_insert(each);
            let between: &mut Vec<u64> = between.entry(&event.channel).or_default();
            if *left == 0 || !kept.holds(event.seq.0) {
                unwanted.insert(event.seq.0);
            } else if !self.wants(event) {
                between.push(event.seq.0);
            } else {
                *left -= usize::from(event.kind == EventKind::Published);
                included.push(event.seq.0);
                between.clear();
            }
        }
        // Events of other types before the first wanted one are not read.
        unwanted.extend(between.into_values().flatten());
        self.unwanted = unwanted;
        let mut capped: BTreeSet<u64> = included.into_iter().skip(LAST_EVENTS_MAX).collect();
        if let Some(&newest) = capped.last() {
            let older = world.log.iter().filter(|e| e.seq.0 <= newest && self.matches(e));
            capped.extend(older.map(|event| event.seq.0));
        }
        self.capped = capped;
    }

    /// Whether an event may be missing, because it was lost before or was not asked for.
    fn is_excused(&self, seq: u64) -> bool {
        [&self.excused, &self.unwanted, &self.capped].iter().any(|set| set.contains(&seq))
    }

    pub(super) fn is_poll(&self) -> bool {
        matches!(self.ask.form, Form::Poll { .. })
    }

    fn has_patterns(&self) -> bool {
        self.selectors.iter().any(|selector| matches!(selector, ChannelSelector::Pattern(_)))
    }

    fn matches(&self, event: &Event) -> bool {
        self.selectors.iter().any(|selector| match selector {
            ChannelSelector::Name(name) => *name == event.channel,
            ChannelSelector::Pattern(pattern) => pattern.matches(&event.channel),
        })
    }

    fn wants(&self, event: &Event) -> bool {
        let types = &self.ask.types;
        self.matches(event)
            && (types.is_empty()
                || event.kind == EventKind::Closed
                || types.contains(&event.frame.event_type().unwrap_or(EventType::DEFAULT)))
    }

    /// Events of its channels after `after` that history no longer holds.
    fn lost<'a>(
        &'a self,
        world: &'a World,
        kept: &'a Retention,
        after: u64,
    ) -> impl Iterator<Item = u64> + 'a {
        let events = world.log.iter().skip(after as usize);
        events.filter(|e| self.matches(e) && !kept.holds(e.seq.0)).map(|e| e.seq.0)
    }

    /// The events that the client still has to receive, up to `through`.
    fn due<'a>(
        &'a self,
        world: &'a World,
        through: Seq,
    ) -> impl Iterator<Item = &'a Arc<Event>> + 'a {
        let events = world.log.iter().take(through.0 as usize).skip(self.at as usize);
        events.filter(|e| self.wants(e) && !self.is_excused(e.seq.0))
    }

    /// An event's chunk, or its text if the client has no chunks.
    fn wire(&self, event: &Event) -> Vec<u8> {
        let mut wire = Vec::new();
        self.ask.coding.wrap(&mut wire, |out| out.extend_from_slice(&self.encode(event)));
        wire
    }

    fn encode(&self, event: &Event) -> Bytes {
        match self.ask.form {
            Form::Framed(_) if event.kind == EventKind::Published => {
                let mut out = Vec::new();
                EnvelopeEncoding.encode(event, &mut out);
                out.into()
            }
            _ => Bytes::copy_from_slice(event.text()),
        }
    }

    /// The least and the most that the client may lag. The event in flight does not count as lag,
    /// but a few bytes do not always show that it is in flight.
    fn lag(&self, world: &World) -> (Lag, Lag) {
        let (mut least, mut most) = (Lag::default(), Lag::default());
        let taken = self.pipe.taken();
        let tail = &taken[self.parsed..self.written.max(self.parsed)];
        let own: [&[u8]; 4] = [b":\n", b"id: ", b"event: visnyk.gap", b"retry: "];
        let text = match self.ask.coding {
            TransferCoding::None => tail,
            TransferCoding::Chunked => tail.get(CHUNK_HEAD_BYTES..).unwrap_or_default(),
        };
        for (nth, event) in self.due(world, world.given[self.engine]).enumerate() {
            let bytes = self.encode(event);
            let (mut in_flight, mut vague) = (false, false);
            if nth == 0 && !tail.is_empty() {
                in_flight = self.wire(event).starts_with(tail);
                vague = own.iter().any(|words| words.starts_with(text) || text.starts_with(words));
            }
            if event.seq.0 > self.replay_through {
                if !in_flight || vague {
                    most.add(&bytes);
                }
                if !in_flight {
                    least.add(&bytes);
                }
            }
        }
        (least, most)
    }

    /// How far the client may lag beyond its bounds, at least: for batches that it has yet to
    /// receive as a whole.
    fn allowed_at_least(&self, world: &World) -> Lag {
        let from = self.at.max(self.replay_through);
        let given = world.given[self.engine].0;
        let batches = world.batches.iter();
        let due = batches.filter(|(first, last)| *first > from && *last <= given);
        due.fold(Lag::default(), |allowed, &(first, last)| {
            // The first event may be in flight, which is not lag.
            let in_flight = self.due(world, Seq(last)).next().map_or(0, |event| event.seq.0);
            let lag = self.size(world, first.max(in_flight + 1), last);
            allowed.max(lag.allows(world))
        })
    }

    /// How far the client may lag beyond its bounds, at most: for the largest round that may have
    /// been sent since it was live.
    fn allowed_at_most(&self, world: &World) -> Lag {
        let batches = world.batches.iter().filter(|(_, last)| *last > self.live_at);
        let largest = batches.fold(Lag::default(), |largest, &(first, last)| {
            largest.max(self.size(world, first, last))
        });
        let gathered = Lag {
            events: largest.events + ROUND.events as u32,
            bytes: largest.bytes + ROUND.bytes as u64,
        };
        gathered.allows(world)
    }

    /// The size of its events between two seqs, both included.
    fn size(&self, world: &World, first: u64, last: u64) -> Lag {
        let mut size = Lag::default();
        let events = world.log.iter().take(last as usize).skip(first as usize - 1);
        events.filter(|event| self.wants(event)).for_each(|event| size.add(&self.encode(event)));
        size
    }

    /// Called after every step and before [`read`](Self::read). Notes what may have made its policy
    /// act in the step.
    pub(super) fn watch(&mut self, world: &World, kept: &Retention) {
        if self.key.is_some_and(|key| world.engines[self.engine].is_searching_start(key)) {
            self.watch_start_search(world, kept);
        }
        let (_, most) = self.lag(world);
        self.was_over |= most.is_over(world, self.allowed_at_least(world));
        let fell_off = self.lost(world, kept, self.at).any(|seq| !self.is_excused(seq));
        self.fell_off |= fell_off || kept.is_vague();
    }

    /// The start of the client is still being searched for. Of the events lost meanwhile, it need
    /// not get those that existed when it came: it begins with the oldest event, or gets a gap.
    fn watch_start_search(&mut self, world: &World, kept: &Retention) {
        let is_last = matches!(self.ask.start, Start::Last(_));
        assert!((self.has_patterns() || is_last) && self.blocks == 0);
        self.replay_through = world.backend.head().0;
        let lost: BTreeSet<u64> = self.lost(world, kept, self.at).collect();
        // Other events may then be among the last ones, and be lost.
        self.fell_off |= is_last && !self.capped.is_empty() && !lost.is_empty();
        let came_since = lost.iter().any(|seq| *seq > self.came_at);
        match (&self.ask.start, self.gap) {
            (Start::At(_), GapDue::Never | GapDue::Perhaps | GapDue::Must("evicted")) => {
                // As when the client came: if the hub no longer knows which channels lost what, it
                // may report a gap.
                if self.gap == GapDue::Never && (!lost.is_empty() || kept.is_vague()) {
                    self.gap = GapDue::Perhaps;
                }
                // The gap may cover these events or not.
                self.fell_off |= came_since;
                self.excused_by_gap = lost;
            }
            _ => self.excused = lost.into_iter().filter(|seq| *seq <= self.came_at).collect(),
        }
    }

    /// Parses the bytes that have come since the last call. Panics on bytes that must not come.
    pub(super) fn read(&mut self, world: &World, kept: &Retention) {
        let pipe = self.pipe.clone();
        let taken = pipe.taken();
        if taken.len() > self.written {
            self.written = taken.len();
            self.written_ms = world.now_ms;
            self.blocked_ms = None;
        }
        if pipe.is_blocked() {
            self.blocked_ms.get_or_insert(world.now_ms);
        }
        if self.is_poll() {
            if self.ended == Some(CloseReason::Answered) && self.parsed == 0 {
                self.parsed = taken.len();
                self.read_answer(world, kept, &taken);
            }
            return;
        }
        match self.ask.coding {
            TransferCoding::None => {
                self.parsed += self.read_blocks(world, kept, &taken[self.parsed..])
            }
            TransferCoding::Chunked => {
                while let Some((chunk, used)) = whole_chunk(&taken[self.parsed..]) {
                    assert_eq!(
                        self.read_blocks(world, kept, chunk),
                        chunk.len(),
                        "parts of blocks"
                    );
                    self.parsed += used;
                }
            }
        }
    }

    /// Parses the whole blocks in `bytes`; returns their length.
    fn read_blocks(&mut self, world: &World, kept: &Retention, bytes: &[u8]) -> usize {
        let mut read = 0;
        loop {
            // A heartbeat.
            if bytes[read..].starts_with(b":\n") {
                read += 2;
                continue;
            }
            let Some(end) = find(&bytes[read..], b"\n\n") else { break };
            self.read_block(world, kept, &bytes[read..read + end + 2]);
            read += end + 2;
            self.blocks += 1;
        }
        read
    }

    /// The position from which the client would resume.
    pub(super) fn position(&self) -> u64 {
        self.at
    }

    fn read_block(&mut self, world: &World, kept: &Retention, block: &[u8]) {
        let text = std::str::from_utf8(block).unwrap();
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let seq = field("id: ").and_then(|id| seq_of(world, id));
        if self.blocks == 0 {
            assert!(text.starts_with(": visnyk\nretry: "), "first block {text:?}");
            return self.read_first(world, field("id: "), seq);
        }
        if self.gap != GapDue::Never && self.blocks == 1 {
            // A gap of the policy may come first, if no gap was due at the start.
            let is_gap =
                field("event: ") == Some("visnyk.gap") && !text.contains("\"reason\":\"slow\"");
            match self.gap {
                GapDue::Must(reason) => {
                    assert!(is_gap, "a gap is due, not {text:?}");
                    assert!(text.contains(reason), "{reason} is due, not {text:?}");
                }
                _ if !is_gap => self.gap = GapDue::Never,
                _ => assert!(text.contains("evicted"), "{text:?}"),
            }
            if is_gap {
                self.excused.append(&mut self.excused_by_gap);
                // The client continues at the oldest event: everything before it must be gone.
                return self.move_to(world, seq.unwrap());
            }
        }
        match field("event: ") {
            Some("visnyk.gap") => self.read_slow(world, kept, text, seq.unwrap()),
            Some("visnyk.closed") if seq.is_none() => {
                let name = field("data: ").unwrap();
                let closed = kept.closed(name).unwrap();
                assert!(closed <= self.at, "{name} is closed at {closed}, after {}", self.at);
                assert!(self.seen_closed.insert(name.to_owned()), "{name} closed twice");
            }
            _ if field("data: ").is_some() => self.take(world, seq.unwrap(), block),
            _ if seq.is_some() => self.move_to(world, seq.unwrap()),
            _ => assert!(
                text.starts_with("retry: ")
                    && self.ended.is_some_and(CloseReason::asks_to_reconnect),
                "{text:?} is nothing known"
            ),
        }
    }

    /// Reads the first block. If the connection broke after it, its position must be one from which
    /// nothing is lost.
    fn read_first(&mut self, world: &World, id: Option<&str>, seq: Option<u64>) {
        match &self.ask.start {
            Start::At(at) if self.gap == GapDue::Perhaps => {
                assert!(id.is_none_or(|id| id == at.to_string()), "{id:?}");
            }
            _ if self.gap != GapDue::Never => assert_eq!(id, None, "before a gap"),
            Start::Unknown(_) => unreachable!("it has a gap"),
            Start::At(_) | Start::Now => assert_eq!(seq, Some(self.at)),
            Start::Earliest | Start::Last(_) => self.move_to(world, seq.unwrap()),
        }
    }

    fn take(&mut self, world: &World, seq: u64, block: &[u8]) {
        let event = &world.log[seq as usize - 1];
        assert!(self.wants(event), "{seq} is not one of its events");
        assert!(!self.unwanted.contains(&seq), "{seq} is further back than it asked for");
        assert!(seq > self.at, "{seq} comes after {}", self.at);
        assert_eq!(self.encode(event), block, "the bytes of {seq}");
        if let Some(after) = self.must_skip_after {
            assert!(seq <= after, "{seq} comes although the policy should have acted at {after}");
        }
        self.note(world, event);
        self.at = seq - 1;
        self.move_to_checked(world, seq);
    }

    fn note(&mut self, world: &World, event: &Arc<Event>) {
        // The client must be excused from all events in between.
        let missing = self.due(world, Seq(event.seq.0 - 1)).next();
        assert!(missing.is_none(), "{missing:?} is missing before {}", event.seq.0);
        if event.kind == EventKind::Closed {
            self.seen_closed.insert(event.channel.as_str().to_owned());
        }
    }

    /// Moves the client's position without an event.
    fn move_to(&mut self, world: &World, to: u64) {
        assert!(to >= self.at, "back from {} to {to}", self.at);
        let missing = self.due(world, Seq(to)).next();
        assert!(missing.is_none(), "{missing:?} is missing before position {to}");
        self.move_to_checked(world, to);
    }

    fn move_to_checked(&mut self, world: &World, to: u64) {
        assert!(to <= world.backend.head().0);
        self.at = to;
    }

    /// A gap because the client was too slow.
    fn read_slow(&mut self, world: &World, kept: &Retention, text: &str, to: u64) {
        assert!(text.contains("\"slow\""), "{text:?}");
        assert_eq!(self.ask.policy, SlowPolicy::Skip);
        assert!(self.was_over || self.fell_off, "{self:?} skipped to {to} below its bound");
        let requested = text.split("\"requested\":\"").nth(1).unwrap().split('"').next().unwrap();
        let requested = seq_of(world, requested).unwrap();
        let missing = self.due(world, Seq(requested)).next();
        assert!(missing.is_none(), "{missing:?} is missing before the gap");
        let skipped = &world.log[requested as usize..to as usize];
        assert!(
            skipped.iter().any(|event| self.matches(event)) || kept.is_vague(),
            "a gap from {requested} to {to} without events"
        );
        self.at = to;
        self.replay_through = to;
        self.fell_off = false;
        self.was_over = false;
        self.must_skip_after = None;
        self.behind_at_rest = None;
        // More events may have been lost while this gap was on its way.
        self.watch(world, kept);
    }

    fn read_answer(&mut self, world: &World, kept: &Retention, bytes: &[u8]) {
        let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
        let (status, position) = std::str::from_utf8(&bytes[..end]).unwrap().split_at(3);
        let position = seq_of(world, position.trim()).unwrap();
        if status == "204" {
            assert!(!matches!(self.gap, GapDue::Must(_)), "a gap is due");
            return self.move_to(world, position);
        }
        let body: serde_json::Value = serde_json::from_slice(&bytes[end + 1..]).unwrap();
        match (&body["gap"], self.gap) {
            (serde_json::Value::Null, GapDue::Must(reason)) => panic!("{reason} is due"),
            (serde_json::Value::Null, _) => {}
            (gap, due) => {
                let reason = gap["reason"].as_str().unwrap();
                match due {
                    GapDue::Must(due) => assert_eq!(reason, due),
                    _ => assert!(due == GapDue::Perhaps || self.fell_off, "a gap for nothing"),
                }
                self.excused = self.lost(world, kept, self.at).collect();
                // The client continues with all events that are retained.
                self.unwanted.clear();
                self.move_to(world, seq_of(world, gap["oldest"].as_str().unwrap()).unwrap());
            }
        }
        let events = body["events"].as_array().unwrap();
        for event in events {
            let seq = seq_of(world, event["id"].as_str().unwrap()).unwrap();
            let sent = &world.log[seq as usize - 1];
            assert_eq!(event["data"].as_str().unwrap(), sent.data());
            assert_eq!(event["channel"].as_str().unwrap(), sent.channel.as_str());
            self.take(world, seq, &self.encode(sent));
        }
        let Form::Poll { limit, .. } = self.ask.form else { unreachable!() };
        assert!(events.len() <= limit as usize);
        assert!(!events.is_empty() || self.gap != GapDue::Never || self.fell_off);
        self.move_to(world, position);
    }

    /// Checks that the hub was right to end the connection.
    pub(super) fn judge_end(&mut self, world: &World, kept: &Retention, reason: CloseReason) {
        self.ended = Some(reason);
        match reason {
            CloseReason::SlowConsumer => {
                assert_eq!(self.ask.policy, SlowPolicy::Disconnect);
                assert!(!self.is_poll(), "a poll does not lag");
                assert!(
                    self.was_over || self.fell_off,
                    "{self:?} was ended below its bound: lag {:?}",
                    self.lag(world)
                );
            }
            CloseReason::WriteStalled => {
                let stall_ms = u64::from(world.limits.connections.write_stall_s) * 1_000;
                assert!(world.now_ms - self.written_ms >= stall_ms);
            }
            CloseReason::ChannelClosed => {
                assert!(!self.has_patterns());
                self.read(world, kept);
                for selector in &self.selectors {
                    let closed = kept.closed(selector.as_str());
                    assert!(closed.is_some(), "{selector:?} is open");
                }
                let due = self.due(world, world.backend.head()).next();
                assert!(due.is_none(), "{due:?} is missing at the end");
            }
            CloseReason::Answered => assert!(self.is_poll()),
            CloseReason::Drained => assert_eq!(self.transport(), Transport::Stream),
            CloseReason::PeerClosed | CloseReason::Panicked => {}
            other => panic!("ended by {other:?}"),
        }
    }

    /// Checks the client while its engine has nothing left to do.
    pub(super) fn check_at_rest(&mut self, world: &World, kept: &Retention) {
        if self.ended.is_some() {
            return;
        }
        let through = world.given[self.engine];
        let behind = self.due(world, through).any(|event| event.seq.0 > self.replay_through);
        let (least, _) = self.lag(world);
        if !behind {
            self.live_at = self.at;
        }
        if let Some((written, given)) = self.behind_at_rest
            && written == self.written
            && self.due(world, through).any(|event| event.seq.0 > given)
            && least.is_over(world, self.allowed_at_most(world))
            && !self.is_poll()
        {
            match self.ask.policy {
                SlowPolicy::Disconnect => panic!("{self:?} lags {least:?} and is not ended"),
                SlowPolicy::Skip => {
                    let first = self.due(world, through).next().map_or(self.at, |e| e.seq.0);
                    self.must_skip_after.get_or_insert(first);
                }
            }
        }
        self.behind_at_rest = behind.then_some((self.written, through.0));
        if !self.pipe.is_blocked() {
            let missing = self.due(world, through).next();
            assert!(missing.is_none(), "{missing:?} is missing at rest for {self:?}");
            if self.is_poll() {
                assert!(!matches!(self.gap, GapDue::Must(_)), "a gap is not waited with");
            } else if !self.has_patterns() {
                let all_closed = self.selectors.iter().all(|selector| {
                    kept.closed(selector.as_str()).is_some_and(|seq| seq <= through.0)
                });
                assert!(!all_closed, "all channels of {self:?} are closed");
            }
        }
    }

    /// Checks the client after a tick.
    pub(super) fn check_after_tick(&mut self, world: &World) {
        if self.ended.is_some() || self.is_poll() {
            return;
        }
        let limits = &world.limits.connections;
        let stall_ms = u64::from(limits.write_stall_s) * 1_000;
        let heartbeat_ms = u64::from(limits.heartbeat_s) * 1_000;
        let since = self.blocked_ms.map(|ms| ms.max(self.written_ms));
        if let Some(since) = since {
            let stalled_ms = world.now_ms - since;
            assert!(stalled_ms < stall_ms + 2 * TICK_MS, "{self:?} stalls for {stalled_ms} ms");
        } else if self.ask.types.is_empty()
            && self.pipe.is_roomy()
            && world.engines[self.engine].is_idle()
            && self.due(world, world.backend.head()).next().is_none()
        {
            let quiet_ms = world.now_ms - self.written_ms;
            assert!(quiet_ms < heartbeat_ms + 2 * TICK_MS, "{self:?} hears nothing");
        }
    }

    fn transport(&self) -> Transport {
        if self.is_poll() { Transport::Poll } else { Transport::Stream }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, ask, at, gap, replay_through, ended, pipe, .. } = self;
        write!(
            f,
            "client {id} at {at} of {ask:?}, gap {gap:?}, replay through {replay_through}, "
        )?;
        write!(f, "blocked {}, ended {ended:?}, taken {:?}", pipe.is_blocked(), pipe.text())
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Lag {
    events: u32,
    bytes: u64,
}

impl Lag {
    /// Counts an event, as the chunk that it is for most clients.
    fn add(&mut self, text: &Bytes) {
        self.events += 1;
        self.bytes += (CHUNK_HEAD_BYTES + text.len() + CHUNK_TAIL_BYTES) as u64;
    }

    /// Whether the lag is above the bounds and what large batches permit beyond them.
    fn is_over(self, world: &World, allowed: Lag) -> bool {
        let limits = &world.limits.connections;
        self.events > limits.lag_events_max + allowed.events
            || self.bytes > limits.lag_bytes_max + allowed.bytes
    }

    /// The lag that a round of this size permits beyond the bounds.
    fn allows(self, world: &World) -> Lag {
        let limits = &world.limits.connections;
        Lag {
            events: if self.events > limits.lag_events_max { self.events } else { 0 },
            bytes: if self.bytes > limits.lag_bytes_max { self.bytes } else { 0 },
        }
    }

    fn max(self, other: Self) -> Self {
        Self { events: self.events.max(other.events), bytes: self.bytes.max(other.bytes) }
    }
}

/// The text of the chunk at the beginning of `bytes`, and the length of the chunk; `None` if it is
/// incomplete.
fn whole_chunk(bytes: &[u8]) -> Option<(&[u8], usize)> {
    if bytes.starts_with(LAST_CHUNK) {
        assert_eq!(bytes, LAST_CHUNK, "bytes after the last chunk");
        return Some((&[], bytes.len()));
    }
    let head = std::str::from_utf8(bytes.get(..CHUNK_HEAD_BYTES)?).unwrap();
    let size = usize::from_str_radix(head.strip_suffix("\r\n").unwrap(), 16).unwrap();
    let used = CHUNK_HEAD_BYTES + size + CHUNK_TAIL_BYTES;
    let text = bytes.get(..used)?[CHUNK_HEAD_BYTES..].strip_suffix(b"\r\n").unwrap();
    assert!(!text.is_empty(), "an empty chunk");
    Some((text, used))
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

/// The seq of a position of this log.
fn seq_of(world: &World, token: &str) -> Option<u64> {
    match Start::parse(token) {
        Ok(Start::At(Position { epoch, seq })) if epoch == world.backend.epoch() => Some(seq.0),
        _ => None,
    }
}

const TICK_MS: u64 = 64;
