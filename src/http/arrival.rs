//! Facts about the connection of a request, which the server attaches as extensions of the request.

use std::net::SocketAddr;

/// The local address at which the request arrived.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddress(pub SocketAddr);

/// Marks a request that arrived over TLS.
#[derive(Debug, Clone, Copy)]
pub struct Secure;
