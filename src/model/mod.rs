//! The values of all layers: names, patterns, positions, events and their encodings.
//! No I/O, no clock, no shared state.

mod address;
mod channel;
mod chunk;
mod encoding;
mod event;
mod frame;
mod framing;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod gap;
mod labels;
mod new_event;
mod pattern;
mod poll;
mod position;
mod sse;

pub use address::{ClientAddress, Network};
pub use channel::{ChannelName, ChannelNameError};
pub use chunk::{CHUNK_HEAD_BYTES, CHUNK_TAIL_BYTES, LAST_CHUNK, TransferCoding};
pub use encoding::{EnvelopeEncoding, EventEncoding, MessageEncoding, rfc3339_millis};
pub use event::{Event, EventKind};
pub use frame::{Draft, Frame, FrameLength};
pub use framing::{Closing, Framing, Preamble};
pub use gap::{Gap, GapReason};
pub(crate) use labels::labels;
pub use new_event::{EventType, EventTypeError, NewEvent, RETRY_MS_MAX};
pub use pattern::{ChannelPattern, ChannelSelector, SelectorError};
pub use poll::{EnvelopeAnswers, PollAnswer, PollEncoding, PollReply};
pub use position::{Epoch, LastEvents, Position, PositionError, Seq, Start};
pub use sse::{Sse, comment_block};
