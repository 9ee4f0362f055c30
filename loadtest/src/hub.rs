//! How to start a hub.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::Failure;
use crate::server_process::ServerProcess;

/// A running hub.
pub type Hub = ServerProcess;

/// How to start a hub.
#[derive(Debug, Clone)]
pub struct HubCommand {
    program: PathBuf,
    listen: String,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    directory: Option<PathBuf>,
}

impl HubCommand {
    /// `program serve --listen 127.0.0.1:0`, without any `VISNYK_*` variable of this process.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            listen: "127.0.0.1:0".into(),
            args: Vec::new(),
            env: Vec::new(),
            directory: None,
        }
    }

    /// Starts another program.
    pub fn program(mut self, program: impl Into<PathBuf>) -> Self {
        self.program = program.into();
        self
    }

    /// Listens here instead, for instance where a hub was before.
    pub fn listen(mut self, address: impl ToString) -> Self {
        self.listen = address.to_string();
        self
    }

    /// Adds an argument.
    pub fn arg(self, arg: impl AsRef<OsStr>) -> Self {
        self.args([arg])
    }

    /// Adds arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets settings by their names in a file, such as `limits.connections.max`, or by the ends of
    /// their variables.
    pub fn settings(self, settings: &[(&str, &str)]) -> Self {
        settings.iter().fold(self, |command, (name, value)| {
            let variable = name.replace('.', "__").to_ascii_uppercase();
            command.env(format!("VISNYK_{variable}"), value)
        })
    }

    /// Sets an environment variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Runs in this directory, where a `visnyk.toml` may be.
    pub fn directory(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(directory.as_ref().to_owned());
        self
    }

    /// Starts it and waits until it accepts connections. If it ends before, the error has what
    /// it said.
    pub async fn start(&self) -> Result<Hub, Failure> {
        Hub::start(self.command()).await
    }

    /// As [`start`](Self::start), blocking the thread.
    pub fn start_blocking(&self) -> Result<Hub, Failure> {
        Hub::start_blocking(self.command())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("serve").arg("--listen").arg(&self.listen).args(&self.args);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("VISNYK_") {
                command.env_remove(name);
            }
        }
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(directory) = &self.directory {
            command.current_dir(directory);
        }
        command
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A shell instead of the hub: `sh serve --listen …` runs the script `serve`.
    async fn start(
        script: &str,
        change: impl FnOnce(HubCommand) -> HubCommand,
    ) -> Result<Hub, Failure> {
        let name = format!("visnyk-hub-{}-{}", std::process::id(), script.len());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        std::fs::write(directory.join("serve"), script).expect("it is written");
        let hub = change(HubCommand::new("sh").directory(&directory)).start().await;
        std::fs::remove_dir_all(directory).expect("it is there");
        hub
    }

    #[tokio::test]
    async fn address_is_read_and_sigterm_ends_it() {
        let script =
            "echo $* $GREETING >&2; echo 'listening on http://127.0.0.1:4321' >&2; exec sleep 60";
        let mut hub = start(script, |command| {
            command.listen("127.0.0.1:1").arg("--x").env("GREETING", "hello")
        })
        .await
        .expect("it starts");
        assert_eq!(hub.url(), "http://127.0.0.1:4321");
        assert_eq!(hub.stderr().lines().next(), Some("--listen 127.0.0.1:1 --x hello"));
        assert!(hub.resident_bytes().expect("it runs") > 0);
        hub.terminate().expect("it runs");
        assert!(!hub.wait(Duration::from_secs(20)).await.expect("it ends").success());
    }

    #[tokio::test]
    async fn early_end_gives_what_it_said() {
        let script = "echo 'bad settings' >&2; exit 2";
        let error = start(script, |command| command).await.expect_err("it ends");
        assert!(error.to_string().contains("bad settings"), "{error}");
    }
}
