//! Facts about a connection for the requests on it: local address, peer, TLS or not.

use std::{io, net::IpAddr};

use hyper::Request;

use super::untrusted_proxy_warning::warn_untrusted_forwarded_for;
use crate::{
    actors::{Socket, SocketAddrs},
    http::{LocalAddress, Secure, TrustedProxies},
};

/// Local address, peer and encryption of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    addrs: SocketAddrs,
    is_secure: bool,
}

impl Arrival {
    /// Reads the facts from a socket; an error if the client has closed the connection.
    pub(super) fn of(io: &Socket) -> io::Result<Self> {
        Ok(Self { addrs: io.addrs()?, is_secure: io.is_secure() })
    }

    /// The peer's address, which may be a proxy's.
    pub(super) fn peer(self) -> IpAddr {
        self.addrs.peer.ip().to_canonical()
    }

    /// Attaches these facts to a request as extensions, with the address of the client, which a
    /// trusted proxy may report.
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
