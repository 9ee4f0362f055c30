//! A Redis Cluster of a test's own: three masters, and a replica of the one that has a key.

use std::{
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use crate::redis_server::RedisServer;

/// Its nodes. They take a master for dead after a second.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    key: String,
}

impl RedisCluster {
    /// Starts one. `key` is in the slot whose master gets the replica.
    ///
    /// # Panics
    /// redis-server or redis-cli is missing, or the nodes do not form a cluster.
    pub fn start(key: &str) -> Self {
        let arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"];
        let nodes: Vec<_> = (0..4).map(|_| RedisServer::start(&arguments)).collect();
        let address = |node: &RedisServer| node.address().to_string();
        let mut create = vec!["create".to_owned()];
        create.extend(nodes[..3].iter().map(address));
        cluster_cli(&create);
        let cluster = Self { nodes, key: key.to_owned() };
        let master = cluster.master();
        let add = ["add-node".to_owned(), address(&cluster.nodes[3]), address(&cluster.nodes[0])];
        let id = cluster.id(master);
        cluster_cli(
            &[&add[..], &["--cluster-slave".into(), "--cluster-master-id".into(), id]].concat(),
        );
        cluster.await_replica(3);
        cluster
    }

    /// Some of its nodes, as the setting `backend.url` takes them.
    pub fn url(&self, nodes: &[usize]) -> String {
        let address = |&node: &usize| self.nodes[node].address().to_string();
        let nodes: Vec<String> = nodes.iter().map(address).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// A node; the last one was the replica at first.
    pub fn node(&mut self, node: usize) -> &mut RedisServer {
        &mut self.nodes[node]
    }

    /// Performs a command at a node, and gives the reply as it is on the wire.
    ///
    /// # Panics
    /// It does not answer, or refuses.
    pub fn command(&self, node: usize, parts: &[&str]) -> String {
        let reply = self.nodes[node].command(parts);
        assert!(!reply.starts_with('-'), "{parts:?}: {reply}");
        reply
    }

    /// Waits until a node has the slot of the key, and gives it.
    ///
    /// # Panics
    /// None has, for twenty seconds.
    pub fn master(&self) -> usize {
        let has = |node: &RedisServer| {
            node.try_command(&["XLEN", &self.key]).is_some_and(|reply| reply.starts_with(':'))
        };
        wait_for("a node has the slot", || self.nodes.iter().position(has))
    }

    /// Lets a replica of the master take over, in agreement with it.
    pub fn fail_over(&self, to: usize) {
        self.command(to, &["CLUSTER", "FAILOVER"]);
        wait_for("the replica takes over", || (self.master() == to).then_some(()));
    }

    /// Waits until a node follows the master with all that this has.
    ///
    /// # Panics
    /// It does not, for twenty seconds.
    pub fn await_replica(&self, node: usize) {
        wait_for("the replica follows", || {
            let (info, id) = (self.command(node, &["INFO", "replication"]), self.id(node));
            let is_known = self.nodes.iter().all(|other| {
                let nodes = other.try_command(&["CLUSTER", "NODES"]).unwrap_or_default();
                nodes.lines().any(|line| line.starts_with(&id) && line.contains("slave"))
            });
            (is_known && info.contains("role:slave") && info.contains("master_link_status:up"))
                .then_some(())
        });
    }

    /// The number of the slot, as text.
    pub fn slot(&self) -> String {
        number(&self.command(0, &["CLUSTER", "KEYSLOT", &self.key]))
    }

    /// Begins to migrate the slot from its master to another one.
    pub fn begin_migration(&self, from: usize, to: usize) {
        let slot = self.slot();
        self.command(to, &["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id(from)]);
        self.command(from, &["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.id(to)]);
    }

    /// Migrates one of its keys.
    pub fn migrate(&self, from: usize, to: usize, key: &str) {
        let port = self.nodes[to].address().port().to_string();
        self.command(from, &["MIGRATE", "127.0.0.1", &port, key, "0", "5000"]);
    }

    /// Migrates what is left, and ends the migration, as `redis-cli --cluster reshard` does.
    pub fn end_migration(&self, from: usize, to: usize) {
        let slot = self.slot();
        let keys = self.command(from, &["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]);
        for key in keys.lines().filter(|line| !line.starts_with(['*', '$', '+'])) {
            self.migrate(from, to, key);
        }
        for node in [to, from] {
            self.command(node, &["CLUSTER", "SETSLOT", &slot, "NODE", &self.id(to)]);
        }
    }

    fn id(&self, node: usize) -> String {
        let reply = self.nodes[node].command(&["CLUSTER", "MYID"]);
        reply.lines().nth(1).expect("the id of a node").to_owned()
    }
}

fn cluster_cli(arguments: &[String]) {
    let mut command = Command::new("redis-cli");
    command.arg("--cluster").args(arguments).arg("--cluster-yes");
    // Nodes that have just met may not know each other yet.
    wait_for("redis-cli --cluster", || {
        let output = command.output().expect("redis-cli (install the package redis-tools)");
        output.status.success().then_some(())
    });
}

fn number(reply: &str) -> String {
    reply.chars().skip(1).take_while(char::is_ascii_digit).collect()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what}: not in time");
        sleep(Duration::from_millis(50));
    }
}
