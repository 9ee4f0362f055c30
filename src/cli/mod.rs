//! The command line: what there is to say, and which command acts on it.

mod command;
mod config;
mod error;
mod feed;
mod hub;
mod publish;
mod serve;
mod settings;
mod subscribe;
mod token;

pub(crate) use command::Cli;
pub(crate) use error::CliError;
