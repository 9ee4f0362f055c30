//! A client's socket as it goes between the HTTP server and a shard.

/// A client's socket.
pub type Socket = super::tcp::Tcp;
