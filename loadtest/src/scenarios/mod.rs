//! What is done to a server, one scenario a file.
//!
//! | scenario | what it does | defaults |
//! |---|---|---|
//! | `idle` | connects subscribers in steps, leaves them idle | 1,000, 10,000, 18,000 |
//! | `paced` | one channel, events at a steady rate | 10,000 subscribers, 10 events/s |
//! | `burst` | one channel, events back to back | 10,000 subscribers, 200 events |
//! | `many-channels` | events to many small channels in turn | 1,000 channels x 10 subscribers |
//! | `saturate` | publishers in a closed loop to many small channels | 200 channels x 10 subscribers, 80,000 events |
//! | `big-beside-small` | a small channel's latency alone and beside a big one, whose receivers are another process | 10 beside 18,000 subscribers |
//! | `patterns` | cost of an event with ever more pattern subscriptions | 100, 1,000, 10,000 |
//! | `poll` | long-polls that wait, all answered by one event; cycles without a pause | 5,000 waiting |
//! | `publish` | publishers alone, every combination | 1 and 64; 128 B and 4 KiB; single and 100 |
//! | `durable` | publishers that wait for their event to be on disk; latency of its subscribers | 1, 64, 256 publishers; 100 subscribers |
//! | `churn` | subscribers come and go while events flow | 1,000 a second of 5,000 |
//! | `reconnect-storm` | all drop, miss events, and resume at once | 18,000 subscribers, 20 events |
//! | `slow-readers` | clients that stop reading among those that read | 2,000 and 2,000 |
//! | `soak` | all of it together | 10 minutes |
//! | `history` | one reads all history from disk beside live subscribers | 1,000,000 events, 1,000 live |
//! | `http2` | streams that share connections over HTTP/2, or under TLS | 100 connections x 100 streams, 10 events/s |
//! | `curves` | costs over connections, channels, patterns, payload | to 18,000; 1,000; 10,000; 16 KiB |

mod big_beside_small;
mod burst;
mod churn;
mod curves;
mod durable;
mod history;
mod http2;
mod idle;
mod many_channels;
mod paced;
mod patterns;
mod poll;
mod publish;
mod reconnect_storm;
mod saturate;
mod slow_readers;
mod soak;

pub use big_beside_small::BigBesideSmall;
pub use burst::{Burst, BurstMode};
pub use churn::Churn;
pub use curves::Curves;
pub use durable::Durable;
pub use history::History;
pub use http2::Http2;
pub use idle::Idle;
pub use many_channels::ManyChannels;
pub use paced::Paced;
pub use patterns::Patterns;
pub use poll::Poll;
pub use publish::Publish;
pub use reconnect_storm::ReconnectStorm;
pub use saturate::Saturate;
pub use slow_readers::SlowReaders;
pub use soak::Soak;
