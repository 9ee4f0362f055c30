//! Settings: their values, the layers that they are read from, and why a value is refused.
//!
//! The layers, of which a later one wins, are: defaults, `visnyk.toml`, `visnyk.PROFILE.toml`,
//! environment variables (`VISNYK_*`, with `__` between levels), and command-line flags. Every
//! layer is checked against the table of keys before it is merged, so that a refusal can name where
//! the value came from.

mod allowed;
mod assignment;
mod auth;
mod channel_report;
mod contradictions;
mod effective;
mod error;
mod file;
mod keys;
mod listen;
mod nearest;
mod reload;
mod rules;
mod service_links;
mod set_by;
mod sources;
mod values;

pub use allowed::Allowed;
pub(crate) use auth::SECRET_BYTES_MIN;
pub use auth::{AuthSettings, PublicKeyFile};
pub use effective::{Effective, Entry};
pub use error::{SettingsError, SettingsErrors};
pub use keys::Key;
pub use listen::{ListenAddr, ListenAddrError};
pub(crate) use reload::Reload;
pub use set_by::SetBy;
pub use sources::Sources;
pub use values::{ChannelSettings, LogSettings, Settings, TraceSettings};
