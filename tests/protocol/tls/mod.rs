//! TLS and HTTP/2 in the real binary: handshakes, streams and polls, renewal of the certificate,
//! and clients that mean no good.

use crate::support;

mod attacks;
mod certificate;
mod client;
mod commands;
mod drain;
mod handshakes;
mod hsts;
mod http1;
mod http2;
mod raw;
mod renewal;

pub(crate) use client::Client;
