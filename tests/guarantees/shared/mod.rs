//! Hubs that share a log in Redis (docs/scaling.md), held against what happens to the server and to
//! them.

mod access;
mod bounds;
mod cluster;
mod cold_starts;
mod counts;
mod failovers;
mod formats;
mod hubs;
mod losses;
mod outages;
mod quiet_channels;
mod roles;
mod rotation;
mod start;
mod tls;
mod two_hubs;
