//! The command line and its settings: the real binary as a script or a person calls it.
#![allow(clippy::unwrap_used)]

mod cli;
mod closed_pipes;
mod command_line;
mod completions;
mod json_lines;
mod log;
mod operating;
mod pty;
mod reload;
mod settings;
