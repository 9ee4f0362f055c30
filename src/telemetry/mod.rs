//! Logs and metrics of the process.

#[cfg(feature = "jemalloc")]
mod heap;
mod log_throttle;
mod logs;
mod metrics;

pub(crate) use log_throttle::LogThrottle;
pub use logs::{LogFilter, LogFilterError, LogFormat, LogsError, init as init_logs};
pub use metrics::{Metrics, Reason};
