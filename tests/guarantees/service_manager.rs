//! Under a service manager: sockets that it passes, and what the hub reports to it. The manager is
//! the test.

use std::{
    io,
    net::TcpListener,
    os::{fd::AsRawFd, linux::net::SocketAddrExt, unix::net},
    path::Path,
    process::Command,
};

use rustix::{
    io::{FdFlags, fcntl_setfd},
    process::Signal,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixDatagram},
    time::timeout,
};
use visnyk_loadtest::{Hub, HubCommand};

use crate::support::{PATIENCE, TestHub};

/// Where a hub reports to.
struct Manager(UnixDatagram);

impl Manager {
    fn at(path: &Path) -> Self {
        Self(UnixDatagram::bind(path).expect("a socket"))
    }

    fn at_name(name: &str) -> Self {
        let address = net::SocketAddr::from_abstract_name(name).expect("a name");
        let socket = net::UnixDatagram::bind_addr(&address).expect("a socket");
        socket.set_nonblocking(true).expect("an open socket");
        Self(UnixDatagram::from_std(socket).expect("a socket"))
    }

    /// The lines of the next report.
    async fn next(&self) -> Vec<String> {
        let mut bytes = [0; 4096];
        let received = timeout(PATIENCE, self.0.recv(&mut bytes)).await;
        let length = received.expect("a report in time").expect("a report");
        let text = String::from_utf8(bytes[..length].to_vec()).expect("UTF-8");
        text.lines().map(str::to_owned).collect()
    }

    fn has_more(&self) -> bool {
        !matches!(self.0.try_recv(&mut [0; 64]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

#[tokio::test]
async fn the_manager_learns_that_the_hub_is_ready_and_that_it_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("notify");
    let manager = Manager::at(&path);
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .env("NOTIFY_SOCKET", &path)
        .settings(&[("drain_delay_s", "300"), ("drain_window_s", "500")]);
    let mut hub = command.start().await.expect("the hub starts");
    let address = hub.address();
    assert_eq!(manager.next().await, ["READY=1", &format!("STATUS=listening on {address}")]);
    // It accepts: the manager starts what needs it only now.
    TcpStream::connect(address).await.expect("it accepts");
    assert!(!manager.has_more());

    hub.terminate().expect("it runs");
    let report = manager.next().await;
    assert_eq!(report[0], "STOPPING=1");
    let time = report.iter().find_map(|line| line.strip_prefix("EXTEND_TIMEOUT_USEC="));
    let time: u64 = time.expect("how long it takes").parse().expect("a number");
    assert!(time > 800_000_000, "less than delay and window: {time} µs");
    hub.terminate().expect("it waits for the end of the delay");
    assert_eq!(hub.wait(PATIENCE).await.expect("it ends").code(), Some(0));
    assert!(!manager.has_more());
}

#[tokio::test]
async fn a_manager_that_cannot_be_reached_keeps_no_hub_from_serving() {
    let directory = tempfile::tempdir().expect("a directory");
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .env("NOTIFY_SOCKET", directory.path().join("absent"));
    let mut hub = TestHub::start_with(command).await;
    hub.wait_for_line("the service manager", PATIENCE).await.expect("a warning");
    hub.publish("a", "served").await;
}

#[tokio::test]
async fn a_reload_is_reported_until_it_is_applied_or_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let name = format!("visnyk-{}", std::process::id());
    let manager = Manager::at_name(&name);
    let names = ["localhost".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
    let (cert, key) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).expect("it is written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("it is written");
    let command = HubCommand::new(env!("CARGO_BIN_EXE_visnyk"))
        .env("NOTIFY_SOCKET", format!("@{name}"))
        .args([Path::new("--tls-cert"), &cert, Path::new("--tls-key"), &key]);
    let hub = command.start().await.expect("the hub starts");
    assert_eq!(manager.next().await[0], "READY=1");
    hub.signal(Signal::HUP).expect("it runs");
    assert_eq!(manager.next().await, ["RELOADING=1"]);
    assert_eq!(manager.next().await, ["READY=1", "STATUS=the settings were read again"]);
    // A reload that fails has an end too.
    std::fs::write(&cert, "nothing").expect("it is written");
    hub.signal(Signal::HUP).expect("it runs");
    assert_eq!(manager.next().await, ["RELOADING=1"]);
    let [ready, status] = &manager.next().await[..] else { panic!("two lines") };
    assert_eq!(ready, "READY=1");
    assert!(status.starts_with("STATUS=a reload was refused"), "{status}");
}

#[tokio::test]
async fn a_restart_at_a_socket_of_the_manager_refuses_no_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut first = start_at_socket(&listener).await;
    assert_eq!(first.address(), listener.local_addr().expect("it is bound"));
    first.terminate().expect("it runs");
    assert_eq!(first.wait(PATIENCE).await.expect("it ends").code(), Some(0));
    // No process accepts now. The connection waits in the queue of the manager's socket.
    let mut waiting = TcpStream::connect(first.address()).await.expect("it waits");
    let request = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    waiting.write_all(request.as_bytes()).await.expect("it is sent");
    let _second = start_at_socket(&listener).await;
    let mut answer = String::new();
    let read = timeout(PATIENCE, waiting.read_to_string(&mut answer)).await;
    read.expect("in time").expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// A hub that is passed `listener` as systemd does it: as file 3, for this process alone.
async fn start_at_socket(listener: &TcpListener) -> Hub {
    fcntl_setfd(listener, FdFlags::empty()).expect("an open file");
    let script = format!(
        "exec 3<&{}; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$0\" serve --listen \"$1\"",
        listener.as_raw_fd()
    );
    let address = listener.local_addr().expect("it is bound").to_string();
    let mut command = Command::new("bash");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_visnyk"), &address]);
    command.env("VISNYK_DRAIN_WINDOW_S", "0");
    Hub::start(command).await.expect("the hub starts")
}
