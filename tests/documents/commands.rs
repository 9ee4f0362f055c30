//! The commands of the pages that no other test runs: each block is run here as it stands, or is
//! listed with what runs it or why nothing does. Flags that a page names with a command are ones of
//! that command.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use visnyk_loadtest::{Hub, HubCommand};

use crate::api_docs::path_with_the_binary;

/// What becomes of a block of commands.
enum Runs {
    /// They are run here, in a directory with what `prepare` has made. These parts of them stand
    /// for others.
    Here(fn(&Path), &'static [(&'static str, &'static str)]),
    /// This test or script runs them, and has this word for it.
    By(&'static str, &'static str),
    /// Nothing can, for this reason. What of them is a hub's has settings that it takes.
    Nowhere(&'static str),
}

use Runs::{By, Here, Nowhere};

/// Pages whose blocks are all run by one test.
const PAGES: [(&str, &str); 7] = [
    ("docs/api.md", "tests/documents/api_docs.rs"),
    ("docs/guides/dashboards.md", "tests/documents/guides.rs"),
    ("docs/guides/job-progress.md", "tests/documents/guides.rs"),
    ("docs/guides/moving.md", "tests/documents/guides.rs"),
    ("docs/guides/notifications.md", "tests/documents/guides.rs"),
    ("docs/guides/token-streams.md", "tests/documents/guides.rs"),
    ("docs/examples/ticker.md", "tests/ticker"),
];

/// All other blocks, by their page and how they begin; or by their page and its section,
/// `## Title`, with all blocks of it that no entry before has.
const BLOCKS: &[(&str, &str, Runs)] = &[
    ("README.md", "cargo run --release", By("tests/run", "cargo build")),
    ("README.md", "$ ", By("tests/documents/readme.rs", "README.md")),
    ("README.md", "redis-server", By("loadtest/src/redis_server.rs", "redis-server")),
    ("README.md", "tests/run", Nowhere("it runs this")),
    ("README.md", "openssl req", Here(nothing, &[])),
    ("docs/cli.md", "$ visnyk status", Here(nothing, &[])),
    ("docs/cli.md", "visnyk health", Here(hub_with_tls, &[("/etc/visnyk/", "")])),
    ("docs/configuration.md", "VISNYK_LIMITS", Here(nothing, &[])),
    ("docs/configuration.md", "visnyk config --channel", Here(rules_of_the_page, &[])),
    ("docs/console.md", "visnyk token", Here(nothing, &[])),
    ("docs/deploying.md", "dist/release", By("tests/packages/run", "dist/release")),
    ("docs/deploying.md", "docker build", Nowhere("no daemon makes images here")),
    (
        "docs/deploying.md",
        "openssl rand -hex 32 > dist/docker",
        Nowhere("no daemon runs images here"),
    ),
    (
        "docs/deploying.md",
        "kubectl",
        Nowhere("no cluster is here; tests/packages/run renders the chart"),
    ),
    ("docs/deploying.md", "## systemd", By("tests/packages/run", "steps_of systemd")),
    ("docs/deploying.md", "## By hand", By("tests/packages/run", "steps_of 'By hand'")),
    (
        "docs/durability.md",
        "visnyk serve --data-dir /var",
        Here(nothing, &[("/var/lib/visnyk", "log")]),
    ),
    (
        "docs/durability.md",
        "visnyk serve --data-dir DIR --take-over",
        By("tests/guarantees/handover.rs", "--take-over"),
    ),
    ("docs/durability.md", "visnyk log", Here(log_with_events, &[("DIR", "log")])),
    ("docs/logs.md", "visnyk --log-format", Here(nothing, &[])),
    ("docs/performance.md", "loadtest/figures", By("tests/run", "loadtest/figures")),
    (
        "docs/performance.md",
        "target/release/visnyk-loadtest",
        By("loadtest/figures", "visnyk-loadtest"),
    ),
    ("docs/reliability.md", "cargo test", By("tests/run", "cargo test")),
    ("docs/scaling.md", "export VISNYK_JWT_SECRET", Nowhere("its machines are not here")),
    ("docs/traces.md", "docker run", Nowhere("no daemon runs images here")),
    ("docs/traces.md", "VISNYK_TRACES", Here(nothing, &[])),
];

/// One block of a page.
struct Block {
    page: String,
    /// The heading that it is below, `## Title`.
    section: String,
    /// Its commands, each with the lines that are shown below it.
    commands: Vec<(String, Vec<String>)>,
}

#[test]
fn commands_of_the_pages_run_or_say_why_not() {
    let mut used = vec![false; BLOCKS.len()];
    let mut run = 0;
    for block in pages().iter().flat_map(|(page, text)| blocks(page, text)) {
        if let Some((_, by)) = PAGES.iter().find(|(page, _)| *page == block.page) {
            assert!(root().join(by).exists(), "{by}");
            continue;
        }
        let first = &block.shown_first();
        let found = BLOCKS.iter().position(|(page, begins, _)| {
            *page == block.page && (first.starts_with(begins) || block.section == *begins)
        });
        let at = found.unwrap_or_else(|| panic!("{}: nothing runs `{first}`", block.page));
        used[at] = true;
        match &BLOCKS[at].2 {
            Here(prepare, replaced) => {
                run += 1;
                let directory = tempfile::tempdir().unwrap();
                prepare(directory.path());
                block.run(directory.path(), replaced);
            }
            By(path, word) => {
                let by = fs::read_to_string(root().join(path)).unwrap();
                assert!(by.contains(word), "{}: {path} has no `{word}`", block.page);
            }
            Nowhere(why) => {
                assert!(!why.is_empty());
                block.check_settings();
            }
        }
    }
    assert!(run >= 9, "{run} blocks were run");
    for ((page, begins, _), is_used) in BLOCKS.iter().zip(used) {
        assert!(is_used, "{page} has no block that is `{begins}` or begins so");
    }
}

impl Block {
    fn shown_first(&self) -> String {
        let (command, output) = &self.commands[0];
        if output.is_empty() { command.clone() } else { format!("$ {command}") }
    }

    /// Runs the commands one after the other. A command that is a hub goes on beside those after
    /// it, on a port of its own.
    fn run(&self, directory: &Path, replaced: &[(&str, &str)]) {
        let mut hub: Option<Hub> = hub_of(directory);
        // curl by itself succeeds with any status: here an error status is an error.
        let curl_home = tempfile::tempdir().unwrap();
        fs::write(curl_home.path().join(".curlrc"), "fail-with-body\n").unwrap();
        let roots = hub.is_some().then_some(("VISNYK_CA_CERT", "cert.pem"));
        for (command, output) in &self.commands {
            let mut command = command.clone();
            for (shown, meant) in replaced {
                command = command.replace(shown, meant);
            }
            if let Some(start) = hub_command(&command) {
                let started = start.directory(directory).start_blocking();
                hub = Some(
                    started.unwrap_or_else(|error| panic!("{}: {command}\n{error}", self.page)),
                );
                continue;
            }
            let mut bash = Command::new("bash");
            bash.arg("-c").current_dir(directory).env("PATH", path_with_the_binary());
            bash.env("VISNYK_JWT_SECRET", SECRET).env_remove("VISNYK_URL").envs(roots);
            bash.env("CURL_HOME", curl_home.path());
            if let Some(hub) = &hub {
                let scheme = if roots.is_some() { "https" } else { "http" };
                let port = hub.address().port();
                command = command.replace(":3000", &format!(":{port}"));
                bash.env("VISNYK_URL", format!("{scheme}://{}", hub.address()));
            }
            let ran = bash.arg(&command).output().unwrap();
            let said = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
            if output.is_empty() {
                assert!(ran.status.success(), "{}: {command}\n{said}", self.page);
                continue;
            }
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines.len(), output.len(), "{}: {command}\n{said}", self.page);
            for (line, shown) in lines.iter().zip(output) {
                assert!(
                    crate::readme::matches(line.trim_start(), shown),
                    "{}: {command}\n{line}\n{shown}",
                    self.page
                );
            }
        }
    }

    /// Holds the flags and variables of hubs among the commands against the settings.
    fn check_settings(&self) {
        for (command, _) in &self.commands {
            let (variables, words) = split(command);
            if words.first().map(String::as_str) != Some("visnyk") {
                continue;
            }
            let checked = Command::new(env!("CARGO_BIN_EXE_visnyk"))
                .args(["config", "--check"])
                .args(&words[1..])
                .envs(variables)
                .env("VISNYK_JWT_SECRET", SECRET)
                .current_dir(env!("CARGO_TARGET_TMPDIR"))
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&checked.stderr);
            assert!(checked.status.success(), "{}: {command}\n{said}", self.page);
        }
    }
}

#[test]
fn flags_that_pages_name_with_a_command_are_ones_of_it() {
    let mut help: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut checked = 0;
    for (page, text) in pages() {
        // Lines of blocks, and code within text: all that begins with the name of the program.
        let spans = text.split('`').chain(text.lines()).map(str::trim);
        for span in spans.map(|span| span.strip_prefix("$ ").unwrap_or(span)) {
            let Some(rest) = span.strip_prefix("visnyk ") else { continue };
            let rest = rest.lines().next().unwrap_or_default();
            // Up to a comment, or what the shell does with the output.
            let words: Vec<&str> = rest
                .split_whitespace()
                .take_while(|word| !["|", ">", "#", "&"].contains(word))
                .collect();
            let sub = words.iter().take(2).take_while(|word| is_command(word)).copied();
            let mut sub: Vec<&str> = sub.collect();
            if sub.first() != Some(&"log") {
                sub.truncate(1);
            }
            let text = help.entry(sub.join(" ")).or_insert_with(|| help_of(&sub));
            // Prose that begins with the name of the program.
            let Some(text) = text else { continue };
            for word in words.iter().filter(|word| word.starts_with("--") && word.len() > 2) {
                let flag = word.split('=').next().unwrap_or_default();
                let flag = flag.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
                assert!(
                    text.contains(&format!("{flag} ")) || text.contains(&format!("{flag}\n")),
                    "{page}: `{span}`: `visnyk {}` has no {flag}",
                    sub.join(" ")
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "{checked} flags");
}

fn is_command(word: &str) -> bool {
    !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase())
}

/// The help of a command, if there is such a one.
fn help_of(sub: &[&str]) -> Option<String> {
    let help = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visnyk"));
        let output = command.args(words).arg("--help").output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap() + "\n")
    };
    // Without a command it takes the flags of `serve`, and its own.
    if sub.is_empty() { Some(help(&[])? + &help(&["serve"])?) } else { help(sub) }
}

/// The pages that people read, by their paths.
fn pages() -> Vec<(String, String)> {
    let mut found: Vec<PathBuf> = vec!["README.md".into(), "clients/js/README.md".into()];
    for folder in ["docs", "docs/guides", "docs/explain", "docs/examples"] {
        let entries = fs::read_dir(root().join(folder)).unwrap();
        let names = entries.map(|entry| Path::new(folder).join(entry.unwrap().file_name()));
        found.extend(names.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    found.sort();
    let page = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).unwrap();
        (path.to_str().unwrap().to_owned(), text)
    };
    found.into_iter().map(page).collect()
}

/// The blocks of a page that are marked as shell or as a dialogue with one.
fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut section = String::new();
    let mut lines = text.lines().map(str::trim_start);
    while let Some(line) = lines.next() {
        if line.starts_with("## ") {
            section = line.to_owned();
        }
        let is_dialogue = line == "```console";
        if !is_dialogue && line != "```sh" {
            continue;
        }
        let mut commands: Vec<(String, Vec<String>)> = Vec::new();
        for line in lines.by_ref().take_while(|line| *line != "```") {
            match (is_dialogue, line.strip_prefix("$ "), commands.last_mut()) {
                (true, Some(command), _) => commands.push((command.to_owned(), Vec::new())),
                (true, None, Some((_, output))) => output.push(line.to_owned()),
                (false, _, Some((command, _))) if command.ends_with('\\') => {
                    command.truncate(command.len() - 1);
                    *command += line;
                }
                _ => commands.push((line.to_owned(), Vec::new())),
            }
        }
        assert!(!commands.is_empty(), "{page}: an empty block");
        found.push(Block { page: page.to_owned(), section: section.clone(), commands });
    }
    found
}

/// Variables that are set for a command, and its words.
fn split(command: &str) -> (Vec<(String, String)>, Vec<String>) {
    let command = command.split(" #").next().unwrap_or_default();
    let mut words = command.split_whitespace().map(str::to_owned).peekable();
    let mut variables = Vec::new();
    while let Some(word) = words.next_if(|word| word.starts_with("VISNYK_")) {
        let (name, value) = word.split_once('=').expect("a value");
        variables.push((name.to_owned(), value.to_owned()));
    }
    (variables, words.collect())
}

/// How to start the hub that a command runs, if it runs one.
fn hub_command(command: &str) -> Option<HubCommand> {
    let (variables, words) = split(command);
    let mut arguments = words.strip_prefix(&["visnyk".to_owned()])?;
    arguments = match arguments.first() {
        Some(first) if first == "serve" => &arguments[1..],
        Some(first) if !first.starts_with('-') => return None,
        _ => arguments,
    };
    let hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).args(arguments);
    Some(variables.iter().fold(hub, |hub, (name, value)| hub.env(name, value)))
}

fn nothing(_: &Path) {}

/// The rules that docs/configuration.md shows.
fn rules_of_the_page(directory: &Path) {
    let page = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let (_, rules) = page.split_once("```toml\n[[channels.rules]]").expect("rules");
    let (rules, _) = rules.split_once("```").expect("blocks end");
    fs::write(directory.join("visnyk.toml"), format!("[[channels.rules]]{rules}")).unwrap();
}

/// A log with an event.
fn log_with_events(directory: &Path) {
    let arguments = ["--data-dir", "log"];
    let hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).args(arguments).directory(directory);
    let hub = hub.start_blocking().unwrap();
    let published = Command::new(env!("CARGO_BIN_EXE_visnyk"))
        .args(["publish", "a", "x", "--url", &hub.url()])
        .output()
        .unwrap();
    assert!(published.status.success(), "{published:?}");
}

/// A certificate, with which [`hub_of`] starts a hub.
fn hub_with_tls(directory: &Path) {
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
        .args(["-subj", "/CN=localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    fs::write(directory.join("visnyk.toml"), "tls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\n")
        .unwrap();
}

/// The hub that a block needs which starts none itself, if its directory has settings of TLS for
/// it.
fn hub_of(directory: &Path) -> Option<Hub> {
    if !directory.join("cert.pem").exists() {
        return None;
    }
    let hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).directory(directory);
    Some(hub.start_blocking().unwrap())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

const SECRET: &str = "a secret of this test alone, 40 bytes...";
