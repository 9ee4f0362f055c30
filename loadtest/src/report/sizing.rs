//! How large a machine a load needs: arithmetic from what was measured.

use super::number::{number, tick};
use super::summary::Summary;
use super::table::Table;
use super::targets::{BURST, HUB, IDLE, PACED, case_at};

/// What one connection and one delivery cost the hub, by the medians at the sizes
/// that the targets are for.
struct Costs {
    /// Resident memory of an idle stream.
    user_bytes: f64,
    /// The kernel's slab for the hub's end: half of what both ends on one machine take.
    kernel_bytes: f64,
    /// CPU of a delivery where each event is a send of its own.
    paced_us: f64,
    /// CPU of a delivery where events gather, so that one send carries several.
    burst_us: f64,
    /// CPU of accepting a stream.
    connect_us: f64,
    /// CPU of a client that comes back with all others, until it has what it missed.
    resume_us: f64,
    /// What a delivery has on the wire besides its payload and the headers of its segment.
    frame_bytes: f64,
}

/// A load to size for.
struct Load {
    name: &'static str,
    connections: f64,
    /// Events that each connection receives in a second.
    events_per_s: f64,
    /// Whether they come back to back, so that the cost of a burst applies.
    is_burst: bool,
    payload_bytes: f64,
}

/// Worked examples; `None` until the scenarios that they draw on have been measured.
pub(crate) fn sizing_table(summary: &Summary<'_>) -> Option<Table> {
    let costs = Costs::measured(summary)?;
    let mut rows = vec![
        row("connections", |load| number(load.connections)),
        row("events per second to each", |load| tick(load.events_per_s)),
        row("payload, bytes", |load| number(load.payload_bytes)),
        row("deliveries per second", |load| number(load.deliveries_per_s())),
        row("memory of streams in user space, MiB", |load| {
            number(load.connections * costs.user_bytes / MIB)
        }),
        row("history ceiling, MiB", |_| number(HISTORY_BYTES / MIB)),
        row("memory of the kernel for streams, MiB", |load| {
            number(load.connections * costs.kernel_bytes / MIB)
        }),
        row("memory in all, MiB", |load| {
            let each = costs.user_bytes + costs.kernel_bytes;
            number((load.connections * each + HISTORY_BYTES) / MIB)
        }),
        row("cost of a delivery, µs", |load| number(load.cost_us(&costs))),
        row("cores for deliveries", |load| {
            number(load.deliveries_per_s() * load.cost_us(&costs) / 1e6)
        }),
    ];
    rows.push(row(&format!("cores while all reconnect within {RECONNECT_S:.0} s"), |load| {
        number(load.connections * costs.resume_us / RECONNECT_S / 1e6)
    }));
    rows.push(row("network at most, Mbit/s", |load| {
        let bytes = load.payload_bytes + costs.frame_bytes + HEADER_BYTES;
        number(load.deliveries_per_s() * bytes * 8.0 / 1e6)
    }));
    let mut head = vec![String::new()];
    head.extend(LOADS.iter().map(|load| load.name.to_owned()));
    Some(Table { head, labels: 1, rows })
}

/// The measured costs as a table; `None` as above.
pub(crate) fn costs_table(summary: &Summary<'_>) -> Option<Table> {
    let costs = Costs::measured(summary)?;
    let rows = [
        ("a stream in user space, bytes", costs.user_bytes),
        ("a stream in the kernel (half of both ends), bytes", costs.kernel_bytes),
        ("a delivery when each event is sent alone, µs of CPU", costs.paced_us),
        ("a delivery in a burst, µs of CPU", costs.burst_us),
        ("accepting a stream, µs of CPU", costs.connect_us),
        ("a client that comes back and resumes, µs of CPU", costs.resume_us),
        ("a delivery's id and field names, bytes", costs.frame_bytes),
    ];
    let rows = rows.map(|(what, value)| vec![what.to_owned(), number(value)]).to_vec();
    Some(Table { head: vec!["cost of".into(), "measured".into()], labels: 1, rows })
}

fn row(what: &str, value: impl Fn(&Load) -> String) -> Vec<String> {
    std::iter::once(what.to_owned()).chain(LOADS.iter().map(value)).collect()
}

impl Costs {
    fn measured(summary: &Summary<'_>) -> Option<Self> {
        let median = |scenario, sizes, figure| {
            let entry = case_at(summary, scenario, sizes)?.entry(HUB)?;
            entry.figure(figure).map(|spread| spread.median)
        };
        Some(Self {
            user_bytes: median("idle", IDLE, "server_resident_bytes_per_connection")?,
            kernel_bytes: median("idle", IDLE, "kernel_slab_bytes_per_connection_both_ends")? / 2.0,
            paced_us: median("paced", PACED, "server_cpu_us_per_delivery")?,
            burst_us: median("burst", BURST, "server_cpu_us_per_delivery")?,
            connect_us: median("idle", IDLE, "server_cpu_us_per_connect")?,
            resume_us: median("reconnect_storm", &[], "server_cpu_us_per_resume")?,
            frame_bytes: median("paced", PACED, "received_bytes_per_delivery")? - PAYLOAD_BYTES,
        })
    }
}

impl Load {
    fn deliveries_per_s(&self) -> f64 {
        self.connections * self.events_per_s
    }

    fn cost_us(&self, costs: &Costs) -> f64 {
        if self.is_burst { costs.burst_us } else { costs.paced_us }
    }
}

/// What [`PACED`] publishes.
const PAYLOAD_BYTES: f64 = 128.0;
/// Ethernet, IPv4 and TCP with timestamps, for each send.
const HEADER_BYTES: f64 = 66.0;
const MIB: f64 = 1_048_576.0;
/// The default of `limits.history.total_bytes_max`.
const HISTORY_BYTES: f64 = 268_435_456.0;
/// Clients get a reconnection time of 2 to 4 seconds; their own delays and dials spread them.
const RECONNECT_S: f64 = 10.0;

const LOADS: [Load; 3] = [
    Load {
        name: "notifications",
        connections: 200_000.0,
        events_per_s: 0.01,
        is_burst: false,
        payload_bytes: 512.0,
    },
    Load {
        name: "dashboard",
        connections: 50_000.0,
        events_per_s: 2.0,
        is_burst: false,
        payload_bytes: 256.0,
    },
    Load {
        name: "price ticker, in one burst each second",
        connections: 10_000.0,
        events_per_s: 200.0,
        is_burst: true,
        payload_bytes: 128.0,
    },
];
