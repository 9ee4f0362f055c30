//! Instructions and allocations of the hot paths, counted by valgrind's callgrind and held against
//! what was blessed: `cargo bench --bench instructions`.
//!
//! Times on a shared machine are noise; instructions are the same twice. Each path runs in a
//! process of its own, which is this program started again, with different amounts of work: the
//! difference is free of what a process costs to start and a shard to set up. So it takes no
//! runner to install and no requests to valgrind, which would be `unsafe`.
//!
//! Counted are the instructions of this program. Those in the C library are not: which `memcpy`
//! it takes depends on the processor, and what `malloc` does on the distribution. Calls that
//! allocate are counted instead.
//!
//! `--bless` writes what is counted to `benches/instructions.toml`; `--test` only runs each path
//! once, without valgrind; other words choose the paths whose names hold them.

mod baseline;
mod callgrind;
mod load;
mod paths;
mod requests;
#[path = "../shard/mod.rs"]
mod shard;

use std::{collections::BTreeMap, process::ExitCode};

use baseline::{Baseline, Verdict};
use load::Load;
use paths::{MORE_THAN_ANOTHER_PERCENT, PATHS, Path};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match &arguments[..] {
        ["run", name, size, rounds] => run(name, size, rounds),
        arguments if arguments.contains(&"--test") => try_each(),
        arguments => {
            let words: Vec<&str> =
                arguments.iter().copied().filter(|word| !word.starts_with("--")).collect();
            check(&words, arguments.contains(&"--bless"))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

/// The process that is counted.
fn run(name: &str, size: &str, rounds: &str) -> Result<(), String> {
    let path = PATHS.iter().find(|path| path.name == name).ok_or("no such path")?;
    let (Ok(size), Ok(rounds)) = (size.parse(), rounds.parse()) else {
        return Err("sizes are numbers".to_owned());
    };
    path.run(Load { size, rounds, rounds_max: path.rounds_max() });
    Ok(())
}

/// Runs each path once, uncounted, to see that it works. And judges invented counts: that a worse
/// one would be found.
fn try_each() -> Result<(), String> {
    baseline::try_judging()?;
    for path in PATHS {
        path.run(Load { size: path.size, rounds: 1, rounds_max: 1 });
        println!("{}: ran once", path.name);
    }
    Ok(())
}

/// Counts the paths whose names hold one of `words`, and blesses or judges what it counts.
fn check(words: &[&str], bless: bool) -> Result<(), String> {
    if cfg!(debug_assertions) {
        return Err(
            "instructions are counted in the ci profile: cargo bench --profile ci".to_owned()
        );
    }
    let chosen = |path: &&Path| words.is_empty() || words.iter().any(|w| path.name.contains(w));
    let mut blessed = Baseline::read()?;
    let margin = blessed.margin();
    if let Some(note) = &margin.note {
        println!("NOTE: {note}");
    }
    println!(
        "{:<20}{:>14}{:>14}{:>9}{:>13}  per",
        "path", "instructions", "blessed", "", "allocations"
    );
    let mut faults = Vec::new();
    let mut all: BTreeMap<&str, f64> = BTreeMap::new();
    let mut better = Vec::new();
    for path in PATHS.iter().filter(chosen) {
        let counted = path.count(callgrind::count)?;
        let verdict = blessed.judge(path, counted, &margin);
        println!("{}", blessed.line(path, counted, &verdict));
        match verdict {
            Verdict::Worse(why) => faults.push(why),
            Verdict::Better(why) => better.push(why),
            Verdict::New if !bless => faults.push(format!("{}: is not blessed", path.name)),
            Verdict::Same | Verdict::New => {}
        }
        let other = path.no_more_than.and_then(|name| Some((name, *all.get(name)?)));
        if let Some((name, other)) = other
            && counted.instructions > other * (1.0 + MORE_THAN_ANOTHER_PERCENT / 100.0)
        {
            faults.push(format!(
                "{}: {:.1} instructions, and {name} has {other:.1}",
                path.name, counted.instructions
            ));
        }
        all.insert(path.name, counted.instructions);
        blessed.set(path, counted);
    }
    if bless {
        blessed.write()?;
        return Ok(());
    }
    if !better.is_empty() {
        println!("\nbetter than blessed, so bless it (CONTRIBUTING.md):\n{}", better.join("\n"));
    }
    match faults.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "\nworse than blessed:\n{}\nMake it better, or say in the commit why it has to be and \
             bless it (CONTRIBUTING.md).",
            faults.join("\n")
        )),
    }
}
