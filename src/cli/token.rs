//! `visnyk token`: mints tokens with the secret of the settings, and explains them.

use std::{
    io,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use visnyk::{
    auth::{Audience, Claims, GrantClaims, Identity, PatternTemplate, TokenError, Verifier, mint},
    model::rfc3339_millis,
    server::{self, Settings},
};

use super::{CliError, output::print, settings};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  visnyk token --subject ann --ttl 15m --publish 'users/{sub}/**' --subscribe 'users/{sub}/**'
  visnyk token --admin                for status, channels, connections, top, close and disconnect
  visnyk token --explain \"$TOKEN\"")]
pub(crate) struct Args {
    /// Channels that may be subscribed to: a name or a pattern, in which a segment `{sub}` is the
    /// subject; repeatable.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    subscribe: Vec<String>,

    /// Channels that may be published to; repeatable.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    publish: Vec<String>,

    /// The subject of the token.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,

    /// How long it is good for, as in 30s, 15m, 1h or 7d.
    #[arg(long, default_value = "1h", value_parser = ttl)]
    ttl: Duration,

    /// Allows closing channels, ending connections, and seeing all of both and the hub's status.
    #[arg(long)]
    admin: bool,

    /// Says what a token may do, and why it is refused if it is; `-` reads it from stdin. Asks no
    /// network.
    #[arg(
        long,
        value_name = "TOKEN",
        conflicts_with_all = ["subscribe", "publish", "subject", "ttl", "admin"]
    )]
    explain: Option<String>,

    #[command(flatten)]
    settings: settings::SettingsArgs,
}

/// Prints a token, or what one may do. A token that is refused is a failure.
pub(crate) fn run(args: Args) -> Result<(), CliError> {
    let settings = args.settings.load()?.into_settings();
    match args.explain {
        Some(token) => {
            let token = if token == "-" { read_token()? } else { token };
            explain(&settings, token.trim())
        }
        None => {
            let grants =
                GrantClaims { publish: args.publish, subscribe: args.subscribe, admin: args.admin };
            print(minted(&settings, args.subject, args.ttl, grants)? + "\n")
        }
    }
}

fn minted(
    settings: &Settings,
    subject: Option<String>,
    ttl: Duration,
    grants: GrantClaims,
) -> Result<String, CliError> {
    let secret = server::signing_secret(settings).map_err(CliError::failed)?;
    let Some((secret, algorithm)) = secret else {
        return Err(CliError::Usage(
            "there is no secret to sign with: set VISNYK_JWT_SECRET, or give --jwt-secret-file"
                .to_owned(),
        ));
    };
    let now = unix_time().as_secs();
    let audience = settings.auth.audience.first();
    let claims = Claims {
        iss: Some(settings.auth.issuer.clone()).filter(|issuer| !issuer.is_empty()),
        aud: audience.map(|audience| Audience::One(audience.clone())),
        sub: subject,
        iat: Some(now as f64),
        exp: Some((now + ttl.as_secs()) as f64),
        nbf: None,
        visnyk: Some(grants),
    };
    // A token that the hub would refuse is refused here already.
    Identity::of_claims(&claims, &[]).map_err(|error| CliError::Usage(error.to_string()))?;
    mint(&claims, &secret, algorithm).map_err(CliError::failed)
}

fn explain(settings: &Settings, token: &str) -> Result<(), CliError> {
    let Some(verifier) = server::verifier(settings).map_err(CliError::failed)? else {
        return Err(CliError::Usage(
            "there is no key to check the token with: set VISNYK_JWT_SECRET, or give \
             --jwt-secret-file or another key of the settings"
                .to_owned(),
        ));
    };
    let now_ms = unix_time().as_millis() as u64;
    let verdict = verifier.verify_with_known(token, now_ms);
    print(explanation(&verifier, token, &verdict, now_ms, &settings.allow_anonymous))?;
    match verdict {
        Ok(_) => Ok(()),
        Err(TokenError::NoKeysYet) => Err(CliError::failed(
            "its signature was not checked: that needs the issuer's keys, which are fetched by the hub",
        )),
        Err(error) => Err(CliError::failed(error)),
    }
}

/// What the token says and what follows from it, one fact a line, whether or not it is valid.
fn explanation(
    verifier: &Verifier,
    token: &str,
    verdict: &Result<Identity, TokenError>,
    now_ms: u64,
    for_all: &[PatternTemplate],
) -> String {
    let mut lines = vec![match verdict {
        Ok(_) => "good: its signature holds, and this hub takes it now".to_owned(),
        Err(TokenError::NoKeysYet) => "unknown: its signature was not checked".to_owned(),
        Err(error) => format!("refused: {error}"),
    }];
    let Ok((header, claims)) = verifier.read_unverified(token) else {
        return lines.join("\n") + "\n";
    };
    let rules = verifier.rules();
    let said = |value: &Option<String>| match value {
        Some(value) => format!("{value:?}"),
        None => "none".to_owned(),
    };
    lines.push(format!("algorithm: {}", header.algorithm.as_deref().unwrap_or("none of ours")));
    lines.push(format!("key: {}", said(&header.kid)));
    lines.push(format!("subject: {}", said(&claims.sub)));
    lines.push(match &rules.issuer {
        Some(issuer) => format!("issuer: {}; this hub takes {issuer:?}", said(&claims.iss)),
        None => format!("issuer: {}", said(&claims.iss)),
    });
    let audience = match &claims.aud {
        None => "none".to_owned(),
        Some(Audience::One(one)) => format!("{one:?}"),
        Some(Audience::Many(many)) => format!("{many:?}"),
    };
    lines.push(match &*rules.audience {
        [] => format!("audience: {audience}"),
        taken => format!("audience: {audience}; this hub takes {taken:?}"),
    });
    lines.push(match claims.valid_from_ms() {
        None => "valid from: any time".to_owned(),
        Some(at) => format!("valid from: {}{}", rfc3339_millis(at), until(at, now_ms)),
    });
    lines.push(match claims.expires_ms() {
        None => "expires: never".to_owned(),
        Some(at) if at > now_ms => {
            format!("expires: {}{}", rfc3339_millis(at), until(at, now_ms))
        }
        // Clocks may differ, so it is accepted for that much longer.
        Some(at) if verdict.is_ok() => {
            format!("expired: {}, less than {} s ago", rfc3339_millis(at), rules.leeway_s)
        }
        Some(at) => format!("expired: {}", rfc3339_millis(at)),
    });
    // A refused token allows nothing.
    let may = if verdict.is_ok() { "may" } else { "asks to" };
    let grants = claims.visnyk.clone().unwrap_or_default();
    let list = |patterns: &mut dyn Iterator<Item = &str>| {
        let patterns: Vec<String> = patterns.map(|text| filled(text, &claims)).collect();
        if patterns.is_empty() { "nothing".to_owned() } else { patterns.join(", ") }
    };
    let publish = list(&mut grants.publish.iter().map(String::as_str));
    let subscribe = list(&mut grants.subscribe.iter().map(String::as_str));
    lines.push(format!("{may} publish to: {publish}"));
    lines.push(format!("{may} subscribe to: {subscribe}"));
    if verdict.is_ok() && !for_all.is_empty() {
        let also = list(&mut for_all.iter().map(PatternTemplate::as_str));
        lines.push(format!("may subscribe to, by allow_anonymous: {also}"));
    }
    lines.push(format!("{may} administer: {}", if grants.admin { "yes" } else { "no" }));
    lines.join("\n") + "\n"
}

/// The time until a later moment.
fn until(at_ms: u64, now_ms: u64) -> String {
    match at_ms.checked_sub(now_ms) {
        Some(left_ms) => format!(", in {} s", left_ms / 1_000),
        None => String::new(),
    }
}

/// A pattern with the subject inserted.
fn filled(text: &str, claims: &Claims) -> String {
    let filled = PatternTemplate::parse(text).and_then(|t| t.fill(claims.sub.as_deref()));
    match filled {
        Ok(pattern) if pattern.as_str() == text => format!("{text:?}"),
        Ok(pattern) => format!("{:?} (from {text:?})", pattern.as_str()),
        Err(error) => format!("{text:?} (cannot be used: {error})"),
    }
}

fn read_token() -> Result<String, CliError> {
    let mut line = String::new();
    io::stdin().read_line(&mut line).map_err(CliError::failed)?;
    Ok(line)
}

fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn pattern(text: &str) -> Result<String, String> {
    PatternTemplate::parse(text).map_err(|error| error.to_string())?;
    Ok(text.to_owned())
}

/// A whole number and a unit.
fn ttl(text: &str) -> Result<Duration, String> {
    let refuse = || format!("`{text}` is not a time such as 30s, 15m, 1h or 7d");
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(refuse)?;
    let unit_s = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(refuse()),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = number.parse().ok().filter(|_| digits).ok_or_else(refuse)?;
    let seconds = number.checked_mul(unit_s).filter(|s| (1..=TTL_MAX_S).contains(s));
    seconds.map(Duration::from_secs).ok_or_else(|| "a token lasts 1 s to 10 years".to_owned())
}

const TTL_MAX_S: u64 = 3_653 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_a_number_and_a_unit() {
        for (text, seconds) in [("30s", 30), ("15m", 900), ("1h", 3_600), ("7d", 604_800)] {
            assert_eq!(ttl(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "s", "1", "1 h", "-1h", "+1h", "0s", "1.5h", "99999d", "1ї"] {
            assert!(ttl(bad).is_err(), "{bad}");
        }
    }
}
