//! What is done to a server, one scenario a file.
//!
//! | scenario | what it does | defaults |
//! |---|---|---|
//! | `idle` | connects subscribers in steps, leaves them idle | 1,000, 10,000, 18,000 |
//! | `paced` | one channel, events at a steady rate | 10,000 subscribers, 10 events/s |
//! | `burst` | one channel, events back to back | 10,000 subscribers, 200 events |
//! | `many-channels` | events to many small channels in turn | 1,000 channels x 10 subscribers |

mod burst;
mod idle;
mod many_channels;
mod paced;

pub use burst::{Burst, BurstMode};
pub use idle::Idle;
pub use many_channels::ManyChannels;
pub use paced::Paced;
