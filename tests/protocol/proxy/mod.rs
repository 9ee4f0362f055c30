//! Debian's nginx in front of the hub, as docs/deploying.md has it, and with nothing set at all.
//!
//! `tests/run` installs nginx. Each test starts its own, with a folder, a port and a configuration
//! of its own; the system's service is left alone.
mod clients;
mod nginx;
mod restart;
pub(crate) mod streams;
use crate::wire;
