//! Connects to the master: sentinels name it, or the nodes of a cluster do for the slot of the log.

use std::{io::ErrorKind, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    address::{BackendTarget, Endpoint},
    connection::{COMMAND_TIME_MAX, CONNECT_TIME_MAX, Connection, RedisOptions},
    error::RedisError,
};

/// Connects to the server, or to the master that others name, and authenticates.
pub(super) async fn open(options: &RedisOptions) -> Result<Connection, RedisError> {
    options.credentials.refresh().await;
    let server = find_master(options).await?;
    let mut connection = Connection::connect(&server, options, CONNECT_TIME_MAX).await?;
    connection.authenticate(options).await?;
    if options.address.database != 0 {
        let database = options.address.database.to_string();
        connection.call(&[b"SELECT", database.as_bytes()], COMMAND_TIME_MAX).await?;
    }
    Ok(connection)
}

/// Asks the servers of the address which one is the master, and takes the first answer. The master
/// may have changed since the last attempt, and a server that was cut off may not know this: its
/// answer names a replica, which is refused later. So each attempt begins with another server,
/// which gets a head start. All servers together have [`FIND_TIME_MAX`].
async fn find_master(options: &RedisOptions) -> Result<Endpoint, RedisError> {
    let servers = match &options.address.target {
        BackendTarget::Server(server) => return Ok(server.clone()),
        BackendTarget::Sentinels { sentinels, .. } => sentinels,
        BackendTarget::Cluster { nodes } => nodes,
    };
    let count = servers.len();
    let head_start = HEAD_START.min(FIND_TIME_MAX / 2 / count.max(1) as u32);
    let first = fastrand::usize(..count.max(1));
    let mut asked = JoinSet::new();
    for (server, turn) in servers.iter().cycle().skip(first).take(count).zip(0..) {
        let (server, options) = (server.clone(), options.clone());
        asked.spawn(async move {
            sleep(head_start * turn).await;
            match &options.address.target {
                BackendTarget::Sentinels { master, .. } => {
                    ask_sentinel(&server, master, &options).await
                }
                _ => ask_node(&server, &options).await,
            }
        });
    }
    let mut error = None;
    let answered = async {
        while let Some(asked) = asked.join_next().await {
            match asked {
                Ok(Ok(server)) => return Some(server),
                // Keep the error of a server that answered; it tells more than an unreachable one.
                Ok(Err(other @ (RedisError::Unsuitable(_) | RedisError::Refused(_)))) => {
                    error = Some(other);
                }
                Ok(Err(other)) => error = error.take().or(Some(other)),
                Err(_) => {}
            }
        }
        None
    };
    match timeout(FIND_TIME_MAX, answered).await {
        Ok(Some(server)) => Ok(server),
        _ => Err(error.unwrap_or(RedisError::Unreachable(ErrorKind::TimedOut.into()))),
    }
}

async fn ask_sentinel(
    sentinel: &Endpoint,
    master: &str,
    options: &RedisOptions,
) -> Result<Endpoint, RedisError> {
    let ask: [&[u8]; 3] = [b"SENTINEL", b"get-master-addr-by-name", master.as_bytes()];
    let mut connection = Connection::connect(sentinel, options, FIND_TIME_MAX).await?;
    let reply = connection.call(&ask, FIND_TIME_MAX).await?;
    let Some([host, port]) = reply.array() else {
        let text = format!("the sentinel {sentinel} knows no master {master:?}");
        return Err(RedisError::Unsuitable(text));
    };
    let port = port.number().and_then(|port| u16::try_from(port).ok());
    match (host.text(), port) {
        (Some(host), Some(port)) => Ok(Endpoint { host: host.to_owned(), port }),
        _ => Err(RedisError::Unexpected("the address of the master")),
    }
}

/// Asks a node for the length of the log. The node that has the log's slot answers. Any other node,
/// a replica too, names that node in its refusal. So the hub computes no slots, and its user needs
/// no further command.
async fn ask_node(node: &Endpoint, options: &RedisOptions) -> Result<Endpoint, RedisError> {
    let mut connection = Connection::connect(node, options, FIND_TIME_MAX).await?;
    connection.authenticate(options).await?;
    match connection.call(&[b"XLEN", &options.key(LOG)], FIND_TIME_MAX).await {
        Ok(_) => Ok(node.clone()),
        Err(RedisError::Refused(answer)) => {
            moved_to(&answer, node).ok_or(RedisError::Refused(answer))
        }
        Err(error) => Err(error),
    }
}

/// The server that `MOVED SLOT HOST:PORT` names; an empty host is that of the node which answered.
fn moved_to(answer: &str, node: &Endpoint) -> Option<Endpoint> {
    let (_, address) = answer.strip_prefix("MOVED ")?.split_once(' ')?;
    let (host, port) = address.rsplit_once(':')?;
    let host = if host.is_empty() { &node.host } else { host };
    Some(Endpoint { host: host.to_owned(), port: port.parse().ok()? })
}

/// The name of the stream, behind the hash tag.
pub(super) const LOG: &str = "log";
/// Timeout for all sentinels, or all nodes of a cluster, together to name the master.
pub const FIND_TIME_MAX: Duration = Duration::from_secs(1);
/// How long one of them is asked alone before the next one; less if there are many.
const HEAD_START: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
        time::Instant,
    };

    use super::*;
    use crate::redis::Credentials;

    /// Servers that accept connections, of which only those with an answer give one.
    async fn servers(answers: &[Option<&'static str>]) -> Vec<Endpoint> {
        let mut servers = Vec::new();
        for answer in answers.iter().copied() {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
            let port = listener.local_addr().expect("an address").port();
            tokio::spawn(async move {
                let mut streams = Vec::new();
                while let Ok((mut stream, _)) = listener.accept().await {
                    if let Some(answer) = answer {
                        let _ = stream.read(&mut [0; 256]).await;
                        let _ = stream.write_all(answer.as_bytes()).await;
                    }
                    streams.push(stream);
                }
            });
            servers.push(Endpoint { host: "127.0.0.1".to_owned(), port });
        }
        servers
    }

    async fn find(
        url: &str,
        answers: &[Option<&'static str>],
    ) -> (Result<Endpoint, RedisError>, Duration) {
        let servers = servers(answers).await;
        let servers: Vec<String> = servers.iter().map(Endpoint::to_string).collect();
        let options = RedisOptions {
            address: url.replace("SERVERS", &servers.join(",")).parse().expect("an address"),
            user: String::new(),
            credentials: Credentials::default(),
            namespace: "visnyk".to_owned(),
        };
        let began = Instant::now();
        (find_master(&options).await, began.elapsed())
    }

    #[tokio::test]
    async fn sentinels_that_hang_hold_up_an_attempt_for_a_bounded_time() {
        let find = async |answers: &[_]| find("redis+sentinel://SERVERS/m", answers).await;
        let server = Some("*2\r\n$4\r\nhost\r\n$4\r\n6379\r\n");
        let (nothing, unknown) = (None, Some("*-1\r\n"));
        let mut answers = vec![nothing; 16];
        answers[7] = server;
        let (found, took) = find(&answers).await;
        assert_eq!(found.expect("one answers").to_string(), "host:6379");
        assert!(took < FIND_TIME_MAX, "{took:?}");
        let (found, took) = find(&[nothing; 4]).await;
        assert!(matches!(found, Err(RedisError::Unreachable(_))), "{found:?}");
        assert!(took < 2 * FIND_TIME_MAX, "{took:?}");
        let (found, _) = find(&[nothing, unknown, nothing]).await;
        assert!(matches!(found, Err(RedisError::Unsuitable(_))), "{found:?}");
    }

    #[tokio::test]
    async fn nodes_of_a_cluster_name_the_one_that_has_the_log() {
        let find = async |answers: &[_]| find("redis+cluster://SERVERS", answers).await.0;
        let moved = Some("-MOVED 42 10.0.0.1:7000\r\n");
        let found = find(&[None, moved, Some("-CLUSTERDOWN The cluster is down\r\n")]).await;
        assert_eq!(found.expect("one knows").to_string(), "10.0.0.1:7000");
        // The only one has it itself.
        assert_eq!(find(&[Some(":7\r\n")]).await.expect("it has it").host, "127.0.0.1");
        for (answer, says) in [
            (Some("-CLUSTERDOWN Hash slot not served\r\n"), "CLUSTERDOWN"),
            (Some("-ASK 42 10.0.0.1:7000\r\n"), "ASK 42"),
            (Some("-MOVED 42 nowhere\r\n"), "MOVED 42"),
        ] {
            let error = find(&[None, answer]).await.expect_err("no node has it").to_string();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_node_may_name_a_server_by_its_port_alone_or_by_an_address_with_colons() {
        let node = Endpoint { host: "n".to_owned(), port: 1 };
        let long = "h".repeat(253);
        for (answer, server) in [
            ("MOVED 1 :7000", "n:7000"),
            ("MOVED 1 ::1:7000", "[::1]:7000"),
            (&format!("MOVED 16383 {long}:65535"), &*format!("{long}:65535")),
        ] {
            let RedisError::Refused(kept) = RedisError::answered(answer) else { unreachable!() };
            assert_eq!(moved_to(&kept, &node).expect("a server").to_string(), server);
        }
        assert_eq!(moved_to("ASK 1 a:7000", &node), None);
    }
}
