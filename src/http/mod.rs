//! The HTTP surface: routes, problem responses, and the front doors, each of which translates to
//! the same hub calls.
//!
//! [`router`] is an ordinary axum router: it runs in any server. A server that can give sockets
//! away says so with [`HandoffAllowed`] and finds a [`HandoffRequest`] on the response of a stream
//! or a waiting poll; for all others the response has a body.

mod access;
mod answers;
mod authorization;
mod body;
mod console;
mod cors;
mod credentials;
mod dispatch;
mod faults;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handoff;
mod health;
mod openapi;
mod origin;
mod params;
mod poll;
mod problem;
mod proxies;
mod quickstart;
mod rejection_writer;
mod request_checks;
mod routes;
mod stream;
mod v1;

pub use access::{Access, MetricsAccess};
pub(crate) use answers::with_answer_permit;
pub use authorization::AccessPolicy;
pub use cors::Cors;
pub(crate) use dispatch::Dispatcher;
pub use handoff::{Handoff, HandoffAllowed, HandoffRequest, LocalAddress, Secure};
pub(crate) use origin::is_origin;
pub use origin::{OriginPattern, OriginPatternError};
pub use problem::Problem;
pub use proxies::{ProxyBlock, ProxyBlockError, TrustedProxies};
pub(crate) use quickstart::default_channel;
pub use rejection_writer::{RejectionWriter, TemporaryRejection};
pub use routes::{HttpSettings, ROUTES, Route, router};
