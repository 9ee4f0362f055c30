//! Lists and shows connections, from reports that the shards give piece by piece within a time
//! limit.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use tokio::{
    sync::SemaphorePermit,
    time::{Instant, timeout},
};

use super::handle::Hub;
use crate::{
    actors::{
        ConnectionFilter, ConnectionQuery, ConnectionReport, ConnectionState, EndProgress, EndQuery,
    },
    telemetry::BehindCounts,
};

/// Where a page of connections begins: a shard, and a slot of it. A connection never changes its
/// slot, so one that is open from the first page to the last is listed once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ConnectionCursor {
    /// The shard.
    pub shard: usize,
    /// The slot of this shard.
    pub slot: u32,
}

/// A page of connections.
#[derive(Debug, Default)]
pub struct ConnectionPage {
    /// The connections found, in the order of shards and slots.
    pub connections: Vec<ConnectionReport>,
    /// Where the next page begins; `None` for the last page.
    pub next: Option<ConnectionCursor>,
    /// Shards that did not answer in time. Their connections are missing.
    pub unanswered: Vec<usize>,
}

/// Where a page of closed connections begins: after the connection with this end time and id, from
/// newest to oldest.
pub type ClosedCursor = (u64, u64);

/// A page of recently closed connections, newest first.
#[derive(Debug, Default)]
pub struct ClosedPage {
    /// The connections found.
    pub connections: Vec<ConnectionReport>,
    /// Where the next page begins; `None` for the last page.
    pub next: Option<ClosedCursor>,
    /// Shards that did not answer in time. Their closed connections are missing.
    pub unanswered: Vec<usize>,
}

/// Some shards did not answer in time, and no other shard has the connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("shards {0:?} did not answer")]
pub struct Unanswered(pub Vec<usize>);

/// How many connections there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionTotals {
    /// Streams open.
    pub streams: u64,
    /// Polls waiting.
    pub polls: u64,
    /// The streams and polls that are behind, and how far they lag.
    pub behind: BehindCounts,
    /// The limit of both together.
    pub connections_max: u32,
}

impl Hub {
    /// How many connections there are.
    pub fn connection_totals(&self) -> ConnectionTotals {
        let metrics = &self.0.metrics;
        ConnectionTotals {
            streams: metrics.streams.get().max(0) as u64,
            polls: metrics.pollers.get().max(0) as u64,
            behind: metrics.behind.counts(),
            connections_max: self.0.limits.load().connections.connections_max,
        }
    }

    /// Up to `limit` connections from a cursor on, with up to `selectors_max` of the channels,
    /// patterns, and types of each.
    ///
    /// Asks one shard at a time for a bounded piece, so that no fan-out waits for it. It takes at
    /// most a second; the next page goes on where this one stopped. Cancelling it has no effect.
    pub async fn connections(
        &self,
        filter: &ConnectionFilter,
        from: ConnectionCursor,
        limit: usize,
        selectors_max: usize,
    ) -> ConnectionPage {
        let deadline = Instant::now() + PAGE_TIME_MAX;
        let mut page = ConnectionPage::default();
        let mut at = from;
        while at.shard < self.0.shards.count() {
            if page.connections.len() >= limit || Instant::now() >= deadline {
                page.next = Some(at);
                break;
            }
            let query = ConnectionQuery {
                filter: filter.clone(),
                from: at.slot,
                slots: u32::MAX,
                limit: limit - page.connections.len(),
                selectors_max,
            };
            let next = match self.0.shards.explain(at.shard, query, deadline).await {
                Some(matches) => {
                    page.connections.extend(matches.found);
                    matches.next
                }
                None => {
                    page.unanswered.push(at.shard);
                    None
                }
            };
            at = match next {
                Some(slot) => ConnectionCursor { slot, ..at },
                None => ConnectionCursor { shard: at.shard + 1, slot: 0 },
            };
        }
        page
    }

    /// Up to `limit` recently closed connections, from `after` on. A shard keeps the last 256,
    /// without answered polls. Connections that a crash of their shard closed are not among them.
    pub async fn ended_connections(
        &self,
        filter: &ConnectionFilter,
        after: Option<ClosedCursor>,
        limit: usize,
    ) -> ClosedPage {
        let deadline = Instant::now() + PAGE_TIME_MAX;
        let mut page = ClosedPage::default();
        for shard in 0..self.0.shards.count() {
            match self.0.shards.explain_closed(shard, filter.clone(), deadline).await {
                Some(ended) => page.connections.extend(ended),
                None => page.unanswered.push(shard),
            }
        }
        if let Some(after) = after {
            page.connections.retain(|ended| closed_cursor(ended) < after);
        }
        page.connections.sort_unstable_by_key(|ended| Reverse(closed_cursor(ended)));
        if page.connections.len() > limit {
            page.connections.truncate(limit);
            page.next = page.connections.last().map(closed_cursor);
        }
        page
    }

    /// One connection by its id, open or recently closed.
    ///
    /// # Errors
    /// No shard that answered has the connection, and some shards did not answer.
    pub async fn connection(&self, id: u64) -> Result<Option<ConnectionReport>, Unanswered> {
        let filter = ConnectionFilter { id: Some(id), ..ConnectionFilter::default() };
        let mut unanswered = Vec::new();
        let mut from = Some(ConnectionCursor::default());
        while let Some(cursor) = from {
            let page = self.connections(&filter, cursor, 1, usize::MAX).await;
            if let Some(found) = page.connections.into_iter().next() {
                return Ok(Some(found));
            }
            unanswered.extend(page.unanswered);
            from = page.next;
        }
        self.ended_connection(&filter, unanswered).await
    }

    /// One connection of a subject by its id, open or recently closed. Any client may ask, so this
    /// asks the one shard that has the connection, for a slot of it.
    ///
    /// # Errors
    /// That shard did not answer, or others did not that may have closed it.
    pub async fn connection_of(
        &self,
        id: u64,
        subject: &Arc<str>,
    ) -> Result<Option<ConnectionReport>, Unanswered> {
        let subject = Some(Arc::clone(subject));
        let filter = ConnectionFilter { id: Some(id), subject, ..ConnectionFilter::default() };
        let deadline = Instant::now() + PAGE_TIME_MAX;
        let mut unanswered = Vec::new();
        // It may be handed to another shard meanwhile.
        for _ in 0..LOOK_UPS_MAX {
            let Some((shard, key)) = self.0.connections.find_leased(id) else { break };
            let (filter, from) = (filter.clone(), key.index());
            let query =
                ConnectionQuery { filter, from, slots: 1, limit: 1, selectors_max: usize::MAX };
            match self.0.shards.explain(shard, query, deadline).await {
                Some(matches) => {
                    if let Some(found) = matches.found.into_iter().next() {
                        return Ok(Some(found));
                    }
                }
                None => unanswered.push(shard),
            }
        }
        self.ended_connection(&filter, unanswered).await
    }

    /// A connection that is not open. It may have been closed while the shards were asked, so
    /// closed ones are searched last.
    async fn ended_connection(
        &self,
        filter: &ConnectionFilter,
        mut unanswered: Vec<usize>,
    ) -> Result<Option<ConnectionReport>, Unanswered> {
        let closed = self.ended_connections(filter, None, 1).await;
        match closed.connections.into_iter().next() {
            Some(ended) => Ok(Some(ended)),
            None => {
                unanswered.extend(closed.unanswered);
                unanswered.sort_unstable();
                unanswered.dedup();
                if unanswered.is_empty() { Ok(None) } else { Err(Unanswered(unanswered)) }
            }
        }
    }

    /// A permit to list connections, for a client that is not an operator: a page of its
    /// connections looks at those of all clients. `None` if none becomes free within a second.
    pub async fn list_permit(&self) -> Option<SemaphorePermit<'_>> {
        timeout(PAGE_TIME_MAX, self.0.subject_lists.acquire()).await.ok()?.ok()
    }
}

impl Hub {
    /// Ends a connection by its number: a stream with a comment and a reconnection time, a waiting
    /// poll with the answer of its deadline. False if there is no such connection.
    ///
    /// Cancelling it leaves open whether it is ended.
    ///
    /// # Errors
    /// No shard that has answered has it, and not every shard has answered.
    pub async fn end_connection(&self, id: u64) -> Result<bool, Unanswered> {
        let mut unanswered = Vec::new();
        for shard in 0..self.0.shards.count() {
            let mut query = EndQuery { id, from: 0 };
            loop {
                match self.0.shards.end(shard, query).await {
                    Some(EndProgress::Ended) => return Ok(true),
                    Some(EndProgress::GoOn(from)) => query.from = from,
                    Some(EndProgress::NotHere) => break,
                    None => {
                        unanswered.push(shard);
                        break;
                    }
                }
            }
        }
        if unanswered.is_empty() { Ok(false) } else { Err(Unanswered(unanswered)) }
    }
}

/// The sort key of closed connections: end time, then id.
fn closed_cursor(ended: &ConnectionReport) -> ClosedCursor {
    match ended.state {
        ConnectionState::Closed { ended_ms, .. } => (ended_ms, ended.id),
        _ => (u64::MAX, ended.id),
    }
}

/// How long a page may take.
const PAGE_TIME_MAX: Duration = Duration::from_secs(1);
/// Pages that are made at a time for clients that are not operators.
pub(super) const SUBJECT_LISTS_MAX: usize = 2;
/// Looks for a connection where its lease says that it is.
const LOOK_UPS_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{Holder, PollRequest, StreamRequest},
        model::{EnvelopeAnswers, Start},
    };

    #[tokio::test]
    async fn a_subject_finds_its_connection_without_a_look_at_the_others() {
        let hub = Hub::builder().shards(2).start().await.expect("a hub");
        let mut polls = Vec::new();
        for number in 0..40 {
            let subscription = StreamRequest::channel("a").expect("a channel").subscription;
            let subject = if number == 33 { "one" } else { "others" };
            let request = PollRequest {
                subscription,
                start: Start::Now,
                encoding: &EnvelopeAnswers,
                wait: Duration::from_secs(60),
                limit: 1,
                holder: Some(Holder { subject: Some(subject.into()), until_ms: None }),
                client: None,
            };
            let hub = hub.clone();
            polls.push(tokio::spawn(async move { hub.poll(request).await }));
        }
        let all = ConnectionFilter::default();
        let found = loop {
            let page = hub.connections(&all, ConnectionCursor::default(), 100, 1).await;
            if page.connections.len() == 40 {
                break page.connections;
            }
            tokio::task::yield_now().await;
        };
        let is_of_one = |report: &&ConnectionReport| report.subject.as_deref() == Some("one");
        let id = found.iter().find(is_of_one).expect("it waits").id;
        let explained = || hub.0.shards.explained.swap(0, std::sync::atomic::Ordering::Relaxed);
        explained();
        let (one, others) = (Arc::from("one"), Arc::from("others"));
        let of_one = hub.connection_of(id, &one).await.expect("all answer").expect("it is there");
        assert_eq!((of_one.id, explained()), (id, 1));
        assert!(hub.connection_of(id, &others).await.expect("all answer").is_none());
        assert!(explained() <= 2);
        assert!(hub.connection_of(999_999, &one).await.expect("all answer").is_none());
        assert_eq!(explained(), 0);
        assert_eq!(hub.end_connection(id).await, Ok(true));
        assert!(
            hub.connection_of(id, &one)
                .await
                .expect("all answer")
                .is_none_or(|found| { matches!(found.state, ConnectionState::Closed { .. }) })
        );
        assert!(explained() <= 2);
        polls.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn clients_that_list_their_connections_take_turns() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let first = hub.list_permit().await.expect("a permit");
        let second = hub.list_permit().await.expect("a permit");
        assert!(hub.list_permit().await.is_none(), "it waits for a second");
        drop(first);
        assert!(hub.list_permit().await.is_some());
        drop(second);
    }

    #[tokio::test]
    async fn a_poll_without_a_socket_is_answered_when_it_is_ended() {
        let hub = Hub::builder().shards(2).start().await.expect("a hub");
        let subscription = StreamRequest::channel("a").expect("a channel").subscription;
        let request = PollRequest {
            subscription,
            start: Start::Now,
            encoding: &EnvelopeAnswers,
            wait: Duration::from_secs(60),
            limit: 1,
            holder: None,
            client: None,
        };
        let waiting = tokio::spawn({
            let hub = hub.clone();
            async move { hub.poll(request).await }
        });
        let id = loop {
            let filter = ConnectionFilter::default();
            let page = hub.connections(&filter, ConnectionCursor::default(), 1, 1).await;
            match page.connections.first() {
                Some(found) => break found.id,
                None => tokio::task::yield_now().await,
            }
        };
        assert_eq!(hub.end_connection(id).await, Ok(true));
        let answered = tokio::time::timeout(Duration::from_secs(20), waiting).await;
        let reply = answered.expect("at once").expect("it does not panic").expect("an answer");
        assert_eq!(reply.status, 204);
        assert_eq!(hub.end_connection(id).await, Ok(false));
    }
}
