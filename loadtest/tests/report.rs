//! `visnyk-loadtest report` on files, and the committed documentation held to committed results.
#![allow(clippy::unwrap_used, missing_docs)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use visnyk_loadtest::report::ReportCommand;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn report(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_visnyk-loadtest");
    Command::new(program).arg("report").args(arguments).output().unwrap()
}

/// Two runs of one scenario, as the tool writes them.
fn results() -> String {
    let run = |subject: &str, cpu_us: f64| {
        let outcome = serde_json::json!({
            "scenario": "paced", "subject": subject, "round": 1,
            "started_at": "2026-01-01T10:00:00Z",
            "machine": {"cores": 2, "kernel": "6.1.0", "memory_bytes": 1 << 30, "nofile": 1024},
            "parameters": {"subscribers": 10},
            "figures": {"server_cpu_us_per_delivery": cpu_us},
            "latency_us": {"p50": 1, "p90": 2, "p99": 3, "p99_9": 4, "max": 5, "count": 100},
            "percentiles": [[50.0, 1.0], [99.0, 3.0]],
            "series": [],
            "verified": {"events": 1, "deliveries": 10, "lost": 0, "repeated": 0, "reordered": 0,
                         "corrupt": 0}
        });
        format!("{outcome}\n")
    };
    run("floor", 2.0) + &run("visnyk", 3.0)
}

#[test]
fn results_become_pictures_and_documentation() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("r.jsonl"), results()).unwrap();
    let page = "<!-- figures: plot paced-latency -->\n<!-- end -->\n";
    fs::write(path("page.md"), page).unwrap();
    fs::create_dir(path("page")).unwrap();
    fs::write(path("page/old.svg"), "").unwrap();
    fs::write(path("page/kept.conf"), "").unwrap();
    let files = ["plots", "page.md"].map(path);
    let output = report(&[&path("r.jsonl"), "--plots", &files[0], "--docs", &files[1]]);
    assert!(output.status.success(), "{output:?}");
    let written = fs::read_to_string(&files[1]).unwrap();
    assert!(written.contains("](page/paced-latency.svg)"), "{written}");
    let picture = fs::read_to_string(path("page/paced-latency.svg")).unwrap();
    assert_eq!(picture, fs::read_to_string(path("plots/paced-latency.svg")).unwrap());
    assert!(!Path::new(&path("page/old.svg")).exists(), "no page shows it any more");
    assert!(Path::new(&path("page/kept.conf")).exists());
}

#[test]
fn bad_line_ends_it_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("r.jsonl"), results() + "{\"scenario\":\"paced\"}\n").unwrap();
    let output = report(&[&path("r.jsonl"), "--plots", &path("plots")]);
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains(&format!("{}:3: missing field", path("r.jsonl"))), "{said}");
    assert!(!Path::new(&path("plots")).exists(), "nothing is written of a part");
}

#[test]
fn nothing_to_read_or_to_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("r.jsonl").to_str().unwrap().to_owned();
    fs::write(&empty, "\n").unwrap();
    assert!(!report(&[&empty, "--plots", "/dev/null"]).status.success(), "no runs");
    fs::write(&empty, results()).unwrap();
    assert!(!report(&[&empty]).status.success(), "nothing asked for");
}

#[test]
fn committed_documentation_is_what_the_committed_results_give() {
    let docs = repository().join("docs");
    let command = ReportCommand {
        results: vec![docs.join("performance/results.jsonl")],
        plots: None,
        docs: Some(docs.join("performance.md")),
    };
    let stale = command.stale().unwrap();
    assert!(
        stale.is_empty(),
        "run `cargo run -p visnyk-loadtest -- report docs/performance/results.jsonl --docs \
         docs/performance.md`; it changes {stale:?}"
    );
}

#[test]
fn every_change_of_a_picture_or_a_figure_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("r.jsonl"), results()).unwrap();
    let page = "<!-- figures: scenario paced -->\n<!-- end -->\n\
                <!-- figures: plot paced-latency -->\n<!-- end -->\n";
    fs::write(path("page.md"), page).unwrap();
    let command =
        ReportCommand { results: vec![path("r.jsonl")], plots: None, docs: Some(path("page.md")) };
    let picture = path("page/paced-latency.svg");
    assert_eq!(command.stale().unwrap(), [path("page.md"), picture.clone()]);
    command.run().unwrap();
    assert_eq!(command.stale().unwrap(), [] as [PathBuf; 0]);
    let text = fs::read_to_string(path("page.md")).unwrap();
    fs::write(path("page.md"), text.replace("3.00", "2.00")).unwrap();
    assert_eq!(command.stale().unwrap(), [path("page.md")]);
    command.run().unwrap();
    fs::write(&picture, "<svg/>").unwrap();
    fs::write(path("page/stray.svg"), "").unwrap();
    assert_eq!(command.stale().unwrap(), [path("page/stray.svg"), picture]);
}

#[test]
fn every_kernel_setting_is_explained() {
    let docs = repository().join("docs");
    let settings = fs::read_to_string(docs.join("performance/99-visnyk.conf")).unwrap();
    let page = fs::read_to_string(docs.join("performance.md")).unwrap();
    let keys: Vec<&str> = settings
        .lines()
        .filter_map(|line| line.trim_start_matches(['#', '-']).split_once(" = "))
        .map(|(key, _)| key)
        .collect();
    assert!(keys.len() >= 8, "{keys:?}");
    for key in keys {
        assert!(page.contains(&format!("`{key}`")), "{key} has no reason in the page");
    }
}
