//! Mistakes that the simulation must find. A simulation that misses these proves
//! nothing. Each test prints the seed that found the mistake.

use super::{
    super::{
        planted::Planted::{
            CleanEndIsOfWritten, FailedSyncIsRetried, StartIsNotNoted, TailIsTrusted,
            TransientSeqsAreNotNoted,
        },
        simulated::Swallowed::{
            DirectorySyncs, FileSyncs, LossesFile, SyncsAfterCut, SyncsOfLosses, SyncsOfSpare,
        },
    },
    machine::{
        Mistake::{self, Planted, PlantedOnLyingDisk, Swallowed},
        run,
    },
    seeds::GENERATIONS,
};

#[test]
fn a_skipped_fsync_is_found() {
    find(Swallowed(FileSyncs));
}

#[test]
fn a_skipped_fsync_of_the_directory_is_found() {
    find(Swallowed(DirectorySyncs));
}

#[test]
fn a_cut_that_is_not_fsynced_is_found() {
    find(Swallowed(SyncsAfterCut));
}

#[test]
fn a_segment_that_has_its_name_before_its_header_is_found() {
    find(Swallowed(SyncsOfSpare));
}

#[test]
fn an_fsync_that_is_tried_again_is_found() {
    find(Planted(FailedSyncIsRetried));
}

/// The first seeds found this mistake in the log itself.
#[test]
fn a_tail_that_a_failed_fsync_left_in_the_cache_is_found() {
    find(Planted(TailIsTrusted));
}

/// The first seeds found this one too: the seqs of a process whose events were all lost were given
/// out again.
#[test]
fn a_start_that_is_not_noted_is_found_on_a_lying_disk() {
    find(PlantedOnLyingDisk(StartIsNotNoted));
}

#[test]
fn seqs_of_transient_channels_that_are_given_out_again_after_a_crash_are_found() {
    find(Planted(TransientSeqsAreNotNoted));
}

#[test]
fn seqs_of_transient_channels_that_are_given_out_again_after_a_close_are_found() {
    find(Planted(CleanEndIsOfWritten));
}

#[test]
fn a_forgotten_losses_file_is_found() {
    find(Swallowed(LossesFile));
}

#[test]
fn a_removal_before_the_losses_file_is_durable_is_found() {
    find(Swallowed(SyncsOfLosses));
}

fn find(mistake: Mistake) {
    let found = (0..SEEDS).find_map(|seed| {
        run(seed, GENERATIONS, mistake, false).err().map(|fault| format!("seed {seed}: {fault}"))
    });
    println!("{mistake:?} is found by {}", found.expect("a seed that finds it"));
}

/// As many seeds as for a log without a mistake.
const SEEDS: u64 = 1_000;
