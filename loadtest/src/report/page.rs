//! The report as one page of HTML: nothing is fetched, nothing runs.

use std::fmt::Write as _;

use super::case::Case;
use super::chart::Chart;
use super::number::number;
use super::plots::Plot;
use super::style::style_sheet;
use super::summary::{Summary, about_ratios, common_sizes, main_figures, scenario_table};
use super::svg;
use super::table::Table;
use super::targets::targets_table;
use super::text::{capitalised, markup, slug, words};

/// The whole page.
pub(crate) fn page(summary: &Summary<'_>) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'\">\n\
         <title>Visnyk load test</title>\n<style>{STYLE}{}</style>\n</head>\n<body>\n<main>\n",
        style_sheet(),
    );
    head(&mut html, summary);
    for cases in summary.scenarios() {
        let name = cases[0].scenario;
        let title = capitalised(&words(name));
        let _ = write!(
            html,
            "<section id=\"{}\">\n<h2>{}</h2>\n<p>{}</p>\n",
            slug(name),
            markup(&title),
            markup(&common_sizes(cases)),
        );
        tables(&mut html, cases);
        html.push_str("<div class=\"plots\">\n");
        for Plot { chart, .. } in summary.plots.iter().filter(|plot| plot.scenario == name) {
            figure(&mut html, chart);
        }
        html.push_str("</div>\n</section>\n");
    }
    html.push_str("</main>\n</body>\n</html>\n");
    html
}

fn head(html: &mut String, summary: &Summary<'_>) {
    html.push_str("<h1>Visnyk load test</h1>\n");
    for machine in summary.machines().into_iter().chain(summary.builds()) {
        let _ = writeln!(html, "<p>{}.</p>", markup(&machine));
    }
    let faults = summary.faults();
    let class = if faults.is_empty() { "good" } else { "bad" };
    let said = markup(&summary.verified_in_words());
    let _ = writeln!(
        html,
        "<p class=\"{class}\"><strong>{}</strong> {said}</p>",
        match class {
            "good" => "Verified.",
            _ => "Not clean.",
        }
    );
    list(html, &faults);
    list(html, &summary.overloads());
    let _ = writeln!(html, "<p>{}</p>", markup(&about_ratios()));
    html.push_str("<nav aria-label=\"Scenarios\"><ul>\n");
    for cases in summary.scenarios() {
        let name = cases[0].scenario;
        let title = markup(&capitalised(&words(name)));
        let _ = writeln!(html, "<li><a href=\"#{}\">{title}</a></li>", slug(name));
    }
    html.push_str("</ul></nav>\n");
    let targets = targets_table(summary);
    if !targets.rows.is_empty() {
        html.push_str("<h2>Targets</h2>\n");
        html.push_str(&targets.html("Targets and what was reached"));
    }
}

fn list(html: &mut String, lines: &[String]) {
    if !lines.is_empty() {
        let lines: String =
            lines.iter().map(|line| format!("<li>{}.</li>\n", markup(line))).collect();
        let _ = write!(html, "<ul>\n{lines}</ul>\n");
    }
}

/// The figures that say most, and all of them folded away.
fn tables(html: &mut String, cases: &[Case<'_>]) {
    let name = words(cases[0].scenario);
    let main = main_figures(cases);
    let main: Vec<&str> = main.iter().map(String::as_str).collect();
    if cases.iter().flat_map(Case::figure_names).all(|name| main.contains(&&*name)) {
        html.push_str(&scenario_table(cases, &[]).html(&format!("Figures of {name}")));
        return;
    }
    let _ = write!(
        html,
        "{}<details><summary>All figures</summary>\n{}</details>\n",
        scenario_table(cases, &main).html(&format!("Main figures of {name}")),
        scenario_table(cases, &[]).html(&format!("All figures of {name}")),
    );
}

/// A picture, and its points as a table.
fn figure(html: &mut String, chart: &Chart) {
    let mut rows = Vec::new();
    for line in &chart.lines {
        for point in chart.labelled_points(line, POINTS) {
            rows.push(vec![line.label.clone(), chart.x_in_words(point.x), number(point.y)]);
        }
    }
    let head = vec!["line".into(), chart.x.label.clone(), chart.y.label.clone()];
    let _ = write!(
        html,
        "<figure>\n{}<details><summary>Points</summary>\n{}</details>\n</figure>\n",
        svg::inline(chart),
        Table { head, labels: 1, rows }.html(&chart.title),
    );
}

/// Points of a line in the table below its picture.
const POINTS: usize = 10;

const STYLE: &str = "\
:root{color-scheme:light dark;--text:#24292f;--back:#f6f8fa;--card:#fff;--line:#d8dee4;--good:#1a7f37;--bad:#b3261e}\
@media screen and (prefers-color-scheme:dark){:root{--text:#e6edf3;--back:#0d1117;--card:#161b22;--line:#373e47;--good:#4ac26b;--bad:#ff8a80}}\
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--text);font:16px/1.5 system-ui,sans-serif}\
main{max-width:1100px;margin:0 auto;padding:12px}h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.25rem;margin:2rem 0 .5rem}\
p{margin:.5rem 0;max-width:46rem}nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;padding:0;list-style:none}a{color:inherit}\
.good strong{color:var(--good)}.bad strong,.bad{color:var(--bad)}\
.wide{position:relative;overflow-x:auto;background:var(--card);border:1px solid var(--line);border-radius:6px;margin:.75rem 0}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.9rem}\
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}\
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap;vertical-align:top}\
th[scope=row],.label{text-align:left;font-weight:400}th[scope=row]{white-space:normal;min-width:9.5rem}th[scope=row]:has(+th){min-width:0}tbody tr:last-child>*{border-bottom:0}\
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,420px),1fr));gap:12px}\
figure{margin:0;min-width:0}.plot{display:block;width:100%;max-width:620px;height:auto;border:1px solid var(--line);border-radius:6px}\
summary{cursor:pointer;font-size:.9rem;padding:.25rem 0}\
@media print{body{background:#fff;font-size:10pt}main{max-width:none;padding:0}.plots{grid-template-columns:1fr 1fr}\
figure,tr{break-inside:avoid}h2{break-after:avoid}nav,details{display:none}th,td{white-space:normal}}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use crate::report::example::outcomes;
    use crate::report::text::tests::is_balanced;

    #[test]
    fn page_has_every_scenario_with_table_and_plots() {
        let outcomes = outcomes();
        let html = page(&Summary::of(&outcomes));
        for part in [
            "<h2>Paced</h2>",
            "<h2>Burst</h2>",
            "<h2>Idle</h2>",
            "2 cores, 16 GiB of memory, kernel 6.1.0, 20,000 open files: 26 runs, 2026-01-01.",
            "none was lost, repeated, reordered or changed",
            "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"plot\"",
            "Paced: latency by percentile (1,000 subscribers)",
            "Paced: server CPU per delivery by subscribers",
            "Burst: deliveries a second",
            "<td>4.40<br>×1.10</td>",
            "<td>met</td>",
        ] {
            assert!(html.contains(part), "{part}");
        }
        assert!(is_balanced(&html));
        assert_eq!(html.matches("<figure>").count(), 2 + 2 + 1 + 2, "latency and rate; costs");
        let ids: Vec<&str> =
            html.split(" id=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let mut once = ids.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), ids.len(), "ids are unique: {ids:?}");
    }

    #[test]
    fn nothing_is_fetched_and_nothing_from_results_is_markup() {
        let outcomes = outcomes();
        let html = page(&Summary::of(&outcomes));
        for bad in ["<img", "<script", "<link", "src=\"", "url(", "@import", "onerror=alert(1)>"] {
            assert!(!html.contains(bad), "{bad}");
        }
        let links: Vec<&str> =
            html.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(links.iter().all(|link| link.starts_with('#')), "{links:?}");
        assert!(html.contains("&lt;img src=x"), "the name is shown all the same");
    }

    #[test]
    fn fault_is_reported_first() {
        let mut outcomes = outcomes();
        outcomes[0].verified.lost = 3;
        let html = page(&Summary::of(&outcomes));
        assert!(html.contains("Not clean."));
        assert!(html.contains("Paced against visnyk, round 1: 3 lost, 0 repeated"));
        assert!(!html.contains("none was lost"));
    }

    #[test]
    fn run_that_did_not_keep_up_is_reported() {
        let mut outcomes = outcomes();
        let labelled =
            |outcomes: &[Outcome]| page(&Summary::of(outcomes)).contains("did not keep up");
        for (rate, expected) in [(4_800.0, false), (4_700.0, true)] {
            let figures = &mut outcomes[0].figures;
            figures.insert("deliveries".into(), 10_000.0);
            figures.insert("deliveries_per_s".into(), rate);
            assert_eq!(labelled(&outcomes), expected, "of 5 events/s to 1,000");
        }
    }
}
