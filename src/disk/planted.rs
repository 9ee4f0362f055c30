//! Mistakes that a test can put into the log, to see that the simulation finds them. Without `cfg(test)`
//! `is_planted!` is false.

/// Whether the log makes this mistake.
macro_rules! is_planted {
    ($mistake:ident) => {{
        #[cfg(test)]
        let is_planted = crate::disk::planted::is_planted(crate::disk::planted::Planted::$mistake);
        #[cfg(not(test))]
        let is_planted = false;
        is_planted
    }};
}

#[cfg(test)]
pub(crate) use switch::{Planted, is_planted, plant};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    /// A mistake in the code of the log.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) enum Planted {
        /// After a failed fsync the next one counts.
        FailedSyncIsRetried,
        /// A start believes what it reads of the tail, which may be in the page cache alone.
        TailIsTrusted,
        /// A start that skips seqs does not note it.
        StartIsNotNoted,
        /// Seqs that are not written are not noted.
        TransientSeqsAreNotNoted,
        /// The end of a closed log is its last event that is written.
        CleanEndIsOfWritten,
        /// Segments that were removed from the log keep their files.
        SegmentsStay,
        /// So do their indexes alone.
        IndexesStay,
        /// Nothing is dropped from the losses file.
        LossesGrow,
    }

    thread_local! {
        static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// From now on the log makes this mistake, in this thread.
    pub(crate) fn plant(mistake: Option<Planted>) {
        PLANTED.set(mistake);
    }

    /// Whether the log makes this mistake.
    pub(crate) fn is_planted(mistake: Planted) -> bool {
        PLANTED.get() == Some(mistake)
    }
}
