//! The command line: what there is to say, and which command acts on it.

mod command;
mod error;
mod feed;
mod hub;
mod publish;
mod subscribe;

pub(crate) use command::Cli;
pub(crate) use error::CliError;
