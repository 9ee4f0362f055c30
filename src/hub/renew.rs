//! Fresh tokens for living connections.

use std::sync::Arc;

use super::handle::Hub;
use crate::{
    actors::{Renew, Renewal},
    auth::Identity,
};

impl Hub {
    /// Lets a connection go on for as long as a fresh token of its subject lasts: until `until_ms`
    /// of the hub's clock ([`now_ms`](Self::now_ms)), or for good. If the token does not allow all
    /// that the connection receives, the connection is ended.
    ///
    /// `None` if its shard did not answer; then the connection is as it was, or will be as it was
    /// asked. Cancelling it leaves open which.
    pub async fn renew(
        &self,
        id: u64,
        identity: Arc<Identity>,
        until_ms: Option<u64>,
    ) -> Option<Renewal> {
        let Some((shard, key)) = self.0.connections.find_leased(id) else {
            return Some(Renewal::NoSuchConnection);
        };
        let renew = Renew { key, id, identity, until_ms: until_ms.unwrap_or(u64::MAX) };
        self.0.shards.renew(shard, renew).await
    }
}
