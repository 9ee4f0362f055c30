//! What the process tells about itself: logs and metrics.

mod logs;
mod metrics;

pub use logs::{LogFilter, LogFilterError, LogFormat, LogsError, init as init_logs};
pub use metrics::{Metrics, Reason};
