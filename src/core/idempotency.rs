//! Remembers the answers to publishes, so that a retry publishes nothing.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// The name of a publish: subject, route, and the key the publisher chose; with a fingerprint of
/// the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Subject, route and key, as one text.
    pub scope: String,
    /// Distinguishes bodies.
    pub fingerprint: u64,
}

/// What is remembered of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remembered<A> {
    /// Nothing: publish.
    No,
    /// The same publish was answered with this.
    Same(A),
    /// Another body was published under the key.
    Other,
}

/// Answers by key, for a set time and up to a set number; past the number the oldest is dropped
/// early.
#[derive(Debug)]
pub struct Idempotency<A> {
    answers: HashMap<Arc<str>, (u64, A)>,
    order: VecDeque<(u64, Arc<str>)>,
    keys_max: usize,
    keep_ms: u64,
}

impl<A: Clone> Idempotency<A> {
    /// Remembers at most `keys_max` keys, each for `keep_ms` milliseconds.
    pub fn new(keys_max: usize, keep_ms: u64) -> Self {
        Self { answers: HashMap::new(), order: VecDeque::new(), keys_max, keep_ms }
    }

    /// What is known of `key` at `now_ms`.
    pub fn look_up(&mut self, key: &IdempotencyKey, now_ms: u64) -> Remembered<A> {
        self.forget_before(now_ms);
        match self.answers.get(&*key.scope) {
            None => Remembered::No,
            Some((fingerprint, answer)) if *fingerprint == key.fingerprint => {
                Remembered::Same(answer.clone())
            }
            Some(_) => Remembered::Other,
        }
    }

    /// Remembers an answer to a key that [`look_up`](Self::look_up) did not know.
    pub fn remember(&mut self, key: IdempotencyKey, answer: A, now_ms: u64) {
        if self.keys_max == 0 {
            return;
        }
        while self.answers.len() >= self.keys_max {
            self.forget_oldest();
        }
        let scope: Arc<str> = key.scope.into();
        self.order.push_back((now_ms, Arc::clone(&scope)));
        self.answers.insert(scope, (key.fingerprint, answer));
    }

    /// Keys remembered.
    pub fn len(&self) -> usize {
        self.answers.len()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.answers.is_empty()
    }

    fn forget_before(&mut self, now_ms: u64) {
        while self.order.front().is_some_and(|(at, _)| at + self.keep_ms <= now_ms) {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, scope)) = self.order.pop_front() {
            self.answers.remove(&scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(scope: &str, fingerprint: u64) -> IdempotencyKey {
        IdempotencyKey { scope: scope.into(), fingerprint }
    }

    #[test]
    fn a_key_is_remembered_for_its_time_and_not_longer() {
        let mut keys = Idempotency::new(10, 100);
        keys.remember(key("a", 1), "answer", 0);
        assert_eq!(keys.look_up(&key("a", 1), 99), Remembered::Same("answer"));
        assert_eq!(keys.look_up(&key("a", 2), 99), Remembered::Other);
        assert_eq!(keys.look_up(&key("a", 1), 100), Remembered::No);
        assert!(keys.is_empty());
    }

    #[test]
    fn past_the_cap_the_oldest_is_dropped() {
        let mut keys = Idempotency::new(2, 100);
        for (i, scope) in ["a", "b", "c"].into_iter().enumerate() {
            keys.remember(key(scope, 0), i, 0);
        }
        assert_eq!(keys.len(), 2);
        assert_eq!(keys.look_up(&key("a", 0), 1), Remembered::No);
        assert_eq!(keys.look_up(&key("c", 0), 1), Remembered::Same(2));
    }
}
