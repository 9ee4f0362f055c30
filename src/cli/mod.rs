//! The command line: its grammar, and one file a command.

mod channels;
mod close;
mod command;
mod completions;
mod config;
mod connections;
mod disconnect;
mod error;
mod explain;
mod feed;
mod health;
mod hint;
mod hub;
mod human;
mod log;
mod log_format;
mod man;
mod output;
mod pages;
mod pretty;
mod publish;
mod rates;
mod reload;
mod screen;
mod serve;
mod settings;
mod status;
mod subscribe;
mod table;
mod terminal;
mod token;
mod top;

pub(crate) use command::Cli;
pub(crate) use error::CliError;
