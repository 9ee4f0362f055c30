//! `visnyk-loadtest`: a first measure of a hub against the floor.
//!
//! `floor` is the least a server can do: one `send(2)` per delivery in a plain loop. `measure`
//! holds subscribers on one event loop, publishes to them, and reads what the server spent from
//! /proc. Load goes to loopback only.

mod floor;
mod measure;

use std::process::ExitCode;

const USAGE: &str = "usage:
  visnyk-loadtest floor PORT
  visnyk-loadtest measure ADDRESS PID SUBSCRIBERS [paced EVENTS PER_SECOND | burst EVENTS | idle]";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match &arguments[..] {
        ["floor", port] => port.parse().map_err(|_| USAGE.to_owned()).and_then(floor::serve),
        ["measure", rest @ ..] => measure::Plan::parse(rest)
            .ok_or_else(|| USAGE.to_owned())
            .and_then(|plan| measure::run(&plan).map_err(|error| error.to_string())),
        _ => Err(USAGE.to_owned()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
