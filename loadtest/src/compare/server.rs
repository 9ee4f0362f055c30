//! The servers that are compared: how each is installed, started, spoken to.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use visnyk_loadtest::server_process::ServerProcess;
use visnyk_loadtest::subject::{get_request, post_request, stream_request};
use visnyk_loadtest::{
    Delivers, Extras, Failure, HubCommand, LongPoll, Scenario, Subject, percent_encode,
    raise_open_files,
};

use super::scratch::Scratch;

/// What is compared, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Server {
    /// The plain send loop: what any server must spend.
    Floor,
    /// The hub.
    Visnyk,
    /// axum with `tokio::sync::broadcast`, two worker threads.
    Axum,
    /// durable-streams by its SSE tail; memory durability but for `durable`.
    DurableStreams,
    /// nginx with Nchan, two workers; one for polls.
    Nginx,
    /// Express on Node, one process that writes to each response in a loop.
    Express,
}

/// Where programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    /// The directory of this program, which has those that are built with it.
    pub(crate) built: PathBuf,
    /// The hub.
    pub(crate) visnyk: PathBuf,
    /// `loadtest/compare`.
    pub(crate) folder: PathBuf,
    /// Where its `install` puts what it installs.
    pub(crate) tools: PathBuf,
}

/// A server that runs, and ends when this is dropped: first its processes, then its files.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) subject: Subject,
    _process: ServerProcess,
    _scratch: Option<Scratch>,
}

impl Server {
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Whether it has what a scenario is about: most have nothing on disk.
    pub(crate) fn can_run(self, scenario: &Scenario) -> bool {
        !scenario.wants_disk() || matches!(self, Self::Visnyk | Self::DurableStreams)
    }

    /// Installs it where that takes more than building this workspace. Does nothing if it is there.
    ///
    /// # Errors
    ///
    /// Why it is absent: what `install` said last.
    pub(crate) fn install(self, programs: &Programs) -> Result<(), String> {
        if matches!(self, Self::Floor | Self::Visnyk | Self::Axum) {
            return Ok(());
        }
        let output = Command::new(programs.folder.join("install"))
            .arg(self.name())
            .output()
            .map_err(|error| format!("install: {error}"))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(said.lines().last().unwrap_or("install said nothing").to_owned())
    }

    /// Starts it for a scenario with nothing in it but `channels`, where it wants to know them
    /// beforehand.
    pub(crate) fn start(
        self,
        programs: &Programs,
        scenario: &Scenario,
        channels: &[String],
    ) -> Result<Running, Failure> {
        match self {
            Self::Floor => {
                let process = ServerProcess::floor(&programs.built.join("visnyk-loadtest"))?;
                Ok(Running { subject: process.as_floor(), _process: process, _scratch: None })
            }
            Self::Visnyk => {
                let scratch = scenario.wants_disk().then(Scratch::new).transpose()?;
                let mut command = HubCommand::new(&programs.visnyk);
                if let Some(scratch) = &scratch {
                    command = command.arg("--data-dir").arg(scratch.path());
                }
                let process = command.start_blocking()?;
                Ok(Running { subject: process.as_hub(), _process: process, _scratch: scratch })
            }
            Self::Axum => {
                let command = Command::new(programs.built.join("axum-broadcast"));
                Ok(self.running(ServerProcess::start_blocking(command)?, None))
            }
            Self::Express => {
                let mut command = Command::new("node");
                command.arg(programs.folder.join("express/server.mjs"));
                command.env("NODE_ENV", "production");
                Ok(self.running(ServerProcess::start_blocking(command)?, None))
            }
            Self::Nginx => self.start_nginx(programs, scenario),
            Self::DurableStreams => self.start_durable_streams(programs, scenario, channels),
        }
    }

    fn start_nginx(self, programs: &Programs, scenario: &Scenario) -> Result<Running, Failure> {
        // With two, half of the polls were not answered: those of the worker that was not asked to
        // publish (1.3.6; https://github.com/slact/nchan/issues/367 has the same). Streams are.
        let workers = if matches!(scenario, Scenario::Poll(_)) { 1 } else { 2 };
        let scratch = Scratch::new()?;
        let address = free_address()?;
        let root = programs.tools.join("nginx");
        let template = programs.folder.join("nginx.conf");
        let user = if rustix::process::getuid().is_root() { "user root;" } else { "" };
        let module = root.join("usr/lib/nginx/modules/ngx_nchan_module.so");
        let text = std::fs::read_to_string(&template)
            .map_err(Failure::io(format!("reading {}", template.display())))?
            .replace("DIRECTORY", &scratch.path().to_string_lossy())
            .replace("MODULE", &module.to_string_lossy())
            .replace("OPEN_FILES", &raise_open_files().to_string())
            .replace("USER", user)
            .replace("WORKERS", &workers.to_string())
            .replace("PORT", &address.port().to_string());
        let path = scratch.path().join("nginx.conf");
        std::fs::write(&path, text).map_err(Failure::io(format!("writing {}", path.display())))?;
        let mut command = Command::new(root.join("usr/sbin/nginx"));
        command.args(["-e", "stderr", "-p"]).arg(scratch.path()).arg("-c").arg(path);
        let process = ServerProcess::start_at(command, address)?;
        // Its master listens before it starts those whose CPU is to be counted.
        let started = Instant::now();
        while process.pids().len() <= workers {
            if started.elapsed() > WORKERS_PATIENCE {
                let what = format!("{workers} workers of nginx");
                return Err(Failure::Late { what, waited: WORKERS_PATIENCE });
            }
            std::thread::sleep(PAUSE);
        }
        Ok(self.running(process, Some(scratch)))
    }

    fn start_durable_streams(
        self,
        programs: &Programs,
        scenario: &Scenario,
        channels: &[String],
    ) -> Result<Running, Failure> {
        let durability = if scenario.wants_disk() { "wal" } else { "memory" };
        let scratch = Scratch::new()?;
        let address = free_address()?;
        let mut command = Command::new(programs.tools.join("bin/durable-streams-server"));
        command.args(["--durability", durability, "--port", &address.port().to_string()]);
        command.arg("--data-dir").arg(scratch.path());
        let running = self.running(ServerProcess::start_at(command, address)?, Some(scratch));
        create_streams(address, channels)?;
        Ok(running)
    }

    fn running(self, process: ServerProcess, scratch: Option<Scratch>) -> Running {
        let mut subject = self.subject(process.address());
        subject.pids = process.pids();
        Running { subject, _process: process, _scratch: scratch }
    }

    /// How one speaks to a server at this address, other than the floor and the hub.
    fn subject(self, address: SocketAddr) -> Subject {
        let plain = Subject {
            name: self.name(),
            publish_batch: None,
            publish_ok: 200..=204,
            ..Subject::floor(address, 0)
        };
        match self {
            Self::Nginx => Subject {
                subscribe: |subject, channel| {
                    stream_request(subject, &format!("/sub/{}", percent_encode(channel)))
                },
                publish: |subject, channel, body| {
                    let target = format!("/pub/{}", percent_encode(channel));
                    post_request(subject, &target, "text/plain", body)
                },
                extras: Extras { poll: Some(NCHAN_POLL), ..plain.extras },
                ..plain
            },
            Self::DurableStreams => Subject {
                subscribe: |subject, channel| {
                    let target = format!("/{}?offset=now&live=sse", percent_encode(channel));
                    stream_request(subject, &target)
                },
                // What is appended between two writes to a subscriber comes as one piece.
                delivers: Delivers::WithinData,
                extras: Extras { poll: Some(DURABLE_STREAMS_POLL), ..plain.extras },
                ..plain
            },
            Self::Floor | Self::Visnyk | Self::Axum | Self::Express => plain,
        }
    }
}

/// A stream must be there before anyone can append to it. As text: JSON is taken apart first, and
/// other bytes come as base64.
fn create_streams(address: SocketAddr, channels: &[String]) -> Result<(), Failure> {
    let doing = "creating streams";
    let mut io = TcpStream::connect(address).map_err(Failure::io(doing))?;
    io.set_read_timeout(Some(CREATE_PATIENCE)).map_err(Failure::io(doing))?;
    let mut answers = BufReader::new(io.try_clone().map_err(Failure::io(doing))?);
    for channel in channels {
        let request = format!(
            "PUT /{} HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/plain\r\n\
             Content-Length: 0\r\n\r\n",
            percent_encode(channel)
        );
        io.write_all(request.as_bytes()).map_err(Failure::io(doing))?;
        let status = read_answer(&mut answers).map_err(Failure::io(doing))?;
        if !status.starts_with("HTTP/1.1 201") {
            return Err(Failure::Refused { request: format!("PUT /{channel}"), answer: status });
        }
    }
    Ok(())
}

/// The status line of the next answer; its body is read past.
fn read_answer(from: &mut impl BufRead) -> std::io::Result<String> {
    let mut status = String::new();
    from.read_line(&mut status)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().map_err(std::io::Error::other)?;
        }
    }
    std::io::copy(&mut from.take(length), &mut std::io::sink())?;
    Ok(status.trim_end().to_owned())
}

/// A port that nothing listens on now. Nothing else takes it before the server does, as long as
/// nothing else on this machine asks for one and gets the same among thousands.
fn free_address() -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(Failure::io("finding a free port"))?;
    listener.local_addr().map_err(Failure::io("finding a free port"))
}

impl Programs {
    /// Those built with this program; `loadtest/compare` of the tree it was built from.
    pub(crate) fn new(visnyk: Option<PathBuf>) -> Result<Self, String> {
        let this = std::env::current_exe().map_err(|error| error.to_string())?;
        let built = this.parent().unwrap_or(Path::new(".")).to_owned();
        let loadtest = Path::new(env!("CARGO_MANIFEST_DIR"));
        Ok(Self {
            visnyk: visnyk.unwrap_or_else(|| built.join("visnyk")),
            built,
            folder: loadtest.join("compare"),
            tools: loadtest.join("../target/tools"),
        })
    }
}

/// A message's id is its time and a number, which stand where a cache looks for them.
const NCHAN_POLL: LongPoll = LongPoll {
    position: &["Last-Modified", "ETag"],
    request: |subject, channel, after| {
        let names = ["If-Modified-Since", "If-None-Match"];
        let fields: Vec<_> = names.into_iter().zip(after.iter().copied()).collect();
        get_request(subject, &format!("/poll/{}", percent_encode(channel)), &fields)
    },
};
const DURABLE_STREAMS_POLL: LongPoll = LongPoll {
    position: &["Stream-Next-Offset"],
    request: |subject, channel, after| {
        let (channel, offset) = (percent_encode(channel), after.first().unwrap_or(&"now"));
        get_request(subject, &format!("/{channel}?offset={offset}&live=long-poll"), &[])
    },
};
const CREATE_PATIENCE: Duration = Duration::from_secs(10);
const WORKERS_PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);
