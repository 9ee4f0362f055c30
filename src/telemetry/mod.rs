//! Logs and metrics of the process.

mod backend_metrics;
mod disk_metrics;
#[cfg(feature = "jemalloc")]
mod heap;
mod log_filter;
mod log_level;
mod log_queue;
mod log_throttle;
mod logs;
mod metrics;
mod resident;

pub use backend_metrics::BackendMetrics;
pub use disk_metrics::DiskMetrics;
pub use log_filter::{LogFilter, LogFilterError};
pub use log_level::{set_log_level, toggle_debug};
pub use log_queue::flush as flush_logs;
pub(crate) use log_throttle::LogThrottle;
pub use logs::{LogFormat, LogsError, init as init_logs, print, print_error};
pub use metrics::{Metrics, Reason};
pub use resident::resident_bytes;
