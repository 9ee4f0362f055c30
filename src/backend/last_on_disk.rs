//! The part of a search for last events that is on disk alone: it goes back through the log, a
//! bounded number of blocks a turn, for all channels together. A turn blocks, so it is not for the
//! threads that serve connections.
//!
//! Events on disk are older than all in memory, and the log is read backwards, so the newest events
//! are found first. The search is over when it has as many events as a subscription may start with.

use std::{cmp::Reverse, ops::ControlFlow, sync::Arc};

use super::{
    event_store::EventStore,
    found::due,
    last_search::{LAST_EVENTS_MAX, LastSearch},
    log_read::LogReadError,
    losses::KnownLosses,
    piece::{Piece, SeqRange},
    replay::Next,
};
use crate::{
    core::Subscription,
    disk::{Directory, LogReader, LogSearch, ReadError, SearchBack},
    model::{EventKind, Seq},
};

impl EventStore {
    /// Makes one turn of a search on disk. The search ends once all its turns together have read
    /// `bytes_max` bytes of the log. Gives the bytes of this turn.
    ///
    /// # Errors
    /// A disk that fails.
    pub fn search_log<D: Directory>(
        &self,
        log: &LogReader<D>,
        search: &mut LastSearch,
        bytes_max: u64,
    ) -> Result<u64, ReadError> {
        let LastSearch { key, newest, incomplete, bytes, .. } = search;
        let types = &key.types;
        let Some(first) = incomplete.first() else { return Ok(0) };
        let (hashes, through) = (incomplete.hashes(), incomplete.through);
        let channels = &mut incomplete.channels;
        let bytes_max = bytes_max.saturating_sub(*bytes);
        let range = SearchBack { through, first, channels: hashes.as_deref(), bytes_max };
        let searched = log.search_back(&range, |event| {
            let (seq, go_on) = (event.seq(), Some(ControlFlow::Continue(())));
            let Some(channel) = channels.get_mut(event.channel()) else { return go_on };
            if seq > channel.through {
                return go_on;
            }
            if channel.entry.events().has_lost(Seq(seq.0 - 1)) {
                channels.remove(event.channel());
                return go_on;
            }
            if !types.is_empty() {
                let event = self.restore(event.recover(channel.entry.name().clone())?);
                if !Subscription::wants(types, &event) {
                    return go_on;
                }
            }
            newest.push(Reverse(Next::new(seq, &channel.entry)));
            // The closing event is taken too, but not counted.
            channel.left -= usize::from(event.kind() == EventKind::Published);
            if channel.left == 0 {
                channels.remove(event.channel());
            }
            let is_over = channels.is_empty() || newest.len() >= LAST_EVENTS_MAX;
            if is_over { Some(ControlFlow::Break(())) } else { go_on }
        })?;
        incomplete.through = searched.through;
        *bytes += searched.bytes;
        if searched.bytes >= bytes_max {
            search.cut();
        }
        Ok(searched.bytes)
    }

    /// Reads events that a search has found from the log on disk. All of them up to the end of the
    /// range have left memory.
    pub(super) fn read_found<D: Directory>(
        &self,
        log: &LogReader<D>,
        found: &[Next],
        known: KnownLosses,
        range: &SeqRange,
    ) -> Result<Piece, LogReadError> {
        let due = due(found, range.after, range.through);
        let seqs: Vec<Seq> = due.iter().map(Next::seq).take(range.events_max).collect();
        let search = LogSearch {
            after: range.after,
            through: seqs
                .last()
                .filter(|_| seqs.len() < due.len())
                .copied()
                .unwrap_or(range.through),
            events_max: range.events_max,
            bytes_max: range.bytes_max,
            channels: None,
            seqs: Some(&seqs),
        };
        let read = log.search(&search, |seq, _| {
            let index = seqs.binary_search(&seq).ok()?;
            Some(due[index].entry().name().clone())
        })?;
        let mut on_disk = read.events.into_iter().peekable();
        let mut events = Vec::with_capacity(on_disk.len());
        // Losses are looked at after the log is read: an event that it no longer had was evicted
        // before.
        for next in due.iter().take_while(|next| !next.is_after(read.through)) {
            let event = on_disk.next_if(|event| event.seq == next.seq());
            let losses = next.entry().events().losses();
            let is_lost = losses.through >= next.seq();
            match event {
                Some(event) if !is_lost => events.push(Arc::new(self.restore(event))),
                // It was lost before the start was known, so the reader knows of the loss.
                _ if is_lost && known.covers(losses.through, losses.eviction) => {}
                // The events before the loss are sent first.
                _ if !events.is_empty() => {
                    return Ok(Piece { events, through: next.seq_before(), more: true });
                }
                _ => return Err(LogReadError::FellOff),
            }
        }
        Ok(Piece { events, through: read.through, more: true })
    }
}
