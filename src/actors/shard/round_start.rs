//! The start of a round of the mixed lane: which slots are still to be added to it.

use std::{iter::Enumerate, sync::Arc, vec};

use rustc_hash::FxHashSet;

use crate::actors::batch::Batch;

/// A round whose slots are being collected.
#[derive(Debug)]
pub(super) struct RoundStart {
    /// Runs of the channels that are still to be looked up, with the numbers of these.
    pub(super) channels: Enumerate<vec::IntoIter<(Arc<Batch>, usize)>>,
    /// The slots that are left of a channel with too many for one slice, and its number.
    pub(super) slots: Vec<u32>,
    pub(super) number: u32,
    /// Slots whose connections have ended since `slots` were copied. A connection that reuses one
    /// has started after the round.
    pub(super) ended: FxHashSet<u32>,
}
