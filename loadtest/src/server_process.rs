//! A server under test as a child process, which never outlives this one.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::failure::Failure;
use crate::subject::Subject;

/// A running server; killed when it is dropped, and also if this process is killed before that.
#[derive(Debug)]
pub struct ServerProcess {
    child: Child,
    guard: Child,
    address: SocketAddr,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl ServerProcess {
    /// Starts a hub with its default settings, and these arguments besides.
    pub fn hub(program: &Path, arguments: &[String]) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("VISNYK_") {
                command.env_remove(name);
            }
        }
        Self::start(command)
    }

    /// Starts the plain send loop: `program` is `visnyk-loadtest`.
    pub fn floor(program: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(["floor", "0"]);
        Self::start(command)
    }

    /// Starts any server that says `listening on http://ADDRESS` on stderr.
    pub fn start(mut command: Command) -> Result<Self, Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(Failure::io(format!("starting {program}")))?;
        let pipe = child.stderr.take().expect("stderr is piped");
        let guard = match guard(child.id()) {
            Ok(guard) => guard,
            Err(error) => {
                let _ = child.kill();
                return Err(Failure::io("starting sh")(error));
            }
        };
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { child, guard, address: unspecified, said: Arc::clone(&said) };
        let (sender, address) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if let Some(address) = parse_address(&line) {
                    let _ = sender.send(address);
                }
                let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
                said.push_back(line);
                if said.len() > LINES_MAX {
                    said.pop_front();
                }
            }
        });
        match address.recv_timeout(PATIENCE) {
            Ok(address) => server.address = address,
            Err(_) => {
                let answer = format!("no address; it said: {}", server.stderr());
                return Err(Failure::Refused {
                    request: format!("the start of {program}"),
                    answer,
                });
            }
        }
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It as a hub.
    pub fn as_hub(&self) -> Subject {
        Subject::visnyk(self.address, self.pid())
    }

    /// It as the floor.
    pub fn as_floor(&self) -> Subject {
        Subject::floor(self.address, self.pid())
    }

    /// The last lines that it wrote to stderr.
    pub fn stderr(&self) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // First the guard, so that it never kills a process that has got this id since.
        for child in [&mut self.guard, &mut self.child] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Kills `pid` when this process ends, however that happens: its input ends then.
fn guard(pid: u32) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", &format!("read line; kill -9 {pid} 2>/dev/null")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn parse_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http://")?;
    let end = rest.find(|c: char| c.is_whitespace() || c == '"' || c == '/' || c == ',');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

const PATIENCE: Duration = Duration::from_secs(20);
const LINES_MAX: usize = 200;
