//! `visnyk-loadtest compare`: the hub beside what else can be had from public registries, in one
//! sitting and in turn, and a table of the ratios.

mod command;
mod results;
mod scratch;
mod server;
mod sizes;
mod table;

pub(crate) use command::Command;
pub(crate) use scratch::Scratch;
