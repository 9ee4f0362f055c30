//! What is logged, and how that changes while the process runs.

use std::sync::OnceLock;

use parking_lot::Mutex;
use tracing_subscriber::{
    EnvFilter, Registry,
    filter::ParseError,
    reload::{self, Handle},
};

use super::{access_log::TARGET as ACCESS, log_filter::LogFilter};

/// The filter of the process's log.
#[derive(Debug)]
struct Level {
    handle: Handle<EnvFilter, Registry>,
    wanted: Mutex<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    filter: LogFilter,
    /// Whether the hub's own code is logged at `debug`, in addition to the filter.
    is_debugging: bool,
}

impl Wanted {
    /// Whether the filter lets all lines of the hub's own code through already: its directive for
    /// them, or else the last one for everything, has the level `trace`.
    fn traces_all(&self) -> bool {
        let directives = || self.filter.as_str().rsplit(',').map(str::trim);
        let own = concat!(env!("CARGO_CRATE_NAME"), "=");
        let own = directives().find_map(|directive| directive.strip_prefix(own));
        let level = own.or_else(|| directives().find(|directive| !directive.contains('=')));
        level.is_some_and(|level| level.eq_ignore_ascii_case("trace"))
    }

    fn parse(&self) -> Result<EnvFilter, ParseError> {
        // The access log has a setting of its own. A directive of the filter for it comes later,
        // and so wins.
        let text = format!("{ACCESS}=info,{}", self.filter.as_str());
        let filter = EnvFilter::builder().parse(&text)?;
        if !self.is_debugging || self.traces_all() {
            return Ok(filter);
        }
        // Of two directives for one target the last one wins.
        EnvFilter::builder().parse(format!("{text},{DEBUG}"))
    }
}

/// The layer that filters, and a function to be called once the process logs by the layer: from
/// then on the level can be changed ([`set_log_level`]).
pub(super) fn layer(
    filter: LogFilter,
) -> Result<(reload::Layer<EnvFilter, Registry>, impl FnOnce()), ParseError> {
    let wanted = Wanted { filter, is_debugging: false };
    let (layer, handle) = reload::Layer::new(wanted.parse()?);
    let can_change = move || {
        let level = Level { handle, wanted: Mutex::new(wanted) };
        LEVEL.set(level).unwrap_or_else(|_| unreachable!("the process logs already"));
    };
    Ok((layer, can_change))
}

/// Logs by another filter from now on, without the debug lines that [`toggle_debug`] added. False
/// if the process does not log by [`init_logs`](super::init_logs).
pub fn set_log_level(filter: LogFilter) -> bool {
    change(|wanted| *wanted = Wanted { filter, is_debugging: false }).is_some()
}

/// Switches debug lines of the hub's own code on, or off again; returns whether they are on. `None`
/// if the process does not log by [`init_logs`](super::init_logs).
pub fn toggle_debug() -> Option<bool> {
    change(|wanted| wanted.is_debugging = !wanted.is_debugging)
}

fn change(change: impl FnOnce(&mut Wanted)) -> Option<bool> {
    let level = LEVEL.get()?;
    let mut wanted = level.wanted.lock();
    change(&mut wanted);
    // A `LogFilter` was parsed before.
    level.handle.reload(wanted.parse().ok()?).ok()?;
    Some(wanted.is_debugging)
}

static LEVEL: OnceLock<Level> = OnceLock::new();

const DEBUG: &str = concat!(env!("CARGO_CRATE_NAME"), "=debug");

#[cfg(test)]
mod tests {
    use tracing::metadata::LevelFilter;

    use super::*;

    #[test]
    fn debugging_adds_to_a_filter_and_takes_nothing_from_it() {
        for (filter, debugging, hint) in [
            ("info", "visnyk::access=info,visnyk=debug,info", LevelFilter::DEBUG),
            ("off", "visnyk::access=info,visnyk=debug,off", LevelFilter::DEBUG),
            ("visnyk=warn,error", "visnyk::access=info,visnyk=debug,error", LevelFilter::DEBUG),
            ("visnyk::access=off,warn", "visnyk::access=off,visnyk=debug,warn", LevelFilter::DEBUG),
            ("trace", "visnyk::access=info,trace", LevelFilter::TRACE),
        ] {
            let filter: LogFilter = filter.parse().expect("a filter");
            let parsed = Wanted { filter, is_debugging: true }.parse().expect("a filter");
            assert_eq!(parsed.to_string(), debugging);
            assert_eq!(parsed.max_level_hint(), Some(hint));
        }
        for (filter, kept) in
            [("info,visnyk::actors::shard=trace", "shard=trace"), ("trace,visnyk=info", "trace")]
        {
            let filter: LogFilter = filter.parse().expect("a filter");
            let parsed = Wanted { filter, is_debugging: true }.parse().expect("a filter");
            let parsed = parsed.to_string();
            assert!(parsed.contains("visnyk=debug") && parsed.contains(kept), "{parsed}");
        }
    }
}
