//! How far a run is: a bar on a terminal, lines elsewhere.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Says on stderr what a run does.
#[derive(Debug)]
pub struct Progress {
    /// `None` if stderr is not a terminal.
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// Bars on a terminal, plain lines elsewhere.
    pub fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.enable_steady_tick(TICK);
            bar
        });
        Self { bar, quiet: false }
    }

    /// Says nothing.
    pub fn silent() -> Self {
        Self { bar: None, quiet: true }
    }

    /// A line that stays.
    pub fn note(&self, line: &str) {
        match &self.bar {
            _ if self.quiet => {}
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }

    /// A part of the run begins, with `total` things to count; 0 if they cannot be counted.
    pub fn begin(&self, what: &str, total: u64) {
        match &self.bar {
            Some(bar) => {
                let style = if total > 0 { COUNTED } else { UNCOUNTED };
                bar.set_style(ProgressStyle::with_template(style).expect("the template is fixed"));
                bar.set_length(total);
                bar.set_position(0);
                bar.set_message(what.to_owned());
            }
            None if total > 0 => self.note(&format!("  {what}: {total}")),
            None => self.note(&format!("  {what}")),
        }
    }

    /// So many of them are done.
    pub fn at(&self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        }
    }

    /// The bar goes away.
    pub fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}

/// Slow enough that drawing takes no time from what is measured.
const TICK: Duration = Duration::from_millis(500);
const COUNTED: &str = "  {msg} {wide_bar} {pos}/{len}";
const UNCOUNTED: &str = "  {spinner} {msg} {elapsed}";
