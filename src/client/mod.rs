//! A client of the native API: what a program needs to publish to a hub and to follow its
//! channels over an unreliable network.
//!
//! It speaks HTTP/1.1, also under TLS, follows no redirects and imports nothing from the hub's own
//! layers: the two share the wire and no code. With
//! `default-features = false, features = ["client"]` this module is all of the crate. It needs a
//! Tokio runtime with time and I/O enabled.
//!
//! # Following channels
//! [`Subscription::next`] gives one [`Update`] after the other. It connects by itself, over
//! Server-Sent Events or by polls, and after a failure comes back at its position: no event is
//! lost, and none comes twice. Events that the hub no longer has are an [`Update::Gap`]. The waits
//! between attempts begin at what the hub's `retry:` names (3 s until it has named one), grow to 30
//! s, and are spread at random.
//!
//! A program that must go on after a restart stores [`Subscription::position`] with what it made of
//! the events, and passes it as [`SubscribeOptions::from`].
//!
//! # Publishing
//! [`Publisher::publish`] and [`Publisher::publish_batch`] return once the hub has acknowledged the
//! event or the whole batch. They repeat failed attempts for 30 s under one idempotency key, so an
//! event is published once. [`Publisher::in_trace`] makes publishes parts of the program's trace.
//!
//! # Errors
//! An error is for good: a hub's refusal ([`Problem`], which names the field), a certificate that
//! is not accepted, an answer that is not a hub's. What another attempt may mend is a [`Failure`]:
//! a subscription reports it as [`Update::Reconnecting`] and goes on, a publisher hands it to
//! [`Publisher::on_retry`] and gives up after [`PublisherOptions::retry_for`]. Each operation has
//! an enum of its own; the cause is in `source()`.
//!
//! # Cancellation
//! [`Subscription::next`] may be cancelled at any await, as in `select!`, and loses nothing. A
//! cancelled publish may or may not have happened; of a batch, all of it or nothing.
//!
//! # Bounds
//! A line or event of a stream has at most 8 MiB ([`SseLimits`]), an answer to a poll 64 MiB
//! ([`SubscribeOptions::poll_bytes_max`]). A subscription reads no further than `next` asks: a slow
//! program slows down its own connection, and the hub then acts by its policy for slow connections.
//!
//! # Example
//! ```
//! use visnyk::client::{
//!     Endpoint, Position, Publisher, PublisherOptions, SubscribeOptions, Subscription, Update,
//! };
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let hub = visnyk::hub::Hub::builder().start().await?;
//! # let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! # let url = format!("http://{}", listener.local_addr()?);
//! # let app = visnyk::http::router(hub, visnyk::http::HttpSettings::default());
//! # tokio::spawn(async move { axum::serve(listener, app).await });
//! # let url = url.as_str();
//! let endpoint = Endpoint::parse(url)?; // such as http://127.0.0.1:3000
//!
//! let publisher = Publisher::new(endpoint.clone(), PublisherOptions::default());
//! let published = publisher.publish("orders/7", r#"{"total":12}"#, Some("paid")).await?;
//!
//! let mut options = SubscribeOptions::new(vec!["orders/*".into()]);
//! options.from = Position::EARLIEST;
//! let mut subscription = Subscription::new(endpoint, options);
//! while let Some(update) = subscription.next().await? {
//!     match update {
//!         Update::Event(event) => {
//!             assert_eq!((event.id, event.data.as_str()), (published.id, r#"{"total":12}"#));
//!             break;
//!         }
//!         Update::Gap(gap) => eprintln!("events are missing: {}", gap.reason),
//!         Update::Reconnecting { failure, wait } => eprintln!("{failure}; again in {wait:?}"),
//!         _ => {}
//!     }
//! }
//! println!("goes on after {}", subscription.position());
//! # Ok(())
//! # }
//! ```

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
mod trace_context;
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
pub use trace_context::{TraceContext, TraceContextError};
pub use update::{Event, Gap, Update};
