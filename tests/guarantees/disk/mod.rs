//! A log on disk (docs/durability.md), held against what happens to processes, disks and files
//! (docs/reliability.md).

mod disk_hub;
mod history;
mod kill;
mod terminate;
mod traffic;
