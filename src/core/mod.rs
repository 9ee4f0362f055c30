//! Pure state machines: they take the time as an argument and never read a clock, spawn, log or
//! lock.

mod limits;

pub use limits::{
    ChannelLimits, ConnectionLimits, HistoryLimits, Limits, PollLimits, PublishLimits, SlowPolicy,
};
