//! What a poll finds without waiting: where it starts, and pages from memory and from the log on
//! disk.

use std::{mem, sync::Arc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, timeout, timeout_at},
};

use super::{PollNow, PollRequest, PollWait};
use crate::{
    actors::{ReadFailure, ReadsBusy},
    backend::{
        ChannelEntry, LastSearch, LogRead, Piece, SearchStep, SeqRange, StartFound, StartRequest,
    },
    core::{NotInMemory, Subscription},
    hub::{channel_creation::CreatedBy, error::SubscribeError, handle::Hub},
    model::{Event, PollAnswer, Start},
};

impl Hub {
    pub(super) async fn look(&self, request: &PollRequest) -> Result<PollNow, SubscribeError> {
        let backend = &self.0.store;
        let subscription = &request.subscription;
        let subject = request.holder.as_ref().and_then(|holder| holder.subject.as_ref());
        let created_by = CreatedBy { subject, client: request.client };
        // The head is read first, so every event up to it is found below.
        let head = backend.head();
        let mut named: Vec<Arc<ChannelEntry>> = Vec::new();
        let mut open = !subscription.patterns().is_empty();
        for name in subscription.names() {
            let now_ms = self.0.clock.now_ms();
            let entry = self.0.channel_creator.find_or_create(name, created_by, now_ms);
            let entry = entry?;
            open |= !entry.events().is_closed();
            named.push(entry);
        }
        let patterns = subscription.patterns();
        let starts_with_history = matches!(request.start, Start::Earliest | Start::Last(_));
        let asked = StartRequest {
            start: &request.start,
            types: subscription.types(),
            truncated: starts_with_history,
        };
        let mut resume = backend.resume(patterns, named.iter(), asked, head);
        let until = Instant::now() + LOG_READ_TIME_MAX;
        while resume.reader.is_searching_start() {
            if let Some(search) = resume.reader.take_search() {
                resume.reader.return_search(self.search_log(search, until).await?);
            }
            match backend.search_start(patterns, named.iter(), &mut resume.reader) {
                Some(StartFound { cursor, gap, truncated }) => {
                    (resume.cursor, resume.gap, resume.truncated) = (cursor, gap, truncated);
                }
                None => yield_now().await,
            }
        }
        let limit = request.limit.max(1) as usize;
        let types = subscription.types();
        // Without a type filter all events that are read are in the answer.
        let events_max = if types.is_empty() { limit } else { usize::MAX };
        let mut through = resume.cursor;
        let mut events: Vec<Arc<Event>> = Vec::new();
        // The next poll would continue with all events after its position, and not with the last
        // events of each channel. So these are gathered into one answer if they fit.
        let gathers = matches!(request.start, Start::Last(_)) && backend.is_on_disk();
        let pages_max = if gathers { GATHERED_PAGES_MAX } else { POLL_PAGES_MAX };
        let mut bytes = 0;
        // Whether everything up to the head was read.
        let mut is_read = false;
        // A type filter may skip many events. A few pages are read here; a shard reads the rest in
        // pieces. A page that does not move the position examined only some channels: it is
        // continued to its end, since the next poll would begin it anew.
        let (mut pages, mut is_first) = (0, true);
        while pages < pages_max {
            if !mem::take(&mut is_first) {
                // Reading a page takes long if the patterns match few of its events.
                yield_now().await;
            }
            let range = SeqRange {
                after: through,
                // If events were lost during the search for the start, the start may be after the
                // head that was read before it.
                through: resume.head.max(through),
                events_max: events_max.saturating_sub(events.len()).clamp(1, POLL_PAGE_EVENTS),
                bytes_max: POLL_BYTES_MAX - bytes,
            };
            let page = match backend.read(patterns, named.iter(), &mut resume.reader, &range) {
                Err(NotInMemory::OnDisk(to)) => {
                    let (named, reader) = (named.iter(), &mut resume.reader);
                    let read = backend.log_read(patterns, named, reader, &range, to);
                    let time_max = match (gathers, request.wait.is_zero()) {
                        (true, _) => until.saturating_duration_since(Instant::now()),
                        (_, true) => LOG_READ_TIME_MAX,
                        _ => request.wait.min(LOG_READ_SOON),
                    };
                    match self.read_log(read, time_max).await? {
                        LogPage::Read(page) => Some(page),
                        LogPage::FellOff => None,
                        // There may be events, so 204 would be wrong, and a shard would read all
                        // that is behind the position instead of the last events.
                        LogPage::Slow
                            if events.is_empty() && (gathers || request.wait.is_zero()) =>
                        {
                            return Err(SubscribeError::HistoryBusy);
                        }
                        // A shard reads on from a slow disk.
                        LogPage::Slow => break,
                    }
                }
                page => page.ok(),
            };
            let Some(mut page) = page else {
                // A poll for the last events of its channels gets no older ones. The answer reports
                // the first loss.
                if let Some((cursor, gap)) = backend.skip_lost(&mut resume.reader, through) {
                    (through, pages) = (cursor, pages + 1);
                    resume.gap.get_or_insert(gap);
                    continue;
                }
                // Other events were evicted after the search for the start: the shard finds that
                // too and answers with a gap.
                break;
            };
            page.more = page.through < range.through;
            pages += usize::from(page.through > through);
            through = page.through;
            let more = page.more;
            is_read = !more;
            page.events.retain(|event| Subscription::wants(types, event));
            bytes += page.events.iter().map(|event| event.bytes().len()).sum::<usize>();
            events.append(&mut page.events);
            if events.len() > limit {
                events.truncate(limit);
                through = events.last().map_or(through, |event| event.seq);
            }
            let is_full = events.len() >= limit || bytes >= POLL_BYTES_MAX;
            let continues = gathers && !is_full && Instant::now() < until;
            if !more || !continues && !events.is_empty() {
                break;
            }
        }
        let position = backend.position(through);
        // Read last, so that events which were evicted before the first event was read count too.
        let truncated = resume.truncated
            || starts_with_history && named.iter().any(|entry| entry.events().is_truncated());
        // If the encoding does not show gaps, a poll waits after one.
        let gap = resume.gap.filter(|_| !events.is_empty() || request.encoding.shows_gaps());
        if events.is_empty() && gap.is_none() {
            if !open && is_read {
                return Err(SubscribeError::Closed);
            }
            return Ok(PollNow::Wait(PollWait { position, truncated }));
        }
        Ok(PollNow::Answer(PollAnswer { events, position, truncated, gap }))
    }

    /// Waits until a search has memory, or performs the part of it that is on disk. Cancelling the
    /// wait cancels the search.
    async fn search_log(
        &self,
        search: LastSearch,
        until: Instant,
    ) -> Result<SearchStep, SubscribeError> {
        let reads = self.0.log_reads.as_ref().ok_or(SubscribeError::HistoryUnreadable)?;
        let busy = SubscribeError::HistoryBusy;
        let Ok(pending) = reads.search(search) else { return Err(busy) };
        match timeout_at(until, pending).await {
            Ok(Ok(step)) => Ok(step),
            Ok(Err(ReadFailure::Closed)) => Err(SubscribeError::GoingDown),
            Ok(Err(ReadFailure::Busy)) => Err(busy),
            Ok(Err(_)) => Err(SubscribeError::HistoryUnreadable),
            // The start of the poll is not known, so the poll can neither be answered nor wait on a
            // shard.
            Err(_) => Err(busy),
        }
    }

    /// Reads a piece from disk within a time. Cancelling it cancels the read.
    async fn read_log(&self, read: LogRead, time_max: Duration) -> Result<LogPage, SubscribeError> {
        let reads = self.0.log_reads.as_ref();
        let pending = match reads.map(|reads| reads.read(read)) {
            Some(Ok(pending)) => pending,
            Some(Err(ReadsBusy)) => return Err(SubscribeError::HistoryBusy),
            None => return Ok(LogPage::FellOff),
        };
        match timeout(time_max, pending).await {
            Ok(Ok(piece)) => Ok(LogPage::Read(piece.into_piece())),
            Ok(Err(ReadFailure::FellOff)) => Ok(LogPage::FellOff),
            Ok(Err(ReadFailure::Closed)) => Err(SubscribeError::GoingDown),
            Ok(Err(ReadFailure::Busy)) => Err(SubscribeError::HistoryBusy),
            Ok(Err(ReadFailure::Unreadable)) => Err(SubscribeError::HistoryUnreadable),
            Err(_) => Ok(LogPage::Slow),
        }
    }
}

/// A page of a poll's events that are on disk.
enum LogPage {
    Read(Piece),
    /// Its events were evicted.
    FellOff,
    /// It is not read yet: the disk is slow, or has many reads to serve.
    Slow,
}

/// How long a poll that does not wait for events waits for the disk, and every poll for a search
/// there. After that the poll is refused for now.
const LOG_READ_TIME_MAX: Duration = Duration::from_secs(5);
/// How long a poll that waits for events waits for the disk here, while it holds a request's
/// permit. After that a shard reads the events until the poll's wait is over.
const LOG_READ_SOON: Duration = Duration::from_secs(1);
/// Events read for one page, and pages that `poll_now` reads at most.
const POLL_PAGE_EVENTS: usize = 1_000;
const POLL_PAGES_MAX: usize = 4;
/// Pages from which one answer with the last events of channels is gathered. A page from disk has
/// the events of 32 blocks.
const GATHERED_PAGES_MAX: usize = 64;
/// Frame bytes after which a poll's answer holds no more events.
const POLL_BYTES_MAX: usize = 1024 * 1024;
