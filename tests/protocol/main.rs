//! What clients see on the wire, byte by byte: the API, authentication, limits, TLS, HTTP/2,
//! proxies; against the real binary.
#![allow(clippy::unwrap_used)]

mod api;
mod auth;
mod embedding;
mod http_edges;
mod limits;
mod logs;
mod openapi_live;
mod proxy;
mod reload;
mod sockets;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod traces;
#[path = "../wire/mod.rs"]
mod wire;
