//! Limits how often a supervisor restarts a child before it escalates.

use std::collections::VecDeque;

/// At most `restarts_max` restarts within `window_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartPolicy {
    /// Restarts allowed within the window.
    pub restarts_max: usize,
    /// The window, in milliseconds.
    pub window_ms: u64,
}

/// The recent restarts of a child, checked against a policy.
#[derive(Debug)]
pub struct Restarts {
    policy: RestartPolicy,
    recent: VecDeque<u64>,
}

impl Restarts {
    /// No restarts so far.
    pub fn new(policy: RestartPolicy) -> Self {
        Self { policy, recent: VecDeque::new() }
    }

    /// Counts a restart at `now_ms`; false if it exceeds the policy, and the failure must be
    /// escalated.
    pub fn allow(&mut self, now_ms: u64) -> bool {
        while self.recent.front().is_some_and(|at| at + self.policy.window_ms <= now_ms) {
            self.recent.pop_front();
        }
        if self.recent.len() >= self.policy.restarts_max {
            return false;
        }
        self.recent.push_back(now_ms);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_too_many_within_the_window_is_refused() {
        let mut restarts = Restarts::new(RestartPolicy { restarts_max: 2, window_ms: 100 });
        assert!(restarts.allow(0));
        assert!(restarts.allow(50));
        assert!(!restarts.allow(99));
        assert!(restarts.allow(100));
    }
}
