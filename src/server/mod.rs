//! The process around the hub: settings, listeners, signals.

mod run;
pub mod settings;

pub use run::run;
pub use settings::{ListenAddr, Settings};
