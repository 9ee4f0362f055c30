//! How long a hub takes to notice that its server has failed or restarted, and so how long other
//! hubs wait for it.

use std::time::Duration;

use crate::redis::{CONNECT_TIME_MAX, FIND_TIME_MAX};

/// How long the server waits for an entry before it gives up.
pub(super) const FOLLOW_WAIT: Duration = Duration::from_millis(500);
/// How much longer a hub waits for that answer, or for the next bytes of it, before it gives up the
/// connection.
pub(super) const FOLLOW_ANSWER_MAX: Duration = Duration::from_millis(1_500);
/// How long a hub waits for the answers of one look at the log before it gives up the connection:
/// no longer than for entries, since a server may fail during either.
pub(super) const CHECK_TIME_MAX: Duration = sum(&[FOLLOW_WAIT, FOLLOW_ANSWER_MAX]);
/// While entries keep coming, the hub looks at the log this often: a connection survives that its
/// server becomes a replica.
pub(super) const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to connect.
pub(super) const PAUSE_MAX: Duration = Duration::from_millis(500);
/// A server that accepts connections again is followed again within this time.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(2);
/// How long the commands between a connection and the vouching may take on a busy server: AUTH,
/// checks of the server, loading the script, a trial of it, and the comparison of the log.
const COMMANDS_TIME: Duration = Duration::from_millis(1_500);
/// How long a running hub has to vouch for the log after a restart of its server. In the worst case
/// it has just begun to wait for an answer when the server fails silently. Then it pauses, asks for
/// the master, and tries in vain to connect to the former one; it pauses and asks once more, and
/// connects.
pub(super) const VOUCH_WAIT: Duration = sum(&[
    FOLLOW_WAIT,
    FOLLOW_ANSWER_MAX,
    PAUSE_MAX,
    FIND_TIME_MAX,
    CONNECT_TIME_MAX,
    PAUSE_MAX,
    FIND_TIME_MAX,
    COMMANDS_TIME,
]);

const fn sum(times: &[Duration]) -> Duration {
    match times {
        [] => Duration::ZERO,
        [first, rest @ ..] => Duration::saturating_add(*first, sum(rest)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actors::bridge::backoff::Backoff;

    #[test]
    fn pauses_fit_into_what_is_said_of_recovery() {
        let mut backoff = Backoff::default();
        let pause = (0..40).map(|_| backoff.next()).max().expect("some");
        assert!(pause <= PAUSE_MAX, "{pause:?}");
        // A pause, the search for the master, and as much again for the connection and the look.
        assert!(pause + FIND_TIME_MAX + PAUSE_MAX <= BACK_WITHIN);
    }

    #[test]
    fn the_documentation_says_how_long_a_starting_hub_waits() {
        let seconds = format!("{} s", VOUCH_WAIT.as_secs_f64());
        for (page, says) in [
            (
                include_str!("../../../docs/limits.md"),
                format!("| {seconds}: what a running hub needs"),
            ),
            (
                include_str!("../../../docs/scaling.md"),
                format!("a hub that starts waits {seconds} for that"),
            ),
            (include_str!("../../../docs/adr/042-redis.md"), format!("waits {seconds} for such a")),
        ] {
            assert!(page.contains(&says), "{says}");
        }
    }
}
