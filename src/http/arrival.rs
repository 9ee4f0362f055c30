//! Facts about the connection of a request. The hub's own server attaches them to the request as
//! extensions.

use std::net::SocketAddr;

/// The local address of the connection.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddress(pub SocketAddr);

/// Marks a request that arrived over TLS.
#[derive(Debug, Clone, Copy)]
pub struct Secure;
