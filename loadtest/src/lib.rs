//! Clients for load and correctness runs against a real hub.
//!
//! Load: a [`Scenario`] is [`run`] against a [`Subject`] and gives an [`Outcome`]. The binary
//! `visnyk-loadtest` is this with a command line.
//!
//! Correctness: the other clients are for tests. They speak HTTP/1.1 over bare sockets, so that a
//! test can do what a well-behaved client never does: stop reading, cut a connection, send half a
//! request. They share no code with the hub or its client, so that a mistake of one is not repeated
//! by the other, and they are strict where the hub's form is documented.

pub mod http2_frames;
pub mod outcome;
pub mod report;
pub mod scenarios;
pub mod server_process;
pub mod subject;

mod apart;
mod audience;
mod churning;
mod client;
mod closed_loop;
mod exchange;
mod executable;
mod failure;
mod framing;
mod fsync;
mod hub;
mod hyper_client;
mod machine;
mod measured;
mod memory;
mod open_streams;
mod poll;
mod progress;
mod publisher;
mod redis_cluster;
mod redis_server;
mod restart;
mod scenario;
mod sequence;
mod server_figures;
mod sse;
mod wire;

pub use apart::receive_apart;
pub use audience::{Audience, Received};
pub use exchange::{Answer, Exchange};
pub use failure::{Failure, in_full};
pub use framing::Framing;
pub use fsync::{SlowFsync, measure_fsync};
pub use hub::{Hub, HubCommand};
pub use hyper_client::{HyperClient, dial_tls, shake_hands, tls_config};
pub use machine::raise_open_files;
pub use memory::Memory;
pub use outcome::Outcome;
pub use poll::{PollAnswer, PollClient, PolledEvent};
pub use progress::Progress;
pub use publisher::Publisher;
pub use redis_cluster::RedisCluster;
pub use redis_server::RedisServer;
pub use restart::RestartableHub;
pub use scenario::{Scenario, run};
pub use sequence::{Mismatch, Sequence};
pub use sse::{Block, SseClient, SseRequest};
pub use subject::{Delivers, Extras, LongPoll, Restart, Subject};
pub use wire::{Head, Wire};

/// `text` as one path part or query value: everything but `A-Z a-z 0-9 - . _ ~` is encoded.
pub fn percent_encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    #[test]
    fn channel_is_one_path_part() {
        assert_eq!(super::percent_encode("a/b ї~"), "a%2Fb%20%D1%97~");
    }
}
