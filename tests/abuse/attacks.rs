//! The table of attacks.

use crate::{
    bodies, connections, heads, http2, publishes, readers, smuggling, subscriptions,
    target::{Running, Target},
    tls, tokens,
};

/// One attack, and the settings of the hub that suffers it.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    pub(crate) settings: &'static [(&'static str, &'static str)],
    pub(crate) hub: HubKind,
    pub(crate) run: fn(Target) -> Running,
}

/// What is special about a hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HubKind {
    /// Nothing.
    Plain,
    /// It asks for tokens.
    Tokens,
    /// It speaks TLS, and so do the honest.
    Tls,
}

/// Limits per address count programs of this machine too. The attackers have one address, each of the
/// honest another.
const PER_ADDRESS: &[(&str, &str)] = &[("limits.per_address.loopback", "true")];

macro_rules! attack {
    ($name:literal, $run:path) => {
        attack!($name, $run, &[], Plain)
    };
    ($name:literal, $run:path, $settings:expr, $hub:ident) => {
        Attack {
            name: $name,
            settings: $settings,
            hub: HubKind::$hub,
            run: |target| Box::pin($run(target)),
        }
    };
}

/// All of them.
pub(crate) const ATTACKS: &[Attack] = &[
    attack!("slow heads", heads::slow),
    attack!("large heads", heads::large),
    attack!("heads of many fields", heads::many_fields),
    attack!("long targets", heads::long_targets),
    attack!("slow bodies", bodies::slow),
    attack!("huge bodies", bodies::huge),
    attack!("endless chunked bodies", bodies::endless_chunks),
    attack!("chunk extensions", bodies::chunk_extensions),
    attack!("tiny chunks", bodies::tiny_chunks),
    attack!("bodies that are held", bodies::held),
    attack!("bodies that fill the room", bodies::filling_the_room),
    attack!("bodies on polls", bodies::on_polls),
    attack!("connection flood from one address", connections::flood_from_one),
    attack!("the same, limited by address", connections::flood_from_one, PER_ADDRESS, Plain),
    attack!("connection flood from many addresses", connections::flood_from_many),
    attack!("connect and reset", connections::resets),
    attack!(
        "idle connections up to the limit",
        connections::idle_up_to_the_limit,
        &[("limits.connections.requests_max", "500")],
        Plain
    ),
    attack!("readers that stop", readers::stalled_streams),
    attack!("answers that are not read", readers::unread_answers),
    attack!("reconnects from the earliest", readers::replays),
    attack!("reconnects, limited by address", readers::replays, PER_ADDRESS, Plain),
    attack!("replays that stop", readers::stalled_replays),
    attack!("ten thousand patterns", subscriptions::patterns),
    attack!("resumes by patterns", subscriptions::resumes_by_patterns),
    attack!("deep names and patterns", subscriptions::deep_names),
    attack!("new channels", subscriptions::new_channels),
    attack!("streams that come and go", subscriptions::comings_and_goings),
    attack!("long lists", subscriptions::listings),
    attack!("publishes to one channel", publishes::to_one_channel),
    attack!("publishes, limited by address", publishes::to_one_channel, PER_ADDRESS, Plain),
    attack!("batches of 10,000", publishes::batches),
    attack!("publishes by one subject", tokens::one_subject, &[], Tokens),
    attack!("polls that do not wait", publishes::polls),
    attack!("polls whose clients leave", publishes::abandoned_polls),
    attack!("pipelined requests", publishes::requests),
    attack!("pipelined refusals", publishes::refused),
    attack!("request smuggling", smuggling::all),
    attack!("forged tokens", tokens::forged, &[], Tokens),
    attack!("good tokens by the thousand", tokens::verified, &[], Tokens),
    attack!("routes of administrators", tokens::admin_routes, &[], Tokens),
    attack!("half a TLS handshake", tls::half_handshakes, &[], Tls),
    attack!("TLS handshakes", tls::handshakes, &[], Tls),
    attack!("what is no TLS", tls::garbage, &[], Tls),
    attack!("HTTP/2 rapid resets", http2::rapid_resets),
    attack!("HTTP/2 resets by the hub", http2::made_resets),
    attack!("HTTP/2 CONTINUATION", http2::continuations),
    attack!("HTTP/2 tiny windows", http2::tiny_windows),
    attack!("HTTP/2 readers that stop", http2::stalled_streams),
    attack!("HTTP/2 pings and settings", http2::pings_and_settings),
    attack!("HTTP/2 empty frames", http2::empty_frames),
    attack!("HTTP/2 compression bombs", http2::compression_bomb),
];

/// What the bounds on batches and on what is under way are for: without them one batch holds up all
/// publishers, and with them their subscribers, for as long as it takes.
pub(crate) const UNBOUNDED: Attack = attack!(
    "batches without bounds",
    publishes::batches_of_a_million,
    &[
        ("limits.publish.batch_events_max", "1000000"),
        ("limits.publish.body_bytes_max", "200000000"),
        ("limits.publish.bodies_bytes_max", "2000000000"),
        ("limits.publish.wait_ms", "60000"),
    ],
    Plain
);
