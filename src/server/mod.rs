//! The process around the hub: settings, listeners, signals.

mod accept_queue;
mod arrival;
mod authentication;
mod connection;
mod connection_limits;
mod demo;
mod front;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handover;
mod http1;
mod http2;
mod linger;
mod listeners;
mod pending_handoff;
mod plain;
mod preface;
mod process;
mod rejections;
mod rewind;
mod run;
pub mod settings;
mod signals;
mod socket_budget;
mod tls;
mod untrusted_proxy_warning;
mod write_progress;

pub use authentication::{AuthenticationError, signing_secret, verifier};
pub use process::prepare;
pub use run::{RunError, run};
pub use settings::{ListenAddr, Settings};
pub use tls::TlsError;
