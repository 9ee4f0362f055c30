//! Pure state machines: they take the time as an argument and never read a clock, spawn, log or
//! lock.

mod channel_rules;
mod close_reason;
mod connection;
mod connection_msg;
#[cfg(test)]
mod connection_tests;
mod event_outline;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod history;
mod idempotency;
mod lagging;
mod limits;
mod pattern_index;
mod rate;
mod restart;
mod subscription;
mod unloaded;
mod wheel;

pub use channel_rules::{ChannelPolicies, ChannelPolicy, ChannelRule};
pub use close_reason::CloseReason;
pub use connection::Connection;
pub use connection_msg::{ConnectionMsg, ConnectionStart, Effect, Transport};
pub use event_outline::{EventOutline, Retained};
pub use history::{Evicted, FellOff, History, NotInMemory, Slice};
pub use idempotency::{Idempotency, IdempotencyKey, Remembered};
pub(crate) use limits::with_defaults;
pub use limits::{
    AddressLimits, ChannelLimits, ConnectionLimits, HistoryLimits, Http2Limits, Limits, PollLimits,
    PublishLimits, RequestLimits, SlowPolicy, SubjectLimits,
};
pub use pattern_index::{PatternId, PatternIndex};
pub use rate::{Rate, TooFast};
pub use restart::{RestartPolicy, Restarts};
pub use subscription::{Subscription, SubscriptionError};
pub use wheel::Wheel;
