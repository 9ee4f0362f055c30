//! One measurement of one server: memory an idle subscriber costs, CPU a delivery costs, latency.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::LocalSet,
};

/// What to measure.
pub(crate) struct Plan {
    address: SocketAddr,
    pid: u32,
    subscribers: usize,
    load: Load,
}

enum Load {
    Idle,
    Paced { events: usize, per_second: u32 },
    Burst { events: usize },
}

impl Plan {
    pub(crate) fn parse(arguments: &[&str]) -> Option<Self> {
        let [address, pid, subscribers, load @ ..] = arguments else { return None };
        let load = match load {
            ["idle"] | [] => Load::Idle,
            ["paced", events, per_second] => {
                Load::Paced { events: events.parse().ok()?, per_second: per_second.parse().ok()? }
            }
            ["burst", events] => Load::Burst { events: events.parse().ok()? },
            _ => return None,
        };
        let address: SocketAddr = address.parse().ok()?;
        address.ip().is_loopback().then_some(Self {
            address,
            pid: pid.parse().ok()?,
            subscribers: subscribers.parse().ok()?,
            load,
        })
    }
}

/// What the subscribers have seen.
#[derive(Default)]
struct Seen {
    deliveries: usize,
    latencies_us: Vec<u32>,
    out_of_order: usize,
}

/// Runs the plan and prints one line of figures.
pub(crate) fn run(plan: &Plan) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, measure(plan))
}

async fn measure(plan: &Plan) -> io::Result<()> {
    let started = Instant::now();
    let resident_before = resident_bytes(plan.pid)?;
    let slab_before = slab_bytes();
    let seen: Rc<RefCell<Seen>> = Rc::default();
    let connect_started = Instant::now();
    for _ in 0..plan.subscribers {
        let mut io = TcpStream::connect(plan.address).await?;
        io.write_all(REQUEST).await?;
        tokio::task::spawn_local(subscribe(io, Rc::clone(&seen), started));
    }
    let connect_s = connect_started.elapsed().as_secs_f64();
    tokio::time::sleep(Duration::from_secs(2)).await;
    let each = |bytes: u64| bytes as f64 / plan.subscribers.max(1) as f64;
    let idle_bytes = each(resident_bytes(plan.pid)?.saturating_sub(resident_before));
    let slab = each(slab_bytes().saturating_sub(slab_before));
    print!(
        "subscribers {} connects/s {:.0} idle_bytes {idle_bytes:.0} slab_bytes_both_ends {slab:.0}",
        plan.subscribers,
        plan.subscribers as f64 / connect_s,
    );
    let (events, pause) = match plan.load {
        Load::Idle => {
            println!();
            return Ok(());
        }
        Load::Paced { events, per_second } => (events, Duration::from_secs(1) / per_second.max(1)),
        Load::Burst { events } => (events, Duration::ZERO),
    };
    let cpu_before = cpu_seconds(plan.pid)?;
    let load_started = Instant::now();
    publish(plan, events, pause, started).await?;
    let due = events * plan.subscribers;
    let patience = Instant::now() + Duration::from_secs(60);
    while seen.borrow().deliveries < due && Instant::now() < patience {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let elapsed = load_started.elapsed().as_secs_f64();
    let cpu = cpu_seconds(plan.pid)? - cpu_before;
    let seen = seen.borrow();
    let mut latencies = seen.latencies_us.clone();
    latencies.sort_unstable();
    let at = |q: f64| {
        let index = (latencies.len() as f64 * q) as usize;
        latencies.get(index.min(latencies.len().saturating_sub(1))).copied().unwrap_or(0) as f64
            / 1_000.0
    };
    println!(
        " deliveries {} of {due} out_of_order {} cpu_us_per_delivery {:.3} deliveries/s {:.0} \
         p50_ms {:.1} p99_ms {:.1} max_ms {:.1}",
        seen.deliveries,
        seen.out_of_order,
        cpu * 1e6 / seen.deliveries.max(1) as f64,
        seen.deliveries as f64 / elapsed,
        at(0.5),
        at(0.99),
        at(1.0),
    );
    if seen.deliveries != due || seen.out_of_order > 0 {
        return Err(io::Error::other("events were lost, repeated or reordered"));
    }
    Ok(())
}

/// Publishes one event at a time on one kept connection. Each says when it was due, so that a
/// publisher held up by the server does not hide the wait.
async fn publish(plan: &Plan, events: usize, pause: Duration, started: Instant) -> io::Result<()> {
    let mut io = TcpStream::connect(plan.address).await?;
    io.set_nodelay(true)?;
    let mut answer = [0; 4096];
    let begin = Instant::now();
    for number in 0..events {
        let due = begin + pause * number as u32;
        tokio::time::sleep_until(due.into()).await;
        let at = if pause.is_zero() { Instant::now() } else { due };
        let mut body = format!("{} {number} ", at.duration_since(started).as_nanos());
        body.extend(std::iter::repeat_n('x', PAYLOAD_BYTES.saturating_sub(body.len())));
        let request = format!(
            "POST /v1/channels/load/events HTTP/1.1\r\nhost: 127.0.0.1\r\n\
             content-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        io.write_all(request.as_bytes()).await?;
        let length = io.read(&mut answer).await?;
        if !answer[..length].starts_with(b"HTTP/1.1 201") {
            let text = String::from_utf8_lossy(&answer[..length]).into_owned();
            return Err(io::Error::other(text));
        }
    }
    Ok(())
}

/// Counts what comes, and checks that it comes in order.
async fn subscribe(mut io: TcpStream, seen: Rc<RefCell<Seen>>, started: Instant) {
    let mut buffer = Vec::with_capacity(4 * 1024);
    let mut next = 0_usize;
    loop {
        match io.read_buf(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let now = started.elapsed().as_nanos() as u64;
        let mut seen = seen.borrow_mut();
        let mut from = 0;
        while let Some(end) = buffer[from..].iter().position(|b| *b == b'\n') {
            let line = &buffer[from..from + end];
            from += end + 1;
            let Some(data) = line.strip_prefix(b"data: ") else { continue };
            let mut words = data.split(|b| *b == b' ');
            let mut number = || std::str::from_utf8(words.next()?).ok()?.parse::<u64>().ok();
            let (Some(sent), Some(number)) = (number(), number()) else { continue };
            seen.deliveries += 1;
            seen.out_of_order += usize::from(number as usize != next);
            next = number as usize + 1;
            seen.latencies_us.push((now.saturating_sub(sent) / 1_000) as u32);
        }
        buffer.drain(..from);
    }
}

/// User and system time of a process with all its threads.
fn cpu_seconds(pid: u32) -> io::Result<f64> {
    let mut ns = 0_u64;
    for task in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
        ns += stat.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
    }
    Ok(ns as f64 / 1e9)
}

fn resident_bytes(pid: u32) -> io::Result<u64> {
    Ok(kib(&std::fs::read_to_string(format!("/proc/{pid}/status"))?, "VmRSS:"))
}

/// The kernel's own memory, of both ends of the connections.
fn slab_bytes() -> u64 {
    kib(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default(), "Slab:")
}

fn kib(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

const PAYLOAD_BYTES: usize = 128;
const REQUEST: &[u8] =
    b"GET /v1/channels/load/events HTTP/1.1\r\nhost: 127.0.0.1\r\naccept: text/event-stream\r\n\r\n";
