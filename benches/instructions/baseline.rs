//! The blessed counts, and how new counts compare with them.

use std::{collections::BTreeMap, env::consts, fmt::Write as _, fs, process::Command};

use serde::Deserialize;

use crate::{
    callgrind::Counts,
    paths::{PATHS, Path},
};

/// The counts of a commit, by path.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Baseline {
    rustc: String,
    machine: String,
    paths: BTreeMap<String, Blessed>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Blessed {
    instructions: f64,
    allocations: f64,
}

/// How far instructions can be compared with the blessed ones.
#[derive(Debug)]
pub(crate) struct Margin {
    /// The least that is let pass whatever the path, in percent; `None` where they say nothing.
    percent_min: Option<f64>,
    /// Why it is not the path's own margin.
    pub(crate) note: Option<String>,
}

/// How a path compares.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Within the margin.
    Same,
    /// Not blessed yet.
    New,
    /// Better by more than the margin.
    Better(String),
    /// Worse by more than the margin, or it allocates and should not.
    Worse(String),
}

impl Baseline {
    /// The blessed counts; empty if there is no file.
    pub(crate) fn read() -> Result<Self, String> {
        match fs::read_to_string(FILE) {
            Ok(text) => toml::from_str(&text).map_err(|error| format!("{FILE}: {error}")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(format!("{FILE}: {error}")),
        }
    }

    /// The margin for this compiler and machine.
    pub(crate) fn margin(&self) -> Margin {
        let (rustc, machine) = (rustc(), machine());
        if self.paths.is_empty() {
            return Margin { percent_min: None, note: Some("nothing is blessed yet".to_owned()) };
        }
        if self.machine != machine {
            let note = format!(
                "blessed on {}, this is {machine}: instructions are not compared, allocations are",
                self.machine
            );
            return Margin { percent_min: None, note: Some(note) };
        }
        if self.rustc != rustc {
            let note = format!(
                "blessed with {}, this is {rustc}: {OTHER_COMPILER_PERCENT} % more is let pass; \
                 bless with the compiler in use",
                self.rustc
            );
            return Margin { percent_min: Some(OTHER_COMPILER_PERCENT), note: Some(note) };
        }
        Margin { percent_min: Some(0.0), note: None }
    }

    /// Compares a path with what is blessed.
    pub(crate) fn judge(&self, path: &Path, counted: Counts, margin: &Margin) -> Verdict {
        let name = path.name;
        let counted = rounded(counted);
        if path.is_allocation_free && counted.allocations > 0.0 {
            let why = format!("{name}: {} allocations, and it may have none", counted.allocations);
            return Verdict::Worse(why);
        }
        let Some(blessed) = self.paths.get(name) else { return Verdict::New };
        let of_blessed = |what, counted: f64, blessed: f64, percent: f64, noise: f64| {
            let change = 100.0 * (counted - blessed) / blessed.max(f64::MIN_POSITIVE);
            let text = format!("{name}: {what} {blessed} -> {counted} ({change:+.1} %)");
            let margin = (blessed * percent / 100.0).max(noise);
            match counted - blessed {
                more if more > margin => Verdict::Worse(text),
                less if -less > margin => Verdict::Better(text),
                _ => Verdict::Same,
            }
        };
        let instructions = margin.percent_min.map_or(Verdict::Same, |percent_min| {
            let percent = path.margin_percent.max(percent_min);
            of_blessed("instructions", counted.instructions, blessed.instructions, percent, 0.0)
        });
        let allocations = of_blessed(
            "allocations",
            counted.allocations,
            blessed.allocations,
            path.margin_percent,
            ALLOCATIONS_NOISE,
        );
        match (instructions, allocations) {
            (Verdict::Worse(a), Verdict::Worse(b)) => Verdict::Worse(format!("{a}\n{b}")),
            (Verdict::Worse(why), _) | (_, Verdict::Worse(why)) => Verdict::Worse(why),
            (Verdict::Better(why), _) | (_, Verdict::Better(why)) => Verdict::Better(why),
            _ => Verdict::Same,
        }
    }

    /// A line of the table.
    pub(crate) fn line(&self, path: &Path, counted: Counts, verdict: &Verdict) -> String {
        let Counts { instructions, allocations } = rounded(counted);
        let blessed = self.paths.get(path.name).map(|blessed| blessed.instructions);
        let change = blessed.map(|b| format!("{:+.1} %", 100.0 * (instructions - b) / b));
        let mark = match verdict {
            Verdict::Worse(_) => "  WORSE",
            Verdict::Better(_) => "  better",
            Verdict::New => "  new",
            Verdict::Same => "",
        };
        format!(
            "{:<20}{instructions:>14}{:>14}{:>9}{allocations:>13}  {}{mark}",
            path.name,
            blessed.map(|b| b.to_string()).unwrap_or_default(),
            change.unwrap_or_default(),
            path.operation
        )
    }

    /// Takes a count as the blessed one.
    pub(crate) fn set(&mut self, path: &Path, counted: Counts) {
        let Counts { instructions, allocations } = rounded(counted);
        self.paths.insert(path.name.to_owned(), Blessed { instructions, allocations });
    }

    /// Writes the file, in the order of the paths; removed paths are left out.
    pub(crate) fn write(&self) -> Result<(), String> {
        let mut text = format!(
            "# Instructions and allocations of the hot paths, per operation. Written by\n\
             # `cargo bench --bench instructions -- --bless`; see CONTRIBUTING.md.\n\
             rustc = \"{}\"\nmachine = \"{}\"\n",
            rustc(),
            machine()
        );
        for path in PATHS {
            let Some(blessed) = self.paths.get(path.name) else { continue };
            let Blessed { instructions, allocations } = blessed;
            let _ = write!(
                text,
                "\n# Per {}.\n[paths.{}]\ninstructions = {instructions:?}\nallocations = \
                 {allocations:?}\n",
                path.operation, path.name
            );
        }
        fs::write(FILE, text).map_err(|error| format!("{FILE}: {error}"))
    }
}

/// Whether invented counts are judged as they should be. This program has no test harness.
pub(crate) fn try_judging() -> Result<(), String> {
    let path = PATHS.first().ok_or("no paths")?;
    let counts = |percent_more: f64| Counts {
        instructions: 1_000.0 * (1.0 + percent_more / 100.0),
        allocations: 0.0,
    };
    let mut blessed = Baseline::default();
    let exact = Margin { percent_min: Some(0.0), note: None };
    let unknown = blessed.judge(path, counts(0.0), &exact);
    blessed.set(path, counts(0.0));
    let judged = |percent_more| blessed.judge(path, counts(percent_more), &exact);
    let margin = path.margin_percent;
    let is_sound = unknown == Verdict::New
        && judged(0.9 * margin) == Verdict::Same
        && matches!(judged(1.1 * margin), Verdict::Worse(_))
        && matches!(judged(-1.1 * margin), Verdict::Better(_));
    if is_sound { Ok(()) } else { Err("what is worse than blessed is not found".to_owned()) }
}

/// As they are blessed: a difference of runs is exact, an average of many operations is not.
fn rounded(counts: Counts) -> Counts {
    Counts {
        instructions: (counts.instructions * 10.0).round() / 10.0,
        // Plus zero, so that zero is not printed as minus zero.
        allocations: (counts.allocations * 100.0).round() / 100.0 + 0.0,
    }
}

fn rustc() -> String {
    let version = Command::new("rustc").arg("--version").output();
    version.map_or_else(
        |error| format!("unknown ({error})"),
        |version| String::from_utf8_lossy(&version.stdout).trim().to_owned(),
    )
}

fn machine() -> String {
    format!("{}-{}", consts::ARCH, consts::OS)
}

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.toml");
/// What any path may take more where another compiler made the program: it inlines differently.
const OTHER_COMPILER_PERCENT: f64 = 25.0;
/// Allocations per operation that come and go by chance, as a table grows earlier or later.
const ALLOCATIONS_NOISE: f64 = 0.03;
