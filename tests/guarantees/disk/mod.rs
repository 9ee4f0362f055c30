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
mod removed;
mod terminate;
mod tools;
mod traffic;
mod transient;
