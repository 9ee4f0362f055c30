//! What serves clients on a shard's thread.

use std::{
    future::{Future, pending},
    pin::Pin,
    sync::Arc,
};

use tokio::sync::watch;

use super::local_shard::LocalShard;

/// Serves clients on a shard's thread: accepts, speaks a protocol, and hands sockets over.
pub trait Front: Send + Sync + 'static {
    /// Runs until it is dropped; it is started again when its shard is.
    fn serve(&self, shard: LocalShard) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// Serves clients as soon as there is a front.
pub(super) async fn serve(mut front: watch::Receiver<Option<Arc<dyn Front>>>, shard: LocalShard) {
    let found = front.wait_for(Option::is_some).await.map(|front| front.clone());
    match found {
        Ok(Some(front)) => front.serve(shard).await,
        // The hub has been dropped, and none can come any more; streams that are open go on.
        _ => pending().await,
    }
}
