//! The library's face: build a hub, publish, subscribe, ask, drain. Cheap to clone.

mod answers;
mod bodies;
mod builder;
mod channel_creation;
mod connections;
mod drain;
mod error;
#[cfg(test)]
mod fan_out_budget_tests;
mod info;
mod poll;
mod publish;
mod quotas;
mod rate_limits;
mod renew;
mod subscribe;
#[cfg(test)]
mod tests;
mod throttled_logs;
mod waiting;
#[cfg(test)]
mod wake_up_tests;

use std::{fmt, sync::Arc};

pub use answers::AnswerPermit;
pub use bodies::BodyPermit;
pub use builder::{HubBuilder, StartError};
pub use connections::{
    ClosedCursor, ClosedPage, ConnectionCursor, ConnectionPage, ConnectionTotals, Unanswered,
};
// What a front door needs of the engine.
pub use crate::{
    actors::{
        BehindReason, ConnectionFilter, ConnectionReport, ConnectionState, Fault, Holder,
        PollTicket, Renewal, Subscriber,
    },
    backend::ChannelInfo,
};
pub use error::{CloseError, PublishError, SubscribeError};
pub use poll::{PollNow, PollRequest};
pub use publish::{Publication, Published};
pub use subscribe::StreamRequest;

pub use quotas::{EventRate, Source};
pub(crate) use rate_limits::{RateLimits, TooFast};

use self::{channel_creation::ChannelCreator, quotas::Quotas, throttled_logs::ThrottledLogs};
use crate::actors::HubState;

/// A handle to a running hub. The hub stops when [`Hub::shut_down`] is called; dropping handles
/// does not stop it.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<HubState>,
    quotas: Arc<Quotas>,
    channel_creator: Arc<ChannelCreator>,
    logs: Arc<ThrottledLogs>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

#[cfg(test)]
impl Hub {
    /// What its actors share, for their tests.
    pub(crate) fn shared(&self) -> &Arc<HubState> {
        &self.shared
    }
}
