//! Blocks of a page of the documentation, written from results, so that no figure is typed.
//!
//! A block begins with a line `<!-- figures: WHAT -->` and ends with a line `<!-- end -->`; what
//! is between is replaced. WHAT is one of
//!
//! | | |
//! |---|---|
//! | `machine` | where the runs were made, and whether all was verified |
//! | `targets` | the targets that were measured |
//! | `scenario NAME [FIGURE...]` | the figures of a scenario, those that say most or those named |
//! | `plot NAME` | a picture, `FOLDER/NAME.svg`, FOLDER being the page's name without its end |
//!
//! Where a plot exists at several sizes (`NAME-1-000-subscribers`), `plot NAME` is the last.

use std::collections::BTreeMap;

use super::summary::{Summary, common_sizes, main_figures, scenario_table};
use super::svg;
use super::targets::targets_table;
use super::text::markdown;

/// A page with its pictures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The whole page.
    pub page: String,
    /// Pictures by their names without the end, as SVG.
    pub pictures: BTreeMap<String, String>,
}

/// What is wrong with a page.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum DocsError {
    /// A block has no end.
    #[error("line {line}: the block has no `{END}`")]
    NoEnd {
        /// Where it begins, from 1.
        line: usize,
    },
    /// A block asks for what does not exist.
    #[error("line {line}: there is no `{what}`")]
    Unknown {
        /// Where it begins, from 1.
        line: usize,
        /// What it asks for.
        what: String,
    },
}

/// The page with all blocks written anew. `folder` is where it looks for its pictures.
pub(crate) fn written(
    page: &str,
    folder: &str,
    summary: &Summary<'_>,
) -> Result<Written, DocsError> {
    let mut out = Written { page: String::with_capacity(page.len()), pictures: BTreeMap::new() };
    let mut lines = page.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        out.page.push_str(line);
        out.page.push('\n');
        let what = line.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix("-->"));
        let Some(what) = what.map(str::trim) else { continue };
        if !lines.any(|(_, line)| line == END) {
            return Err(DocsError::NoEnd { line: index + 1 });
        }
        let words: Vec<&str> = what.split_whitespace().collect();
        let block = block(&words, folder, summary, &mut out.pictures)
            .ok_or_else(|| DocsError::Unknown { line: index + 1, what: what.to_owned() })?;
        out.page.push_str(&block);
        out.page.push_str(END);
        out.page.push('\n');
    }
    Ok(out)
}

/// `None` for an unknown name. A known scenario that was not measured has a block that says so.
fn block(
    what: &[&str],
    folder: &str,
    summary: &Summary<'_>,
    pictures: &mut BTreeMap<String, String>,
) -> Option<String> {
    let or_unmeasured = |text: Option<String>| text.unwrap_or_else(|| UNMEASURED.to_owned());
    match what {
        ["machine"] => Some(or_unmeasured(machine(summary))),
        ["targets"] => {
            let table = targets_table(summary);
            Some(or_unmeasured((!table.rows.is_empty()).then(|| table.markdown())))
        }
        ["scenario", name, figures @ ..] => {
            let cases = summary.scenario(name);
            if cases.is_empty() {
                return Some(UNMEASURED.to_owned());
            }
            let known = |figure: &&&str| {
                cases.iter().any(|case| case.figure_names().iter().any(|name| name == **figure))
            };
            if figures.iter().filter(known).count() < figures.len() {
                return None;
            }
            let main = main_figures(cases);
            let main: Vec<&str> = main.iter().map(String::as_str).collect();
            let figures: &[&str] = if figures.is_empty() { &main } else { figures };
            let sizes = markdown(&common_sizes(cases));
            Some(format!("{sizes}\n\n{}", scenario_table(cases, figures).markdown()))
        }
        ["plot", name] => {
            let scenario_ran =
                |scenario: &str| name.starts_with(&format!("{}-", super::text::slug(scenario)));
            let larger = format!("{name}-");
            let exact = summary.plots.iter().find(|plot| plot.name == *name);
            let largest = || summary.plots.iter().rev().find(|plot| plot.name.starts_with(&larger));
            let Some(plot) = exact.or_else(largest) else {
                let ran = summary.cases.iter().any(|case| scenario_ran(case.scenario));
                return (!ran).then(|| UNMEASURED.to_owned());
            };
            let name = &plot.name;
            pictures.insert(name.clone(), svg::file(plot));
            let alt = markdown(&format!("{}. {}", plot.title, plot.described()));
            Some(format!("![{alt}]({folder}/{name}.svg)\n"))
        }
        _ => None,
    }
}

fn machine(summary: &Summary<'_>) -> Option<String> {
    if summary.outcomes.is_empty() {
        return None;
    }
    let mut text = String::new();
    for line in summary.machines().into_iter().chain(summary.builds()) {
        text += &format!("- {}.\n", markdown(&line));
    }
    text += &format!("- {}\n", markdown(&summary.verified_in_words()));
    for line in summary.faults().into_iter().chain(summary.overloads()) {
        text += &format!("- {}.\n", markdown(&line));
    }
    Some(text)
}

const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- end -->";
const UNMEASURED: &str = "*Not measured yet.*\n";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::example::outcomes;

    fn write(page: &str) -> Result<Written, DocsError> {
        let outcomes = outcomes();
        written(page, "performance", &Summary::of(&outcomes))
    }

    #[test]
    fn only_blocks_are_rewritten_and_twice_is_once() {
        let page = "# Title\n\n<!-- figures: targets -->\nold\n<!-- end -->\nafter\n";
        let first = write(page).expect("a good page");
        assert!(first.page.starts_with("# Title\n\n<!-- figures: targets -->\n| target |"));
        assert!(first.page.ends_with("<!-- end -->\nafter\n"));
        assert!(!first.page.contains("old"));
        assert_eq!(write(&first.page).expect("a good page"), first);
    }

    #[test]
    fn every_kind_of_block_has_figures() {
        for (what, expected) in [
            ("machine", "kernel 6.1.0"),
            ("machine", "- visnyk: visnyk 1.2.3, SHA-256 0123456789ab…, 8 runs."),
            ("scenario burst", "200 events, mode pipelined, 128 bytes of payload, 5 events"),
            ("targets", "at most ×1.10 | ×1.10 | met |"),
            ("scenario paced", "| 1,000 | Server CPU per delivery, µs | 4.40 ×1.10 | 4.00 |"),
            ("scenario paced latency_p50_ms", "| 10,000 | Latency p50, ms |"),
            ("plot burst-latency", "](performance/burst-latency.svg)"),
            ("plot paced-latency", "](performance/paced-latency-10-000-subscribers.svg)"),
            ("scenario never_ran", UNMEASURED),
            ("plot never-ran-latency", UNMEASURED),
        ] {
            let page = format!("<!-- figures: {what} -->\n<!-- end -->\n");
            let written = write(&page).expect(what);
            assert!(written.page.contains(expected), "{what}\n{}", written.page);
            assert_eq!(written.pictures.len(), usize::from(expected.contains(".svg")));
        }
    }

    #[test]
    fn names_from_results_stay_text() {
        let page = "<!-- figures: scenario paced -->\n<!-- end -->\n";
        let page = write(page).expect("a good page").page;
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;\\|"), "{page}");
        assert!(!page.contains("<img"), "{page}");
        let mut outcomes = outcomes();
        outcomes[0].subject = "a](http://x)".into();
        let page = "<!-- figures: plot burst-latency -->\n<!-- end -->\n\
                    <!-- figures: plot paced-latency-1-000 -->\n<!-- end -->\n";
        let written = written(page, "f", &Summary::of(&outcomes)).expect("a good page").page;
        assert!(!written.contains("<img") && !written.contains("a](http"), "{written}");
        assert!(written.contains("a\\](http"), "{written}");
    }

    #[test]
    fn faults_and_runs_that_did_not_keep_up_are_reported() {
        let mut outcomes = outcomes();
        let page_of = |outcomes: &[Outcome]| {
            let page = "<!-- figures: machine -->\n<!-- end -->\n";
            written(page, "f", &Summary::of(outcomes)).expect("a good page").page
        };
        assert!(page_of(&outcomes).contains("none was lost, repeated, reordered or changed"));
        for (rate, is_reported) in [(4_800.0, false), (4_700.0, true)] {
            let figures = &mut outcomes[0].figures;
            figures.insert("deliveries".into(), 10_000.0);
            figures.insert("deliveries_per_s".into(), rate);
            let page = page_of(&outcomes);
            assert_eq!(page.contains("did not keep up"), is_reported, "of 5 events/s to 1,000");
        }
        outcomes[0].verified.lost = 3;
        let page = page_of(&outcomes);
        assert!(page.contains("Paced against visnyk, round 1: 3 lost, 0 repeated"), "{page}");
        assert!(!page.contains("none was lost"), "{page}");
    }

    #[test]
    fn mistakes_are_reported_by_line() {
        let unknown = |what: &str| DocsError::Unknown { line: 2, what: what.to_owned() };
        for what in ["tragets", "plot burst-latencies", "scenario paced cpu", "plot"] {
            let page = format!("x\n<!-- figures: {what} -->\n<!-- end -->\n");
            assert_eq!(write(&page), Err(unknown(what)));
        }
        let page = "x\n\n<!-- figures: machine -->\n";
        assert_eq!(write(page), Err(DocsError::NoEnd { line: 3 }));
    }

    #[test]
    fn page_without_results_says_so() {
        for what in ["machine", "targets", "scenario paced", "plot paced-x"] {
            let page = format!("<!-- figures: {what} -->\n<!-- end -->\n");
            let written = written(&page, "f", &Summary::of(&[])).expect(what);
            assert!(written.page.contains(UNMEASURED), "{what}");
        }
    }
}
