//! The interface of a server that runs on the shards' threads.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};

use tokio::sync::watch;

use super::local_shard::LocalShard;

/// A server on a shard's thread: accepts connections, implements a protocol, and hands sockets off
/// to the shard.
pub trait Front: Send + Sync + 'static {
    /// Runs until it is dropped. It is started again together with its shard.
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// Waits for a front and runs it.
pub(super) async fn serve(mut front: watch::Receiver<Option<Arc<dyn Front>>>, shard: LocalShard) {
    let found = front.wait_for(Option::is_some).await.map(|front| front.clone());
    match found {
        Ok(Some(front)) => front.serve(shard).await,
        // The hub has been dropped, so no front will be set. Open streams go on.
        _ => pending().await,
    }
}
