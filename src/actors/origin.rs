//! Where a connection comes from, for those where its socket does not say it all.

use crate::model::ClientAddress;

/// A connection's origin. A shard keeps it beside the slot, so that it costs nothing where there is
/// none.
#[derive(Debug)]
pub struct Origin {
    /// The client.
    pub(super) client: Option<ClientAddress>,
}

impl Origin {
    /// What is to be kept of a client's address: where its socket says the same, nothing.
    pub(crate) fn of(client: Option<ClientAddress>) -> Option<Box<Self>> {
        let is_told = client.is_some_and(|client| client.is_forwarded());
        is_told.then(|| Box::new(Self { client }))
    }

    /// The client's address, if a proxy said it.
    pub(super) fn forwarded_for(&self) -> Option<std::net::IpAddr> {
        self.client.filter(ClientAddress::is_forwarded).map(|client| client.ip())
    }
}
