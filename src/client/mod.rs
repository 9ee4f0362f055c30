//! A client of the native API: what a program needs to publish to a hub and to follow its
//! channels over an unreliable network.
//!
//! It speaks HTTP/1.1, also under TLS, follows no redirects and imports nothing from the hub's own
//! layers: the two share the wire and no code.

mod backoff;
mod batch;
mod certificate;
mod endpoint;
mod failure;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod link;
mod operator;
mod position;
mod problem;
mod publisher;
#[cfg(test)]
mod scenarios;
mod sse;
mod subscribe_error;
mod subscribe_options;
mod subscription;
mod update;

pub use batch::{Batch, BatchFull, Envelope, EnvelopeError};
pub use certificate::CertificateRejected;
pub use endpoint::{Endpoint, EndpointError};
pub use failure::Failure;
pub use operator::{OperateError, Operator};
pub use position::{Position, PositionError};
pub use problem::Problem;
pub use publisher::{Accepted, PublishError, Published, Publisher, PublisherOptions};
pub use sse::{SseError, SseEvent, SseItem, SseLimits, SseParser};
pub use subscribe_error::SubscribeError;
pub use subscribe_options::{SubscribeOptions, Transport};
pub use subscription::Subscription;
pub use update::{Event, Gap, Update};
