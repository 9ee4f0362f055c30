//! The files of dist/ against the code and against each other: settings and flags exist, paths and
//! versions agree, and what waits for the hub's end waits long enough.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use visnyk::server::settings::{Settings, Sources};

const UNIT: &str = include_str!("../../dist/systemd/visnyk.service");
const SOCKET: &str = include_str!("../../dist/systemd/visnyk.socket");
const SECRET: &str = include_str!("../../dist/systemd/secret.conf");
const SETTINGS: &str = include_str!("../../dist/debian/visnyk.toml");
const CHART: &str = include_str!("../../dist/helm/visnyk/Chart.yaml");
const VALUES: &str = include_str!("../../dist/helm/visnyk/values.yaml");
const STATEFUL_SET: &str = include_str!("../../dist/helm/visnyk/templates/statefulset.yaml");
const COMPOSE_FILES: [&str; 3] = ["compose.yaml", "compose.durable.yaml", "compose.redis.yaml"];
const DEPLOYING: &str = include_str!("../../docs/deploying.md");

#[test]
fn every_variable_is_a_setting() {
    // Of client commands, of the script that makes a release, and what Kubernetes sets by itself.
    const OTHERS: &[&str] = &[
        "VISNYK_TOKEN",
        "VISNYK_URL",
        "VISNYK_CA_CERT",
        "VISNYK_CONFIG",
        "VISNYK_ALLOW_DIRTY",
        "VISNYK_PORT",
    ];
    let mut seen = 0;
    let page = ("docs/deploying.md".into(), DEPLOYING.to_owned());
    for (path, text) in files("dist").into_iter().chain([page]) {
        for name in
            text.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        {
            if !name.starts_with("VISNYK_") || name == "VISNYK_" || OTHERS.contains(&name) {
                continue;
            }
            let is_setting = Settings::keys().iter().any(|key| key.variable() == name);
            assert!(is_setting, "{}: {name}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 10, "the files set something: {seen}");
}

#[test]
fn the_settings_of_the_debian_package_are_taken_those_in_comments_too() {
    let directory = tempfile::tempdir().unwrap();
    let load = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        let effective = Settings::load(&Sources::default().config(Some(file)));
        effective.unwrap_or_else(|errors| panic!("{name}: {errors}\n{text}"))
    };
    let settings = load("as_it_is.toml", SETTINGS).into_settings();
    assert_eq!(settings.data_dir, "/var/lib/visnyk", "history is on disk");
    let addresses: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    let at: Vec<&str> = values(SOCKET, "ListenStream=").collect();
    assert_eq!(addresses, at, "the socket's addresses are those of listen");

    // `# key = value` and `# [table]` become what they stand for.
    let is_setting = |line: &str| {
        line.starts_with('[')
            || line.split_once(" = ").is_some_and(|(key, _)| {
                key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            })
    };
    let uncommented: Vec<&str> = SETTINGS
        .lines()
        .map(|line| line.strip_prefix("# ").filter(|line| is_setting(line)).unwrap_or(line))
        .collect();
    let secret = "jwt_secret = \"0123456789abcdef0123456789abcdef\"\n";
    let all = load("all.toml", &(secret.to_owned() + &uncommented.join("\n")));
    for key in ["trusted_proxies", "allow_anonymous", "tls_key", "limits.history.age_max_s"] {
        assert_ne!(all.set_by(key), Some("default"), "{key} is shown in a comment");
    }
    assert_eq!(all.settings().limits.history, Settings::default().limits.history);
    assert_eq!(all.settings().log.bytes_max, Settings::default().log.bytes_max);
}

#[test]
fn the_settings_of_the_image_and_of_the_chart_are_taken() {
    let dockerfile = include_str!("../../dist/docker/Dockerfile");
    let secret = ("VISNYK_JWT_SECRET".to_owned(), "0123456789abcdef0123456789abcdef".to_owned());
    let of_image: Vec<(String, String)> = values(dockerfile, "ENV ")
        .map(|line| line.split_once('=').expect("a name and a value"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(!of_image.is_empty());
    let load = |variables: Vec<(String, String)>| {
        let variables = variables.into_iter().map(|(n, v)| (OsString::from(n), OsString::from(v)));
        Settings::load(&Sources::default().environment(variables))
    };
    load([of_image.clone(), vec![secret.clone()]].concat()).expect("with a key");
    load(of_image.clone()).expect_err("without one it is refused beyond this machine");
    for file in COMPOSE_FILES {
        let text = fs::read_to_string(root().join("dist/docker").join(file)).unwrap();
        let set = text.lines().filter_map(|line| line.trim().split_once(": "));
        let set = set.filter(|(name, _)| name.starts_with("VISNYK_"));
        let set = set.map(|(name, value)| (name.to_owned(), value.trim_matches('"').to_owned()));
        let mut set: Vec<_> = of_image.iter().cloned().chain(set).collect();
        assert!(set.len() > of_image.len(), "{file}");
        if let Some(at) = set.iter().position(|(name, _)| name == "VISNYK_JWT_SECRET_FILE") {
            set.remove(at);
            set.push(secret.clone());
        }
        load(set).unwrap_or_else(|errors| panic!("{file}: {errors}"));
    }
    // The block that follows `config: |`.
    let (_, block) = VALUES.split_once("config: |\n").expect("settings");
    let block: String = block
        .lines()
        .take_while(|line| line.starts_with("  "))
        .map(|line| format!("{}\n", line.trim_start()))
        .collect();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("visnyk.toml");
    fs::write(&file, &block).unwrap();
    let loaded = Settings::load(&Sources::default().config(Some(file)));
    loaded.unwrap_or_else(|errors| panic!("{errors}\n{block}"));
}

#[test]
fn commands_have_the_flags_that_are_used() {
    for (command, flags) in [
        ("serve", &["--config", "--take-over"][..]),
        ("config", &["--check"]),
        ("health", &["--ready"]),
    ] {
        let help = Command::new(env!("CARGO_BIN_EXE_visnyk")).args([command, "--help"]).output();
        let help = help.unwrap();
        assert!(help.status.success(), "visnyk {command}");
        let text = String::from_utf8(help.stdout).unwrap();
        for flag in flags {
            assert!(text.contains(flag), "visnyk {command} {flag}");
        }
    }
    let exec = value(UNIT, "ExecStart=");
    assert_eq!(exec, "/usr/bin/visnyk serve --config /etc/visnyk/visnyk.toml");
}

#[test]
fn paths_of_the_package_and_the_unit_agree() {
    let manifest: toml::Value = toml::from_str(include_str!("../../Cargo.toml")).unwrap();
    let deb = &manifest["package"]["metadata"]["deb"];
    let assets: Vec<[&str; 2]> = deb["assets"]
        .as_array()
        .unwrap()
        .iter()
        .map(|asset| [asset[0].as_str().unwrap(), asset[1].as_str().unwrap()])
        .collect();
    let installed = |path: &str| {
        assets.iter().any(|[from, to]| match to.strip_suffix('/') {
            Some(folder) => path == format!("{folder}/{}", from.rsplit('/').next().unwrap()),
            None => path == *to,
        })
    };
    for path in [
        "usr/bin/visnyk",
        "etc/visnyk/visnyk.toml",
        "usr/lib/systemd/system/visnyk.service",
        "usr/lib/systemd/system/visnyk.socket",
        "usr/share/doc/visnyk/examples/secret.conf",
    ] {
        assert!(installed(path), "{path}");
    }
    for [from, _] in &assets {
        if !from.starts_with("target/") && !from.contains('*') {
            assert!(root().join(from).is_file(), "{from}");
        }
    }
    assert_eq!(deb["conf-files"][0].as_str(), Some("/etc/visnyk/visnyk.toml"));
    let scripts = root().join(deb["maintainer-scripts"].as_str().unwrap());
    assert!(["postinst", "prerm", "postrm"].iter().all(|script| scripts.join(script).is_file()));
    assert_eq!(value(UNIT, "StateDirectory="), "visnyk", "systemd makes /var/lib/visnyk");
    // The drop-in and the page name the same files.
    let credential = value(SECRET, "LoadCredential=jwt-secret:");
    assert!(DEPLOYING.contains(&format!("> {credential})\n")), "{credential}");
    assert!(DEPLOYING.contains("/usr/share/doc/visnyk/examples/secret.conf"));
}

#[test]
fn the_image_and_the_crate_are_made_of_all_they_need() {
    let manifest: toml::Value = toml::from_str(include_str!("../../Cargo.toml")).unwrap();
    let context = include_str!("../../dist/docker/Dockerfile.dockerignore");
    let in_context = |path: &str| context.lines().any(|line| line == format!("!{path}"));
    let members = manifest["workspace"]["members"].as_array().unwrap();
    let members = members.iter().map(|member| member.as_str().unwrap());
    for path in members.chain(["Cargo.toml", "Cargo.lock", "src", "examples", "benches"]) {
        assert!(in_context(path), "{path}");
    }
    let include = manifest["package"]["include"].as_array().unwrap();
    let is_included = |path: &str| include.iter().any(|entry| entry.as_str() == Some(path));
    assert!(is_included("/src") && is_included("/LICENSE-*"));
    if root().join("build.rs").exists() {
        assert!(in_context("build.rs") && is_included("/build.rs"), "build.rs is needed too");
    }
}

#[test]
fn versions_are_those_of_the_crate() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(value(CHART, "version: "), version);
    assert_eq!(value(CHART, "appVersion: "), format!("\"{version}\""));
    for file in COMPOSE_FILES {
        let text = fs::read_to_string(root().join("dist/docker").join(file)).unwrap();
        assert!(text.contains(&format!("image: visnyk:{version}\n")), "{file}");
    }
    assert!(DEPLOYING.contains(&format!("visnyk_{version}-1_amd64.deb")));
    assert!(DEPLOYING.contains(&format!("-t visnyk:{version} .")));
    let changelog = include_str!("../../CHANGELOG.md");
    assert!(changelog.contains(&format!("\n## {version}")), "the version has its changes");
}

#[test]
fn what_ends_the_hub_waits_longer_than_its_drain() {
    let window_s = u64::from(Settings::default().drain_window_s);
    let stop: u64 = value(UNIT, "TimeoutStopSec=").trim_end_matches('s').parse().unwrap();
    assert!(stop > window_s + 30, "systemd: {stop}");
    for file in COMPOSE_FILES {
        let text = fs::read_to_string(root().join("dist/docker").join(file)).unwrap();
        let grace: u64 = value(&text, "stop_grace_period: ").trim_end_matches('s').parse().unwrap();
        assert!(grace > window_s + 10, "{file}: {grace}");
    }
    let grace = value(STATEFUL_SET, "terminationGracePeriodSeconds: ");
    assert_eq!(grace, "{{ add .Values.drainDelaySeconds .Values.drainWindowSeconds 30 }}");
    for path in ["/healthz", "/readyz"] {
        assert!(STATEFUL_SET.contains(&format!("path: {path}\n")), "{path}");
        assert!(visnyk::http::ROUTES.iter().any(|route| route.path == path), "{path}");
    }
}

/// The rest of the lines that begin with `start`, spaces before it aside.
fn values<'a>(text: &'a str, start: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().filter_map(move |line| line.trim_start().strip_prefix(start))
}

/// The rest of the only such line.
fn value<'a>(text: &'a str, start: &'a str) -> &'a str {
    let found: Vec<&str> = values(text, start).collect();
    let [value] = found[..] else { panic!("{start}: {found:?}") };
    value
}

/// All files below a folder, with their texts.
fn files(folder: &str) -> Vec<(PathBuf, String)> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                files.push((path, text));
            }
        }
    }
    files
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
