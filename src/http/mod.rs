//! The HTTP interface: routes, problem documents, and the front doors (sets of routes with one wire
//! format), which all call the same methods of the hub.
//!
//! [`router`](fn@router) is an ordinary axum router. It runs in any server, and answers streams and
//! waiting polls with response bodies. The hub's own server calls the dispatcher without the
//! router, and hands off the sockets of streams and waiting polls.

mod access;
mod answer_marks;
mod answers;
mod arrival;
mod authentication;
mod authority;
mod authorization;
mod body;
mod call;
mod console;
mod cors;
mod credentials;
mod dispatch;
mod event_headers;
mod faults;
mod foreign_origins;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod handoff;
mod head_body;
mod head_limits;
mod health;
mod incomplete_body;
mod logged_body;
mod openapi;
mod origin;
mod page_origin;
mod params;
mod poll;
mod problem;
mod proxies;
mod quickstart;
mod rejection_writer;
mod reload_requests;
mod request_checks;
mod request_id;
mod request_span;
mod role;
mod role_check;
mod route_policy;
mod router;
mod security_headers;
mod start_position;
mod state;
mod stream;
mod v1;
mod weighted_list;
mod whole_answer;

pub use access::{Access, MetricsAccess};
pub(crate) use answers::with_answer_permit;
pub use arrival::{LocalAddress, Secure};
pub use cors::Cors;
pub(crate) use dispatch::Dispatcher;
pub use handoff::Handoff;
pub(crate) use handoff::{Outcome, poll_cut_short, poll_response};
pub(crate) use incomplete_body::EndsIncomplete;
pub(crate) use logged_body::log_answer;
pub(crate) use origin::is_origin;
pub use origin::{OriginPattern, OriginPatternError};
pub use problem::Problem;
pub use proxies::{ProxyBlock, ProxyBlockError, TrustedProxies};
pub(crate) use quickstart::default_channel;
pub use rejection_writer::{RejectionWriter, TemporaryRejection};
pub(crate) use reload_requests::{ReloadAnswer, ReloadRefusal, ReloadRequests, Reloaded};
pub use role::Role;
pub use route_policy::{AccessPolicy, Exposure, ROUTES, Route};
pub use router::router;
pub use state::HttpSettings;
pub(crate) use whole_answer::whole_answer;
