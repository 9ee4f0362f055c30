//! When polls were last answered and events last shown. From these follows whether clients may be
//! between two polls, with events to come.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// Times on the hub's clock, in milliseconds; 0 is never.
#[derive(Debug, Default)]
pub(crate) struct PollTimes {
    /// The last answer to a poll.
    answered_ms: AtomicU64,
    /// The last answer that left events for the next poll.
    incomplete_ms: AtomicU64,
    /// The last commit that was shown.
    shown_ms: AtomicU64,
}

impl PollTimes {
    /// Notes that a poll is answered. `is_complete` says whether its client has all events then.
    #[inline]
    pub(crate) fn answered(&self, is_complete: bool, now_ms: u64) {
        // Shards answer thousands of polls at once: most of them need not write.
        let note = |time: &AtomicU64| {
            if now_ms >= time.load(Ordering::Relaxed) + RESOLUTION_MS {
                time.store(now_ms, Ordering::Relaxed);
            }
        };
        note(&self.answered_ms);
        if !is_complete {
            note(&self.incomplete_ms);
        }
    }

    /// Notes that events are shown. One thread at a time calls this.
    #[inline]
    pub(crate) fn shown(&self, now_ms: u64) {
        self.shown_ms.store(now_ms, Ordering::Relaxed);
    }

    /// Until when clients may come back for events, if they take up to `pause` between two polls.
    pub(crate) fn next_polls_until_ms(&self, pause: Duration) -> u64 {
        let pause_ms = pause.as_millis() as u64;
        if pause_ms == 0 {
            return 0;
        }
        let load = |time: &AtomicU64| match time.load(Ordering::Relaxed) {
            0 => None,
            at_ms => Some(at_ms + pause_ms + RESOLUTION_MS),
        };
        let (answered, shown) = (load(&self.answered_ms), load(&self.shown_ms));
        let between = match (answered, shown) {
            // A client that was answered before the last events lacks them. If the last answer came
            // after these events, an earlier one may still have come before them.
            (Some(answered), Some(shown)) => {
                let is_near = answered + pause_ms >= shown;
                is_near.then_some(answered.min(shown))
            }
            _ => None,
        };
        between.max(load(&self.incomplete_ms)).unwrap_or(0)
    }
}

/// How much later than the noted time an answer may have been, in milliseconds.
const RESOLUTION_MS: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(2);

    fn times(answered_ms: u64, shown_ms: u64, incomplete_ms: u64) -> PollTimes {
        let times = PollTimes::default();
        if answered_ms > 0 {
            times.answered(true, answered_ms);
        }
        if shown_ms > 0 {
            times.shown(shown_ms);
        }
        if incomplete_ms > 0 {
            times.answered(false, incomplete_ms);
        }
        times
    }

    #[test]
    fn clients_may_lack_the_last_events_for_a_pause_after_their_answers() {
        let until = |answered, shown, incomplete| {
            times(answered, shown, incomplete).next_polls_until_ms(PAUSE)
        };
        assert_eq!(until(0, 0, 0), 0);
        assert_eq!(until(0, 10_000, 0), 0, "no polls");
        assert_eq!(until(10_000, 0, 0), 0, "no events");
        assert_eq!(until(10_000, 11_000, 0), 12_016, "they come back a pause after their answers");
        assert_eq!(until(11_000, 10_000, 0), 12_016, "or came before the events, at the latest");
        assert_eq!(until(10_000, 12_000, 0), 12_016, "at the bound");
        assert_eq!(until(10_000, 12_001, 0), 0, "they would have come back before the events");
        assert_eq!(until(11_000, 10_000, 20_000), 22_016, "a part of the events");
        assert_eq!(times(10_000, 10_000, 0).next_polls_until_ms(Duration::ZERO), 0);
    }

    #[test]
    fn an_answer_is_noted_unless_the_last_one_was_just_before() {
        let times = times(1_000, 5_000, 0);
        times.answered(true, 1_000 + RESOLUTION_MS - 1);
        assert_eq!(times.answered_ms.load(Ordering::Relaxed), 1_000);
        times.answered(true, 1_000 + RESOLUTION_MS);
        assert_eq!(times.answered_ms.load(Ordering::Relaxed), 1_000 + RESOLUTION_MS);
        assert_eq!(times.incomplete_ms.load(Ordering::Relaxed), 0);
    }
}
