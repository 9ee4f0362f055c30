//! Opens a log: finds out where it ends, and reads back what is in it.

mod contents;
mod open_log;
mod opening;
mod reading;
mod scan;
mod tail;

pub use contents::{LogContents, SegmentContents};
pub use open_log::{LogStatus, OpenLog, RecoveryReport};
pub use opening::Recovery;
