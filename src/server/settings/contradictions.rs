//! Finds values that are allowed by themselves and do not go together.

use super::{Settings, SettingsError};

/// Every contradiction in `settings`; `origin` says where the value of a key came from.
pub(super) fn find(settings: &Settings, origin: impl Fn(&str) -> String) -> Vec<SettingsError> {
    let mut errors = Vec::new();
    listening(settings, &origin, &mut errors);
    for (low, high, reason) in ordered_pairs(settings) {
        if low.value > high.value {
            errors.push(SettingsError::Contradiction {
                subject: format!(
                    "{} = {} ({}) is more than {} = {} ({}):",
                    low.key,
                    low.value,
                    origin(low.key),
                    high.key,
                    high.value,
                    origin(high.key),
                ),
                reason: reason.to_owned(),
                remedy: "lower the first or raise the second".to_owned(),
            });
        }
    }
    errors
}

fn listening(
    settings: &Settings,
    origin: &impl Fn(&str) -> String,
    errors: &mut Vec<SettingsError>,
) {
    for (at, addr) in settings.listen.iter().enumerate() {
        let subject = format!("listen = {addr} ({})", origin("listen"));
        if settings.listen[..at].contains(addr) && addr.socket_addr().port() != 0 {
            errors.push(SettingsError::Contradiction {
                subject: subject.clone(),
                reason: "is there twice, and an address is bound once".to_owned(),
                remedy: "remove one".to_owned(),
            });
        } else if !addr.is_loopback() && !settings.insecure {
            errors.push(SettingsError::Contradiction {
                subject,
                reason: "reaches beyond this machine, and nothing authenticates clients: whoever \
                         reaches it may publish, read and delete"
                    .to_owned(),
                remedy: "listen on 127.0.0.1 or [::1], or accept that with --insecure \
                         (insecure = true)"
                    .to_owned(),
            });
        }
    }
}

/// Pairs of which the first must not be more than the second.
fn ordered_pairs(settings: &Settings) -> [(Bound, Bound, &'static str); 5] {
    let limits = &settings.limits;
    let bound = |key, value| Bound { key, value };
    [
        (
            bound("limits.connections.retry_min_ms", limits.connections.retry_min_ms.into()),
            bound("limits.connections.retry_max_ms", limits.connections.retry_max_ms.into()),
            "reconnection times are spread between the two",
        ),
        (
            bound("limits.poll.timeout_s", limits.poll.timeout_s.into()),
            bound("limits.poll.timeout_max_s", limits.poll.timeout_max_s.into()),
            "a poll that does not say how long would wait longer than any may",
        ),
        (
            bound("limits.poll.limit", limits.poll.limit.into()),
            bound("limits.poll.limit_max", limits.poll.limit_max.into()),
            "a poll that does not say how many would be given more than any may ask for",
        ),
        (
            bound("limits.publish.body_bytes_max", limits.publish.body_bytes_max),
            bound("limits.publish.bodies_bytes_max", limits.publish.bodies_bytes_max),
            "one body would be promised more than all bodies have",
        ),
        (
            bound("limits.history.bytes_max", limits.history.bytes_max),
            bound("limits.history.total_bytes_max", limits.history.total_bytes_max),
            "one channel would be promised more than all channels have",
        ),
    ]
}

struct Bound {
    key: &'static str,
    value: u64,
}
