//! libFuzzer around one target, which the environment names: one program for all of them, since
//! each is linked with the whole hub.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use visnyk::{client, server, server::fuzzing::Target};

static TARGET: LazyLock<Target> = LazyLock::new(|| {
    let name = std::env::var("VISNYK_FUZZ_TARGET").unwrap_or_default();
    let targets = [server::fuzzing::TARGETS, client::fuzzing::TARGETS].concat();
    let found = targets.iter().find(|(of, _)| *of == name).map(|(_, target)| *target);
    found.unwrap_or_else(|| {
        let names: Vec<&str> = targets.iter().map(|(name, _)| *name).collect();
        eprintln!("VISNYK_FUZZ_TARGET={name:?} is not one of {}", names.join(", "));
        std::process::exit(2)
    })
});

fuzz_target!(|data: &[u8]| TARGET(data));
