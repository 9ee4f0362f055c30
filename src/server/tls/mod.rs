//! TLS on the hub's listeners: the certificate and its key, their renewal, the handshake.

mod acceptor;
mod current;
mod loaded_pair;
mod pair;
mod reloading;

pub(super) use acceptor::Acceptor;
pub(super) use loaded_pair::LoadedPair;
pub use pair::TlsError;
pub(super) use reloading::Reloading;
