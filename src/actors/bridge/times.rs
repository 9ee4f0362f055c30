//! How long a hub takes to notice that its server has failed or restarted, and so how long other
//! hubs wait for it.

use std::time::Duration;

use crate::redis::{CONNECT_TIME_MAX, FIND_TIME_MAX};

/// How long the server waits for an entry before it gives up.
pub(super) const FOLLOW_WAIT: Duration = Duration::from_millis(500);
/// How much longer a hub waits for that answer, or for the next bytes of it, before it gives up the
/// connection.
pub(super) const FOLLOW_ANSWER_MAX: Duration = Duration::from_millis(1_500);
/// The longest pause between two attempts to connect.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A server that accepts connections again is followed again within this time.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(2);
/// How long a running hub has to vouch for the log after a restart of its server. In the worst case
/// it has just begun to wait for an answer when the server fails silently; then it pauses, asks
/// for the master, tries to connect to a server that does not answer yet, and is back after another
/// pause.
pub(super) const VOUCH_WAIT: Duration = Duration::from_millis(
    (FOLLOW_WAIT.as_millis()
        + FOLLOW_ANSWER_MAX.as_millis()
        + PAUSE_MAX.as_millis()
        + FIND_TIME_MAX.as_millis()
        + CONNECT_TIME_MAX.as_millis()
        + BACK_WITHIN.as_millis()) as u64,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::bridge::backoff::Backoff;

    #[test]
    fn a_starting_hub_waits_longer_than_a_running_one_needs_to_vouch() {
        let notices = FOLLOW_WAIT + FOLLOW_ANSWER_MAX;
        let mut backoff = Backoff::default();
        let pause = (0..40).map(|_| backoff.next()).max().expect("some");
        assert!(pause <= PAUSE_MAX, "{pause:?}");
        let in_vain = pause + FIND_TIME_MAX + CONNECT_TIME_MAX;
        // What is left of the last term is for the connection and the look.
        let back = pause + FIND_TIME_MAX;
        assert!(VOUCH_WAIT >= notices + in_vain + back + PAUSE_MAX);
        // And a pause and a connection that is made at once fit into what is said of recovery.
        assert!(2 * PAUSE_MAX <= BACK_WITHIN);
    }
}
