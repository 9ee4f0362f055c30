//! Every relative link of the documents leads to a file, and to a heading of it if it names one.
use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

#[test]
fn every_relative_link_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut pages = Vec::new();
    for directory in [
        "",
        "docs",
        "docs/adr",
        "docs/guides",
        "docs/examples",
        "docs/explain",
        "clients/js",
        "loadtest",
        "dist",
    ] {
        pages.extend(pages_in(&root.join(directory)));
    }
    assert!(pages.len() > 40, "{} pages were found", pages.len());
    let mut faults = Vec::new();
    for page in &pages {
        let text = fs::read_to_string(page).unwrap();
        for link in links(&text) {
            if let Err(fault) = check(page, &text, link) {
                faults.push(format!("{}: {link}: {fault}", page.display()));
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn pages_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|end| end == "md")).collect()
}

/// The targets of inline links outside code blocks that lead into the repository.
fn links(text: &str) -> Vec<&str> {
    let mut targets = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        }
        if inside {
            continue;
        }
        targets.extend(line.split("](").skip(1).filter_map(|rest| rest.split(')').next()));
    }
    targets.retain(|target| !target.contains("://") && !target.starts_with("mailto:"));
    targets
}

fn check(page: &Path, text: &str, link: &str) -> Result<(), &'static str> {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = page.parent().unwrap().join(file);
    if !target.exists() {
        return Err("there is no such file");
    }
    if heading.is_empty() {
        return Ok(());
    }
    let target =
        if file.is_empty() { text.to_owned() } else { fs::read_to_string(target).unwrap() };
    match headings(&target).contains(heading) {
        true => Ok(()),
        false => Err("there is no such heading"),
    }
}

/// The anchors of a page's headings, as GitHub and mdBook make them.
fn headings(text: &str) -> HashSet<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let kept = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = kept.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn a_link_to_nowhere_is_found() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let text = "## Run it\n[a](docs/api.md#channels) [b](docs/no.md) [c](#run-it) [d](#no)\n";
    let found: Vec<bool> =
        links(text).iter().map(|link| check(&page, text, link).is_ok()).collect();
    assert_eq!(found, [true, false, true, false]);
    assert!(check(&page, text, "docs/api.md#no-such-heading").is_err());
}
