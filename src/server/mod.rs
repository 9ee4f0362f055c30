//! The process around the hub: settings, listeners, signals.

mod accept_queue;
mod arrival;
mod authentication;
mod backend;
mod connection;
mod connection_limits;
mod demo;
mod front;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handover;
mod http1;
mod http2;
mod idle_sockets;
mod linger;
mod listeners;
mod node_name;
mod pending_handoff;
mod plain;
mod predecessor;
mod preface;
mod process;
mod rejections;
mod reload;
mod rewind;
mod run;
mod run_counts;
mod run_error;
mod service_manager;
pub mod settings;
mod signals;
mod socket_budget;
mod starting;
mod tls;
mod traces;
mod untrusted_proxy_warning;
mod write_progress;

pub use authentication::{AuthenticationError, signing_secret, verifier};
pub use process::prepare;
pub use run::run;
pub use run_error::RunError;
pub use settings::{ListenAddr, Settings};
pub use tls::TlsError;
