//! The kinds of values: how a value of each is parsed, which ones are allowed, and how a refusal
//! describes them.

use std::fmt;

use super::{ListenAddr, PublicKeyFile};
use crate::auth::{PatternTemplate, REDACTED};
use crate::disk::SyncPolicy;
use crate::http::{OriginPattern, ProxyBlock, is_origin};
use crate::model::ChannelPattern;
use crate::redis::BackendAddress;
use crate::telemetry::{CollectorUrl, LogFilter};

/// The values that a setting may have. `Display` describes them in a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Allowed {
    /// `true` or `false`.
    Switch,
    /// A whole number between two bounds, both included.
    Whole {
        /// The smallest number allowed.
        min: i64,
        /// The largest number allowed.
        max: i64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// One or more addresses: in a file a string or an array of strings, elsewhere separated by
    /// commas.
    Addresses,
    /// Host names or IP addresses, possibly none: in a file a string or an array of strings,
    /// elsewhere separated by commas.
    Hosts,
    /// A log level, or levels by module.
    LogFilter,
    /// A secret, which is never shown; empty for none.
    Secret,
    /// Any text without control characters; empty for none.
    Text,
    /// A URL, of which user information and query are never shown; empty for none.
    Url,
    /// The address of a backend; empty, or `memory:`, for none. An invalid one is never shown,
    /// since it may contain a password.
    Backend,
    /// The URL of a collector of traces; empty for none. An invalid one is never shown, since it
    /// may contain a password.
    Collector,
    /// A short name of letters, digits, `-`, `_`, `.` and `:`.
    Name,
    /// Texts, possibly none: in a file a string or an array of strings, elsewhere separated by
    /// commas. Patterns, key files, origins and networks are written in the same way.
    Texts,
    /// Channel names and patterns, with `{sub}` for the subject.
    Patterns,
    /// A channel name or pattern.
    Pattern,
    /// Rules for channels: in a file an array of tables, elsewhere such an array as TOML text.
    Rules,
    /// Files of public keys, each as an algorithm, a colon and a path.
    KeyFiles,
    /// `always`, or an interval as in `200ms`.
    Sync,
    /// The name of a cookie; empty for none.
    CookieName,
    /// Web origins.
    Origins,
    /// Web origins, also with `*.` for all subdomains, and `*` for any origin.
    OriginPatterns,
    /// IP addresses, and blocks of them.
    Networks,
}

impl Allowed {
    /// The value in its normal form, or `None` if it is not allowed.
    pub(super) fn admit(&self, value: &toml::Value) -> Option<toml::Value> {
        let admitted = match (self, value) {
            (Self::Switch, toml::Value::Boolean(_)) => true,
            (Self::Whole { min, max }, toml::Value::Integer(number)) => {
                (*min..=*max).contains(number)
            }
            (Self::Choice(words), toml::Value::String(word)) => words.contains(&word.as_str()),
            (Self::Sync, toml::Value::String(text)) => text.parse::<SyncPolicy>().is_ok(),
            (Self::LogFilter, toml::Value::String(text)) => text.parse::<LogFilter>().is_ok(),
            (Self::Secret, toml::Value::String(text)) => {
                // `visnyk config` prints `***`, which is not a secret to run with.
                text != REDACTED && text.len() <= TEXT_BYTES_MAX
            }
            (Self::Text | Self::Url, toml::Value::String(text)) => is_text(text),
            (Self::Backend, toml::Value::String(text)) if text == "memory:" => {
                return Some(toml::Value::String(String::new()));
            }
            (Self::Backend, toml::Value::String(text)) => {
                text.is_empty() || text.parse::<BackendAddress>().is_ok()
            }
            (Self::Collector, toml::Value::String(text)) => {
                text.is_empty() || text.parse::<CollectorUrl>().is_ok()
            }
            (Self::Name, toml::Value::String(text)) => is_name(text),
            (Self::CookieName, toml::Value::String(text)) => {
                text.len() <= TEXT_BYTES_MAX && text.bytes().all(is_token_byte)
            }
            (list, toml::Value::String(_)) if list.is_list() => {
                return self.admit(&toml::Value::Array(vec![value.clone()]));
            }
            (Self::Texts, toml::Value::Array(items)) => {
                all_texts(items, |text| !text.is_empty() && is_text(text))
            }
            (Self::Patterns, toml::Value::Array(items)) => {
                all_texts(items, |text| PatternTemplate::parse(text).is_ok())
            }
            (Self::Pattern, toml::Value::String(text)) => ChannelPattern::parse(text).is_ok(),
            (Self::Rules, toml::Value::Array(_)) => true,
            (Self::KeyFiles, toml::Value::Array(items)) => {
                all_texts(items, |text| is_text(text) && PublicKeyFile::parse(text).is_some())
            }
            (Self::Origins, toml::Value::Array(items)) => all_texts(items, is_origin),
            (Self::OriginPatterns, toml::Value::Array(items)) => {
                all_texts(items, |text| OriginPattern::parse(text).is_ok())
            }
            (Self::Networks, toml::Value::Array(items)) => {
                all_texts(items, |text| text.parse::<ProxyBlock>().is_ok())
            }
            (Self::Hosts, toml::Value::Array(items)) => all_texts(items, is_host),
            (Self::Addresses, toml::Value::Array(items)) => return all_addresses(items),
            _ => false,
        };
        admitted.then(|| value.clone())
    }

    /// Parses the text of a variable or a flag into the type of the key. A text that cannot be
    /// parsed is returned as text, which [`admit`](Self::admit) refuses.
    pub(super) fn parse(&self, text: &str) -> toml::Value {
        let as_text = || toml::Value::String(text.to_owned());
        match self {
            Self::Switch => text.parse().map_or_else(|_| as_text(), toml::Value::Boolean),
            Self::Whole { .. } => text.parse().map_or_else(|_| as_text(), toml::Value::Integer),
            Self::Addresses => list(text),
            Self::Rules => rules(text).unwrap_or_else(as_text),
            _ if self.is_list() && text.trim().is_empty() => toml::Value::Array(Vec::new()),
            _ if self.is_list() => list(text),
            _ => as_text(),
        }
    }

    fn is_list(&self) -> bool {
        matches!(
            self,
            Self::Addresses
                | Self::Hosts
                | Self::Texts
                | Self::Patterns
                | Self::KeyFiles
                | Self::Origins
                | Self::OriginPatterns
                | Self::Networks
        )
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Switch => f.write_str("true or false"),
            Self::Whole { min, max } => write!(f, "a whole number from {min} to {max}"),
            Self::Choice(words) => f.write_str(&words.join(" or ")),
            Self::Addresses => f.write_str(
                "an IP address and port such as 127.0.0.1:3000, [::1]:3000 or localhost:3000, :3000 for \
                 every address of this machine, or several",
            ),
            Self::Hosts => f.write_str("host names without a port, such as hub.example.org"),
            Self::Secret => f.write_str("a secret, but not the `***` that stands for one"),
            Self::Text | Self::Url => f.write_str("a text without control characters, or an empty one for none"),
            Self::Backend => f.write_str(
                "memory: (or an empty text), redis://HOST:PORT, rediss://HOST:PORT for TLS, or \
                 redis+sentinel://HOST:PORT,HOST:PORT/MASTER (rediss+sentinel:// for TLS), with /N at the \
                 end for another database than 0, or redis+cluster://HOST:PORT,HOST:PORT \
                 (rediss+cluster:// for TLS), and without a user or a password, which go into backend.user \
                 and backend.password_file; nats:// is not available in this version",
            ),
            Self::Collector => f.write_str(
                "http://HOST:PORT/v1/traces or the same with https, without a user and a query, or an empty text",
            ),
            Self::Name => f.write_str("1 to 64 letters, digits, and `-`, `_`, `.`, `:`"),
            Self::Texts => f.write_str("texts without control characters"),
            Self::Patterns => f.write_str(
                "channel names and patterns, in which whole segments may be `*`, `**` and `{sub}`",
            ),
            Self::Pattern => f.write_str(
                "a channel name or a pattern, in which whole segments may be `*` and `**`",
            ),
            Self::Rules => f.write_str(
                "an array of tables, as in [{ pattern = \"prices/**\", events_max = 100 }]",
            ),
            Self::KeyFiles => f.write_str(
                "an algorithm other than HS*, a colon, and a file, as in RS256:/etc/visnyk/key.pem, \
                 or several",
            ),
            Self::Sync => f.write_str("always, or an interval from 1ms to 60000ms"),
            Self::CookieName => f.write_str("the name of a cookie, or an empty one for none"),
            Self::Origins => f.write_str("origins such as https://app.example.org"),
            Self::OriginPatterns => f.write_str(
                "origins such as https://app.example.org or https://*.example.org, or * for any",
            ),
            Self::Networks => f.write_str("IP addresses and blocks such as 10.0.0.0/8"),
            Self::LogFilter => f.write_str(
                "off, error, warn, info, debug or trace, also by module as in \
                 info,visnyk::http=debug",
            ),
        }
    }
}

/// A host as in a `Host` header, without its port, and without brackets around IPv6.
fn is_host(text: &str) -> bool {
    let is_name = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
    };
    (1..=HOST_BYTES_MAX).contains(&text.len())
        && (is_name(text) || text.parse::<std::net::Ipv6Addr>().is_ok())
}

fn list(text: &str) -> toml::Value {
    let items = text.split(',').map(|item| toml::Value::String(item.trim().to_owned()));
    toml::Value::Array(items.collect())
}

/// Parses the rules of a variable or a flag, which are TOML.
fn rules(text: &str) -> Option<toml::Value> {
    if text.trim().is_empty() {
        return Some(toml::Value::Array(Vec::new()));
    }
    let mut table: toml::Table = toml::from_str(&format!("rules = {text}")).ok()?;
    let rules = table.remove("rules")?;
    table.is_empty().then_some(rules)
}

/// The addresses; each `:PORT` is replaced by the addresses that it stands for.
fn all_addresses(items: &[toml::Value]) -> Option<toml::Value> {
    let mut addresses = Vec::new();
    for item in items {
        let all = ListenAddr::parse_all(item.as_str()?).ok()?;
        addresses.extend(all.iter().map(|address| toml::Value::String(address.to_string())));
    }
    (!addresses.is_empty()).then_some(toml::Value::Array(addresses))
}

fn all_texts(items: &[toml::Value], is_good: impl Fn(&str) -> bool) -> bool {
    items.iter().all(|item| item.as_str().is_some_and(&is_good))
}

fn is_text(text: &str) -> bool {
    text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control)
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

/// Whether a byte may be in a token (RFC 9110, section 5.6.2), as the name of a cookie is.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Longest host name (RFC 1035, section 2.3.4).
const HOST_BYTES_MAX: usize = 255;
/// Longest [`Allowed::Name`].
const NAME_BYTES_MAX: usize = 64;
/// Longest text, secret or name of a cookie.
const TEXT_BYTES_MAX: usize = 4_096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses_without_a_port() {
        for host in ["hub.example.org", "hub", "10.0.0.1", "2001:db8::1"] {
            assert!(is_host(host), "{host}");
        }
        for host in ["", "hub.example.org:80", "[::1]", "http://hub", "*.example.org", "a b"] {
            assert!(!is_host(host), "{host}");
        }
    }
}
