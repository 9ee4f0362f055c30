//! The hub's clock: the wall clock when it started, and monotonic time since. Deadlines and ages
//! use it. Times that are shown use the wall clock, which may step.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Milliseconds since 1970 that never go back.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    started: Instant,
    started_unix_ms: u64,
}

/// A moment on both clocks, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Now {
    /// The time of the hub's clock.
    pub(super) ms: u64,
    /// The time of the wall clock.
    pub(super) wall_ms: u64,
}

impl Clock {
    /// Starts the clock now.
    pub fn start() -> Self {
        Self { started: Instant::now(), started_unix_ms: wall_ms() }
    }

    /// This moment on both clocks.
    pub(super) fn now(&self) -> Now {
        Now { ms: self.now_ms(), wall_ms: wall_ms() }
    }

    /// When the clock was started, in milliseconds since 1970.
    pub fn started_ms(&self) -> u64 {
        self.started_unix_ms
    }

    /// The wall-clock time, as the clock is set now, of a moment of this clock.
    pub fn wall_ms_at(&self, at_ms: u64) -> u64 {
        (wall_ms() + at_ms).saturating_sub(self.now_ms())
    }

    /// The time, in milliseconds since 1970.
    pub fn now_ms(&self) -> u64 {
        self.started_unix_ms + self.started.elapsed().as_millis() as u64
    }
}

fn wall_ms() -> u64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    unix.as_millis() as u64
}
