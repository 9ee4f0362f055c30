//! A real hub as a child process.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::wire::PATIENCE;

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

    /// Listens here instead, for instance where a hub was before.
    pub fn listen(mut self, address: impl ToString) -> Self {
        self.listen = address.to_string();
        self
    }

    /// Adds an argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
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
    pub async fn start(&self) -> io::Result<Hub> {
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
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        let mut child = command.spawn()?;
        let pipe = child.stderr.take().expect("stderr is piped");
        let (sender, said) = watch::channel(Said::default());
        tokio::spawn(collect(pipe, sender));
        let mut hub = Hub { child, said, address: SocketAddr::from(([0, 0, 0, 0], 0)) };
        let line = hub.wait_for_line(LISTENING, PATIENCE).await?;
        hub.address = parse_address(&line)
            .ok_or_else(|| io::Error::other(format!("no address in {line:?}")))?;
        Ok(hub)
    }
}

/// A running hub; killed when it is dropped.
#[derive(Debug)]
pub struct Hub {
    child: Child,
    said: watch::Receiver<Said>,
    address: SocketAddr,
}

/// What came on stderr.
#[derive(Debug, Default)]
struct Said {
    /// The last [`LINES_MAX`] lines.
    lines: VecDeque<String>,
    ended: bool,
}

impl Hub {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its base URL, if it speaks plain HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Its process id; `None` once it has ended.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it wrote to stderr, up to its last 10,000 lines.
    pub fn stderr(&self) -> String {
        self.said.borrow().lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Waits for a line on stderr that contains `part`, those that came before included.
    pub async fn wait_for_line(&mut self, part: &str, patience: Duration) -> io::Result<String> {
        let find = |said: &Said| said.lines.iter().find(|line| line.contains(part)).cloned();
        let result =
            timeout(patience, self.said.wait_for(|said| said.ended || find(said).is_some()))
                .await
                .map(|said| said.ok().and_then(|said| find(&said)));
        match result {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(io::Error::other(format!("it ended; stderr:\n{}", self.stderr()))),
            Err(_) => {
                let text = format!("no line with {part:?}; stderr:\n{}", self.stderr());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    /// Sends SIGTERM.
    pub async fn terminate(&self) -> io::Result<()> {
        self.signal("TERM").await
    }

    /// Sends a signal, by its name without `SIG`.
    pub async fn signal(&self, name: &str) -> io::Result<()> {
        let pid = self.pid().ok_or_else(|| io::Error::other("it has ended"))?;
        let (signal, pid) = (format!("-{name}"), pid.to_string());
        let status = Command::new("kill").args([signal, pid]).status().await?;
        if status.success() { Ok(()) } else { Err(io::Error::other(status.to_string())) }
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Waits for its end.
    pub async fn wait(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        timeout(patience, self.child.wait()).await?
    }

    /// Resident memory in bytes, as Linux counts it.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let pid = self.pid().ok_or_else(|| io::Error::other("it has ended"))?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        kib.and_then(|kib| kib.trim().strip_suffix(" kB")?.parse::<u64>().ok())
            .map(|kib| kib * 1024)
            .ok_or_else(|| io::Error::other("no VmRSS"))
    }
}

async fn collect(pipe: ChildStderr, said: watch::Sender<Said>) {
    let mut lines = BufReader::new(pipe).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        said.send_modify(|said| {
            said.lines.push_back(line);
            if said.lines.len() > LINES_MAX {
                said.lines.pop_front();
            }
        });
    }
    said.send_modify(|said| said.ended = true);
}

fn parse_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(LISTENING)?;
    let (_, rest) = rest.split_once("://")?;
    let end = rest.find(|c: char| c.is_whitespace() || c == '"' || c == '/' || c == ',');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

const LISTENING: &str = "listening on http";
const LINES_MAX: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A shell instead of the hub: `sh serve --listen …` runs the script `serve`.
    async fn start(script: &str, change: impl FnOnce(HubCommand) -> HubCommand) -> io::Result<Hub> {
        let name = format!("visnyk-hub-{}-{}", std::process::id(), script.len());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory)?;
        std::fs::write(directory.join("serve"), script)?;
        let hub = change(HubCommand::new("sh").directory(&directory)).start().await;
        std::fs::remove_dir_all(directory)?;
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
        hub.terminate().await.expect("it runs");
        assert!(!hub.wait(PATIENCE).await.expect("it ends").success());
    }

    #[tokio::test]
    async fn early_end_gives_what_it_said() {
        let script = "echo 'bad settings' >&2; exit 2";
        let error = start(script, |command| command).await.expect_err("it ends");
        assert!(error.to_string().contains("bad settings"), "{error}");
    }

    #[test]
    fn address_may_stand_in_a_json_line() {
        let line = r#"{"level":"INFO","message":"listening on http://[::1]:80"}"#;
        assert_eq!(parse_address(line), "[::1]:80".parse().ok());
    }
}
