//! An nginx of a test's own.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

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
    let text = documented();
    let (_, rest) = text.split_once("proxy_read_timeout ").expect("it is documented");
    let (seconds, _) = rest.split_once("s;").expect("in seconds");
    seconds.parse().expect("a number")
}

/// A running nginx; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Nginx {
    address: SocketAddr,
    folder: PathBuf,
    _child: Child,
}

impl Nginx {
    /// Starts one in front of `hub`.
    pub(crate) async fn start(setup: Setup, hub: SocketAddr) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("visnyk-nginx-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // Another process may take a free port before nginx does.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            std::fs::write(folder.join("nginx.conf"), configuration(setup, free, hub)).unwrap();
            let mut child = Command::new(program())
                .arg("-p")
                .arg(&folder)
                .args(["-e", "error.log", "-c", "nginx.conf"])
                .stdin(Stdio::null())
                .stderr(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .expect("nginx is installed: tests/run does that");
            loop {
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                if TcpStream::connect(free).await.is_ok() {
                    return Self { address: free, folder, _child: child };
                }
                sleep(Duration::from_millis(5)).await;
            }
        }
        let log = std::fs::read_to_string(folder.join("error.log")).unwrap_or_default();
        panic!("nginx does not start: {log}");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn configuration(setup: Setup, listen: SocketAddr, hub: SocketAddr) -> String {
    let servers = match setup {
        Setup::Bare => {
            format!("server {{ listen {listen}; location / {{ proxy_pass http://{hub}; }} }}")
        }
        Setup::Documented | Setup::Compressing | Setup::Patient(_) => {
            let text = documented()
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
    // One process, so that none is left behind when it is killed.
    format!(
        "daemon off; master_process off; pid nginx.pid;\n\
         events {{ worker_connections 1000; }}\n\
         http {{\n access_log off; client_body_temp_path body; proxy_temp_path proxy;\n \
         fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n{gzip}\n{servers}\n}}\n"
    )
}

/// Debian's is where only root looks for programs.
fn program() -> &'static str {
    let debian = "/usr/sbin/nginx";
    if std::path::Path::new(debian).exists() { debian } else { "nginx" }
}

/// The configuration that docs/deploying.md shows.
fn documented() -> String {
    let page = include_str!("../../../docs/deploying.md");
    let (_, rest) = page.split_once("```nginx\n").expect("a configuration");
    let (text, _) = rest.split_once("```").expect("its end");
    assert!(text.contains("127.0.0.1:3000") && text.contains("listen 80;"), "{text}");
    text.to_owned()
}
