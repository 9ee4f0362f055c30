//! A log on disk (docs/durability.md), held against what happens to processes, disks and files
//! (docs/reliability.md).

mod beyond_memory;
mod clock;
mod damage;
mod disk_hub;
mod full;
mod handed_over;
mod history;
mod injected;
mod kill;
#[cfg(target_os = "linux")]
mod lying;
#[cfg(target_os = "linux")]
mod no_files;
#[cfg(target_os = "linux")]
mod power_cut;
mod removed;
mod terminate;
mod traffic;
mod transient;

use crate::support::Tool;

/// `tests/run` prints what this says.
#[test]
fn probe_of_what_the_machine_allows() {
    for tool in [Tool::Strace, Tool::Mounts, Tool::FakeTime] {
        if tool.is_there() {
            println!("{tool:?} works");
        }
    }
    #[cfg(target_os = "linux")]
    if crate::fragile::FragileDisk::mount(0).is_some() {
        println!("Fuse works");
    }
}
