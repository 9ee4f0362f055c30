//! How much work a counted run does.

/// How much of a path to run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) size: usize,
    pub(crate) rounds: usize,
    /// The set-up is made for so many rounds, however many are run.
    pub(crate) rounds_max: usize,
}
