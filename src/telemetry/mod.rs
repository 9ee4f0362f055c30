//! What the process tells about itself: logs.

mod logs;

pub use logs::{LogFilter, LogFilterError, LogFormat, LogsError, init as init_logs};
