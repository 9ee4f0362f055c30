//! Where a subscription starts, and what it missed.
//!
//! Mostly that is known at once. Who asks by patterns for what lies before the journal has it found
//! out in pieces, with a look at each channel, and begins when that is done.

use std::{mem, sync::Arc};

use super::{
    ChannelEntry, MemoryBackend,
    collection::{Collection, LostSome},
    journal::Lost,
    reading::{Before, Reading, Span, Told, includes},
};
use crate::model::{ChannelName, ChannelPattern, Gap, GapReason, Position, Seq, Start};

/// Where a subscription starts.
#[derive(Debug)]
pub struct Resume {
    /// Everything up to here is the client's already, or it is not known yet.
    pub cursor: Seq,
    /// The head of the log before this was found out.
    pub head: Seq,
    /// What is gone.
    pub gap: Option<Gap>,
    /// For reading on from the cursor. While it [looks back](Reading::is_looking_back), where the
    /// subscription starts is not known.
    pub reading: Reading,
}

/// Where a subscription starts, found out in pieces.
#[derive(Debug)]
pub struct Begun {
    /// Everything up to here is the client's already.
    pub cursor: Seq,
    /// What is gone.
    pub gap: Option<Gap>,
}

/// A look back, under way.
#[derive(Debug)]
pub(super) struct Beginning {
    collection: Collection,
    /// The head of the log when the look began.
    head: Seq,
    aim: Aim,
}

#[derive(Debug)]
enum Aim {
    /// Whether nothing has been lost after this position.
    GoOn(Position),
    /// The oldest event that is still there.
    Oldest(Option<Missed>),
}

/// Why events before the oldest one are missed.
#[derive(Debug)]
struct Missed {
    reason: GapReason,
    requested: String,
    channel: Option<ChannelName>,
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
        let missed = |reason, requested, channel| Some(Missed { reason, requested, channel });
        let (after, missed) = match start {
            Start::Now => {
                return Resume { cursor: head, head, gap: None, reading: Reading::default() };
            }
            Start::Earliest => (Seq::ZERO, None),
            Start::Unknown(token) => {
                (Seq::ZERO, missed(GapReason::UnknownPosition, token.clone(), None))
            }
            Start::At(at) if at.epoch != self.epoch() => {
                (Seq::ZERO, missed(GapReason::Epoch, at.to_string(), None))
            }
            Start::At(at) if at.seq > head => {
                (Seq::ZERO, missed(GapReason::UnknownPosition, at.to_string(), None))
            }
            Start::At(at) => match self.go_on(patterns, named.clone(), *at, head) {
                Ok(reading) => return Resume { cursor: at.seq, head, gap: None, reading },
                Err(LostSome(channel)) => {
                    (at.seq, missed(GapReason::Evicted, at.to_string(), channel))
                }
            },
        };
        self.begin_at_oldest(patterns, named, after, head, missed)
    }

    /// Goes on to find out where a subscription starts; nothing while there is more to look at. One
    /// look costs a tenth of a millisecond, and no lock is held between two. What has been lost by
    /// the last, of what was published before the first, counts as told as above.
    pub fn look_back<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        reading: &mut Reading,
    ) -> Option<Begun> {
        let Before::Beginning(mut beginning) = mem::take(&mut reading.before) else {
            debug_assert!(false, "it is known where it starts");
            return None;
        };
        let looked = beginning.collection.look(self.directory(), patterns, named);
        let Beginning { collection, head, aim } = match looked {
            Ok(false) => {
                reading.before = Before::Beginning(beginning);
                return None;
            }
            Ok(true) => *beginning,
            Err(LostSome(channel)) => {
                if let Aim::GoOn(at) = beginning.aim {
                    let (reason, requested) = (GapReason::Evicted, at.to_string());
                    let missed = Some(Missed { reason, requested, channel });
                    // What has come and gone since is missed too.
                    let oldest =
                        Beginning::at_oldest(beginning.collection.after(), self.head(), missed);
                    reading.before = Before::Beginning(Box::new(oldest));
                    return None;
                }
                unreachable!("nothing is a loss to who has been told of everything")
            }
        };
        let after = collection.after();
        let mut replay = collection.merge();
        match aim {
            Aim::GoOn(at) => {
                reading.before = Before::Merging(Box::new(replay));
                Some(Begun { cursor: at.seq, gap: None })
            }
            Aim::Oldest(missed) => {
                reading.told = self.journal().told(head);
                // Checked after the telling, so that what is called the oldest is not among the told.
                let cursor = before(replay.oldest(), after, head);
                replay.start_after(cursor);
                reading.before = Before::Merging(Box::new(replay));
                Some(Begun { cursor, gap: self.gap(missed, cursor) })
            }
        }
    }

    /// A reader that has everything up to a position, unless something has been lost since.
    fn go_on<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        at: Position,
        head: Seq,
    ) -> Result<Reading, LostSome> {
        let after = at.seq;
        if patterns.is_empty() {
            return match named.clone().find(|entry| entry.has_lost(after)) {
                Some(entry) => Err(LostSome(Some(entry.name().clone()))),
                None => Ok(Reading::default()),
            };
        }
        let wants = includes(patterns, named);
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
                    let collection = Collection::new(Told::default(), after, head);
                    let aim = Aim::GoOn(at);
                    return Ok(Reading::beginning(Beginning { collection, head, aim }));
                }
            };
        }
        // A loss further on is found by reading.
        Ok(Reading::default())
    }

    /// A start just before the oldest event after `after` that is still there, for a reader that has
    /// been told of everything that is not.
    fn begin_at_oldest<'a>(
        &self,
        patterns: &[ChannelPattern],
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        after: Seq,
        head: Seq,
        missed: Option<Missed>,
    ) -> Resume {
        let begin = |cursor, told, missed| Resume {
            cursor,
            head,
            gap: self.gap(missed, cursor),
            reading: Reading { told, ..Reading::default() },
        };
        if patterns.is_empty() {
            // Evictions from here on are news.
            let told = self.journal().told(head);
            let next = |entry: &Arc<ChannelEntry>| entry.next_after(after, Told::ALL).ok()?;
            let oldest = named.filter_map(next).filter(|seq| *seq <= head).min();
            return begin(before(oldest, after, head), told, missed);
        }
        let wants = includes(patterns, named);
        let mut span = Span { after, through: head, events_max: 1, bytes_max: 1 };
        for look in 1.. {
            let journal = self.journal();
            // With the piece under one lock: what it finds is there when this is told.
            let told = journal.told(head);
            let Some(Ok(piece)) = journal.read(&wants, Told::ALL, &span) else { break };
            drop(journal);
            if look == wants.begin_looks() && piece.events.is_empty() {
                // Nothing has been found up to here: it may as well begin here.
                return begin(piece.through, told, missed);
            }
            if !piece.more || !piece.events.is_empty() {
                let oldest = piece.events.first().map(|event| event.seq);
                return begin(before(oldest, after, head), told, missed);
            }
            span.after = piece.through;
        }
        let reading = Reading::beginning(Beginning::at_oldest(after, head, missed));
        Resume { cursor: after, head, gap: None, reading }
    }

    fn gap(&self, missed: Option<Missed>, cursor: Seq) -> Option<Gap> {
        let Missed { reason, requested, channel } = missed?;
        Some(Gap { reason, requested, oldest: self.position(cursor), channel })
    }
}

impl Beginning {
    fn at_oldest(after: Seq, head: Seq, missed: Option<Missed>) -> Self {
        let collection = Collection::new(Told::ALL, after, head);
        Self { collection, head, aim: Aim::Oldest(missed) }
    }
}

/// Just before the oldest event, or at the head if there is none.
fn before(oldest: Option<Seq>, after: Seq, head: Seq) -> Seq {
    oldest.map_or(head.max(after), |seq| Seq(seq.0 - 1))
}
