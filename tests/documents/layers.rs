//! The layers of src/: each imports only from those before it (docs/architecture.md).

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The layers in their order.
const LAYERS: [&str; 11] = [
    "model",
    "core",
    "auth",
    "disk",
    "redis",
    "backend",
    "telemetry",
    "actors",
    "hub",
    "http",
    "server",
];

/// Uses nothing of this crate: it is a client, and shares no code with the hub it talks to.
const ALONE: &str = "client";

/// What a pure state machine has no need of: clocks, tasks, locks, logs.
const IMPURE: [&str; 8] = [
    "std::time::Instant",
    "std::time::SystemTime",
    "std::thread",
    "std::net",
    "tokio",
    "parking_lot",
    "tracing",
    "ractor",
];

#[test]
fn every_layer_imports_only_from_those_before_it() {
    let mut faults = Vec::new();
    let mut seen = Vec::new();
    for (path, text) in sources() {
        let Some(layer) = layer_of(&path) else { continue };
        seen.push(layer.clone());
        faults.extend(faults_in(&layer, &path, &text));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    for layer in ["model", "core", "auth", "backend", "actors", "hub", "http", "server", ALONE] {
        assert!(seen.iter().any(|seen| seen == layer), "no file of `{layer}` was looked at");
    }
}

#[test]
fn every_module_of_the_library_is_a_layer() {
    let library = fs::read_to_string(root().join("lib.rs")).expect("src/lib.rs");
    let modules = library.lines().filter_map(|line| {
        let line = line.trim_start_matches("pub ").strip_prefix("mod ")?;
        line.strip_suffix(';')
    });
    for module in modules {
        assert!(module == ALONE || rank(module).is_some(), "`{module}` is not in the order");
    }
}

#[test]
fn bad_imports_are_caught() {
    for (layer, bad) in [
        ("model", "use crate::core::Limits;"),
        ("core", "use crate::{\n    model::Event,\n    backend::EventStore,\n};"),
        ("core", "use std::{sync::Arc, time::{Duration, Instant}};"),
        ("core", "fn now() -> std::time::SystemTime { std::time::SystemTime::now() }"),
        ("core", "use tokio::sync::Notify;"),
        ("core", "fn f() { tracing::debug!(\"x\"); }"),
        ("core", "use {parking_lot as locks};"),
        ("model", "use std::time::Instant;"),
        ("hub", "use crate::http::Problem;"),
        ("hub", "pub(crate) use crate :: server :: run;"),
        ("hub", "pub use crate::{actors::{Log, Fault}, http::{self, Problem}};"),
        ("http", "fn f() -> crate::server::Settings { todo!() }"),
        ("http", "use super::super::server::Settings;"),
        ("http", "use crate::client::Endpoint;"),
        ("http", "use crate::actors::Subscriber;"),
        ("http", "use crate::{backend::ChannelInfo, hub::Hub};"),
        ("http", "use crate::*;"),
        ("backend", "use super::super::telemetry::Metrics;"),
        ("client", "use crate::model::Position;"),
        ("actors", "use crate::cli::Cli;"),
        ("backend", "type X = visnyk::hub::Hub;"),
    ] {
        let path = root().join(layer).join("deeper").join("file.rs");
        let path = if bad.contains("super") { root().join(layer).join("file.rs") } else { path };
        assert_eq!(faults_in(layer, &path, bad).len(), 1, "{layer}: {bad}");
    }
}

#[test]
fn good_imports_are_let_through() {
    for (layer, good) in [
        ("core", "use std::{collections::VecDeque, time::Duration};\nuse crate::model::Seq;"),
        ("core", "// tokio, tracing and std::time::Instant are for actors: crate::actors.\n"),
        ("core", "const TEXT: &str = \"crate::actors tokio::spawn\";"),
        ("core", "fn is_tokio_like(tracing_level: u8) -> u8 { tracing_level }"),
        ("actors", "use super::shard::Engine;\nuse crate::{actors::peer::Peer, core::Wheel};"),
        ("actors", "use tokio::time::Instant;"),
        ("http", "use super::super::hub::Hub;"),
        ("http", "pub(in crate::http) fn f() {}\nuse crate::{hub::{self, Hub}, model::Start};"),
        ("client", "use super::Backoff;\nuse crate::client::Endpoint;"),
        ("main", "use visnyk::server; mod cli;"),
        ("model", "#[cfg(test)]\nmod tests { use super::*; use crate::model::Seq; }"),
    ] {
        let path = root().join(layer).join("file.rs");
        assert_eq!(faults_in(layer, &path, good), Vec::<String>::new(), "{layer}: {good}");
    }
}

/// What is wrong with the text of a file of `layer`, one line a fault.
fn faults_in(layer: &str, path: &Path, text: &str) -> Vec<String> {
    let code = without_comments_and_strings(text);
    let mut faults = Vec::new();
    let mut fault = |what: String| {
        if !faults.contains(&what) {
            faults.push(what);
        }
    };
    for import in paths_in(&code) {
        let shown = import.join("::");
        if let Some(target) = target(path, &import)
            && !may_import(layer, &target)
        {
            fault(format!("{}: `{layer}` must not use `{target}`", path.display()));
        }
        if matches!(layer, "core" | "model") {
            let is =
                |impure: &&&str| shown == **impure || shown.starts_with(&format!("{impure}::"));
            if let Some(impure) = IMPURE.iter().find(is) {
                fault(format!("{}: `{layer}` must not use `{impure}`", path.display()));
            }
        }
    }
    faults
}

/// The module of this crate that a path leads to, if it is one.
fn target(path: &Path, import: &[String]) -> Option<String> {
    match import[0].as_str() {
        "crate" | "visnyk" => Some(import.get(1).cloned().unwrap_or_else(|| "*".into())),
        "super" => {
            // The modules that the file is in, without `mod.rs`.
            let inside = path.strip_prefix(root()).expect("a file of src").with_extension("");
            let mut modules: Vec<String> =
                inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
            if modules.last().is_some_and(|last| last == "mod") {
                modules.pop();
            }
            let ups = import.iter().take_while(|part| *part == "super").count();
            // In a `mod tests`, the first `super` is the file itself; here it counts as one more
            // step up, so that a layer is left too early rather than too late.
            match modules.len().checked_sub(ups) {
                Some(0) => import.get(ups).cloned(),
                _ => None,
            }
        }
        _ => None,
    }
}

fn may_import(layer: &str, target: &str) -> bool {
    if layer == target {
        return true;
    }
    if layer == "main" {
        // The command line stands behind the library and uses it by its name.
        return target == "cli" || target == ALONE || rank(target).is_some();
    }
    if layer == "http" && matches!(target, "actors" | "backend") {
        // A front door needs nothing of the engine that `hub` does not offer.
        return false;
    }
    match (rank(layer), rank(target)) {
        (Some(layer), Some(target)) => target < layer,
        _ => false,
    }
}

fn rank(layer: &str) -> Option<usize> {
    LAYERS.iter().position(|known| *known == layer)
}

/// The layer of a file: the first folder under src; the command line counts as `main`.
fn layer_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root()).expect("a file of src").with_extension("");
    let first = inside.iter().next()?.to_string_lossy().into_owned();
    match &*first {
        "lib" => None,
        "cli" | "main" => Some("main".into()),
        _ => Some(first),
    }
}

/// Every path of the code, those in groups written out: `use a::{b, c::d};` gives `a::b` and
/// `a::c::d`. A single name is not a path.
fn paths_in(code: &str) -> Vec<Vec<String>> {
    let tokens = tokens(code);
    let mut paths = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // `pub(in crate::http)` is not an import.
        if tokens[at] == "in" && at > 0 && tokens[at - 1] == "(" {
            at += 1;
            while at < tokens.len() && tokens[at] != ")" {
                at += 1;
            }
        }
        let is_use = tokens.get(at).is_some_and(|token| token == "use");
        if is_use {
            at = group(&tokens, at + 1, &[], &mut paths);
        } else if tokens.get(at).is_some_and(|token| is_name(token))
            && tokens.get(at + 1).is_some_and(|token| token == "::")
            && (at == 0 || tokens[at - 1] != "::")
        {
            at = group(&tokens, at, &[], &mut paths);
        } else {
            at += 1;
        }
    }
    paths
}

/// Reads one path or group of paths behind `prefix`; returns the index after it.
pub(crate) fn group(
    tokens: &[String],
    mut at: usize,
    prefix: &[String],
    paths: &mut Vec<Vec<String>>,
) -> usize {
    let mut path = prefix.to_vec();
    while let Some(token) = tokens.get(at) {
        match token.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    let before = at;
                    at = group(tokens, at, &path, paths);
                    if tokens.get(at).is_some_and(|token| token == ",") || at == before {
                        at += 1;
                    }
                }
                return at + 1;
            }
            name if is_name(name) || name == "*" => {
                path.push(name.to_owned());
                at += 1;
                match tokens.get(at).map(String::as_str) {
                    Some("::") => {}
                    Some("as") => {
                        at += 2;
                        break;
                    }
                    _ => break,
                }
            }
            _ => break,
        }
    }
    if !path.is_empty() {
        paths.push(path);
    }
    at
}

pub(crate) fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_') && token != "as" && token != "use"
}

pub(crate) fn tokens(code: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut rest = code.chars().peekable();
    while let Some(c) = rest.next() {
        if c.is_alphanumeric() || c == '_' {
            let mut name = c.to_string();
            while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_') {
                name.push(c);
            }
            tokens.push(name);
        } else if c == ':' && rest.next_if_eq(&':').is_some() {
            tokens.push("::".into());
        } else if !c.is_whitespace() {
            tokens.push(c.to_string());
        }
    }
    tokens
}

/// The code with every comment, string and character literal emptied.
pub(crate) fn without_comments_and_strings(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let skipped = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(hashes) = raw_string(rest) {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = rest.find('"').unwrap_or(0) + 1;
            rest[open..].find(&end).map_or(rest.len(), |at| open + at + end.len())
        } else if c == '"' {
            let mut escaped = false;
            let end = rest[1..].find(|c| {
                let is_end = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                is_end
            });
            end.map_or(rest.len(), |end| end + 2)
        } else if c == '\'' {
            // A character, or a lifetime, which has no closing quote.
            let mut chars = rest.char_indices().skip(1);
            match (chars.next(), chars.next()) {
                (Some((_, '\\')), _) => rest[2..].find('\'').map_or(1, |end| end + 3),
                (Some(_), Some((at, '\''))) => at + 1,
                _ => 1,
            }
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
            continue;
        };
        code.push(' ');
        rest = &rest[skipped..];
    }
    code
}

/// The hashes of a raw string that begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let rest = rest.strip_prefix('b').unwrap_or(rest).strip_prefix('r')?;
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    rest[hashes..].starts_with('"').then_some(hashes)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file under src.
fn sources() -> Vec<(PathBuf, String)> {
    let mut folders = vec![root()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of src") {
            let path = entry.expect("an entry of src").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a file of src");
                sources.push((path, text));
            }
        }
    }
    sources
}
