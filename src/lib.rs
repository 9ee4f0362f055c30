//! Visnyk, an event hub for high fan-out push: programs publish events to channels over HTTP, and
//! very many clients receive them over Server-Sent Events or long-polling.
//!
//! The feature `server`, on by default, is the hub itself, to run or to embed: everything but
//! [`client`]. A program that only talks to a hub leaves it and most dependencies out:
//!
//! ```toml
//! visnyk = { version = "0.1", default-features = false, features = ["client"] }
//! ```

#[cfg(feature = "server")]
pub mod actors;
#[cfg(feature = "server")]
pub mod auth;
#[cfg(feature = "server")]
pub mod backend;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
pub mod core;
#[cfg(feature = "server")]
pub mod disk;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod hub;
#[cfg(feature = "server")]
pub mod model;
#[cfg(feature = "server")]
pub mod redis;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod telemetry;
