//! Many seeds, and those that found something.

use super::machine::{Counts, Mistake, run};

/// Processes, one after the other, of each seed.
pub(super) const GENERATIONS: u32 = 4;

/// Seeds of the check; `VISNYK_DISK_SEEDS` is another number, and `VISNYK_DISK_SEED` traces one.
const SEEDS: u64 = 1_000;

#[test]
fn a_log_on_an_honest_disk_keeps_its_promises() {
    let counts = run_all(Mistake::None);
    println!("{counts:?}");
    assert!(counts.torn > 0 && counts.closed > 0 && counts.removals > 0, "{counts:?}");
    assert!(counts.transient > 0, "{counts:?}");
    assert!(counts.full > 0 && counts.room_again > 0, "{counts:?}");
}

#[test]
fn a_log_on_a_lying_disk_is_damaged_or_skips_seqs() {
    let counts = run_all(Mistake::LyingDisk);
    println!("{counts:?}");
    assert!(counts.refused_starts > 0, "{counts:?}");
}

fn run_all(mistake: Mistake) -> Counts {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    if let Some(seed) = number("VISNYK_DISK_SEED") {
        let counts = run(seed, GENERATIONS, mistake, true);
        return counts.unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    }
    let seeds = number("VISNYK_DISK_SEEDS");
    let mut sum = Counts::default();
    let mut faults = Vec::new();
    for seed in 0..seeds.unwrap_or(SEEDS) {
        match run(seed, GENERATIONS, mistake, false) {
            Ok(counts) => sum.add(counts),
            Err(fault) => faults.push(format!("seed {seed}: {fault}")),
        }
    }
    assert!(
        faults.is_empty(),
        "{} seeds fail:\n{}",
        faults.len(),
        faults[..faults.len().min(20)].join("\n")
    );
    sum
}
