//! Remembers the answers to publishes, so that a retry publishes nothing.

use std::collections::{HashMap, VecDeque};

use aws_lc_rs::digest::{Context, SHA256};

/// Identifies a publish by subject, route and the publisher's key, with a fingerprint of what was
/// sent.
///
/// Both are the first 16 bytes of a SHA-256 digest. Every process computes the same, so a log on
/// disk can store them and another node can compare them. Their size does not depend on the
/// client's input. A client cannot find two bodies with the same fingerprint, as it could for a
/// faster hash without a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotencyKey {
    scope: Fingerprint,
    sent: Fingerprint,
}

type Fingerprint = [u8; 16];

impl IdempotencyKey {
    /// Hashes `scope` (subject, route, key) and `sent`. The length of each part is hashed too:
    /// `["a", "b"]` differs from `["ab"]`.
    pub fn new(scope: &[&[u8]], sent: &[&[u8]]) -> Self {
        Self { scope: fingerprint(scope), sent: fingerprint(sent) }
    }

    /// Bytes of its encoding on disk.
    pub const BYTES: usize = 2 * size_of::<Fingerprint>();

    /// Encodes it for the disk.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let (scope, sent) = bytes.split_at_mut(size_of::<Fingerprint>());
        scope.copy_from_slice(&self.scope);
        sent.copy_from_slice(&self.sent);
        bytes
    }

    /// Decodes it from the disk.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (scope, sent) = bytes.split_at_checked(size_of::<Fingerprint>())?;
        Some(Self { scope: scope.try_into().ok()?, sent: sent.try_into().ok()? })
    }
}

fn fingerprint(parts: &[&[u8]]) -> Fingerprint {
    let mut digest = Context::new(&SHA256);
    for part in parts {
        digest.update(&(part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let mut first = Fingerprint::default();
    for (byte, of_digest) in first.iter_mut().zip(digest.finish().as_ref()) {
        *byte = *of_digest;
    }
    first
}

/// The result of a look-up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered<A> {
    /// The key is new: publish.
    No,
    /// The same publish was answered before, with this answer.
    Same(A),
    /// The key was used with a different body.
    Other,
}

/// Answers by key, kept for a limited time and up to a limited number; past the number the oldest
/// is dropped early.
#[derive(Debug)]
pub struct Idempotency<A> {
    answers: HashMap<Fingerprint, Stored<A>>,
    /// When each answer was stored. A key that was stored twice, as in a log on disk, is here
    /// twice; the earlier time is ignored.
    order: VecDeque<(u64, Fingerprint)>,
    keys_max: usize,
    keep_ms: u64,
}

#[derive(Debug)]
struct Stored<A> {
    sent: Fingerprint,
    answer: A,
    at_ms: u64,
}

impl<A: Clone> Idempotency<A> {
    /// Remembers at most `keys_max` keys, each for `keep_ms` milliseconds.
    pub fn new(keys_max: usize, keep_ms: u64) -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), keys_max, keep_ms }
    }

    /// Looks up `key` at `now_ms`. This and [`remember`](Self::remember) remove expired answers,
    /// unless they are not settled.
    pub fn look_up(
        &mut self,
        key: &IdempotencyKey,
        now_ms: u64,
        is_settled: impl Fn(&A) -> bool,
    ) -> Remembered<A> {
        self.evict_before(now_ms, is_settled);
        match self.answers.get(&key.scope) {
            None => Remembered::No,
            Some(stored) if stored.sent == key.sent => Remembered::Same(stored.answer.clone()),
            Some(_) => Remembered::Other,
        }
    }

    /// Remembers an answer to a key that [`look_up`](Self::look_up) did not know, or a later answer
    /// than the one it has.
    pub fn remember(
        &mut self,
        key: IdempotencyKey,
        answer: A,
        now_ms: u64,
        is_settled: impl Fn(&A) -> bool,
    ) {
        if self.keys_max == 0 {
            return;
        }
        while self.answers.len() >= self.keys_max && self.is_oldest_settled(&is_settled) {
            self.evict_oldest();
        }
        self.order.push_back((now_ms, key.scope));
        self.answers.insert(key.scope, Stored { sent: key.sent, answer, at_ms: now_ms });
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn evict_before(&mut self, now_ms: u64, is_settled: impl Fn(&A) -> bool) {
        while self.order.front().is_some_and(|(at, _)| at + self.keep_ms <= now_ms)
            && self.is_oldest_settled(&is_settled)
        {
            self.evict_oldest();
        }
    }

    fn is_oldest_settled(&self, is_settled: impl Fn(&A) -> bool) -> bool {
        self.oldest().is_none_or(|stored| is_settled(&stored.answer))
    }

    /// The oldest answer in the order, unless it was stored again later.
    fn oldest(&self) -> Option<&Stored<A>> {
        let (at_ms, scope) = self.order.front()?;
        self.answers.get(scope).filter(|stored| stored.at_ms == *at_ms)
    }

    fn evict_oldest(&mut self) {
        let is_current = self.oldest().is_some();
        if let Some((_, scope)) = self.order.pop_front()
            && is_current
        {
            self.answers.remove(&scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scope: &str, sent: &str) -> IdempotencyKey {
        IdempotencyKey::new(&[scope.as_bytes()], &[sent.as_bytes()])
    }

    #[test]
    fn a_key_is_remembered_for_its_time_and_not_longer() {
        let mut keys = Idempotency::new(10, 100);
        keys.remember(key("a", "1"), "answer", 0, |_| true);
        assert_eq!(keys.look_up(&key("a", "1"), 99, |_| true), Remembered::Same("answer"));
        assert_eq!(keys.look_up(&key("a", "2"), 99, |_| true), Remembered::Other);
        assert_eq!(keys.look_up(&key("a", "1"), 100, |_| true), Remembered::No);
        assert!(keys.is_empty());
    }

    #[test]
    fn a_key_that_is_stored_twice_is_remembered_from_the_second_time_on() {
        for second_ms in [60, 0] {
            let mut keys = Idempotency::new(3, 100);
            keys.remember(key("a", "1"), 1, 0, |_| true);
            keys.remember(key("b", ""), 2, 10, |_| true);
            keys.remember(key("a", "2"), 3, second_ms, |_| true);
            let last_ms = second_ms + 99;
            assert_eq!(keys.look_up(&key("a", "2"), last_ms, |_| true), Remembered::Same(3));
            assert_eq!(keys.look_up(&key("a", "1"), last_ms, |_| true), Remembered::Other);
            assert_eq!(keys.look_up(&key("a", "2"), 500, |_| true), Remembered::No);
            assert!(keys.is_empty() && keys.order.is_empty());
        }
    }

    #[test]
    fn the_cap_drops_a_key_that_is_stored_twice_in_its_later_turn() {
        let mut keys = Idempotency::new(2, 100);
        keys.remember(key("a", ""), 1, 0, |_| true);
        keys.remember(key("b", ""), 2, 1, |_| true);
        // Makes room as for a new one.
        keys.remember(key("b", ""), 3, 2, |_| true);
        keys.remember(key("c", ""), 4, 3, |_| true);
        assert_eq!(keys.look_up(&key("b", ""), 4, |_| true), Remembered::Same(3));
        keys.remember(key("d", ""), 5, 4, |_| true);
        assert_eq!(keys.look_up(&key("b", ""), 5, |_| true), Remembered::No);
        assert_eq!((keys.len(), keys.order.len()), (2, 2));
    }

    #[test]
    fn past_the_cap_the_oldest_is_dropped() {
        let mut keys = Idempotency::new(2, 100);
        for (i, scope) in ["a", "b", "c"].into_iter().enumerate() {
            keys.remember(key(scope, ""), i, 0, |_| true);
        }
        assert_eq!(keys.len(), 2);
        assert_eq!(keys.look_up(&key("a", ""), 1, |_| true), Remembered::No);
        assert_eq!(keys.look_up(&key("c", ""), 1, |_| true), Remembered::Same(2));
    }

    #[test]
    fn an_answer_that_is_not_settled_stays_beyond_time_and_cap() {
        let mut keys = Idempotency::new(1, 100);
        keys.remember(key("a", ""), 1, 0, |_| true);
        keys.remember(key("b", ""), 2, 0, |answer| *answer != 1);
        assert_eq!(keys.look_up(&key("a", ""), 500, |answer| *answer != 1), Remembered::Same(1));
        assert_eq!(keys.look_up(&key("a", ""), 500, |_| true), Remembered::No);
        assert!(keys.is_empty());
    }

    #[test]
    fn fingerprints_are_the_same_in_every_process_and_keep_parts_apart() {
        // `printf '\1\0\0\0\0\0\0\0a' | sha256sum`
        let hex: String = key("a", "").scope.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "ae6121c88ba555f64c3d812123eb799d");
        let parts = |parts: &[&[u8]]| IdempotencyKey::new(parts, &[]);
        assert_ne!(parts(&[b"a", b"b"]), parts(&[b"ab"]));
        assert_ne!(parts(&[b"a", b""]), parts(&[b"", b"a"]));
        assert_ne!(parts(&[b"a"]), parts(&[b"a", b""]));
    }
}
