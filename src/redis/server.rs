//! What a server must be to keep a log, and the steps until it can be used.

use std::{io::ErrorKind, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::timeout;

use super::{
    address::BackendTarget,
    connection::{COMMAND_TIME_MAX, CONNECT_TIME_MAX, Connection, RedisOptions},
    error::RedisError,
    master::{FIND_TIME_MAX, open},
    resp::Reply,
};

/// A connection to a server that is fit, which knows a script by a hash.
pub(super) struct Prepared {
    pub(super) connection: Connection,
    pub(super) server: ServerInfo,
    pub(super) script: Bytes,
}

/// What a hub has to know of a server that is fit to keep a log.
pub(super) struct ServerInfo {
    pub(super) run: Run,
    /// Replicas, if it takes writes without any of them.
    pub(super) unguarded_replicas: u64,
}

/// The id of a run of a server. A later run may have lost events of an earlier one.
pub type Run = Arc<str>;

/// Connects to a server, checks that it is fit to keep a log, and gives it a script.
pub(super) async fn prepare(options: &RedisOptions, script: &str) -> Result<Prepared, RedisError> {
    let mut connection = open(options).await?;
    let server = check_server(&mut connection, options).await?;
    let load: [&[u8]; 3] = [b"SCRIPT", b"LOAD", script.as_bytes()];
    match connection.call(&load, COMMAND_TIME_MAX).await? {
        Reply::Bulk(script) => Ok(Prepared { connection, server, script }),
        _ => Err(RedisError::Unexpected("the hash of the script")),
    }
}

/// Bounds the time of all steps of a connect together: a stopped server accepts connections and
/// answers nothing.
pub(super) async fn within_time<T>(
    connect: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, RedisError> {
    match timeout(CONNECT_STEPS_TIME_MAX, connect).await {
        Ok(connected) => connected,
        Err(_) => Err(RedisError::Unreachable(ErrorKind::TimedOut.into())),
    }
}

/// Fails if the server has become a replica, which does not end its connections.
pub(super) async fn check_role(connection: &mut Connection) -> Result<(), RedisError> {
    let reply = connection.call(&[b"INFO", b"replication"], COMMAND_TIME_MAX).await?;
    refuse_replica(reply.text().ok_or(NO_INFO)?)
}

/// Refuses a server that would lose events without a sign, or that cannot be written to.
async fn check_server(
    connection: &mut Connection,
    options: &RedisOptions,
) -> Result<ServerInfo, RedisError> {
    let reply = connection.call(&[b"INFO"], COMMAND_TIME_MAX).await?;
    let info = reply.text().ok_or(NO_INFO)?;
    let field = |name| field(info, name);
    let version = field("redis_version").unwrap_or("0");
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    if major < VERSION_MIN {
        let text =
            format!("the server is version {version}; a shared log needs {VERSION_MIN} or later");
        return Err(RedisError::Unsuitable(text));
    }
    let policy = field("maxmemory_policy").unwrap_or("noeviction");
    if policy != "noeviction" {
        return Err(RedisError::Unsuitable(format!(
            "the server's maxmemory-policy is {policy}, which removes parts of the log when memory is full; set \
             maxmemory-policy noeviction"
        )));
    }
    let is_node = field("cluster_enabled") == Some("1");
    if is_node != matches!(options.address.target, BackendTarget::Cluster { .. }) {
        return Err(RedisError::Unsuitable(match is_node {
            true => "the server is a node of a cluster: give the address as redis+cluster://, with several of \
                     its nodes"
                .to_owned(),
            false => "the server is not a node of a cluster: give its address as redis://".to_owned(),
        }));
    }
    refuse_replica(info)?;
    let run = field("run_id").filter(|run| !run.is_empty()).map(Arc::from).ok_or_else(|| {
        RedisError::Unsuitable(
            "INFO has no run_id, by which the hub notices that the server was restarted".to_owned(),
        )
    })?;
    let replicas = field("connected_slaves").and_then(|replicas| replicas.parse().ok());
    // A server says how many are near enough only if it needs some.
    let is_guarded = field("min_slaves_good_slaves").is_some();
    let unguarded_replicas = if is_guarded { 0 } else { replicas.unwrap_or(0) };
    Ok(ServerInfo { run, unguarded_replicas })
}

/// Refuses a replica with the error that a write would get: another server is to become the master,
/// so it is not permanent.
fn refuse_replica(info: &str) -> Result<(), RedisError> {
    match field(info, "role") {
        Some("master") | None => Ok(()),
        Some(_) => Err(RedisError::Refused("READONLY the server is a replica".to_owned())),
    }
}

/// A field of the server's information.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

const NO_INFO: RedisError = RedisError::Unexpected("the server's information");
/// XTRIM MINID, TIME in scripts, and effect replication.
const VERSION_MIN: u32 = 7;
/// Timeout for all steps of a connect.
const CONNECT_STEPS_TIME_MAX: Duration = FIND_TIME_MAX.saturating_add(CONNECT_TIME_MAX);

#[cfg(test)]
mod tests {
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_steps_of_a_connect_are_bounded_together() {
        let began = Instant::now();
        let error = within_time(pending::<Result<(), _>>()).await.expect_err("nothing answers");
        assert!(matches!(error, RedisError::Unreachable(_)), "{error}");
        assert_eq!(began.elapsed(), Duration::from_secs(4), "as docs/limits.md says");
    }
}
