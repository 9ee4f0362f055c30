//! An nginx of a test's own.

use std::net::SocketAddr;

use super::process::{ProxyProcess, documented};

/// How nginx is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// As docs/deploying.md has it.
    Documented,
    /// Nothing but where the hub is: HTTP/1.0 to it, a connection for each request.
    Bare,
    /// As documented, and everything compressed.
    Compressing,
    /// As documented, and with another `proxy_read_timeout`, in milliseconds.
    Patient(u64),
}

/// For how long nginx waits for the hub's next bytes, as documented, in seconds.
pub(crate) fn documented_patience_s() -> u64 {
    let text = documented("nginx");
    let (_, rest) = text.split_once("proxy_read_timeout ").expect("it is documented");
    let (seconds, _) = rest.split_once("s;").expect("in seconds");
    seconds.parse().expect("a number")
}

/// A running nginx; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Nginx(ProxyProcess);

impl Nginx {
    /// Starts one in front of `hub`.
    pub(crate) async fn start(setup: Setup, hub: SocketAddr) -> Self {
        let start = ProxyProcess::nginx(|listen| servers(setup, listen, hub));
        Self(start.await)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// What is within the `http` block.
fn servers(setup: Setup, listen: SocketAddr, hub: SocketAddr) -> String {
    let servers = match setup {
        Setup::Bare => {
            format!("server {{ listen {listen}; location / {{ proxy_pass http://{hub}; }} }}")
        }
        Setup::Documented | Setup::Compressing | Setup::Patient(_) => {
            let text = documented("nginx")
                .replace("127.0.0.1:3000", &hub.to_string())
                .replace("listen 80;", &format!("listen {listen};"));
            match setup {
                Setup::Patient(timeout_ms) => text.replace(
                    &format!("proxy_read_timeout {}s;", documented_patience_s()),
                    &format!("proxy_read_timeout {timeout_ms}ms;"),
                ),
                _ => text,
            }
        }
    };
    let gzip = match setup {
        Setup::Compressing => {
            "gzip on; gzip_types *; gzip_http_version 1.0; gzip_min_length 1; gzip_proxied any;"
        }
        _ => "",
    };
    format!("{gzip}\n{servers}")
}
