//! The client by itself: its dependencies hold nothing of the server's (`tests/run` compiles it),
//! and docs/clients.md shows the program that the examples have.
use std::{collections::BTreeSet, process::Command};

/// Packages that only the server needs: its settings, command line, routes, actors, tables, tokens,
/// metrics, logs.
const SERVER_ONLY: [&str; 30] = [
    "arc-swap",
    "axum",
    "clap",
    "clap_complete",
    "clap_mangen",
    "crc32c",
    "crossbeam-queue",
    "dashmap",
    "governor",
    "h2",
    "indicatif",
    "ipnet",
    "jiff",
    "jsonwebtoken",
    "listenfd",
    "mimalloc",
    "parking_lot",
    "prometheus-client",
    "ractor",
    "rustc-hash",
    "rustix",
    "serde_urlencoded",
    "slab",
    "strsim",
    "toml",
    "tower",
    "tracing-subscriber",
    "unicode-width",
    "x509-cert",
    "regex-automata",
];

#[test]
fn client_depends_on_nothing_of_the_server() {
    let server = packages(&[]);
    let client = packages(&["--no-default-features", "--features", "client"]);
    for name in SERVER_ONLY {
        assert!(server.contains(name), "{name} is not among the server's dependencies any more");
        assert!(!client.contains(name), "the client depends on {name}");
    }
    for name in ["hyper", "rustls", "tokio"] {
        assert!(client.contains(name), "{client:?}");
    }
    assert!(client.is_subset(&server));
    // A few more than there are, so that a new one is looked at.
    assert!(client.len() <= 56, "the client has {} dependencies: {client:#?}", client.len());
}

#[test]
fn the_page_shows_the_example() {
    let program = include_str!("../../examples/follow.rs");
    let (_, code) = program.split_once("\n\n").unwrap();
    let page = include_str!("../../docs/clients.md");
    assert!(
        page.contains(&format!("```rust\n{code}```")),
        "docs/clients.md shows examples/follow.rs"
    );
}

/// The names of all packages that a set of features depends on, without this one.
fn packages(features: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--locked", "--offline", "--package", "visnyk", "--edges", "normal"]);
    cargo.args(["--prefix", "none", "--format", "{p}"]).args(features);
    let output = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next()).filter(|n| !n.is_empty());
    names.filter(|name| *name != "visnyk").map(str::to_owned).collect()
}
