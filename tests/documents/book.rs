//! The documentation as a site: docs/SUMMARY.md has every page once, in order, and each page begins
//! with what its reader can do after it. `tests/site/run` builds the site.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const SUMMARY: &str = include_str!("../../docs/SUMMARY.md");

#[test]
fn the_summary_has_every_page_once_and_no_other() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut pages = BTreeSet::new();
    collect(&docs, &docs, &mut pages);
    pages.remove("SUMMARY.md");
    let mut listed = BTreeSet::new();
    for page in pages_listed() {
        assert!(listed.insert(page.clone()), "{page} is there twice");
    }
    assert!(pages.len() > 60, "{} pages were found", pages.len());
    let lacks: Vec<_> = pages.difference(&listed).collect();
    let dangles: Vec<_> = listed.difference(&pages).collect();
    assert!(lacks.is_empty() && dangles.is_empty(), "lacks {lacks:?}; {dangles:?} do not exist");
}

#[test]
fn the_parts_are_in_the_order_of_a_reader() {
    let parts: Vec<_> = SUMMARY.lines().filter_map(|line| line.strip_prefix("# ")).collect();
    assert_eq!(parts, ["Summary", "Tutorial", "How-to", "Reference", "Explanation"]);
}

#[test]
fn each_page_begins_with_what_its_reader_can_do_after_it() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    for page in pages_listed().into_iter().filter(|page| !page.starts_with("adr/")) {
        let text = fs::read_to_string(docs.join(&page)).unwrap();
        let begins: Vec<_> = text.lines().take(FIRST_SCREEN).collect();
        let says = |line: &&str| BEGINNINGS.iter().any(|beginning| line.contains(beginning));
        assert!(begins.iter().any(says), "docs/{page} does not say what it is for");
    }
}

/// The targets of the links in the summary.
fn pages_listed() -> Vec<String> {
    let targets = SUMMARY.lines().filter_map(|line| line.rsplit_once("](")?.1.strip_suffix(')'));
    targets.map(str::to_owned).collect()
}

fn collect(root: &Path, directory: &Path, pages: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, pages);
        } else if path.extension().is_some_and(|end| end == "md") {
            let page = path.strip_prefix(root).unwrap();
            pages.insert(page.to_str().unwrap().to_owned());
        }
    }
}

const BEGINNINGS: [&str; 3] = ["After this page", "With this page", "Look here"];
/// Lines.
const FIRST_SCREEN: usize = 8;
