//! The table of attacks.

use crate::{
    bodies, connections, heads, http2, publishes, readers, smuggling, subscriptions,
    target::{Running, Target},
    tls, tokens,
};

/// An attack, and the settings of the hub it runs against.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) settings: &'static [(&'static str, &'static str)],
    pub(crate) hub: HubKind,
    /// What the attackers must get, each at least once: else the attack has not reached its target.
    pub(crate) must: &'static [&'static str],
    pub(crate) run: fn(Target) -> Running,
}

/// The kind of hub under attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum HubKind {
    /// Nothing.
    Plain,
    /// It requires tokens.
    Tokens,
    /// It speaks TLS, and so do the honest.
    Tls,
}

/// Limits per address count programs of this machine too. The attackers have one address, each of
/// the honest another, which connects once and may publish 100 events a second. Limits are low
/// enough for the attackers to come past them in their time.
const SOCKETS_PER_ADDRESS: &[(&str, &str)] =
    &[("limits.per_address.loopback", "true"), ("limits.per_address.requests_max", "50")];
const CONNECTS_PER_ADDRESS: &[(&str, &str)] = &[
    ("limits.per_address.loopback", "true"),
    ("limits.per_address.new_per_s", "5"),
    ("limits.per_address.new_burst", "20"),
];
const PUBLISHES_PER_ADDRESS: &[(&str, &str)] = &[
    ("limits.per_address.loopback", "true"),
    ("limits.per_address.events_per_s", "500"),
    ("limits.per_address.events_burst", "1000"),
];
const PER_CHANNEL: &[(&str, &str)] =
    &[("limits.channels.events_per_s", "500"), ("limits.channels.events_burst", "1000")];
const PER_SUBJECT: &[(&str, &str)] = &[
    ("limits.per_subject.events_per_s", "500"),
    ("limits.per_subject.events_burst", "1000"),
    ("limits.per_subject.connections_max", "50"),
];

macro_rules! attack {
    ($name:literal, $run:path, $must:expr) => {
        attack!($name, $run, $must, &[], Plain)
    };
    ($name:literal, $run:path, $must:expr, $settings:expr, $hub:ident) => {
        Attack {
            name: $name,
            settings: $settings,
            hub: HubKind::$hub,
            must: &$must,
            run: |target| Box::pin($run(target)),
        }
    };
}

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    attack!("slow heads", heads::slow, ["connections", "bytes"]),
    attack!("large heads", heads::large, ["431"]),
    attack!("heads of many fields", heads::many_fields, ["431"]),
    attack!("long targets", heads::long_targets, ["414"]),
    attack!("slow bodies", bodies::slow, ["connections", "bytes"]),
    attack!("huge bodies", bodies::huge, ["413"]),
    attack!("endless chunked bodies", bodies::endless_chunks, ["413"]),
    attack!("chunk extensions", bodies::chunk_extensions, ["400"]),
    attack!("tiny chunks", bodies::tiny_chunks, ["400"]),
    attack!("bodies that are held", bodies::held, ["bodies"]),
    attack!("bodies that fill the room", bodies::filling_the_room, ["megabytes held"]),
    attack!("bodies on polls", bodies::on_polls, ["400"]),
    attack!("connection flood from one address", connections::flood_from_one, ["connections"]),
    attack!(
        "the same, limited by address",
        connections::flood_from_one,
        ["connections", "shut out"],
        SOCKETS_PER_ADDRESS,
        Plain
    ),
    attack!("connection flood from many addresses", connections::flood_from_many, ["connections"]),
    attack!("connect and reset", connections::resets, ["resets"]),
    attack!(
        "idle connections up to the limit",
        connections::idle_up_to_the_limit,
        ["connections", "refusals"],
        &[("limits.connections.requests_max", "500")],
        Plain
    ),
    attack!("readers that stop", readers::stalled_streams, ["streams"]),
    attack!("answers that are not read", readers::unread_answers, ["connections"]),
    attack!("reconnects from the earliest", readers::replays, ["replays"]),
    attack!(
        "reconnects, limited by address",
        readers::replays,
        ["replays", "429"],
        CONNECTS_PER_ADDRESS,
        Plain
    ),
    attack!("replays that stop", readers::stalled_replays, ["streams"]),
    attack!("ten thousand patterns", subscriptions::patterns, ["streams of 100 patterns"]),
    attack!("resumes by patterns", subscriptions::resumes_by_patterns, ["201 of a batch", "204"]),
    attack!("deep names and patterns", subscriptions::deep_names, ["201"]),
    attack!("new channels", subscriptions::new_channels, ["201"]),
    attack!(
        "streams that come and go",
        subscriptions::comings_and_goings,
        ["streams of 100 channels"]
    ),
    attack!("long lists", subscriptions::listings, ["200"]),
    attack!("publishes to one channel", publishes::to_one_channel, ["201"]),
    attack!(
        "publishes, limited by channel",
        publishes::to_one_channel,
        ["201", "429"],
        PER_CHANNEL,
        Plain
    ),
    attack!(
        "publishes, limited by address",
        publishes::to_one_channel,
        ["201", "429"],
        PUBLISHES_PER_ADDRESS,
        Plain
    ),
    attack!("batches of 10,000", publishes::batches, ["batches", "201"]),
    attack!("publishes by one subject", tokens::one_subject, ["201", "429"], PER_SUBJECT, Tokens),
    attack!(
        "streams by one subject",
        tokens::streams_of_one_subject,
        ["streams", "429"],
        PER_SUBJECT,
        Tokens
    ),
    attack!("polls that do not wait", publishes::polls, ["204"]),
    attack!("polls whose clients leave", publishes::abandoned_polls, ["polls"]),
    attack!("pipelined requests", publishes::requests, ["200"]),
    attack!("pipelined refusals", publishes::refused, ["400"]),
    attack!("request smuggling", smuggling::all, ["attempts"]),
    attack!("forged tokens", tokens::forged, ["401", "of all tokens tried"], &[], Tokens),
    attack!("good tokens by the thousand", tokens::verified, ["204"], &[], Tokens),
    attack!("routes of administrators", tokens::admin_routes, ["401", "403"], &[], Tokens),
    attack!("half a TLS handshake", tls::half_handshakes, ["connections"], &[], Tls),
    attack!("TLS handshakes", tls::handshakes, ["handshakes"], &[], Tls),
    attack!("non-TLS bytes", tls::garbage, ["connections"], &[], Tls),
    attack!("HTTP/2 rapid resets", http2::rapid_resets, ["resets"]),
    attack!("HTTP/2 resets by the hub", http2::made_resets, ["resets by the hub"]),
    attack!("HTTP/2 CONTINUATION", http2::continuations, ["frames"]),
    attack!("HTTP/2 tiny windows", http2::tiny_windows, ["streams"]),
    attack!("HTTP/2 readers that stop", http2::stalled_streams, ["streams"]),
    attack!("HTTP/2 pings and settings", http2::pings_and_settings, ["thousands"]),
    attack!("HTTP/2 empty frames", http2::empty_frames, ["thousands"]),
    attack!("HTTP/2 compression bombs", http2::compression_bomb, ["bombs"]),
];

/// For every check: one against each kind of limit, and all that look for what must not be found.
/// Those that go on sending after they are rejected are slowed down, so they see no answer in two
/// seconds.
pub(crate) const ONE_OF_EACH_KIND: &[&str] = &[
    "slow heads",
    "heads of many fields",
    "bodies on polls",
    "bodies that fill the room",
    "connection flood from one address",
    "connect and reset",
    "idle connections up to the limit",
    "readers that stop",
    "reconnects, limited by address",
    "ten thousand patterns",
    "new channels",
    "publishes, limited by channel",
    "batches of 10,000",
    "streams by one subject",
    "polls whose clients leave",
    "pipelined refusals",
    "request smuggling",
    "forged tokens",
    "routes of administrators",
    "half a TLS handshake",
    "HTTP/2 rapid resets",
    "HTTP/2 CONTINUATION",
    "HTTP/2 readers that stop",
];

/// What the bounds on batches and on what is under way are for: without them one batch holds up all
/// publishers, and with them their subscribers, for as long as it takes.
pub(crate) const UNBOUNDED: Attack = attack!(
    "batches without bounds",
    publishes::batches_of_a_million,
    ["batches"],
    &[
        ("limits.publish.batch_events_max", "1000000"),
        ("limits.publish.body_bytes_max", "200000000"),
        ("limits.publish.bodies_bytes_max", "2000000000"),
        ("limits.publish.wait_ms", "60000"),
    ],
    Plain
);
