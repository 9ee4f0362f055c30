//! The words of code and documents: none of the old names, and none of the phrases that hide who
//! does what. docs/architecture.md has the words to use.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

/// Names that were replaced, matched as whole identifiers. Of the names that were replaced, those
/// that are common words too (`took`, `Full`, `Past`, …) are left to the reader.
const OLD_NAMES: &[&str] = &[
    "Newcomers",
    "Unwelcome",
    "warn_if_unbelieved",
    "is_news",
    "Places",
    "Division",
    "take_soon",
    "turn_away",
    "Refuser",
    "ForNow",
    "let_in",
    "permit_sight",
    "Takeover",
    "CanTake",
    "GivenAway",
    "Births",
    "Unborn",
    "Creator",
    "born_after",
    "Beginning",
    "Aim",
    "Begun",
    "unattend",
    "care_ms",
    "care_at",
    "is_blank",
    "is_spent",
    "bury",
    "look_at_blank",
    "HandedIn",
    "hand_in",
    "others_first",
    "Moving",
    "hand_on",
    "take_on",
    "others_had_it",
    "Joint",
    "looked_ms",
    "RecentEnds",
    "Survey",
    "Seldom",
    "has_last_words",
    "goes_on",
    "unwatchable",
    "is_tired",
    "outlet",
];

/// Phrases that name no subject, or a private word instead of the field's. Matched in any case,
/// across the ends of lines, but not across punctuation.
const RIDDLES: &[&str] = &[
    "whoever",
    "nobody",
    "those who",
    "is no",
    "is none",
    "are none",
    "told",
    "go ahead",
    "goes ahead",
    "has its turn",
    "have their turn",
    "had its turn",
    "had their turn",
    "in turns",
    "turned away",
    "turn away",
    "turns away",
    "newcomer",
    "newcomers",
    "unbelieved",
    "born",
    "unborn",
    "forgotten",
    "welcome",
    "unwelcome",
    "place",
    "places",
];

/// Words before and after a phrase that make it plain: "there is no", "is no longer", "in place".
const PLAIN: &[(&str, &[&str], &[&str])] = &[
    ("is no", &["there", "0"], &["longer", "more", "less", "later", "larger"]),
    ("place", &["in", "take", "takes", "took"], &[]),
];

/// Files, phrases, and the reason why they may stand there.
const ALLOWED: &[(&str, &str, &str)] = &[];

const ROOTS: &[&str] = &[
    "src",
    "tests",
    "benches",
    "examples",
    "loadtest",
    "clients/js/README.md",
    "clients/js/event_source.js",
    "clients/js/node.js",
    "docs",
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
];

#[test]
fn old_names_and_riddles_stand_nowhere() {
    let mut faults = Vec::new();
    let mut used = vec![false; ALLOWED.len()];
    for path in ROOTS.iter().flat_map(|path| texts(&root().join(path))) {
        let name = path.strip_prefix(root()).expect("below the root").display().to_string();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        for (line, phrase) in found_in(&text) {
            let allows = |(file, allowed, _): &(&str, &str, &str)| {
                Path::new(&name).starts_with(file) && (allowed.is_empty() || *allowed == phrase)
            };
            match ALLOWED.iter().position(allows) {
                Some(at) => used[at] = true,
                None => faults.push(format!("{name}:{line}: {phrase}")),
            }
        }
    }
    assert!(faults.is_empty(), "{} times:\n{}", faults.len(), faults.join("\n"));
    let unused: Vec<_> = ALLOWED.iter().zip(used).filter(|(_, used)| !used).collect();
    assert!(unused.is_empty(), "nothing needs these exceptions: {unused:?}");
}

#[test]
fn phrases_are_found_across_lines_and_not_across_sentences() {
    for (text, expected) in [
        ("/// The client is\n/// told.", &[(2, "told")][..]),
        ("/// Nobody's", &[(1, "nobody")]),
        ("// a value that is\n// none", &[(1, "is none")]),
        ("what it is. None of them", &[]),
        ("assert!(slot.is_none())", &[]),
        ("there is no channel; it is no longer there", &[]),
        ("the text is no address", &[(1, "is no")]),
        ("Cache-Control is no-store", &[]),
        ("replaced in place, at this place", &[(1, "place")]),
        ("fn hand_in(", &[(1, "hand_in")]),
        ("`forgotten_max`", &[]),
    ] {
        assert_eq!(found_in(text), expected, "{text}");
    }
}

/// Each phrase of the lists in a text, with its line.
fn found_in(text: &str) -> Vec<(usize, &'static str)> {
    let tokens = tokens(text);
    let lower: Vec<String> = tokens.iter().map(|(_, token)| token.to_lowercase()).collect();
    let words: Vec<&str> =
        lower.iter().map(|token| token.strip_suffix("'s").unwrap_or(token)).collect();
    let first_words: HashSet<&str> =
        RIDDLES.iter().filter_map(|phrase| phrase.split(' ').next()).collect();
    let old_names: HashSet<&str> = OLD_NAMES.iter().copied().collect();
    let mut found = Vec::new();
    for (at, (line, token)) in tokens.iter().enumerate() {
        if let Some(name) = old_names.get(token.as_str()) {
            found.push((*line, *name));
        }
        if !first_words.contains(words[at]) {
            continue;
        }
        for &phrase in RIDDLES {
            let mut parts = phrase.split(' ').enumerate();
            if parts.all(|(n, part)| words.get(at + n) == Some(&part))
                && !is_plain(&words, at, phrase)
            {
                found.push((*line, phrase));
            }
        }
    }
    found
}

fn is_plain(words: &[&str], at: usize, phrase: &str) -> bool {
    let word = |at: Option<usize>| at.and_then(|at| words.get(at)).copied().unwrap_or_default();
    let before = word(at.checked_sub(1));
    let after = word(at.checked_add(phrase.split(' ').count()));
    PLAIN.iter().any(|(plain, befores, afters)| {
        *plain == phrase && (befores.contains(&before) || afters.contains(&after))
    })
}

/// Words and single signs with their lines. The marks of comments and of Markdown are left out.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let mut tokens = Vec::new();
    for (line, text) in text.lines().enumerate() {
        let text = text.trim_start().trim_start_matches(['/', '!', '*', '#', '-']);
        let mut word = String::new();
        for sign in text.chars().chain([' ']) {
            if sign.is_alphanumeric() || matches!(sign, '_' | '\'' | '-') {
                word.push(sign);
                continue;
            }
            if !word.is_empty() {
                tokens.push((line + 1, std::mem::take(&mut word)));
            }
            if !sign.is_whitespace() && !matches!(sign, '`' | '*') {
                tokens.push((line + 1, sign.to_string()));
            }
        }
    }
    tokens
}

/// The files at or below a path that are written by hand as text. This one has the lists.
pub(crate) fn texts(path: &Path) -> Vec<PathBuf> {
    let name = path.file_name().expect("a name").to_string_lossy().into_owned();
    if path.is_dir() {
        if matches!(&*name, "target" | "node_modules" | "seeds" | "results") {
            return Vec::new();
        }
        let entries = fs::read_dir(path).expect("a folder that can be read");
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        return paths.iter().flat_map(|path| texts(path)).collect();
    }
    let generated = [".svg", ".lock", ".jsonl", "package-lock.json", "words.rs"];
    if generated.iter().any(|end| name.ends_with(end)) { Vec::new() } else { vec![path.to_owned()] }
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}
