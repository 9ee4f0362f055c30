//! A connection in words.

use std::time::Duration;

use serde_json::Value;

use super::{human, terminal::harmless};

/// What a connection is, what its state is, and when it will end: a sentence a line.
pub(crate) fn connection(found: &Value) -> String {
    let text = |member: &str| found[member].as_str().map(harmless);
    let word = |member: &str| text(member).unwrap_or_default();
    let number = |member: &str| found[member].as_u64().unwrap_or_default();
    let kind = match found["transport"].as_str() {
        Some("poll") => "a waiting poll",
        _ => "a stream",
    };
    let has_ended = found["state"] == "closed";
    let mut lines = vec![format!(
        "Connection {} {} {kind} of {}.",
        word("id"),
        if has_ended { "was" } else { "is" },
        selectors(found, ", ")
    )];
    if let Some(types) = found["types"].as_array().filter(|types| !types.is_empty()) {
        let types: Vec<&str> = types.iter().filter_map(Value::as_str).collect();
        lines.push(format!(
            "It receives events of these types alone: {}.",
            harmless(&types.join(", "))
        ));
    }
    let peer = text("peer").map_or("at an address that is not known".to_owned(), |peer| {
        text("proxy").map_or(peer.clone(), |proxy| format!("{peer}, by the proxy {proxy}"))
    });
    let identity = text("identity").map(|who| format!(", as {who}")).unwrap_or_default();
    let age = human::age(Duration::from_secs(number("age_s")));
    let idle = human::age(Duration::from_millis(number("idle_ms")));
    lines.push(format!("Its client is {peer}{identity}."));
    lines.push(format!(
        "It {} open for {age}, and its client last took a byte {idle} before {}.",
        if has_ended { "was" } else { "has been" },
        if has_ended { "its end" } else { "now" }
    ));
    lines.push(format!(
        "It has been sent {}, {} a second lately, and has everything of its channels up to {}.",
        human::bytes(number("sent_bytes")),
        human::bytes(number("bytes_per_s")),
        word("position")
    ));
    match found["state"].as_str() {
        Some("live") => lines.push("It is live: nothing is due to it.".to_owned()),
        Some("behind") => {
            let reason = word("reason");
            let why = behind(&reason);
            lines.push(format!("It is behind: {why}."));
            lines.push(format!(
                "It lags {} of at most {} events, and {} of at most {}; {} of the event in flight wait \
                 for its client.",
                human::count(number("lag_events")),
                human::count(number("lag_events_max")),
                human::bytes(number("lag_bytes")),
                human::bytes(number("lag_bytes_max")),
                human::bytes(number("unsent_bytes"))
            ));
            if let Some(stalls_at) = text("stalls_at") {
                lines.push(format!(
                    "If its client takes no byte until {stalls_at} it is ended \
                     (limits.connections.write_stall_s)."
                ));
            }
            lines.push(match found["policy"].as_str() {
                Some("skip") => {
                    "If it lags too far it skips to the newest event, after a gap.".to_owned()
                }
                _ => "If it lags too far it is closed, and can resume by its position.".to_owned(),
            });
        }
        _ => {
            lines.push(format!("It ended at {}: {}.", word("ended_at"), closed(&word("reason"))));
            if number("lag_events") > 0 {
                lines.push(format!(
                    "It lagged {} of at most {} events, and {} of at most {}.",
                    human::count(number("lag_events")),
                    human::count(number("lag_events_max")),
                    human::bytes(number("lag_bytes")),
                    human::bytes(number("lag_bytes_max"))
                ));
            }
        }
    }
    if let Some(ends_at) = text("ends_at") {
        lines.push(match found["ends_for"].as_str() {
            Some("token") => format!("Its token expires at {ends_at}; a fresh one renews it."),
            Some("age") => format!("It reaches limits.connections.age_max_s at {ends_at}."),
            Some("drain") => format!("The hub is going down, and ends it at {ends_at}."),
            Some("deadline") => format!("It is answered at {ends_at} at the latest."),
            _ => format!("The hub ends it at {ends_at}."),
        });
    }
    lines.join("\n") + "\n"
}

/// The channels and patterns of a connection, as far as the report lists them.
pub(crate) fn selectors(connection: &Value, between: &str) -> String {
    let listed = ["channels", "patterns"].into_iter().flat_map(|member| {
        connection[member].as_array().into_iter().flatten().filter_map(Value::as_str)
    });
    let mut listed: Vec<String> = listed.map(harmless).collect();
    let all = connection["subscriptions"].as_u64().unwrap_or_default() as usize;
    if all > listed.len() {
        listed.push(format!("and {} more", all - listed.len()));
    }
    listed.join(between)
}

fn behind(reason: &str) -> &str {
    match reason {
        "blocked" => "its client takes no more bytes for now",
        "replaying" => "it is being sent what lay in history when it came",
        "catching_up" => "it reads from history what could not be sent at once",
        "ending" => "it ends when its last bytes are out",
        other => other,
    }
}

fn closed(reason: &str) -> &str {
    match reason {
        "peer_closed" => "its client closed it, or is gone",
        "slow_consumer" => {
            "it lagged further than limits.connections.lag_events_max or lag_bytes_max, or history \
             dropped its next event"
        }
        "write_stalled" => "its client took no byte for limits.connections.write_stall_s",
        "timed_out" => {
            "its system confirmed nothing, or left too little room for bytes, for \
             limits.connections.write_stall_s and heartbeat_s together"
        }
        "channel_closed" => "the last channel that it named was closed",
        "aged" => "it reached limits.connections.age_max_s",
        "drained" => "the hub was going down",
        "unexpected_input" => "its client sent more than a client of a stream may",
        "unsent_ceiling" => {
            "the hub held limits.connections.unsent_bytes_max, and it was among the slowest"
        }
        "panicked" => "a step of it panicked, which is a defect of the hub",
        "token_expired" => "its client's token expired",
        "token_outgrown" => "a fresh token did not allow what it received",
        "ended_by_admin" => "an administrator ended it",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found() -> Value {
        json!({
            "id": "4711", "state": "behind", "reason": "blocked", "transport": "sse",
            "channels": ["orders/eu"], "patterns": ["jobs/**"], "subscriptions": 3, "types": [],
            "position": "w6-1042", "lag_events": 17, "lag_bytes": 3502, "lag_events_max": 1000,
            "lag_bytes_max": 262_144, "unsent_bytes": 113, "sent_bytes": 2_097_152,
            "bytes_per_s": 240, "age_s": 3600, "idle_ms": 2150, "policy": "disconnect",
            "ends_at": "2026-01-02T04:00:00.000Z", "ends_for": "token",
            "stalls_at": "2026-01-02T03:04:33.528Z",
            "peer": "203.0.113.7:50123", "identity": "ann\u{1b}[2J", "shard": 0
        })
    }

    #[test]
    fn a_slow_stream_is_explained() {
        assert_eq!(
            connection(&found()),
            "Connection 4711 is a stream of orders/eu, jobs/**, and 1 more.\n\
             Its client is 203.0.113.7:50123, as ann\u{fffd}[2J.\n\
             It has been open for 1h 0m, and its client last took a byte 2s before now.\n\
             It has been sent 2.00 MiB, 240 B a second lately, and has everything of its channels up to \
             w6-1042.\n\
             It is behind: its client takes no more bytes for now.\n\
             It lags 17 of at most 1,000 events, and 3.42 KiB of at most 256 KiB; 113 B of the event in \
             flight wait for its client.\n\
             If its client takes no byte until 2026-01-02T03:04:33.528Z it is ended \
             (limits.connections.write_stall_s).\n\
             If it lags too far it is closed, and can resume by its position.\n\
             Its token expires at 2026-01-02T04:00:00.000Z; a fresh one renews it.\n"
        );
    }

    #[test]
    fn a_poll_that_ended_is_explained() {
        let mut found = found();
        for (member, value) in [
            ("state", "closed"),
            ("reason", "ended_by_admin"),
            ("ended_at", "2026-01-02T03:04:05.678Z"),
            ("transport", "poll"),
        ] {
            found[member] = value.into();
        }
        (found["ends_at"], found["ends_for"]) = (Value::Null, Value::Null);
        let text = connection(&found);
        assert!(text.starts_with("Connection 4711 was a waiting poll of"), "{text}");
        let last = "It ended at 2026-01-02T03:04:05.678Z: an administrator ended it.\n\
                    It lagged 17 of at most 1,000 events, and 3.42 KiB of at most 256 KiB.\n";
        assert!(text.ends_with(last), "{text}");
    }
}
