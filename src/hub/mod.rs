//! The library's interface: build a hub, publish, subscribe, query, drain. Cheap to clone.

mod admission;
mod answers;
#[cfg(test)]
mod beyond_memory_tests;
mod bodies;
mod budgets;
mod builder;
mod channel_creation;
#[cfg(test)]
mod channel_upkeep_tests;
mod connections;
#[cfg(test)]
mod contract;
mod counts;
#[cfg(test)]
mod delay_tests;
mod drain;
mod error;
mod event_rate;
mod expired_channels;
#[cfg(test)]
mod fan_out_budget_tests;
mod handle;
mod info;
mod log_counter;
#[cfg(test)]
mod month_tests;
mod poll;
mod publish;
mod quotas;
mod rate_limits;
mod renew;
#[cfg(test)]
mod restart_tests;
mod restore;
#[cfg(test)]
mod restore_tests;
mod rules;
mod samples;
mod shared;
#[cfg(test)]
mod shared_tests;
mod status;
mod subscribe;
#[cfg(test)]
mod tests;
mod throttled_logs;
mod waiting;
#[cfg(test)]
mod wake_up_tests;

pub use answers::AnswerPermit;
pub use bodies::BodyPermit;
pub use builder::{HubBuilder, StartError};
pub use connections::{
    ClosedCursor, ClosedPage, ConnectionCursor, ConnectionPage, ConnectionTotals, Unanswered,
};
// Types of the engine that front doors use.
pub use crate::{
    actors::{
        BackendOptions, BehindReason, ConnectionFilter, ConnectionReport, ConnectionState, EndsFor,
        EventBody, Fault, Holder, PollTicket, ReadLimits, Renewal, Subscriber,
    },
    backend::ChannelInfo,
    telemetry::{Percentiles, Sample},
};
pub use error::{CloseError, PublishError, SubscribeError};
pub use event_rate::{EventRate, Source};
pub use handle::Hub;
pub use info::HubsCounted;
pub use poll::{PollNow, PollRequest, PollWait};
pub use publish::{Publication, Published};
pub use restore::DiskOptions;
pub use rules::RulesError;
pub use samples::{SAMPLE_INTERVAL, SAMPLES_MAX};
pub use status::{HubState, HubStatus};
pub use subscribe::StreamRequest;

pub(crate) use rate_limits::RateLimits;
