//! What was wrong with deliveries. Healthy ones leave no trace here but a count.

use std::collections::{BTreeSet, HashMap};

use crate::outcome::Verified;

/// The faults of a run, and how many deliveries there were.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    verified: Verified,
    /// Skipped so far, of a connection's stream: lost, unless it still comes.
    skipped: HashMap<(u32, u32), BTreeSet<u32>>,
    /// The first of them in words.
    said: Vec<String>,
}

impl Ledger {
    #[inline]
    pub(crate) fn delivered(&mut self) {
        self.verified.deliveries += 1;
    }

    pub(crate) fn deliveries(&self) -> u64 {
        self.verified.deliveries
    }

    /// An event came where an earlier one was due.
    pub(crate) fn ahead(&mut self, connection: u32, stream: u32, due: u32, came: u32) {
        self.say(|| format!("connection {connection}, stream {stream}: {came} came for {due}"));
        let skipped = self.skipped.entry((connection, stream)).or_default();
        skipped.extend((due..came).take(SKIPPED_MAX.saturating_sub(skipped.len())));
        self.verified.lost += u64::from(came - due);
    }

    /// An event came where a later one was due: it was out of order, or came again.
    pub(crate) fn behind(&mut self, connection: u32, stream: u32, due: u32, came: u32) {
        let skipped = self.skipped.get_mut(&(connection, stream));
        let late = skipped.is_some_and(|skipped| skipped.remove(&came));
        if late {
            self.verified.lost -= 1;
            self.verified.reordered += 1;
        } else {
            self.verified.repeated += 1;
        }
        let how = if late { "late" } else { "again" };
        self.say(|| {
            format!("connection {connection}, stream {stream}: {came} came {how} for {due}")
        });
    }

    /// The end of a stream never came.
    pub(crate) fn missing(&mut self, connection: u32, stream: u32, due: u32, events: u32) {
        self.say(|| {
            format!("connection {connection}, stream {stream}: {due} to {} never came", events - 1)
        });
        self.verified.lost += u64::from(events - due);
    }

    /// Something came that was not published, or not to this connection.
    pub(crate) fn corrupt(&mut self, connection: u32, line: &[u8]) {
        self.verified.corrupt += 1;
        self.say(|| {
            let line = String::from_utf8_lossy(&line[..line.len().min(SAID_BYTES)]);
            format!("connection {connection}: not what was published: {line:?}")
        });
    }

    /// It received a gap event, which must not happen here.
    pub(crate) fn gap(&mut self, connection: u32) {
        self.verified.gaps += 1;
        self.say(|| format!("connection {connection} received a gap"));
    }

    /// Something that explains faults without being one.
    pub(crate) fn say(&mut self, what: impl FnOnce() -> String) {
        if self.said.len() < SAID_MAX {
            self.said.push(what());
        }
    }

    /// The counts, and the first faults in words.
    pub(crate) fn close(&self) -> (Verified, String) {
        (self.verified, self.said.join("; "))
    }
}

/// Skipped events, to distinguish late ones from repeated ones when they come, for each stream.
const SKIPPED_MAX: usize = 10_000;
const SAID_MAX: usize = 5;
const SAID_BYTES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_again_and_never_are_told_apart() {
        let mut ledger = Ledger::default();
        ledger.ahead(1, 0, 3, 5);
        ledger.behind(1, 0, 6, 4);
        ledger.behind(1, 0, 6, 4);
        ledger.behind(2, 0, 6, 3);
        ledger.missing(2, 0, 6, 8);
        let (verified, said) = ledger.close();
        let expected = Verified { lost: 1 + 2, reordered: 1, repeated: 2, ..Verified::default() };
        assert_eq!(verified, expected);
        assert!(said.starts_with("connection 1, stream 0: 5 came for 3; "), "{said}");
    }
}
