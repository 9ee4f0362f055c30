//! What the hub tells its owner: metrics and logs.

mod metrics;

pub use metrics::{Metrics, Reason};
