//! Limits by whom a client is: its address, its token's subject. The real binary, over sockets that
//! come from several addresses of this machine.
#![allow(clippy::unwrap_used)]

mod addresses;
#[path = "../wire/mod.rs"]
mod wire;
