//! How a shard's thread is divided between the fan-out and all else on it: accepts, requests, bodies.
//!
//! A slice of the fan-out is short, so that a request waits little for it. But between two slices
//! every task that is ready has its turn, and under a flood of requests these are sixty: a round of
//! eight slices would take as long as five hundred requests. So the fan-out goes on for as long as the
//! others had the thread, and each side has half of it at least.

use std::time::Duration;

use tokio::time::Instant;

/// Whose turn it is.
#[derive(Debug)]
pub(super) struct Turns {
    /// Since when the fan-out has the thread.
    begun: Instant,
    /// How long the others had it last, while the fan-out wanted it.
    away: Duration,
}

impl Turns {
    pub(super) fn new(now: Instant) -> Self {
        Self { begun: now, away: Duration::ZERO }
    }

    /// Whether the fan-out, which has more to do, lets others go ahead.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.duration_since(self.begun) >= self.away.min(TURN_MAX)
    }

    /// The others had the thread from one time to the other.
    pub(super) fn others_had_it(&mut self, from: Instant, until: Instant) {
        (self.begun, self.away) = (until, until.duration_since(from));
    }

    /// The fan-out has nothing to do: what the others have of the thread now, they take from nobody.
    pub(super) fn rest(&mut self) {
        self.away = Duration::ZERO;
    }
}

/// What the fan-out has of the thread at most while others wait for it.
const TURN_MAX: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        io,
        pin::Pin,
        sync::{
            Arc,
            atomic::{AtomicBool, AtomicUsize, Ordering},
        },
    };

    use bytes::Bytes;

    use super::*;
    use crate::{
        actors::{
            Front, LocalShard,
            peer::{Input, Peer, SlotWaker},
        },
        hub::{Hub, Publication, StreamRequest},
    };

    #[test]
    fn the_fan_out_has_as_long_as_the_others_had_and_no_longer_than_its_bound() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut turns = Turns::new(start);
        assert!(turns.is_over(start), "a slice, where nobody had the thread before");
        turns.others_had_it(start, ms(3));
        assert!(!turns.is_over(ms(3)) && !turns.is_over(ms(5)), "below");
        assert!(turns.is_over(ms(6)), "at what they had");
        turns.others_had_it(ms(10), ms(110));
        assert!(!turns.is_over(ms(114)) && turns.is_over(ms(115)), "no longer than the bound");
        turns.rest();
        assert!(turns.is_over(ms(110)));
    }

    /// What the tasks on a shard's thread have come to.
    #[derive(Debug, Default)]
    struct Seen {
        is_over: AtomicBool,
        /// Turns of those who do other things.
        others: AtomicUsize,
        attached: AtomicUsize,
        delivered: AtomicUsize,
        /// Turns of others by the first delivery, and by the last.
        at_first: AtomicUsize,
        at_last: AtomicUsize,
    }

    #[derive(Debug)]
    struct Reader {
        seen: Arc<Seen>,
        has_begun: bool,
    }

    impl Peer for Reader {
        fn try_write(&mut self, bytes: &Bytes, _: &Arc<SlotWaker>) -> io::Result<usize> {
            // The first block is no delivery.
            if std::mem::replace(&mut self.has_begun, true) {
                let others = self.seen.others.load(Ordering::Relaxed);
                let before = self.seen.delivered.fetch_add(1, Ordering::Relaxed);
                if before == 0 {
                    self.seen.at_first.store(others, Ordering::Relaxed);
                }
                self.seen.at_last.store(others, Ordering::Relaxed);
            }
            Ok(bytes.len())
        }

        fn poll_input(&mut self, _: &Arc<SlotWaker>) -> Input {
            Input::Quiet
        }
    }

    struct Busy {
        hub: Hub,
        seen: Arc<Seen>,
    }

    impl Front for Busy {
        fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>> {
            for _ in 0..READERS {
                let stream = StreamRequest::channel("a").expect("a channel");
                let subscriber = self.hub.admit_stream(stream).expect("room");
                let peer = Reader { seen: Arc::clone(&self.seen), has_begun: false };
                shard.attach_peer(subscriber, Box::new(peer), Bytes::new(), None);
                self.seen.attached.fetch_add(1, Ordering::Relaxed);
            }
            for _ in 0..OTHERS {
                let seen = Arc::clone(&self.seen);
                tokio::task::spawn_local(async move {
                    while !seen.is_over.load(Ordering::Relaxed) {
                        let begun = std::time::Instant::now();
                        while begun.elapsed() < Duration::from_millis(1) {}
                        seen.others.fetch_add(1, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                });
            }
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn requests_that_never_end_hold_a_round_up_for_a_few_turns_only() {
        let hub = Hub::builder().shards(1).start().await.expect("a hub");
        let seen = Arc::<Seen>::default();
        hub.serve(Arc::new(Busy { hub: hub.clone(), seen: Arc::clone(&seen) }));
        let deadline = Instant::now() + Duration::from_secs(60);
        let wait_for = async |count: &AtomicUsize, at_least: usize| {
            while count.load(Ordering::Relaxed) < at_least {
                assert!(Instant::now() < deadline, "{seen:?}");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        wait_for(&seen.attached, READERS).await;
        // Long enough for the first blocks.
        wait_for(&seen.others, 3 * OTHERS).await;
        hub.publish(Publication::message("a", "x").expect("a name")).await.expect("published");
        wait_for(&seen.delivered, READERS).await;
        seen.is_over.store(true, Ordering::Relaxed);
        let meanwhile =
            seen.at_last.load(Ordering::Relaxed) - seen.at_first.load(Ordering::Relaxed);
        // A slice is three sends here: with a turn of all others between any two it would be 380.
        assert!(meanwhile <= 6 * OTHERS, "{meanwhile} turns of others in one round");
    }

    const READERS: usize = 60;
    const OTHERS: usize = 20;
}
