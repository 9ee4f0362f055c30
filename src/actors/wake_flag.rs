//! A flag that is raised to wake something, once until that looks for its work.

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something has been woken and has not looked for work since. The one that is woken
/// lowers the flag, and then looks: what comes after the look raises it again.
///
/// `tests/models` tries every order of these steps with at most three preemptions.
#[derive(Debug, Default)]
pub(crate) struct WakeFlag(AtomicBool);

impl WakeFlag {
    /// Raises it, after work was handed over; whether it was lowered, so that the caller wakes.
    pub(crate) fn raise(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    /// Lowers it, before a look for work. A swap: after a store the look could come before it, and
    /// miss work whose sender finds the flag raised still.
    pub(crate) fn lower(&self) {
        self.0.swap(false, Ordering::AcqRel);
    }
}
