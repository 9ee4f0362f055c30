//! Commands on a terminal: util-linux's `script` gives them one.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    time::timeout,
};

/// A command on a terminal of some size, and what is seen there.
pub(crate) struct OnATerminal {
    child: Child,
    seen: String,
}

impl OnATerminal {
    /// Runs a line of the shell, in which `$VISNYK` is the binary.
    pub(crate) fn run(line: &str, (columns, lines): (u16, u16), env: &[(&str, &str)]) -> Self {
        let mut command = Command::new("script");
        let line = format!("stty cols {columns} rows {lines}; {line}");
        command.args(["-q", "-e", "-c", &line, "/dev/null"]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("VISNYK", env!("CARGO_BIN_EXE_visnyk"))
            .env("TERM", "xterm")
            .envs(env.iter().copied());
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        Self { child: command.spawn().expect("script is there"), seen: String::new() }
    }

    /// Reads on until a text has come.
    pub(crate) async fn sees(&mut self, text: &str) -> &str {
        let reading = async {
            while !self.seen.contains(text) {
                let mut piece = [0; 4096];
                let stdout = self.child.stdout.as_mut().expect("it is piped");
                match stdout.read(&mut piece).await.expect("readable") {
                    0 => return false,
                    n => self.seen += &String::from_utf8_lossy(&piece[..n]),
                }
            }
            true
        };
        let has_come = timeout(PATIENCE, reading).await;
        assert_eq!(has_come, Ok(true), "{text:?} is not in {:?}", self.seen);
        &self.seen
    }

    /// Presses keys.
    pub(crate) async fn types(&mut self, keys: &str) {
        let stdin = self.child.stdin.as_mut().expect("it is piped");
        stdin.write_all(keys.as_bytes()).await.expect("it reads on");
    }

    /// What was seen to the end, with the lines as a program wrote them, and the exit code.
    pub(crate) async fn ends(mut self) -> (String, i32) {
        let mut rest = Vec::new();
        let stdout = self.child.stdout.as_mut().expect("it is piped");
        timeout(PATIENCE, stdout.read_to_end(&mut rest)).await.expect("it ends").expect("readable");
        self.seen += &String::from_utf8_lossy(&rest);
        let status = timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("a child");
        (self.seen.replace("\r\n", "\n"), status.code().expect("it was not killed"))
    }
}

const PATIENCE: Duration = Duration::from_secs(30);
