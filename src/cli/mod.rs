//! The command line: its grammar, and one file a command.

mod command;
mod completions;
mod config;
mod error;
mod feed;
mod hub;
mod log;
mod man;
mod output;
mod publish;
mod serve;
mod settings;
mod subscribe;
mod token;

pub(crate) use command::Cli;
pub(crate) use error::CliError;
