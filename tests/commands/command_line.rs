//! The real binary: `config`, `serve` up to its address, and exit codes.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use visnyk_loadtest::server_process::ServerProcess;

#[test]
fn config_prints_a_settings_file_with_origins() {
    let directory = directory();
    write(&directory, "visnyk.toml", "drain_window_s = 3\n");
    write(&directory, "visnyk.test.toml", "shards = 1\n");
    let output = visnyk(&directory)
        .args(["config", "--profile", "test", "--listen", "127.0.0.1:0", "--listen", "[::1]:0"])
        .env("VISNYK_LIMITS__CONNECTIONS__CONNECTIONS_MAX", "1")
        .output()
        .expect("it runs");
    assert_eq!(code(&output), 0, "{output:?}");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    for line in [
        "# Later layers win: default, file, environment, flag. \
         Files read: visnyk.toml, visnyk.test.toml",
        "listen = [\"127.0.0.1:0\", \"[::1]:0\"] # flag --listen",
        "drain_window_s = 3 # visnyk.toml:1, reloads",
        "shards = 1 # visnyk.test.toml:1",
        "connections_max = 1 # environment VISNYK_LIMITS__CONNECTIONS__CONNECTIONS_MAX",
        "heartbeat_s = 15 # default",
    ] {
        assert!(stdout.lines().any(|printed| printed == line), "{line:?} is not in\n{stdout}");
    }
    let rules = "[{ pattern = \"a/*\", events_max = 7 }]";
    let channel = visnyk(&directory)
        .args(["config", "--channel", "a/b"])
        .env("VISNYK_CHANNELS__RULES", rules)
        .output()
        .expect("it runs");
    let shown = String::from_utf8(channel.stdout).expect("UTF-8");
    assert!(shown.contains("\nevents_max = 7 # rule 1\n"), "{shown}");
    let bad = visnyk(&directory).args(["config", "--channel", "a//b"]).output();
    assert_eq!(code(&bad.expect("it runs")), 2);
    let with_rules = visnyk(&directory).arg("config").env("VISNYK_CHANNELS__RULES", rules).output();
    write(&directory, "rules.toml", &String::from_utf8_lossy(&with_rules.expect("it runs").stdout));
    let again = visnyk(&directory).args(["config", "--config", "rules.toml", "--check"]).output();
    assert_eq!(code(&again.expect("it runs")), 0);
    write(&directory, "again.toml", &stdout);
    let again = visnyk(&directory).args(["config", "--config", "again.toml", "--check"]).output();
    assert_eq!(code(&again.expect("it runs")), 0);
}

#[test]
fn flags_of_authentication_can_be_given_and_repeated() {
    let directory = directory();
    write(&directory, "secret", "a-secret-of-this-test-and-of-no-hub\n");
    let flags = [
        ["--jwt-secret-file", "secret"],
        ["--allow-anonymous", "news"],
        ["--cors-origin", "https://a.example"],
        ["--allow-anonymous", "users/{sub}/**"],
        ["--cors-origin", "https://*.b.example"],
    ];
    let output = visnyk(&directory)
        .arg("config")
        .args(flags.as_flattened())
        // A flag replaces all of what a variable says.
        .env("VISNYK_ALLOW_ANONYMOUS", "other")
        .env("VISNYK_CORS_ORIGINS", "https://other.example")
        .env("VISNYK_JWT_SECRET_FILE", "other")
        .output()
        .expect("it runs");
    assert_eq!(code(&output), 0, "{output:?}");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    for line in [
        "jwt_secret_file = \"secret\" # flag --jwt-secret-file, reloads",
        "allow_anonymous = [\"news\", \"users/{sub}/**\"] # flag --allow-anonymous, reloads",
        "cors_origins = [\"https://a.example\", \"https://*.b.example\"] # flag --cors-origin, reloads",
    ] {
        assert!(stdout.lines().any(|printed| printed == line), "{line:?} is not in\n{stdout}");
    }
    for flag in ["--jwt-secret-file", "--tls-cert"] {
        let twice = visnyk(&directory).args(["config", flag, "a", flag, "b"]).output();
        assert_eq!(code(&twice.expect("it runs")), 2, "{flag} is one");
    }
}

#[test]
fn config_check_is_silent_or_says_what_is_wrong() {
    let directory = directory();
    let good = visnyk(&directory).args(["config", "--check"]).output().expect("it runs");
    assert_eq!((code(&good), good.stdout.len(), good.stderr.len()), (0, 0, 0), "{good:?}");

    write(&directory, "visnyk.toml", "listn = \"127.0.0.1:0\"\nshards = -1\n");
    let bad = visnyk(&directory).args(["config", "--check"]).output().expect("it runs");
    assert_eq!((code(&bad), bad.stdout.len()), (2, 0), "{bad:?}");
    assert_eq!(
        stderr(&bad),
        "visnyk: unknown setting listn = \"127.0.0.1:0\" (visnyk.toml:1): did you mean listen?\n\
         visnyk: shards = -1 (visnyk.toml:2) is refused: \
         allowed is a whole number from 0 to 1024\n"
    );
}

#[test]
fn the_file_and_the_profile_can_come_from_the_environment() {
    let directory = directory();
    write(&directory, "etc/hub.toml", "shards = 7\n");
    write(&directory, "etc/visnyk.test.toml", "drain_window_s = 7\n");
    let output = visnyk(&directory)
        .arg("config")
        .env("VISNYK_CONFIG", "etc/hub.toml")
        .env("VISNYK_PROFILE", "test")
        .output()
        .expect("it runs");
    let stdout = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(stdout.contains("shards = 7 # etc/hub.toml:1\n"), "{stdout}");
    assert!(stdout.contains("drain_window_s = 7 # etc/visnyk.test.toml:1, reloads\n"), "{stdout}");
}

#[test]
fn bad_usage_and_bad_settings_exit_with_2_before_anything_runs() {
    let directory = directory();
    for (arguments, message) in [
        (&["--nonsense"][..], "unexpected argument '--nonsense'"),
        (&["dance"], "unrecognized subcommand 'dance'"),
        (&["serve", "--listen"], "a value is required"),
        (&["--listen", "0.0.0.0:0"], "reaches beyond this machine"),
        (&["serve", "--listen", "nowhere"], "allowed is an IP address and port"),
        (&["serve", "--log-format", "xml"], "allowed is text or json"),
        (&["serve", "--config", "none.toml"], "asks for none.toml, which does not exist"),
        (&["serve", "--profile", "none"], "asks for visnyk.none.toml, which does not exist"),
        (&["token", "--subscribe", "a/**"], "there is no secret to sign with"),
    ] {
        let output = visnyk(&directory).args(arguments).output().expect("it runs");
        assert_eq!(code(&output), 2, "{arguments:?}: {output:?}");
        assert!(stderr(&output).contains(message), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn flags_of_later_versions_are_refused_not_ignored() {
    let directory = directory();
    for flag in ["--mercure"] {
        for command in [&[][..], &["serve"], &["config", "--check"]] {
            let output = visnyk(&directory).args(command).arg(flag).output().expect("it runs");
            assert_eq!(code(&output), 2, "{flag}: {output:?}");
            let name = flag.split('=').next().unwrap_or(flag);
            let refusal = format!("(flag {name}) is not available in this version: ");
            assert!(stderr(&output).contains(&refusal), "{flag}: {output:?}");
            assert!(!stderr(&output).contains("hunter2"), "{flag}: {output:?}");
        }
    }
}

#[test]
fn help_and_version_exit_with_0() {
    let directory = directory();
    for arguments in [&["--help"][..], &["-h"], &["--version"], &["help", "serve"]] {
        let output = visnyk(&directory).args(arguments).output().expect("it runs");
        assert_eq!(code(&output), 0, "{arguments:?}: {output:?}");
        assert!(!output.stdout.is_empty(), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_failure_while_running_exits_with_1() {
    let directory = directory();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output =
        visnyk(&directory).args(["serve", "--listen", &address]).output().expect("it runs");
    assert_eq!(code(&output), 1, "{output:?}");
    assert!(stderr(&output).contains(&address), "{output:?}");
}

#[test]
fn variables_of_a_container_platform_are_passed_over_with_one_line() {
    let directory = directory();
    let links = [
        ("VISNYK_PORT", "tcp://10.96.0.7:3000"),
        ("VISNYK_SERVICE_HOST", "10.96.0.7"),
        ("VISNYK_SERVICE_PORT", "3000"),
        ("VISNYK_SERVICE_PORT_HTTP", "3000"),
        ("VISNYK_PORT_3000_TCP", "tcp://10.96.0.7:3000"),
        ("VISNYK_PORT_3000_TCP_ADDR", "10.96.0.7"),
        ("VISNYK_PORT_3000_TCP_PORT", "3000"),
        ("VISNYK_PORT_3000_TCP_PROTO", "tcp"),
        ("VISNYK_METRICS_PORT", "tcp://10.96.0.8:9090"),
    ];
    // It gets as far as its address, which another has.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let output = visnyk(&directory).args(["serve", "--listen", &address]).envs(links).output();
    let output = output.expect("it runs");
    assert_eq!(code(&output), 1, "{output:?}");
    let stderr = stderr(&output);
    let named: Vec<&str> = stderr.lines().filter(|line| line.contains("VISNYK_")).collect();
    let [line] = named[..] else { panic!("{stderr}") };
    assert!(links.iter().all(|(name, _)| line.contains(name)), "{line}");

    for (name, value) in [("VISNYK_PORT", "3000"), ("VISNYK_SERVICE_NAME", "visnyk")] {
        let mut command = visnyk(&directory);
        let output = command.args(["config", "--check"]).envs(links).env(name, value).output();
        let output = output.expect("it runs");
        assert_eq!(code(&output), 2, "{name}={value}: {output:?}");
    }
}

#[tokio::test]
async fn without_a_command_it_serves_and_sigterm_ends_it_with_0() {
    let directory = directory();
    write(&directory, "visnyk.toml", "drain_window_s = 0\nlog.format = \"json\"\n");
    let mut command = visnyk(&directory);
    command.args(["--listen", "127.0.0.1:0"]);
    let mut hub = ServerProcess::start(command).await.expect("a line says the address");
    assert_ne!(hub.address().port(), 0);

    hub.terminate().expect("it runs");
    let status = hub.wait(Duration::from_secs(20)).await.expect("it ends");
    let printed = hub.stderr();
    assert_eq!(status.code(), Some(0), "{printed}");
    let listening = format!("listening on http://{}", hub.address());
    let mut messages = Vec::new();
    for line in printed.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("every line is JSON");
        assert!(line["timestamp"].is_string() && line["level"] == "INFO", "{line}");
        messages.push(line["message"].as_str().unwrap_or_default().to_owned());
    }
    assert!(messages.contains(&listening) && messages.contains(&"stopped".into()), "{printed}");
}

/// The binary, with nothing of our own environment.
fn visnyk(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visnyk"));
    command.current_dir(directory.path()).env_clear().stdin(Stdio::null());
    command
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn write(directory: &TempDir, name: &str, text: &str) {
    let path = directory.path().join(name);
    fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).expect("made");
    fs::write(path, text).expect("written");
}

fn code(output: &Output) -> i32 {
    output.status.code().expect("it was not killed")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("UTF-8")
}
