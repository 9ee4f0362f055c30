//! The address of a backend, as settings give it. It never holds a password.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// Where the log that hubs share is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendAddress {
    /// Whether connections are encrypted.
    pub tls: bool,
    /// The server, or others that know the current master.
    pub target: BackendTarget,
    /// The number of the database.
    pub database: u32,
}

/// How the server is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BackendTarget {
    /// The server has this address.
    Server(Endpoint),
    /// Sentinels, which are asked for the master at each connect.
    Sentinels {
        /// At most [`SERVERS_MAX`].
        sentinels: Vec<Endpoint>,
        /// The name by which they know the server.
        master: String,
    },
    /// Nodes of a cluster, which are asked at each connect for the one that has the log.
    Cluster {
        /// At most [`SERVERS_MAX`].
        nodes: Vec<Endpoint>,
    },
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// A host name or an IP address, without brackets.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// Why a text is not the address of a backend. It never repeats the text, which may hold a
/// password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BackendAddressError {
    /// Another scheme.
    #[error(
        "the address must begin with redis://, redis+sentinel:// or redis+cluster://, with rediss in place of \
         redis for TLS, or be empty for a log of the hub's own"
    )]
    Scheme,
    /// A scheme that a later version is to have.
    #[error("NATS is not supported in this version; use redis:// or rediss://")]
    Nats,
    /// A user or a password.
    #[error(
        "the address must not hold a user or a password: set backend.user and backend.password_file"
    )]
    Credentials,
    /// No host, or one with characters that host names do not have.
    #[error("the address has no valid host")]
    Host,
    /// An invalid port.
    #[error("the port must be a number from 1 to 65535")]
    Port,
    /// No valid name of a master, or more than [`SERVERS_MAX`] sentinels.
    #[error(
        "the address must name 1 to {SERVERS_MAX} sentinels, separated by commas, then `/` and the \
         name of their master, as in redis+sentinel://one,two,three/NAME"
    )]
    Sentinels,
    /// More than [`SERVERS_MAX`] nodes, or a database, which a cluster does not have.
    #[error(
        "the address must name 1 to {SERVERS_MAX} nodes of the cluster, separated by commas, and no database, as in \
         redis+cluster://one,two,three"
    )]
    Cluster,
    /// A path that is not the number of a database.
    #[error(
        "after the host, or the name of the master, only the number of a database is allowed, as in /0"
    )]
    Database,
}

impl FromStr for BackendAddress {
    type Err = BackendAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (scheme, rest) = text.split_once("://").ok_or(BackendAddressError::Scheme)?;
        let (tls, by) = match scheme.split_once('+').unwrap_or((scheme, "")) {
            ("redis", by) => (false, by),
            ("rediss", by) => (true, by),
            ("nats" | "tls", "") => return Err(BackendAddressError::Nats),
            _ => return Err(BackendAddressError::Scheme),
        };
        if rest.contains('@') {
            return Err(BackendAddressError::Credentials);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (target, path) = match (by, scheme.contains('+')) {
            ("", false) => (BackendTarget::Server(endpoint(authority, DEFAULT_PORT)?), path),
            ("sentinel", _) => {
                let (master, path) = path.split_once('/').unwrap_or((path, ""));
                let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
                let sentinels = endpoints(authority, SENTINEL_PORT)?;
                if master.is_empty()
                    || !master.chars().all(is_name)
                    || sentinels.len() > SERVERS_MAX
                {
                    return Err(BackendAddressError::Sentinels);
                }
                (BackendTarget::Sentinels { sentinels, master: master.to_owned() }, path)
            }
            ("cluster", _) => {
                let nodes = endpoints(authority, DEFAULT_PORT)?;
                if nodes.len() > SERVERS_MAX || !matches!(path, "" | "0") {
                    return Err(BackendAddressError::Cluster);
                }
                (BackendTarget::Cluster { nodes }, path)
            }
            _ => return Err(BackendAddressError::Scheme),
        };
        if path.contains(|c: char| !c.is_ascii_digit()) {
            return Err(BackendAddressError::Database);
        }
        let database = match path {
            "" => 0,
            digits => digits.parse().map_err(|_| BackendAddressError::Database)?,
        };
        Ok(Self { tls, target, database })
    }
}

/// Endpoints that are separated by commas.
fn endpoints(authority: &str, default_port: u16) -> Result<Vec<Endpoint>, BackendAddressError> {
    authority.split(',').map(|one| endpoint(one, default_port)).collect()
}

fn endpoint(authority: &str, default_port: u16) -> Result<Endpoint, BackendAddressError> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(BackendAddressError::Host)?;
            (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, Some("")),
        },
    };
    let port = match port.ok_or(BackendAddressError::Port)? {
        "" => default_port,
        port => port.parse().ok().filter(|port| *port > 0).ok_or(BackendAddressError::Port)?,
    };
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
    if host.is_empty() || !host.chars().all(is_host) {
        return Err(BackendAddressError::Host);
    }
    Ok(Endpoint { host: host.to_owned(), port })
}

impl fmt::Display for BackendAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.tls { "rediss" } else { "redis" })?;
        let list = |endpoints: &[Endpoint]| {
            endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(",")
        };
        match &self.target {
            BackendTarget::Server(server) => write!(f, "://{server}"),
            BackendTarget::Sentinels { sentinels, master } => {
                write!(f, "+sentinel://{}/{master}", list(sentinels))
            }
            BackendTarget::Cluster { nodes } => write!(f, "+cluster://{}", list(nodes)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        match host.contains(':') {
            true => write!(f, "[{host}]:{port}"),
            false => write!(f, "{host}:{port}"),
        }
    }
}

/// Sentinels, or nodes of a cluster, that an address may name.
/// [`FIND_TIME_MAX`](super::FIND_TIME_MAX) limits the wait for all of them.
pub const SERVERS_MAX: usize = 16;
const DEFAULT_PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        for (text, shown, database) in [
            ("redis://localhost", "redis://localhost:6379", 0),
            ("redis://10.0.0.1:7000/3", "redis://10.0.0.1:7000", 3),
            ("rediss://r.example.org:6380/", "rediss://r.example.org:6380", 0),
            ("redis://[::1]:6379", "redis://[::1]:6379", 0),
            ("redis://[::1]", "redis://[::1]:6379", 0),
            ("redis+sentinel://s/main", "redis+sentinel://s:26379/main", 0),
            (
                "rediss+sentinel://s1:1,[::1],s3/m.a-i_n/4",
                "rediss+sentinel://s1:1,[::1]:26379,s3:26379/m.a-i_n",
                4,
            ),
            ("redis+cluster://a", "redis+cluster://a:6379", 0),
            ("rediss+cluster://a:1,[::1],c/0", "rediss+cluster://a:1,[::1]:6379,c:6379", 0),
        ] {
            let address: BackendAddress = text.parse().expect("an address");
            assert_eq!(
                (address.to_string().as_str(), address.database),
                (shown, database),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_none_is_refused_without_repeating_it() {
        for (text, error) in [
            ("", BackendAddressError::Scheme),
            ("localhost:6379", BackendAddressError::Scheme),
            ("memory:", BackendAddressError::Scheme),
            ("http://hunter2", BackendAddressError::Scheme),
            ("nats://hunter2", BackendAddressError::Nats),
            ("redis://user:hunter2@host", BackendAddressError::Credentials),
            ("redis://:hunter2@host", BackendAddressError::Credentials),
            ("redis+sentinel://user:hunter2@s/main", BackendAddressError::Credentials),
            ("redis+sentinel://s", BackendAddressError::Sentinels),
            ("redis+sentinel://s/hun ter2", BackendAddressError::Sentinels),
            (
                &format!("redis+sentinel://s{}/main", ",s".repeat(16)),
                BackendAddressError::Sentinels,
            ),
            ("redis+sentinel://s,/main", BackendAddressError::Host),
            ("redis+sentinel://s/main/hunter2", BackendAddressError::Database),
            ("redis+cluster://user:hunter2@s", BackendAddressError::Credentials),
            ("redis+cluster://a/1", BackendAddressError::Cluster),
            ("redis+cluster://a/hunter2", BackendAddressError::Cluster),
            (&format!("redis+cluster://a{}", ",a".repeat(16)), BackendAddressError::Cluster),
            ("redis+cluster://a,", BackendAddressError::Host),
            ("redis+hunter2://a", BackendAddressError::Scheme),
            ("redis+://a", BackendAddressError::Scheme),
            ("redis://a,b", BackendAddressError::Host),
            ("redis://", BackendAddressError::Host),
            ("redis://:6379", BackendAddressError::Host),
            ("redis://[::1", BackendAddressError::Host),
            ("redis://hun ter2", BackendAddressError::Host),
            ("redis://host:0", BackendAddressError::Port),
            ("redis://host:hunter2", BackendAddressError::Port),
            ("redis://[::1]x", BackendAddressError::Port),
            ("redis://host/hunter2", BackendAddressError::Database),
            ("redis://host/0?password=hunter2", BackendAddressError::Database),
        ] {
            let refused = text.parse::<BackendAddress>().expect_err(text);
            assert_eq!(refused, error, "{text}");
            assert!(!refused.to_string().contains("hunter2"));
        }
    }
}
