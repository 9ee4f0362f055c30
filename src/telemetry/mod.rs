//! Logs and metrics of the process.

mod disk_metrics;
#[cfg(feature = "jemalloc")]
mod heap;
mod log_queue;
mod log_throttle;
mod logs;
mod metrics;

pub use disk_metrics::DiskMetrics;
pub use log_queue::flush as flush_logs;
pub(crate) use log_throttle::LogThrottle;
pub use logs::{
    LogFilter, LogFilterError, LogFormat, LogsError, init as init_logs, print, print_error,
};
pub use metrics::{Metrics, Reason};
