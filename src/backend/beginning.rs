//! Where a subscription starts, and what it missed.
//!
//! Mostly that is known after one look. Who asks by patterns for more than one look at the journal
//! comes to, or for what lies before it, has it found out in pieces, and begins when that is done.

use std::{mem, sync::Arc};

use super::{
    ChannelEntry, MemoryBackend,
    collection::Collection,
    journal::{Includes, Lost},
    reading::{Before, Reading, Span, Told, includes},
    replay::Replay,
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
    aim: Aim,
    /// The head of the log when it began; what comes after it is no concern of this.
    head: Seq,
    search: Search,
}

/// What is to be found out.
#[derive(Debug)]
enum Aim {
    /// Whether nothing has been lost after this position.
    GoOn(Position),
    /// The oldest event after `after` that is still there.
    Oldest { after: Seq, missed: Option<Missed> },
}

/// Where it is looked for.
#[derive(Debug)]
enum Search {
    /// In the journal, which has nothing of it up to here.
    Journal(Seq),
    /// In the channels, since the journal does not reach back so far.
    Channels(Collection),
}

/// What a look came to.
enum Looked {
    /// It is known: everything up to the cursor is the client's already, and so it reads on.
    Found { cursor: Seq, reading: Reading },
    /// There is more to look at.
    More(Search),
    /// Something that the client wanted to go on from is gone.
    Lost(Lost),
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
        let now = |cursor| Resume { cursor, head, gap: None, reading: Reading::default() };
        let all_again = |reason, requested| {
            let missed = Some(Missed { reason, requested, channel: None });
            Aim::Oldest { after: Seq::ZERO, missed }
        };
        let aim = match start {
            Start::Now => return now(head),
            Start::Earliest => Aim::Oldest { after: Seq::ZERO, missed: None },
            Start::Unknown(token) => all_again(GapReason::UnknownPosition, token.clone()),
            Start::At(at) if at.epoch != self.epoch() => {
                all_again(GapReason::Epoch, at.to_string())
            }
            Start::At(at) if at.seq > head => all_again(GapReason::UnknownPosition, at.to_string()),
            // At the head, whatever its channels have lost lies before.
            Start::At(at) if at.seq == head => return now(head),
            Start::At(at) => Aim::GoOn(*at),
        };
        if patterns.is_empty() {
            return self.begin_by_names(named, aim, head);
        }
        // Mostly one look is enough.
        let after = aim.after();
        let mut reading = Reading::beginning(Beginning::new(aim, head));
        let begun = self.look_back(patterns, named, &mut reading);
        let Begun { cursor, gap } = begun.unwrap_or(Begun { cursor: after, gap: None });
        Resume { cursor, head, gap, reading }
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
        let Before::Beginning(beginning) = mem::take(&mut reading.before) else {
            debug_assert!(false, "it is known where it starts");
            return None;
        };
        let Beginning { aim, head, search } = *beginning;
        let looked = match search {
            Search::Journal(looked) => {
                self.look_into_journal(&includes(patterns, named), &aim, looked, head)
            }
            Search::Channels(mut collection) => {
                match collection.look(self.directory(), patterns, named) {
                    Ok(true) => self.begin_merge(collection.merge(), &aim, head),
                    Ok(false) => Looked::More(Search::Channels(collection)),
                    Err(lost) => Looked::Lost(lost),
                }
            }
        };
        let beginning = match (looked, aim) {
            (Looked::Found { cursor, reading: found }, aim) => {
                *reading = found;
                return Some(self.begun(cursor, aim));
            }
            (Looked::More(search), aim) => Beginning { aim, head, search },
            // What has come and gone since is missed too.
            (Looked::Lost(Lost(channel)), Aim::GoOn(at)) => {
                Beginning::new(Aim::behind_loss(at, channel), self.head())
            }
            (Looked::Lost(_), Aim::Oldest { .. }) => {
                unreachable!("nothing is a loss to who has been told of everything")
            }
        };
        reading.before = Before::Beginning(Box::new(beginning));
        None
    }

    /// One look at the journal, which has nothing of what is looked for up to `looked`.
    fn look_into_journal(
        &self,
        wants: &Includes<impl Fn(&ChannelName) -> bool>,
        aim: &Aim,
        looked: Seq,
        head: Seq,
    ) -> Looked {
        let span = Span { after: looked, through: head, events_max: 1, bytes_max: 1 };
        let journal = self.journal();
        let in_channels =
            |told| Looked::More(Search::Channels(Collection::new(told, aim.after(), head)));
        match aim {
            Aim::GoOn(at) => match journal.look_for_losses(wants, &span) {
                Some(Ok(through)) if through >= head => {
                    Looked::Found { cursor: at.seq, reading: Reading::default() }
                }
                Some(Ok(through)) => Looked::More(Search::Journal(through)),
                Some(Err(lost)) => Looked::Lost(lost),
                None => in_channels(Told::default()),
            },
            Aim::Oldest { after, .. } => {
                // With the piece under one lock: what it finds is there when this is told.
                let told = journal.told(head);
                match journal.read(wants, Told::ALL, &span) {
                    Some(Ok(piece)) if piece.more && piece.events.is_empty() => {
                        Looked::More(Search::Journal(piece.through))
                    }
                    Some(Ok(piece)) => {
                        let oldest = piece.events.first().map(|event| event.seq);
                        let reading = Reading { told, ..Reading::default() };
                        Looked::Found { cursor: before(oldest, *after, head), reading }
                    }
                    Some(Err(lost)) => Looked::Lost(lost),
                    None => in_channels(Told::ALL),
                }
            }
        }
    }

    /// Begins with what was found in the channels.
    fn begin_merge(&self, mut replay: Replay, aim: &Aim, head: Seq) -> Looked {
        let (cursor, told) = match aim {
            Aim::GoOn(at) => (at.seq, Told::default()),
            Aim::Oldest { after, .. } => {
                let told = self.journal().told(head);
                // Checked after the telling, so that what is called the oldest is not among the
                // told. If all that it holds has gone meanwhile, others may have something behind
                // it.
                let oldest = replay.oldest();
                let cursor = before(oldest, *after, replay.horizon());
                replay.start_after(cursor);
                (cursor, told)
            }
        };
        let reading = Reading { told, before: Before::Merging(Box::new(replay)) };
        Looked::Found { cursor, reading }
    }

    /// Where a subscription without patterns starts: its channels are few, and known.
    fn begin_by_names<'a>(
        &self,
        named: impl Iterator<Item = &'a Arc<ChannelEntry>> + Clone,
        aim: Aim,
        head: Seq,
    ) -> Resume {
        let aim = match aim {
            Aim::GoOn(at) => match named.clone().find(|entry| entry.has_lost(at.seq)) {
                None => {
                    let (cursor, reading) = (at.seq, Reading::default());
                    return Resume { cursor, head, gap: None, reading };
                }
                Some(entry) => Aim::behind_loss(at, Some(entry.name().clone())),
            },
            oldest => oldest,
        };
        // Evictions from here on are news.
        let told = self.journal().told(head);
        let after = aim.after();
        let next = |entry: &Arc<ChannelEntry>| entry.next_after(after, Told::ALL).ok()?;
        let oldest = named.filter_map(next).filter(|seq| *seq <= head).min();
        let Begun { cursor, gap } = self.begun(before(oldest, after, head), aim);
        Resume { cursor, head, gap, reading: Reading { told, ..Reading::default() } }
    }

    fn begun(&self, cursor: Seq, aim: Aim) -> Begun {
        let missed = match aim {
            Aim::GoOn(_) => None,
            Aim::Oldest { missed, .. } => missed,
        };
        let gap = missed.map(|Missed { reason, requested, channel }| Gap {
            reason,
            requested,
            oldest: self.position(cursor),
            channel,
        });
        Begun { cursor, gap }
    }
}

impl Aim {
    /// Everything up to here is not looked at.
    fn after(&self) -> Seq {
        match self {
            Self::GoOn(at) => at.seq,
            Self::Oldest { after, .. } => *after,
        }
    }

    /// The oldest event behind a loss, for who wanted to go on from a position.
    fn behind_loss(at: Position, channel: Option<ChannelName>) -> Self {
        let (reason, requested) = (GapReason::Evicted, at.to_string());
        Self::Oldest { after: at.seq, missed: Some(Missed { reason, requested, channel }) }
    }
}

impl Beginning {
    fn new(aim: Aim, head: Seq) -> Self {
        let search = Search::Journal(aim.after());
        Self { aim, head, search }
    }
}

/// Just before the oldest event, or at the head if there is none.
fn before(oldest: Option<Seq>, after: Seq, head: Seq) -> Seq {
    oldest.map_or(head.max(after), |seq| Seq(seq.0 - 1))
}
