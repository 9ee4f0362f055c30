//! What the process tells about itself: logs and metrics.

#[cfg(feature = "jemalloc")]
mod heap;
mod logs;
mod metrics;
mod seldom;

pub use logs::{LogFilter, LogFilterError, LogFormat, LogsError, init as init_logs};
pub use metrics::{Metrics, Reason};
pub(crate) use seldom::Seldom;
