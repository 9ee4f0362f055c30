//! No files of one folder import each other in a circle. A folder beside files counts as one of
//! them, and so does the code of `mod.rs`. An item that `mod.rs` re-exports counts as imported from
//! the file that declares it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use super::layers::{group, is_name, tokens, without_comments_and_strings};

/// The crates: their root folders and names.
const CRATES: [(&str, &str); 9] = [
    ("src", "visnyk"),
    ("loadtest/src", "visnyk_loadtest"),
    ("benches", "times"),
    ("benches/instructions", "instructions"),
    ("tests/abuse", "abuse"),
    ("tests/commands", "commands"),
    ("tests/faults", "faults"),
    ("tests/guarantees", "guarantees"),
    ("tests/protocol", "protocol"),
];

#[test]
fn no_files_of_a_folder_import_each_other_in_a_circle() {
    let mut faults = Vec::new();
    for (folder, name) in CRATES {
        let code = Code::read(folder, name);
        assert!(code.modules.len() > 3, "{folder} has files");
        for (within, edges) in code.imports() {
            let within = [vec![folder.to_owned()], within].concat().join("/");
            let circles = circles_in(&edges);
            faults.extend(circles.iter().map(|circle| format!("{within}: {circle}")));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn circles_are_found_through_re_exports() {
    let code = |files: &[(&str, &str)]| {
        let mut code = Code { name: "it".into(), modules: BTreeMap::new() };
        for (path, text) in files {
            code.add(path, text);
        }
        let imports = code.imports();
        imports.values().flat_map(circles_in).collect::<Vec<_>>()
    };
    let (lib, re_exports) =
        ("mod a; mod b; mod c;", "mod a; mod b; pub use a::{A, f}; pub(crate) use b::*;");
    let of = |a: &str, b: &str, c: &str| code(&[("lib", lib), ("a", a), ("b", b), ("c", c)]);
    assert_eq!(of("use crate::b::B;", "use super::c::C;", "fn f() { crate::a::f() }").len(), 1);
    assert_eq!(of("use it::{b::B, c};", "use super::c::C;", "").len(), 0);
    assert_eq!(of("use crate::b::B;", "#[cfg(test)]\nmod tests { use crate::a::A; }", "").len(), 0);
    assert_eq!(of("use crate::b::B;", "// use crate::a::A;\n", "").len(), 0);
    assert_eq!(
        of("use crate::c; fn f() { c::g() }", "", "use super::a; fn g() { a::f() }").len(),
        1
    );
    let deeper = |a: &str, b: &str| {
        code(&[("lib", "mod d;"), ("d/mod", re_exports), ("d/a", a), ("d/b", b)])
    };
    assert_eq!(deeper("use super::B;", "pub struct B; use crate::d::A;").len(), 1);
    assert_eq!(deeper("", "pub struct B; use crate::d::A;").len(), 0);
    assert_eq!(code(&[("lib", ""), ("x", "mod y; use y::Y;"), ("x/y", "use super::X;")]).len(), 1);
}

/// The files of a crate.
struct Code {
    name: String,
    modules: BTreeMap<Vec<String>, Module>,
}

#[derive(Default)]
struct Module {
    /// Paths of its `use` items, and whether it re-exports them.
    names: Vec<(Vec<String>, bool)>,
    /// Paths in its code outside of `use`.
    paths: Vec<Vec<String>>,
    /// What it declares itself.
    declared: BTreeSet<String>,
}

impl Code {
    fn read(folder: &str, name: &str) -> Self {
        let mut code = Self { name: name.into(), modules: BTreeMap::new() };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let inside = path.strip_prefix(&root).expect("a file of it").with_extension("");
                    code.add(
                        &inside.to_string_lossy(),
                        &fs::read_to_string(&path).expect("a file of code"),
                    );
                }
            }
        }
        code
    }

    fn add(&mut self, path: &str, text: &str) {
        let mut module: Vec<String> = path.split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|last| last == "mod" || last == "lib") {
            module.pop();
        }
        self.modules.insert(module, Module::read(text));
    }

    /// By folder: the imports between its files and subfolders.
    fn imports(&self) -> BTreeMap<Vec<String>, BTreeSet<(String, String)>> {
        let mut imports: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (from, module) in &self.modules {
            // A re-export does not count as an import of the file that re-exports.
            let used =
                module.names.iter().filter(|(_, is_public)| !is_public).map(|(path, _)| path);
            for path in used.chain(&module.paths) {
                let Some(to) = self.resolve(from, path, 0) else { continue };
                let shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
                let part =
                    |module: &[String]| module.get(shared).cloned().unwrap_or_else(|| "mod".into());
                let edge = (part(from), part(&to));
                if edge.0 != edge.1 {
                    imports.entry(from[..shared].to_vec()).or_default().insert(edge);
                }
            }
        }
        imports
    }

    /// The module that declares the item of a path.
    fn resolve(&self, within: &[String], path: &[String], depth: usize) -> Option<Vec<String>> {
        if depth > 8 {
            return None;
        }
        let mut at = within.to_vec();
        let mut rest = path;
        match &*path[0] {
            "crate" => at.clear(),
            name if name == self.name => at.clear(),
            "self" => {}
            "super" => {
                while rest.first().is_some_and(|part| part == "super") {
                    at.pop()?;
                    rest = &rest[1..];
                }
                return self.walk(at, rest, depth);
            }
            name if self.child(within, name).is_some() => return self.walk(at, rest, depth),
            name => {
                let names = &self.modules.get(within)?.names;
                let (means, _) = names.iter().find(|(path, _)| {
                    path.len() > 1 && path.last().is_some_and(|last| last == name)
                })?;
                return self.resolve(within, &[means, &path[1..]].concat(), depth + 1);
            }
        }
        self.walk(at, &rest[1..], depth)
    }

    fn walk(&self, mut at: Vec<String>, path: &[String], depth: usize) -> Option<Vec<String>> {
        for (n, name) in path.iter().enumerate() {
            if let Some(child) = self.child(&at, name) {
                at = child;
                continue;
            }
            let module = self.modules.get(&at)?;
            for (given, _) in &module.names {
                let last = given.last().expect("a path has parts");
                if last == name {
                    let path = [given, &path[n + 1..]].concat();
                    return self.resolve(&at, &path, depth + 1);
                }
                if last == "*" && !module.declared.contains(name) {
                    let from = self.resolve(&at, &given[..given.len() - 1], depth + 1);
                    if let Some(from) = from
                        && self.modules.get(&from).is_some_and(|from| from.declared.contains(name))
                    {
                        return Some(from);
                    }
                }
            }
            break;
        }
        Some(at)
    }

    fn child(&self, of: &[String], name: &str) -> Option<Vec<String>> {
        let child = [of, &[name.to_owned()]].concat();
        self.modules.keys().any(|module| module.starts_with(&child)).then_some(child)
    }
}

impl Module {
    fn read(text: &str) -> Self {
        let tokens = without_tests(tokens(&without_comments_and_strings(text)));
        let mut module = Self::default();
        let mut at = 0;
        let mut is_public = false;
        while at < tokens.len() {
            match &*tokens[at] {
                "use" => {
                    let mut paths = Vec::new();
                    at = group(&tokens, at + 1, &[], &mut paths);
                    module.names.extend(paths.into_iter().map(|path| (path, is_public)));
                    is_public = false;
                    continue;
                }
                "pub" => {
                    is_public = true;
                    if tokens.get(at + 1).is_some_and(|token| token == "(") {
                        while tokens.get(at).is_some_and(|token| token != ")") {
                            at += 1;
                        }
                    }
                    at += 1;
                    continue;
                }
                "struct" | "enum" | "fn" | "trait" | "type" | "const" | "static" => {
                    module.declared.extend(tokens.get(at + 1).cloned());
                }
                name if is_name(name)
                    && tokens.get(at + 1).is_some_and(|token| token == "::")
                    && (at == 0 || tokens[at - 1] != "::") =>
                {
                    at = group(&tokens, at, &[], &mut module.paths);
                    continue;
                }
                _ => {}
            }
            is_public = false;
            at += 1;
        }
        module
    }
}

/// The tokens without items under `#[cfg(test)]`.
fn without_tests(tokens: Vec<String>) -> Vec<String> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let attribute = tokens[at..].iter().take(7).map(String::as_str);
        if !attribute.eq(["#", "[", "cfg", "(", "test", ")", "]"]) {
            kept.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0_usize;
        while let Some(token) = tokens.get(at) {
            match &**token {
                "{" => depth += 1,
                // The end of the block around the item.
                "}" if depth == 0 => break,
                "}" => depth -= 1,
                _ => {}
            }
            at += 1;
            if depth == 0 && matches!(&**token, "}" | ";" | ",") {
                break;
            }
        }
    }
    kept
}

/// The sets of files that reach each other, as the imports between them.
fn circles_in(edges: &BTreeSet<(String, String)>) -> Vec<String> {
    let reached = |from: &String| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from.clone()];
        while let Some(at) = open.pop() {
            for (_, to) in edges.iter().filter(|(edge, _)| *edge == at) {
                if reached.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        reached
    };
    let parts: BTreeSet<&String> = edges.iter().map(|(from, _)| from).collect();
    let reach: BTreeMap<&String, BTreeSet<String>> =
        parts.into_iter().map(|part| (part, reached(part))).collect();
    let mut circles = Vec::new();
    let mut seen = BTreeSet::new();
    for (part, to) in &reach {
        if to.contains(*part) && seen.insert((*part).clone()) {
            let circle: BTreeSet<&String> = reach
                .iter()
                .filter(|(other, back)| to.contains(**other) && back.contains(*part))
                .map(|(other, _)| *other)
                .collect();
            seen.extend(circle.iter().map(|part| (*part).clone()));
            let within: Vec<String> = edges
                .iter()
                .filter(|(from, to)| circle.contains(from) && circle.contains(to))
                .map(|(from, to)| format!("{from} -> {to}"))
                .collect();
            circles.push(within.join(", "));
        }
    }
    circles
}
