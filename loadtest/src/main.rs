//! `visnyk-loadtest`: load on a hub, and what that costs.

mod cli;
mod floor;
mod rounds;
mod summary;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::Cli::parse().run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
