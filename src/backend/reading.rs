//! Where a subscription starts, and how it reads on: channels that it names are merged, for
//! patterns the journal is read, and what lies before the journal is replayed.

use std::sync::Arc;

use super::{
    ChannelEntry, MemoryBackend,
    journal::{Includes, Lost},
    replay::{LostSome, Replay},
};
use crate::{
    core::{FellOff, Slice},
    model::{ChannelName, ChannelPattern, Event, Gap, GapReason, Seq, Start},
};

/// What a reader knows besides its cursor. A reader that never read has the default.
#[derive(Debug, Default)]
pub struct Reading {
    told: Told,
    replay: Option<Box<Replay>>,
}

/// The evictions that a reader knows of, because it started at the oldest event or has been told
/// of a gap. Losses by later ones are news to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Told(pub(super) u64);

impl Told {
    pub(super) const ALL: Self = Self(u64::MAX);
}

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The reader has everything up to here.
    pub after: Seq,
    /// No further than this.
    pub through: Seq,
    /// Events at most.
    pub events_max: usize,
    /// No event more once there are as many frame bytes.
    pub bytes_max: usize,
}

/// A part of what a subscription receives.
#[derive(Debug, Default)]
pub struct Piece {
    /// Events, in log order.
    pub events: Vec<Arc<Event>>,
    /// Everything of the subscription up to here is among them or was before.
    pub through: Seq,
    /// Whether that is not all of the span. There need not be an event yet: one look goes only so
    /// far.
    pub more: bool,
}

/// Where a subscription starts, and what it missed.
#[derive(Debug)]
pub struct Resume {
    /// Everything up to here is the client's already.
    pub cursor: Seq,
    /// The head of the log before this was found out.
    pub head: Seq,
    /// What is gone.
    pub gap: Option<Gap>,
    /// For reading on from the cursor.
    pub reading: Reading,
}

impl MemoryBackend {
    /// Where a subscription starts. `named` are the channels it names. The caller reads `head`
    /// after it has registered, so that nothing is lost between: whatever lies up to the head is
    /// found by reading, whatever comes after it is sent. What has been lost by now counts as
    /// told to a reader that starts at the oldest event or behind a gap.
    pub fn resume<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        start: &Start,
        head: Seq,
    ) -> Resume {
        let begin = |after| self.begin_at_oldest(patterns, named.clone(), after, head);
        let ((cursor, reading), lost) = match start {
            Start::Now => ((head, Reading::default()), None),
            Start::Earliest => (begin(Seq::ZERO), None),
            Start::Unknown(token) => {
                (begin(Seq::ZERO), Some((GapReason::UnknownPosition, token.clone(), None)))
            }
            Start::At(at) if at.epoch != self.epoch() => {
                (begin(Seq::ZERO), Some((GapReason::Epoch, at.to_string(), None)))
            }
            Start::At(at) if at.seq > head => {
                (begin(Seq::ZERO), Some((GapReason::UnknownPosition, at.to_string(), None)))
            }
            Start::At(at) => match self.go_on(patterns, named.clone(), at.seq, head) {
                Ok(reading) => ((at.seq, reading), None),
                Err(LostSome(channel)) => {
                    (begin(at.seq), Some((GapReason::Evicted, at.to_string(), channel)))
                }
            },
        };
        let gap = lost.map(|(reason, requested, channel)| Gap {
            reason,
            requested,
            oldest: self.position(cursor),
            channel,
        });
        Resume { cursor, head, gap, reading }
    }

    /// The next piece of a subscription. A read that is not at its end goes on at the piece's
    /// `through`; going back to a place within the last piece is cheap.
    pub fn read<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        reading: &mut Reading,
        span: &Span,
    ) -> Result<Piece, FellOff> {
        let told = reading.told;
        if patterns.is_empty() {
            return self.merge(named, told, span);
        }
        if let Some(replay) = &mut reading.replay
            && let Some(piece) = replay.read(told, span)
        {
            return piece;
        }
        reading.replay = None;
        if let Some(piece) = self.journal().read(&includes(patterns, named.clone()), told, span) {
            return piece.map_err(|Lost(_)| FellOff);
        }
        let (after, through) = (span.after, span.through);
        let replay = Replay::collect(self.directory(), patterns, named, told, after, through);
        let replay = reading.replay.insert(Box::new(replay.map_err(|_| FellOff)?));
        // At its end already if there is nothing to read.
        replay.read(told, span).unwrap_or_else(|| {
            Ok(Piece { events: Vec::new(), through: after.max(through), more: false })
        })
    }

    /// A reader that has everything up to `after`, unless something has been lost since.
    fn go_on<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        after: Seq,
        head: Seq,
    ) -> Result<Reading, LostSome> {
        let reading = Reading::default();
        if patterns.is_empty() {
            return match named.clone().find(|entry| entry.has_lost(after)) {
                Some(entry) => Err(LostSome(Some(entry.name().clone()))),
                None => Ok(reading),
            };
        }
        let wants = includes(patterns, named.clone());
        let mut span = Span { after, through: head, events_max: 0, bytes_max: 0 };
        for _ in 0..wants.begin_looks() {
            if span.after >= head {
                break;
            }
            let looked = self.journal().look_for_losses(&wants, &span);
            span.after = match looked {
                Some(Ok(through)) => through,
                Some(Err(Lost(channel))) => return Err(LostSome(Some(channel))),
                None => {
                    let (told, from) = (reading.told, self.directory());
                    let replay = Replay::collect(from, patterns, named, told, after, head)?;
                    return Ok(Reading { replay: Some(Box::new(replay)), ..reading });
                }
            };
        }
        // A loss further on is found by reading.
        Ok(reading)
    }

    /// The position just before the oldest event after `after` that is still there, and a reader
    /// that has been told of everything that is not.
    fn begin_at_oldest<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        after: Seq,
        head: Seq,
    ) -> (Seq, Reading) {
        let before = |oldest: Option<Seq>| oldest.map_or(head.max(after), |seq| Seq(seq.0 - 1));
        if patterns.is_empty() {
            // Evictions from here on are news.
            let told = self.journal().told();
            let next = |entry: &Arc<ChannelEntry>| entry.next_after(after, Told::ALL).ok()?;
            let oldest = named.filter_map(next).filter(|seq| *seq <= head).min();
            return (before(oldest), Reading { told, replay: None });
        }
        let wants = includes(patterns, named.clone());
        let mut span = Span { after, through: head, events_max: 1, bytes_max: 1 };
        for look in 1.. {
            let journal = self.journal();
            // With the piece under one lock: what it finds is there when this is told.
            let told = journal.told();
            let Some(Ok(piece)) = journal.read(&wants, Told::ALL, &span) else { break };
            drop(journal);
            if look == wants.begin_looks() && piece.events.is_empty() {
                // Nothing has been found up to here: it may as well begin here.
                return (piece.through, Reading { told, replay: None });
            }
            if !piece.more || !piece.events.is_empty() {
                let oldest = piece.events.first().map(|event| event.seq);
                return (before(oldest), Reading { told, replay: None });
            }
            span.after = piece.through;
        }
        let collected = Replay::collect(self.directory(), patterns, named, Told::ALL, after, head);
        let told = self.journal().told();
        let Ok(mut replay) = collected else {
            // Nothing is a loss to who has been told of everything.
            return (head.max(after), Reading { told, replay: None });
        };
        // Checked after the telling, so that what is called the oldest is not among the told.
        let cursor = before(replay.oldest());
        replay.start_after(cursor);
        (cursor, Reading { told, replay: Some(Box::new(replay)) })
    }

    /// The named channels of one connection, merged; there are as many as it may name.
    fn merge<'a>(
        &self,
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        told: Told,
        span: &Span,
    ) -> Result<Piece, FellOff> {
        let count = named.clone().count();
        let each = Span {
            events_max: match count {
                0 | 1 => span.events_max,
                _ => (2 * span.events_max / count).max(4),
            },
            ..*span
        };
        let mut merged = Slice::default();
        // Past the last event of a channel that has more, the merge would leave holes.
        let mut horizon = span.through;
        for entry in named {
            if entry.last_seq() <= span.after && count > 1 {
                continue;
            }
            let part = entry.read(told, &each)?;
            if part.more {
                let last = part.events.last().map_or(span.after, |event| event.seq);
                horizon = horizon.min(last);
                merged.more = true;
            }
            match merged.events.is_empty() {
                true => merged.events = part.events,
                false => merged.events.extend(part.events),
            }
        }
        if count > 1 {
            merged.events.retain(|event| event.seq <= horizon);
            merged.events.sort_unstable_by_key(|event| event.seq);
            let mut bytes = 0;
            let within = merged.events.iter().take(span.events_max).take_while(|event| {
                let before = bytes;
                bytes += event.bytes().len();
                before < span.bytes_max
            });
            let within = within.count();
            merged.more |= within < merged.events.len();
            merged.events.truncate(within);
        }
        let through = match merged.events.last() {
            Some(last) if merged.more => last.seq,
            _ => span.through.max(span.after),
        };
        Ok(Piece { events: merged.events, through, more: merged.more })
    }
}

/// Whether a subscription receives a channel.
fn includes<'a>(
    patterns: &[ChannelPattern],
    named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
) -> Includes<impl Fn(&ChannelName) -> bool> {
    Includes {
        weight: patterns.iter().map(ChannelPattern::weight).sum::<usize>() + named.clone().count(),
        includes: move |channel: &ChannelName| {
            patterns.iter().any(|pattern| pattern.matches(channel))
                || named.clone().any(|entry| entry.name() == channel)
        },
    }
}
