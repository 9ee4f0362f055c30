//! Mistakes that a test can plant in the log, to see that the simulation finds them. Without
//! `cfg(test)` `is_planted!` is false.

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
        /// After a failed fsync the log continues as if the next one covered it.
        FailedSyncIsRetried,
        /// A start trusts the end of the log that it reads, which may be only in the page cache.
        TailIsTrusted,
        /// A start that skips seqs does not note them in a file.
        StartIsNotNoted,
        /// Seqs of events that are not written are not noted in a file.
        TransientSeqsAreNotNoted,
        /// The end that a closed log notes is its last written event, not its last seq.
        CleanEndIsOfWritten,
        /// The files of removed segments stay.
        SegmentsStay,
        /// The index files of removed segments stay.
        IndexesStay,
        /// Nothing is dropped from the losses file.
        LossesGrow,
    }

    thread_local! {
        static PLANTED: Cell<Option<Planted>> = const { Cell::new(None) };
    }

    /// Plants a mistake in the logs of this thread, from now on.
    pub(crate) fn plant(mistake: Option<Planted>) {
        PLANTED.set(mistake);
    }

    /// Whether the log makes this mistake.
    pub(crate) fn is_planted(mistake: Planted) -> bool {
        PLANTED.get() == Some(mistake)
    }
}
