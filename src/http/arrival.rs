//! What a server knows of the connection that a request came on, as extensions of the request.

use std::net::SocketAddr;

/// On a request: the address it came in at.
#[derive(Debug, Clone, Copy)]
pub struct LocalAddress(pub SocketAddr);

/// On a request: it came in over TLS.
#[derive(Debug, Clone, Copy)]
pub struct Secure;
