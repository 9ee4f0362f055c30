//! Finds settings that contradict each other, although each value is allowed by itself.

use super::{SECRET_BYTES_MIN, Settings, SettingsError};
use crate::{
    http::{MetricsAccess, OriginPattern, Role},
    telemetry::CollectorHeaders,
};

/// Every contradiction in `settings`; `set_by` says where the value of a key came from.
pub(super) fn find(settings: &Settings, set_by: impl Fn(&str) -> String) -> Vec<SettingsError> {
    let mut errors = Vec::new();
    listening(settings, &set_by, &mut errors);
    errors.extend(certificate_and_key(settings, &set_by));
    errors.extend(take_over_without_log(settings, &set_by));
    errors.extend(backend(settings, &set_by));
    errors.extend(hsts_without_tls(settings, &set_by));
    errors.extend(authentication(settings, &set_by));
    errors.extend(credentials_of_pages(settings, &set_by));
    errors.extend(channel_rules(settings, &set_by));
    errors.extend(traces(settings, &set_by));
    for (low, high, reason) in ordered_pairs(settings) {
        if low.value > high.value {
            let value =
                |bound: &Bound| format!("{} = {} ({})", bound.key, bound.value, set_by(bound.key));
            let subject = format!("{} is more than {}:", value(&low), value(&high));
            errors.push(contradiction(subject, reason, "lower the first or raise the second"));
        }
    }
    errors
}

fn listening(
    settings: &Settings,
    set_by: &impl Fn(&str) -> String,
    errors: &mut Vec<SettingsError>,
) {
    for (at, addr) in settings.listen.iter().enumerate() {
        let subject = format!("listen = {addr} ({})", set_by("listen"));
        if settings.listen[..at].contains(addr) && addr.socket_addr().port() != 0 {
            let reason = "is given twice, and an address can be bound only once";
            errors.push(contradiction(subject, reason, "remove one"));
        } else if !addr.is_loopback() && !settings.insecure && !settings.authenticates() {
            errors.push(contradiction(
                subject,
                "reaches beyond this machine, and nothing authenticates clients: \
                         every client that reaches it may publish, read and delete",
                "set VISNYK_JWT_SECRET or another key, listen on 127.0.0.1 or [::1], or \
                         accept that with --insecure (insecure = true)",
            ));
        }
    }
}

/// A certificate without its key, or a key without its certificate.
fn certificate_and_key(
    settings: &Settings,
    set_by: &impl Fn(&str) -> String,
) -> Option<SettingsError> {
    let (has, lacks) = match (settings.tls_cert.is_empty(), settings.tls_key.is_empty()) {
        (false, true) => ("tls_cert", "tls_key"),
        (true, false) => ("tls_key", "tls_cert"),
        _ => return None,
    };
    let subject = format!("{has} ({})", set_by(has));
    let reason = format!("encrypts nothing without {lacks}");
    let remedy = format!("name the other file in {lacks}, or remove it");
    Some(contradiction(subject, reason, remedy))
}

/// `take_over` without a log on disk.
fn take_over_without_log(
    settings: &Settings,
    set_by: &impl Fn(&str) -> String,
) -> Option<SettingsError> {
    (settings.take_over && settings.data_dir.is_empty()).then(|| {
        contradiction(
            format!("take_over ({})", set_by("take_over")),
            "has no effect without data_dir",
            "name the directory that both hubs use, or remove it",
        )
    })
}

/// A shared log together with a log on disk, and settings of a shared log without its address.
fn backend(settings: &Settings, set_by: &impl Fn(&str) -> String) -> Vec<SettingsError> {
    let backend = &settings.backend;
    let mut errors = Vec::new();
    if settings.role != Role::All && backend.url.is_empty() {
        errors.push(contradiction(
            format!("role = {} ({})", settings.role.as_str(), set_by("role")),
            "needs a shared log: without backend.url no other hub can take the other role",
            "set backend.url, or remove it",
        ));
    }
    if !backend.url.is_empty() && !settings.data_dir.is_empty() {
        errors.push(contradiction(
            format!(
                "backend.url ({}) and data_dir ({})",
                set_by("backend.url"),
                set_by("data_dir")
            ),
            "are both set, and the log is kept in only one of them",
            "remove one",
        ));
    }
    if backend.counts_expiry_ms / 2 < backend.counts_interval_ms {
        errors.push(contradiction(
            format!(
                "backend.counts_expiry_ms ({}) and backend.counts_interval_ms ({})",
                set_by("backend.counts_expiry_ms"),
                set_by("backend.counts_interval_ms")
            ),
            "let a hub's report expire when one is late",
            "set the expiry to twice the interval or more",
        ));
    }
    if !backend.user.is_empty() && backend.password_file.is_empty() {
        errors.push(contradiction(
            format!("backend.user ({})", set_by("backend.user")),
            "has no password",
            "name the file with it in backend.password_file",
        ));
    }
    for (key, value) in [
        ("backend.user", &backend.user),
        ("backend.password_file", &backend.password_file),
        ("backend.ca_file", &backend.ca_file),
    ] {
        let subject = format!("{key} ({})", set_by(key));
        if !value.is_empty() && backend.url.is_empty() {
            let remedy = "set backend.url, or remove it";
            errors.push(contradiction(subject, "has no effect without backend.url", remedy));
        } else if key == "backend.ca_file"
            && !value.is_empty()
            && !backend.url.starts_with("rediss")
        {
            let remedy = "begin backend.url with rediss://, or remove it";
            errors.push(contradiction(subject, "has no effect without TLS", remedy));
        }
    }
    errors
}

/// Header fields without a collector, or malformed ones.
fn traces(settings: &Settings, set_by: &impl Fn(&str) -> String) -> Option<SettingsError> {
    let traces = &settings.traces;
    if traces.headers.is_empty() {
        return None;
    }
    let subject = format!("traces.headers ({})", set_by("traces.headers"));
    if traces.endpoint.is_empty() {
        let remedy = "set traces.endpoint, or remove it";
        return Some(contradiction(subject, "has no effect without traces.endpoint", remedy));
    }
    let error = CollectorHeaders::parse(&traces.headers).err()?;
    let remedy = "write it as in authorization=Bearer abc,x-team=a";
    Some(contradiction(subject, format!("cannot be used: {error}"), remedy))
}

/// `hsts_max_age_s` without TLS: browsers ignore the field then.
fn hsts_without_tls(
    settings: &Settings,
    set_by: &impl Fn(&str) -> String,
) -> Option<SettingsError> {
    (settings.hsts_max_age_s > 0 && !settings.has_tls()).then(|| {
        contradiction(
            format!("hsts_max_age_s = {} ({})", settings.hsts_max_age_s, set_by("hsts_max_age_s")),
            "has no effect without tls_cert and tls_key",
            "name them, or let the proxy in front send it",
        )
    })
}

/// Settings of authentication that protect nothing, or less than they seem to.
fn authentication(settings: &Settings, set_by: &impl Fn(&str) -> String) -> Vec<SettingsError> {
    let auth = &settings.auth;
    let with_origin = |key: &str| format!("{key} ({})", set_by(key));
    let mut errors = Vec::new();
    let mut refuse = |subject: String, reason: &str, remedy: &str| {
        errors.push(contradiction(subject, reason, remedy));
    };
    for (key, is_set) in [
        ("allow_anonymous", !settings.allow_anonymous.is_empty()),
        ("auth.issuer", !auth.issuer.is_empty()),
        ("auth.audience", !auth.audience.is_empty()),
        ("auth.cookie", !auth.cookie.is_empty()),
        ("auth.metrics", auth.metrics == MetricsAccess::Token),
        ("auth.metrics_token", !auth.metrics_token.is_empty()),
    ] {
        if is_set && !settings.authenticates() {
            refuse(
                with_origin(key),
                "restricts nothing while no key authenticates clients",
                "set VISNYK_JWT_SECRET or another key, or remove it",
            );
        }
    }
    if !settings.jwt_secret.is_empty() && !settings.jwt_secret_file.is_empty() {
        refuse(
            format!("{} and {}", with_origin("jwt_secret"), with_origin("jwt_secret_file")),
            "are both set, and there is only one secret",
            "remove one",
        );
    }
    let length = settings.jwt_secret.len();
    if (1..SECRET_BYTES_MIN).contains(&length) && !settings.is_on_loopback() && !settings.insecure {
        refuse(
            format!(
                "{} has {length} bytes and listen reaches beyond this machine:",
                with_origin("jwt_secret")
            ),
            "a secret of less than 32 bytes can be found by trying",
            "make a longer one, as with `openssl rand -base64 32`",
        );
    }
    if let Some(error) = auth.jwks_url.parse().err().filter(|_| !auth.jwks_url.is_empty()) {
        let subject = format!("auth.jwks_url = {:?} ({})", auth.jwks_url, set_by("auth.jwks_url"));
        refuse(subject, &format!("is refused: {error}"), "give the issuer's https:// address");
    }
    let has_cookie_pages = !auth.cookie_origins.is_empty() || settings.cors.credentials;
    if !auth.cookie.is_empty() && !has_cookie_pages {
        refuse(
            with_origin("auth.cookie"),
            "is sent by a browser for requests of any page, and auth.cookie_origins names no page that \
             may publish with it",
            "name the origins of your own pages, as in auth.cookie_origins = \
             \"https://app.example.org\"",
        );
    }
    if auth.cookie.is_empty() && !auth.cookie_origins.is_empty() {
        refuse(
            with_origin("auth.cookie_origins"),
            "has no effect without auth.cookie",
            "name the cookie in auth.cookie, or remove it",
        );
    }
    errors
}

/// `cors.credentials` with patterns that match too many origins, or without any.
fn credentials_of_pages(
    settings: &Settings,
    set_by: &impl Fn(&str) -> String,
) -> Vec<SettingsError> {
    if !settings.cors.credentials {
        return Vec::new();
    }
    let subject = format!("cors.credentials = true ({})", set_by("cors.credentials"));
    let mut errors = Vec::new();
    if settings.cors_origins.iter().any(OriginPattern::is_any) {
        errors.push(contradiction(
            format!("{subject} and cors_origins = \"*\" ({})", set_by("cors_origins")),
            "do not go together: any page could read and publish as its visitor",
            "name the origins of your own pages, or leave credentials off",
        ));
    }
    if let Some(wide) = settings.cors_origins.iter().find(|it| it.covers_top_level_domain()) {
        let (wide, from) = (String::from(wide.clone()), set_by("cors_origins"));
        errors.push(contradiction(
            format!("{subject} and cors_origins = \"{wide}\" ({from})"),
            "do not go together: every owner of a name there could read and publish \
                     as their visitor",
            "name the origins of your own pages, or leave credentials off",
        ));
    }
    if settings.cors_origins.is_empty() {
        errors.push(contradiction(
            subject,
            "has no effect without cors_origins",
            "name the origins of your own pages in cors_origins, or remove it",
        ));
    }
    errors
}

/// More rules for channels than allowed, and rules that exceed limits of the hub.
fn channel_rules(settings: &Settings, set_by: &impl Fn(&str) -> String) -> Vec<SettingsError> {
    let (rules, limits) = (&settings.channels.rules, &settings.limits);
    let (rules_max, total) = (limits.channels.rules_max, limits.history.total_bytes_max);
    let from = set_by("channels.rules");
    let mut errors = Vec::new();
    if rules.len() > rules_max as usize {
        errors.push(contradiction(
            format!("channels.rules ({from}) has {} rules,", rules.len()),
            format!(
                "and limits.channels.rules_max is {rules_max}: each new channel is matched with all"
            ),
            "join rules, or raise the limit",
        ));
    }
    // With a log on disk the total limits only what is in memory.
    let is_in_memory = settings.data_dir.is_empty();
    for (index, rule) in rules.iter().enumerate() {
        let exceeds = |bytes_max: &u64| is_in_memory && *bytes_max > total;
        if let Some(bytes_max) = rule.bytes_max.filter(exceeds) {
            errors.push(contradiction(
                format!("bytes_max = {bytes_max} of rule {} of channels.rules ({from})", index + 1),
                format!(
                    "is more than limits.history.total_bytes_max = {total}: one channel would be \
                         promised more than all channels have"
                ),
                "lower the first or raise the second",
            ));
        }
    }
    errors
}

/// Pairs of settings, of which the first must not be more than the second.
fn ordered_pairs(settings: &Settings) -> [(Bound, Bound, &'static str); 9] {
    let limits = &settings.limits;
    let bound = |key, value| Bound { key, value };
    [
        (
            bound("auth.jwks_refresh_min_s", settings.auth.jwks_refresh_min_s.into()),
            bound("auth.jwks_refresh_s", settings.auth.jwks_refresh_s.into()),
            "tokens with unknown keys would cause a refresh less often than the clock does",
        ),
        (
            bound("limits.connections.retry_min_ms", limits.connections.retry_min_ms.into()),
            bound("limits.connections.retry_max_ms", limits.connections.retry_max_ms.into()),
            "reconnection times are spread between the two",
        ),
        (
            bound("limits.poll.timeout_s", limits.poll.timeout_s.into()),
            bound("limits.poll.timeout_max_s", limits.poll.timeout_max_s.into()),
            "a poll without `timeout` would wait longer than any poll may",
        ),
        (
            bound("limits.poll.limit", limits.poll.limit.into()),
            bound("limits.poll.limit_max", limits.poll.limit_max.into()),
            "a poll without `limit` would be given more events than any poll may ask for",
        ),
        (
            bound("limits.publish.body_bytes_max", limits.publish.body_bytes_max),
            bound("limits.publish.bodies_bytes_max", limits.publish.bodies_bytes_max),
            "one body could take more memory than all bodies together",
        ),
        (
            bound("limits.http2.window_bytes", limits.http2.window_bytes.into()),
            bound(
                "limits.http2.connection_window_bytes",
                limits.http2.connection_window_bytes.into(),
            ),
            "one body could take more memory than all bodies of its connection together",
        ),
        (
            bound("limits.requests.target_bytes_max", limits.requests.target_bytes_max.into()),
            bound("limits.requests.head_bytes_max", limits.requests.head_bytes_max.into()),
            "a target could be longer than the whole head",
        ),
        (
            bound("auth.token_bytes_max", settings.auth.token_bytes_max.into()),
            bound("limits.requests.target_bytes_max", limits.requests.target_bytes_max.into()),
            "a token in the query would be longer than the whole target may be",
        ),
        (
            bound("limits.history.bytes_max", limits.history.bytes_max),
            // With a log on disk this limits only what is in memory.
            bound(
                "limits.history.total_bytes_max",
                match settings.data_dir.is_empty() {
                    true => limits.history.total_bytes_max,
                    false => u64::MAX,
                },
            ),
            "one channel could keep more than all channels together",
        ),
    ]
}

fn contradiction(
    subject: String,
    reason: impl Into<String>,
    remedy: impl Into<String>,
) -> SettingsError {
    SettingsError::Contradiction { subject, reason: reason.into(), remedy: remedy.into() }
}

struct Bound {
    key: &'static str,
    value: u64,
}
