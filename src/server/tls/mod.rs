//! TLS on the hub's listeners: the certificate and its key, their renewal, the handshake.

mod acceptor;
mod current;
mod pair;
mod reloading;

pub(super) use acceptor::{Acceptor, LoadedPair};
pub use pair::TlsError;
