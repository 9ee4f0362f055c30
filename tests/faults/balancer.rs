//! An nginx in front of all hubs, set up as docs/deploying.md has it.

use std::net::SocketAddr;

use crate::process::{ProxyProcess, documented};

/// A running nginx; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Balancer(ProxyProcess);

impl Balancer {
    /// Starts one in front of these hubs. By default it would leave out one that was away for ten
    /// seconds.
    pub(crate) async fn start(hubs: &[String]) -> Self {
        let servers: String =
            hubs.iter().map(|hub| format!("server {hub} fail_timeout=1s;\n")).collect();
        let start = ProxyProcess::nginx(|listen| {
            documented("nginx")
                .replace("server 127.0.0.1:3000;", &servers)
                .replace("listen 80;", &format!("listen {listen};"))
        });
        Self(start.await)
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }
}
