//! The approximate cost of serving since the clock was last read. Most connections cost little, so
//! the clock is read once for many of them; but one that is sent history may cost as much as fifty
//! others.

/// The cost, in units of a connection that has nothing to read.
#[derive(Debug, Default)]
pub(super) struct ServingCost(u32);

impl ServingCost {
    /// Adds the cost of a connection that is served.
    pub(super) fn add_connection(&mut self) {
        self.0 += 1;
    }

    /// Adds the cost of a piece of history that is read.
    pub(super) fn add_read(&mut self) {
        self.0 += READ_COST;
    }

    /// Adds the cost of a step of a search for a start.
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
