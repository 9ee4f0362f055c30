//! The bridge between a hub and the log that it shares with others: it appends what is published on
//! this hub, and shows all events of the log, whichever hub published them.

mod actor;
mod appending;
mod arguments;
mod backoff;
mod counting;
mod loading;
mod reported;
mod tailing;
mod times;

pub(super) use actor::Bridge;
pub(crate) use arguments::BridgeArguments;
pub(crate) use loading::Loader;
