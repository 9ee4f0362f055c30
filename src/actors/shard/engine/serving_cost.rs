//! What serving has cost since the clock was last read, roughly: most connections cost little, so the clock is
//! read once for many of them, but one that is sent history may cost as much as fifty others.

/// The cost, in connections that have nothing to read.
#[derive(Debug, Default)]
pub(super) struct ServingCost(u32);

impl ServingCost {
    /// One connection is served.
    pub(super) fn add_connection(&mut self) {
        self.0 += 1;
    }

    /// A piece of history is read for one.
    pub(super) fn add_read(&mut self) {
        self.0 += READ_COST;
    }

    /// A step of a search for a start is made.
    pub(super) fn add_search(&mut self) {
        self.0 += CLOCK_PERIOD;
    }

    /// Whether it is time to read the clock.
    pub(super) fn is_clock_due(&mut self) -> bool {
        let is_due = self.0 >= CLOCK_PERIOD;
        if is_due {
            self.0 = 0;
        }
        is_due
    }
}

/// The cost after which the clock is read, some tenths of a millisecond.
const CLOCK_PERIOD: u32 = 32;
/// A piece of up to 48 KiB, read and written to a socket.
const READ_COST: u32 = 8;
