//! What a bridge is started with.

use std::sync::Arc;

use crate::actors::{clock::Clock, lifecycle::Lifecycle, log::Log, shards_handle::ShardsHandle};

/// The parts of a hub that a bridge works on.
#[derive(Clone)]
pub(crate) struct BridgeArguments {
    pub(crate) log: Arc<Log>,
    pub(crate) shards: Arc<ShardsHandle>,
    pub(crate) lifecycle: Arc<Lifecycle>,
    pub(crate) clock: Clock,
}
