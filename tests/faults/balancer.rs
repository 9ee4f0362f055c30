//! An nginx in front of all hubs, set up as docs/deploying.md has it.

use std::net::SocketAddr;

use tokio::process::Command;

use crate::process::{ProxyProcess, documented, program};

/// A running nginx; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Balancer(ProxyProcess);

impl Balancer {
    /// Starts one in front of these hubs. By default it would leave out one that was away for ten seconds.
    pub(crate) async fn start(hubs: &[String]) -> Self {
        let servers: String =
            hubs.iter().map(|hub| format!("server {hub} fail_timeout=1s;\n")).collect();
        let start = ProxyProcess::start(
            |folder, free| {
                let text = documented("nginx")
                    .replace("server 127.0.0.1:3000;", &servers)
                    .replace("listen 80;", &format!("listen {free};"));
                // One process, so that none is left behind when it is killed.
                let text = format!(
                    "daemon off; master_process off; pid nginx.pid;\n\
                     events {{ worker_connections 1000; }}\n\
                     http {{\naccess_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
                     fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n{text}\n}}\n"
                );
                std::fs::write(folder.join("nginx.conf"), text).expect("it is written");
            },
            |folder| {
                let mut command = Command::new(program("nginx"));
                command.arg("-p").arg(folder).args(["-e", "error.log", "-c", "nginx.conf"]);
                command
            },
        );
        Self(start.await)
    }

    /// Where clients connect.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }
}
