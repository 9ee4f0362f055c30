//! A log that several hubs share, in Redis: one stream, one script that appends to it, the counts
//! of subscribers that hubs report, and the protocol to talk about it (docs/adr/042-redis.md).
//!
//! The layer knows entries and their order. It knows nothing of histories, subscribers or
//! publishers' tasks.

mod address;
mod connection;
mod credentials;
mod entry;
mod error;
mod master;
mod resp;
mod script;
mod server;
mod shared_counts;
mod shared_log;

pub use address::{BackendAddress, BackendAddressError, BackendTarget, Endpoint, SERVERS_MAX};
pub use connection::{CONNECT_TIME_MAX, RedisOptions};
pub use credentials::Credentials;
pub use entry::{Entry, FORMAT, Nonce};
pub use error::RedisError;
pub use master::FIND_TIME_MAX;
pub use script::{AppendLimits, Appended, Fence, NewEntries, SubmissionOutcome};
pub use server::Run;
pub use shared_counts::{HubReport, PatternsPart, RedisCounts, ReportPart, SubscriberCount};
pub use shared_log::{LogState, RedisLog};
