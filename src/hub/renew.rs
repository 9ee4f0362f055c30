//! Renews the lease of an open connection with a fresh token.

use std::sync::Arc;

use super::handle::Hub;
use crate::{
    actors::{Renew, Renewal},
    auth::Identity,
};

impl Hub {
    /// Extends the lease of a connection to the expiry of a fresh token of the same subject:
    /// `until_ms` by the hub's clock ([`now_ms`](Self::now_ms)), or `None` for a token that does
    /// not expire. The connection is ended if the token does not allow everything that it receives.
    ///
    /// `None` if the shard did not answer in time: the lease may be renewed or not. The same holds
    /// if this is cancelled.
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
