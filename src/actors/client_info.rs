//! The client's address behind a proxy, and its permits per address and subject.

use std::{net::IpAddr, sync::Arc};

use super::usage::Usage;
use crate::model::{ClientAddress, Network};

/// What is known of a connection's client. A shard keeps it beside the slot, so that connections
/// without it pay nothing. Dropping it releases its permits.
#[derive(Debug)]
pub struct ClientInfo {
    forwarded_for: Option<IpAddr>,
    _of_address: Option<Usage<Network>>,
    _of_subject: Option<Usage<Arc<str>>>,
}

impl ClientInfo {
    /// The facts to keep; none for a client without permits whose socket has its address.
    pub(crate) fn new(
        client: Option<ClientAddress>,
        of_address: Option<Usage<Network>>,
        of_subject: Option<Usage<Arc<str>>>,
    ) -> Option<Box<Self>> {
        let forwarded_for = client.filter(ClientAddress::is_forwarded).map(|client| client.ip());
        if forwarded_for.is_none() && of_address.is_none() && of_subject.is_none() {
            return None;
        }
        let (_of_address, _of_subject) = (of_address, of_subject);
        Some(Box::new(Self { forwarded_for, _of_address, _of_subject }))
    }

    /// The client's address, if a proxy said it.
    pub(super) fn forwarded_for(&self) -> Option<IpAddr> {
        self.forwarded_for
    }
}
