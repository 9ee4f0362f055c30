//! A redis-server of a test's own, on a free port, with a directory that outlives its process.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// A server, which is killed and whose files are removed when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Child,
    port: u16,
    directory: PathBuf,
    arguments: Vec<String>,
}

impl RedisServer {
    /// Starts one that writes each command to its file before it answers, with further arguments.
    ///
    /// # Panics
    /// There is no redis-server, or it does not start.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, None)
    }

    /// Starts a sentinel, which alone decides that this server is down, after half a second.
    ///
    /// # Panics
    /// It does not start.
    pub fn sentinel(&self, master: &str) -> Self {
        let port = self.port;
        let config = format!(
            "sentinel monitor {master} 127.0.0.1 {port} 1\n\
             sentinel down-after-milliseconds {master} 500\n\
             sentinel failover-timeout {master} 5000\n"
        );
        Self::start_with(&[], Some(&config))
    }

    fn start_with(arguments: &[&str], sentinel: Option<&str>) -> Self {
        let number = std::process::id();
        for attempt in 0_u32..20 {
            let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
            let port = free.local_addr().expect("an address").port();
            drop(free);
            let directory =
                std::env::temp_dir().join(format!("visnyk-redis-{number}-{port}-{attempt}"));
            fs::create_dir_all(&directory).expect("a directory");
            if let Some(config) = sentinel {
                fs::write(directory.join(SENTINEL_CONFIG), config).expect("its configuration");
            }
            let arguments: Vec<String> = arguments.iter().map(|&it| it.to_owned()).collect();
            let mut process = spawn(port, &directory, &arguments);
            if is_up(port, &mut process) {
                return Self { process, port, directory, arguments };
            }
            // Another process has taken the port meanwhile.
            let _ = (process.kill(), process.wait());
            let _ = fs::remove_dir_all(&directory);
        }
        panic!("no redis-server starts (install the package redis-server)");
    }

    /// Its address, as the setting `backend.url` takes it.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Ends it as a crash does.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }

    /// Asks it to end, and waits until it has.
    pub fn terminate(&mut self) {
        self.signal(Signal::TERM);
        let _ = self.process.wait();
    }

    /// Starts it again, with what its files have.
    ///
    /// # Panics
    /// It does not start.
    pub fn start_again(&mut self) {
        self.kill();
        self.process = spawn(self.port, &self.directory, &self.arguments);
        assert!(is_up(self.port, &mut self.process), "redis-server starts again");
    }

    /// Keeps a copy of its files instead of an earlier one, to be [put back](Self::put_back).
    ///
    /// # Panics
    /// They cannot be copied.
    pub fn back_up(&self) {
        let backup = self.directory.join("backup");
        let _ = fs::remove_dir_all(&backup);
        copy(&self.directory.join("appendonlydir"), &backup);
    }

    /// Puts an older copy back and starts it again with that.
    ///
    /// # Panics
    /// There is no copy, or it does not start.
    pub fn put_back(&mut self) {
        self.kill();
        let current = self.directory.join("appendonlydir");
        fs::remove_dir_all(&current).expect("its files");
        copy(&self.directory.join("backup"), &current);
        self.start_again();
    }

    /// Stops its process, which keeps its connections.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets its process go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id() as i32).expect("it has run");
        kill_process(pid, signal).expect("it runs");
    }

    /// Performs a command, and gives the reply as it is on the wire.
    ///
    /// # Panics
    /// It does not answer.
    pub fn command(&self, parts: &[&str]) -> String {
        self.try_command(parts).expect("an answer")
    }

    /// Performs a command; none if the server does not answer.
    pub fn try_command(&self, parts: &[&str]) -> Option<String> {
        command(self.port, parts, Duration::from_secs(20)).ok()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn spawn(port: u16, directory: &std::path::Path, arguments: &[String]) -> Child {
    let (mut command, config) = (Command::new("redis-server"), directory.join(SENTINEL_CONFIG));
    let is_sentinel = config.exists();
    if is_sentinel {
        command.arg(config);
    }
    command.args(["--bind", "127.0.0.1", "--port"]).arg(port.to_string());
    command.arg("--dir").arg(directory);
    match is_sentinel {
        true => command.arg("--sentinel"),
        false => command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "no"]),
    };
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server (install the package redis-server)")
}

fn is_up(port: u16, process: &mut Child) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if process.try_wait().is_ok_and(|ended| ended.is_some()) {
            return false;
        }
        // Another server at this port would not have the process's number.
        let pid = format!("process_id:{}\r\n", process.id());
        // Not long: if the port is another server's, which does not answer, this one ends.
        let info = command(port, &["INFO", "server"], Duration::from_secs(1));
        // One that asks for a password is up, too.
        if info.is_ok_and(|info| info.contains(&pid) || info.starts_with("-NOAUTH")) {
            return true;
        }
        sleep(Duration::from_millis(10));
    }
    false
}

fn command(port: u16, parts: &[&str], patience: Duration) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(patience))?;
    let mut command = format!("*{}\r\n", parts.len());
    for part in parts {
        command += &format!("${}\r\n{part}\r\n", part.len());
    }
    // The server closes the connection behind the answer; a sentinel does not know that command,
    // and closes it since nothing more will come.
    stream.write_all(format!("{command}*1\r\n$4\r\nQUIT\r\n").as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply).into_owned())
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir_all(to).expect("a directory");
    for file in fs::read_dir(from).expect("its files") {
        let file = file.expect("a file");
        fs::copy(file.path(), to.join(file.file_name())).expect("it is copied");
    }
}

const SENTINEL_CONFIG: &str = "sentinel.conf";
