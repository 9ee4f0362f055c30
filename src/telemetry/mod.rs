//! Logs, metrics and traces of the process.

mod access_log;
mod backend_metrics;
mod behind_metrics;
mod causes;
mod disk_metrics;
#[cfg(feature = "jemalloc")]
mod heap;
mod histogram;
mod http_responses;
mod log_filter;
mod log_level;
mod log_queue;
mod log_throttle;
mod logs;
mod metric_set;
mod metrics;
mod process;
mod reasons;
mod reload_metrics;
mod resident;
mod sample;
mod samples;
mod traces;

pub use access_log::AccessRecord;
pub use backend_metrics::BackendMetrics;
pub use behind_metrics::{BehindCounts, BehindMetrics};
pub use causes::{causes, with_causes};
pub use disk_metrics::DiskMetrics;
pub use histogram::Histogram;
pub use http_responses::{HttpResponses, RouteClass};
pub use log_filter::{LogFilter, LogFilterError};
pub use log_level::{set_log_level, toggle_debug};
pub use log_queue::flush as flush_logs;
pub(crate) use log_throttle::LogThrottle;
pub use logs::{
    LogFormat, LogsError, init as init_logs, print, print_as, print_error, print_failure,
    print_named, prints_json,
};
pub use metrics::Metrics;
pub use reasons::Reasons;
pub use reload_metrics::ReloadMetrics;
pub use resident::resident_bytes;
pub use sample::{Percentiles, Reading, Sample};
pub use samples::Samples;
pub use traces::{
    CollectorHeaders, CollectorUrl, ExportOptions, Exporter, OpenSpan, PublishTrace, RequestFacts,
    RequestTrace, Sampling, Stage, Step, TraceId, TraceMetrics, Tracer, Value,
};
