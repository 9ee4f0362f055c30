//! A server under test as a child process, which never outlives this one.

use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::server_figures::ServerSample;
use crate::subject::Subject;

/// A setting of the hub: the name of its variable, and the value.
pub type Setting = (&'static str, String);

/// A running server; killed when it is dropped, and also if this process is killed before that.
#[derive(Debug)]
pub struct ServerProcess {
    program: String,
    child: Child,
    guard: Child,
    is_reaped: bool,
    address: SocketAddr,
    said: watch::Receiver<Said>,
}

/// What came on stderr.
#[derive(Debug, Default)]
struct Said {
    /// The last [`LINES_MAX`] lines.
    lines: VecDeque<String>,
    has_ended: bool,
}

impl ServerProcess {
    /// Starts the plain send loop: `program` is `visnyk-loadtest`.
    pub fn floor(program: &Path) -> Result<Self, Failure> {
        let mut command = Command::new(program);
        command.args(["floor", "0"]);
        Self::start_blocking(command)
    }

    /// Starts any server that says `listening on http://ADDRESS` on stderr.
    pub async fn start(command: Command) -> Result<Self, Failure> {
        let mut server = Self::spawn(command)?;
        let line = server.wait_for_line(LISTENING, PATIENCE).await;
        server.address = line
            .ok()
            .and_then(|line| parse_address(&line))
            .ok_or_else(|| server.did_not_start())?;
        Ok(server)
    }

    /// As [`start`](Self::start), blocking the thread.
    pub fn start_blocking(command: Command) -> Result<Self, Failure> {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(Failure::io("starting a runtime"))?
            .block_on(Self::start(command))
    }

    /// Starts a server that was given its address and does not say when it listens there: it does
    /// once it accepts a connection.
    pub fn start_at(command: Command, address: SocketAddr) -> Result<Self, Failure> {
        let mut server = Self::spawn(command)?;
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

    fn spawn(mut command: Command) -> Result<Self, Failure> {
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
        let (sender, said) = watch::channel(Said::default());
        std::thread::spawn(move || collect(pipe, &sender));
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        Ok(Self { program, child, guard, is_reaped: false, address, said })
    }

    fn did_not_start(&self) -> Failure {
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

    /// Its base URL, if it speaks plain HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The last lines that it wrote to stderr.
    pub fn stderr(&self) -> String {
        self.said.borrow().lines.iter().map(|line| format!("{line}\n")).collect()
    }

    /// Waits for a line on stderr that contains `part`, those that came before included.
    pub async fn wait_for_line(&mut self, part: &str, patience: Duration) -> io::Result<String> {
        let find = |said: &Said| said.lines.iter().find(|line| line.contains(part)).cloned();
        let found = self.said.wait_for(|said| said.has_ended || find(said).is_some());
        let found =
            timeout(patience, found).await.map(|said| said.ok().and_then(|said| find(&said)));
        match found {
            Ok(Some(line)) => Ok(line),
            Ok(None) => Err(io::Error::other(format!("it ended; stderr:\n{}", self.stderr()))),
            Err(_) => {
                let text = format!("no line with {part:?}; stderr:\n{}", self.stderr());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match Pid::from_raw(self.pid().cast_signed()) {
            Some(pid) if !self.is_reaped => Ok(kill_process(pid, signal)?),
            _ => Err(io::Error::other("it has ended")),
        }
    }

    /// Sends SIGKILL and waits for the end.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.wait(PATIENCE).await.map(drop)
    }

    /// Waits until the process has closed its stderr, and then for its exit status.
    pub async fn wait(&mut self, patience: Duration) -> io::Result<ExitStatus> {
        let _ = timeout(patience, self.said.wait_for(|said| said.has_ended)).await?;
        self.reap()
    }

    /// Resident memory of the process, without its children.
    pub fn resident_bytes(&self) -> Result<u64, Failure> {
        Ok(ServerSample::take(&[self.pid()])?.resident_bytes)
    }

    /// Waits for the process. Until then the kernel gives its id, and so its group's, to no other
    /// process; the guard ends first, so that it never kills a process that has got this id since.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        self.is_reaped = true;
        self.child.wait()
    }
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        let (group, pids) = (self.pid(), self.pids());
        if let Some(group) = Pid::from_raw(group.cast_signed()) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.reap();
        // Closing thousands of sockets takes them time, which the next server would pay for.
        let killed = Instant::now();
        while pids.iter().any(|pid| runs(*pid, group)) && killed.elapsed() < PATIENCE {
            std::thread::sleep(PAUSE);
        }
    }
}

fn collect(pipe: ChildStderr, said: &watch::Sender<Said>) {
    for line in BufReader::new(pipe).lines().map_while(Result::ok) {
        said.send_modify(|said| {
            said.lines.push_back(line);
            if said.lines.len() > LINES_MAX {
                said.lines.pop_front();
            }
        });
    }
    said.send_modify(|said| said.has_ended = true);
}

/// Kills the group of `pid` when this process ends, however that happens: its input ends then.
fn guard(pid: u32) -> io::Result<Child> {
    Command::new("sh")
        .args(["-c", &format!("read line; kill -9 -{pid} 2>/dev/null")])
        // It has to outlive the process group of this process.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
}

fn parse_address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(LISTENING)?;
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

const LISTENING: &str = "listening on http";
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);
const LINES_MAX: usize = 10_000;

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
        let server = ServerProcess::start_blocking(sh(script)).expect("it says where it listens");
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

    #[test]
    fn address_may_stand_in_a_json_line() {
        let line = r#"{"level":"INFO","message":"listening on http://[::1]:80"}"#;
        assert_eq!(parse_address(line), "[::1]:80".parse().ok());
    }
}
