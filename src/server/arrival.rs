//! What the routes know of a connection: its local address, its peer, and whether it is encrypted.

use std::{io, net::IpAddr};

use hyper::Request;

use super::untrusted_proxy_warning::warn_untrusted_forwarded_for;
use crate::{
    actors::{Socket, SocketAddrs},
    http::{LocalAddress, Secure, TrustedProxies},
};

/// How requests come in on a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    addrs: SocketAddrs,
    is_secure: bool,
}

impl Arrival {
    /// How they come in on this one; an error if it has gone.
    pub(super) fn of(io: &Socket) -> io::Result<Self> {
        Ok(Self { addrs: io.addrs()?, is_secure: io.is_secure() })
    }

    /// The address at the other end, which may be a proxy's.
    pub(super) fn peer(self) -> IpAddr {
        self.addrs.peer.ip().to_canonical()
    }

    /// Tells the routes where a request came in, from whom, and whether it could be read on the
    /// way.
    pub(super) fn annotate<B>(self, request: &mut Request<B>, proxies: &TrustedProxies) {
        let SocketAddrs { local, peer } = self.addrs;
        let client = proxies.client(peer, request.headers());
        warn_untrusted_forwarded_for(&client, request.headers());
        request.extensions_mut().insert(LocalAddress(local));
        request.extensions_mut().insert(client);
        if self.is_secure {
            request.extensions_mut().insert(Secure);
        }
    }
}
