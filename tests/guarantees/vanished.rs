//! Clients that vanish: their packets are dropped, in a network namespace of its own.

use std::{
    env,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::time::Instant;

use crate::support::{PATIENCE, TestHub};

/// The hub's namespace is that of this process, which is the test started anew; clients have one of
/// their own, at the other end of a cable.
#[test]
fn clients_whose_packets_are_dropped_are_noticed() {
    const NAME: &str = "vanished::clients_whose_packets_are_dropped_are_noticed";
    if env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        return runtime.block_on(in_a_namespace());
    }
    let this = env::current_exe().expect("its path");
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user", "--"]).arg(this).args([NAME, "--exact"]);
    let output = command.env(INSIDE, "1").output();
    let Some(output) = output.ok().filter(|_| run("unshare --net --map-root-user ip link")) else {
        return println!("skipped: no network namespaces here");
    };
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
}

async fn in_a_namespace() {
    assert!(run("ip link set lo up"));
    let clients = Namespace::new();
    let pid = clients.0.id();
    assert!(run(&format!("ip link add hub type veth peer name client netns {pid}")));
    assert!(run("ip addr add 10.9.0.1/24 dev hub") && run("ip link set hub up"));
    assert!(clients.run("ip addr add 10.9.0.2/24 dev client"));
    assert!(clients.run("ip link set client up"));
    let settings = [
        ("INSECURE", "true"),
        ("ALLOWED_HOSTS", "0.0.0.0,10.9.0.1"),
        ("LIMITS__CONNECTIONS__HEARTBEAT_S", "1"),
        ("LIMITS__CONNECTIONS__WRITE_STALL_S", "2"),
    ];
    let hub = TestHub::start_at("0.0.0.0:0".parse().expect("an address"), &settings).await;
    let port = hub.address().port();
    let start = |target: &str| {
        let url = format!("http://10.9.0.1:{port}{target}");
        Namespace(clients.command("curl").args(["-sSN", "-m", "120", &url]).spawn().expect("curl"))
    };
    let _stream = start("/v1/channels/a/events");
    let _poll = start("/v1/channels/a/poll?timeout=60");
    hub.wait_for_metric("visnyk_streams", |streams| streams == 1.0).await;
    hub.wait_for_metric("visnyk_pollers", |pollers| pollers == 1.0).await;

    assert!(clients.run("ip link set client down"));
    let begun = Instant::now();
    hub.wait_for_metric("visnyk_streams", |streams| streams == 0.0).await;
    hub.wait_for_metric("visnyk_pollers", |pollers| pollers == 0.0).await;
    let timed_out = r#"visnyk_connections_closed_total{reason="timed_out"}"#;
    hub.wait_for_metric(timed_out, |ended| ended >= 1.0).await;
    // Heartbeat and stall are three seconds. The poll's own end is a minute away, and the kernel by
    // itself takes a quarter of an hour.
    assert!(begun.elapsed() < PATIENCE.min(Duration::from_secs(30)), "{:?}", begun.elapsed());
}

/// A process, and with it the namespace that it is in; killed when it is dropped.
struct Namespace(Child);

impl Namespace {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        command.args(["--net", "--", "sleep", "300"]).stdout(Stdio::null());
        let clients = Self(command.spawn().expect("unshare"));
        // It is there once it is another than ours.
        let namespace = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        let deadline = std::time::Instant::now() + PATIENCE;
        while namespace(&clients.0.id().to_string()) == namespace("self") {
            assert!(std::time::Instant::now() < deadline, "it stays in ours");
            std::thread::yield_now();
        }
        clients
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id())).arg(program);
        command.stdout(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> bool {
        let mut words = line.split(' ');
        let mut command = self.command(words.next().expect("a program"));
        command.args(words).status().is_ok_and(|status| status.success())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(line: &str) -> bool {
    let mut words = line.split(' ');
    let mut command = Command::new(words.next().expect("a program"));
    command.args(words).stdout(Stdio::null()).status().is_ok_and(|status| status.success())
}

const INSIDE: &str = "VISNYK_TEST_INSIDE_NAMESPACE";
