//! With `--log-format json` every line on stderr is a JSON object, whichever command writes it.

use std::{
    net::TcpListener,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use visnyk_loadtest::HubCommand;

fn visnyk(args: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visnyk"));
    command.args(args).env_clear().envs(variables.iter().copied()).stdin(Stdio::null());
    command.current_dir(env!("CARGO_TARGET_TMPDIR")).output().expect("it runs")
}

/// The lines of stderr.
#[track_caller]
fn lines(output: &Output) -> Vec<Value> {
    let said = String::from_utf8_lossy(&output.stderr);
    let parse = |line: &str| {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("{said}"));
        for member in ["timestamp", "level", "message", "target"] {
            assert!(object[member].is_string(), "{member} in {line}");
        }
        object
    };
    said.lines().map(parse).collect()
}

#[test]
fn what_ends_a_command_is_one_object_with_its_causes() {
    let unused = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", unused.local_addr().expect("its address"));
    drop(unused);
    let publish = ["publish", "a", "x", "--retry-for", "0", "--url", &url];
    for (args, code) in [
        ([&publish[..], &["--log-format", "json"]].concat(), 1),
        (vec!["log", "verify", "--data-dir", "/nowhere", "--log-format=json"], 1),
        (vec!["token", "--log-format", "json"], 2),
        (vec!["config", "--log-format", "json", "--listen", "x"], 2),
        (vec!["serve", "--log-format", "json", "--listen", "x"], 2),
        (vec!["subscribe", "a", "--log-format", "json", "--url", "ftp://x"], 2),
    ] {
        let output = visnyk(&args, &[]);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {output:?}");
        let lines = lines(&output);
        assert_eq!(lines.len(), 1, "{args:?}: {lines:?}");
        assert_eq!(lines[0]["level"], "ERROR");
        let message = lines[0]["message"].as_str().expect("text");
        assert!(!message.starts_with("visnyk: "), "{message}");
        // Without it they are lines for people.
        let args: Vec<&str> = args
            .into_iter()
            .filter(|arg| !arg.contains("json") && *arg != "--log-format")
            .collect();
        let output = visnyk(&args, &[]);
        assert!(output.stderr.starts_with(b"visnyk: "), "{args:?}: {output:?}");
    }
    let output = visnyk(&publish, &[("VISNYK_LOG__FORMAT", "json")]);
    assert!(lines(&output)[0]["causes"].is_array(), "{output:?}");
}

#[test]
fn a_command_line_that_is_refused_is_json_too() {
    for args in [&["publish", "--log-format", "json"][..], &["--log-format=json", "--nothing"]] {
        let output = visnyk(args, &[]);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!lines(&output).is_empty(), "{output:?}");
    }
    let output = visnyk(&["publish", "a", "x", "--log-format", "xml"], &[]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let help = visnyk(&["publish", "--help", "--log-format", "json"], &[]);
    assert!(help.status.success() && !help.stdout.is_empty() && help.stderr.is_empty());
}

#[tokio::test]
async fn progress_is_json_too() {
    let hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).start().await.expect("a hub");
    let url = format!("http://{}", hub.address());
    let json = [("VISNYK_LOG__FORMAT", "json"), ("VISNYK_URL", url.as_str())];
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "1\n2\n3\n").expect("it is written");
    let output = visnyk(&["publish", "a", "--file", file.path().to_str().expect("text")], &json);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(lines(&output).last().expect("a line")["message"], "3 events acknowledged");
    let output = visnyk(&["subscribe", "a", "--from", "earliest", "--count", "3"], &json);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(output.stdout, b"1\n2\n3\n");
    let said = lines(&output);
    let message = said[0]["message"].as_str().expect("text");
    assert!(message.starts_with("subscribed at "), "{said:?}");
}
