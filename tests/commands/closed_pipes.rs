//! Readers of a command's output that are gone end no command.

use std::{net::TcpListener, process::Stdio, time::Duration};

use tokio::process::Command;
use tokio::time::timeout;
use visnyk_loadtest::HubCommand;

fn visnyk(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visnyk"));
    command.args(args).env_clear().stdin(Stdio::null()).kill_on_drop(true);
    command
}

#[tokio::test]
async fn a_command_goes_on_when_its_stderr_is_closed() {
    // A server that ends each connection: a command that waits says so each time.
    for args in [&["subscribe", "a"][..], &["subscribe", "a", "--transport", "poll"]] {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let mut command = visnyk(args);
        command.args(["--url", &url]).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        drop(child.stderr.take());
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        for attempt in 0..3 {
            let connected = timeout(PATIENCE, listener.accept()).await;
            drop(connected.unwrap_or_else(|_| panic!("{args:?}: {attempt} attempts")));
        }
        assert!(child.try_wait().expect("a child").is_none(), "{args:?}");
    }
}

#[tokio::test]
async fn a_command_succeeds_when_its_stdout_is_closed() {
    let hub = HubCommand::new(env!("CARGO_BIN_EXE_visnyk")).start().await.expect("a hub");
    let url = format!("http://{}", hub.address());
    for args in [
        &["publish", "a", "x", "--url", &url][..],
        &["subscribe", "a", "--from", "earliest", "--url", &url],
        &["config"],
        &["token", "--help"],
    ] {
        let mut child = visnyk(args).stdout(Stdio::piped()).stderr(Stdio::null()).spawn();
        let child = child.as_mut().expect("it starts");
        drop(child.stdout.take());
        let status = timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a child");
        assert!(status.success(), "{args:?}: {status}");
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
