//! The shard without its thread: slots, fan-out, deadlines.
//!
//! Synchronous and single-threaded; every call does a bounded amount of work. Each step of a
//! connection runs under `catch_unwind`: a panic ends that connection and no other.
//!
//! [`Engine`] has the slots and performs the steps of their connections. Its parts do not depend on
//! it:
//!
//! | part | has |
//! |---|---|
//! | `FanOut` | subscribers by channel, batches, lanes and rounds |
//! | `Schedule` | deadlines and heartbeats |
//! | `ReadySlots` | slots to be served |
//! | `Extras` | leases, client addresses, replay permits, reads of the disk |
//! | `ReadCache`, `AnswerCache` | bytes made last, for connections that need the same |
//! | `UnsentBudget` | what connections that do not read keep in memory |
//! | `Census` | how many connections are behind |
//! | `RecentlyClosed` | reports of connections that ended |

mod answer_cache;
mod answers;
mod attach;
mod census;
mod delivery;
mod disk_reading;
mod drain;
mod draining;
mod ending;
#[expect(clippy::module_inception, reason = "the folder is named for it")]
mod engine;
mod explain;
mod extras;
mod fan_out;
mod lease;
mod planted_fault;
mod read_cache;
mod reading;
mod ready_slots;
mod recently_closed;
mod report;
mod schedule;
mod sending;
mod sent_rates;
mod serving;
mod serving_cost;
mod tally;
mod unsent;

pub use engine::{Engine, ReturnedSocket};
