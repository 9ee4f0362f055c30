//! The client: every connection of a process on one thread and one epoll, with as little work and
//! memory for each as can be, since it shares the machine with what it measures.

mod clock;
mod connection;
mod dial;
mod head;
mod inbox;
mod latency;
mod ledger;
mod poller;
mod pollers;
mod publishers;
mod receivers;
mod stamp;
mod ticks;

pub(crate) use clock::{now_ns, thread_cpu_ns};
pub(crate) use inbox::{Expect, Inbox};
pub(crate) use latency::latencies;
pub(crate) use pollers::Pollers;
pub(crate) use publishers::{Item, PublishPlan, Published, Publishing};
pub(crate) use receivers::{Group, Receivers};
pub(crate) use stamp::Stamp;
pub(crate) use ticks::CaughtUp;
