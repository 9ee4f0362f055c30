//! Limits by client: by address, and by the subject of its token. The real binary, over sockets
//! that come from several addresses of this machine.
mod addresses;
mod answers;
mod channel_creation;
mod connections;
mod deadlines;
mod gathering;
mod heads;
mod rates;
mod replays;
mod reports;
mod rules;
mod slowloris;
mod sockets;
mod subjects;
use crate::wire;

/// The name of the metric that counts requests past a bound.
fn refused_requests(bound: &str) -> String {
    format!("visnyk_requests_refused_total{{reason=\"{bound}\"}}")
}

/// Settings under which programs of this machine are counted, each address for itself.
fn counted<'a>(settings: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("limits.per_address.loopback", "true")], settings].concat()
}
