//! Proxies of Debian's in front of the hub, as docs/deploying.md has them, and nginx with nothing
//! set at all.
//!
//! `tests/run` installs them. Each test starts its own, with a folder, a port and a configuration
//! of its own; the system's services are left alone.
mod clients;
mod each;
mod kinds;
mod nginx;
mod process;
mod restart;
pub(crate) mod streams;
use crate::wire;
