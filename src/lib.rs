//! Visnyk, an event hub for high fan-out push: programs publish events to channels over HTTP, and
//! very many clients receive them over Server-Sent Events or long-polling.

pub mod actors;
pub mod auth;
pub mod backend;
pub mod client;
pub mod core;
pub mod disk;
pub mod http;
pub mod hub;
pub mod model;
pub mod redis;
pub mod server;
pub mod telemetry;
