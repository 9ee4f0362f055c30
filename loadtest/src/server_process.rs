//! A server under test as a child process, which never outlives this one.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};

use crate::failure::Failure;
use crate::subject::Subject;

/// A setting of the hub: the name of its variable, and the value.
pub type Setting = (&'static str, String);

/// A running server; killed when it is dropped, and also if this process is killed before that.
#[derive(Debug)]
pub struct ServerProcess {
    program: String,
    child: Child,
    guard: Child,
    address: SocketAddr,
    said: Arc<Mutex<VecDeque<String>>>,
}

impl ServerProcess {
    /// Starts a hub with its default settings but for these, by the names of their variables, and
    /// with these arguments besides.
    pub fn hub(
        program: &Path,
        arguments: &[String],
        settings: &[Setting],
    ) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0"]).args(arguments);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("VISNYK_") {
                command.env_remove(name);
            }
        }
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        Self::start(command)
    }

    /// Starts the plain send loop: `program` is `visnyk-loadtest`.
    pub fn floor(program: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(["floor", "0"]);
        Self::start(command)
    }

    /// Starts any server that says `listening on http://ADDRESS` on stderr.
    pub fn start(command: Command) -> Result<Self, Failure> {
        let (mut server, address) = Self::spawn(command)?;
        match address.recv_timeout(PATIENCE) {
            Ok(address) => server.address = address,
            Err(_) => return Err(server.did_not_start()),
        }
        Ok(server)
    }

    /// Starts a server that was given its address and does not say when it listens there: it does
    /// once it accepts a connection.
    pub fn start_at(command: Command, address: SocketAddr) -> Result<Self, Failure> {
        let (mut server, _) = Self::spawn(command)?;
        server.address = address;
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            let has_ended = !matches!(server.child.try_wait(), Ok(None));
            if has_ended || started.elapsed() > PATIENCE {
                return Err(server.did_not_start());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(server)
    }

    /// The process, and the addresses that it will say it listens on.
    fn spawn(mut command: Command) -> Result<(Self, Receiver<SocketAddr>), Failure> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A group of its own: what it starts is counted, and ends, with it.
        command.process_group(0);
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
        let server = Self { program, child, guard, address: unspecified, said: Arc::clone(&said) };
        let (sender, address) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if let Some(address) = parse_address(&line) {
                    let _ = sender.send(address);
                }
                let mut said = said.lock();
                said.push_back(line);
                if said.len() > LINES_MAX {
                    said.pop_front();
                }
            }
        });
        Ok((server, address))
    }

    fn did_not_start(self) -> Failure {
        Failure::Refused {
            request: format!("the start of {}", self.program),
            answer: format!("no address; it said: {}", self.stderr()),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It and the processes that it started, the ones that these started included.
    pub fn pids(&self) -> Vec<u32> {
        let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        all.filter(|pid| runs(*pid, self.pid())).collect()
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
        let said = self.said.lock();
        said.iter().map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        // First the guard, so that it never kills a process that has got this id since.
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        // Until it is waited for, the kernel gives its id, and so its group's, to no other process.
        let (group, pids) = (self.pid(), self.pids());
        if let Some(group) = Pid::from_raw(group.cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
        // Closing thousands of sockets takes them time, which the next server would pay for.
        let killed = Instant::now();
        while pids.iter().any(|pid| runs(*pid, group)) && killed.elapsed() < PATIENCE {
            std::thread::sleep(PAUSE);
        }
    }
}

/// Kills the group of `pid` when this process ends, however that happens: its input ends then.
fn guard(pid: u32) -> std::io::Result<Child> {
    Command::new("sh")
        .args(["-c", &format!("read line; kill -9 -{pid} 2>/dev/null")])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn parse_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("listening on http")?;
    let (_, rest) = rest.split_once("://")?;
    let end = rest.find(|c: char| c.is_whitespace() || c == '"' || c == '/' || c == ',');
    rest[..end.unwrap_or(rest.len())].parse().ok()
}

/// Whether a process of a group is there and has not ended.
fn runs(pid: u32, group: u32) -> bool {
    state_and_group(pid).is_some_and(|(state, its)| its == group && state != 'Z')
}

/// The state and the process group of a process. Its name, which stands before them, may hold
/// anything.
fn state_and_group(pid: u32) -> Option<(char, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, after_name) = stat.rsplit_once(") ")?;
    let mut words = after_name.split(' ');
    Some((words.next()?.chars().next()?, words.nth(1)?.parse().ok()?))
}

const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);
const LINES_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_server_started_is_counted_and_ends_with_it() {
        let script = "sleep 100 & sleep 100 & echo 'listening on http://127.0.0.1:9' >&2; wait";
        let server = ServerProcess::start(sh(script)).expect("it says where it listens");
        assert_eq!(server.address(), SocketAddr::from(([127, 0, 0, 1], 9)));
        let pids = server.pids();
        assert_eq!(pids.len(), 3, "{pids:?}");
        let group = server.pid();
        drop(server);
        assert!(!pids.iter().any(|pid| runs(*pid, group)), "still running: {pids:?}");
    }

    #[test]
    fn a_server_that_does_not_speak_is_up_when_it_accepts() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        let server = ServerProcess::start_at(sh("sleep 100"), address).expect("it accepts");
        assert_eq!(server.address(), address);
    }

    #[test]
    fn a_server_that_ends_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
        let address = listener.local_addr().expect("it is bound");
        drop(listener);
        let failure = ServerProcess::start_at(sh("echo no >&2"), address).expect_err("it ended");
        assert!(failure.to_string().contains("the start of sh"), "{failure}");
    }
}
