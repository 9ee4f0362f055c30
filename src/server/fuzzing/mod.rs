//! The hub's targets of fuzzing, by name; the client has its own. A build with `--cfg fuzzing` has
//! them (`tests/fuzz`), and so have this crate's own tests, which replay all seeds and every input
//! that ever broke something.

mod connection;
mod reference;
mod settings;

use crate::{auth, core, disk, http, model};

/// A fuzz target: accepts any bytes, and panics if a guarantee is violated.
pub type Target = fn(&[u8]);

/// All targets of the hub. The seeds of each are in `tests/fuzz/seeds/NAME`.
pub const TARGETS: &[(&str, Target)] = &[
    ("batches", disk::fuzzing::batches),
    ("connection", connection::connection),
    ("containment", auth::fuzzing::containment),
    ("envelopes", http::fuzzing::envelopes),
    ("forwarded", http::fuzzing::forwarded),
    ("frames", model::fuzzing::frames),
    ("index", core::fuzzing::index),
    ("origins", http::fuzzing::origins),
    ("patterns", model::fuzzing::patterns),
    ("positions", model::fuzzing::positions),
    ("requests", http::fuzzing::requests),
    ("segments", disk::fuzzing::segments),
    ("settings", settings::settings),
    ("small_files", disk::fuzzing::small_files),
    ("tokens", auth::fuzzing::tokens),
];

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// Replayed by the client's own tests; the hub's know the name and no more.
    const OF_CLIENT: [&str; 1] = ["streams"];

    #[test]
    fn every_seed_and_every_input_that_broke_something_passes() {
        let seeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds");
        for (name, target) in TARGETS {
            let files = fs::read_dir(seeds.join(name)).expect("a directory of seeds");
            let mut count = 0;
            for file in files {
                let path = file.expect("a directory").path();
                // Printed if the target fails.
                println!("{}", path.display());
                target(&fs::read(path).expect("a seed"));
                count += 1;
            }
            assert!(count > 0, "{name} has no seeds");
        }
        let directories = fs::read_dir(seeds).expect("seeds").count();
        assert_eq!(directories, TARGETS.len() + OF_CLIENT.len(), "seeds of no target");
    }
}
