//! A proxy's process of a test's own: a folder, a port, a configuration.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::sleep,
};

/// A running proxy; killed when it is dropped.
#[derive(Debug)]
pub(crate) struct ProxyProcess {
    address: SocketAddr,
    folder: PathBuf,
    _child: Child,
}

impl ProxyProcess {
    /// Starts an nginx with what `servers` makes of its address within the `http` block.
    pub(crate) async fn nginx(servers: impl Fn(SocketAddr) -> String) -> Self {
        // One process, so that none is left behind when it is killed.
        let configuration = |free| {
            format!(
                "daemon off; master_process off; pid nginx.pid;\n\
                 events {{ worker_connections 1000; }}\n\
                 http {{\naccess_log off; client_body_temp_path body; proxy_temp_path proxy;\n\
                 fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n{}\n}}\n",
                servers(free)
            )
        };
        let write = |folder: &Path, free| {
            std::fs::write(folder.join("nginx.conf"), configuration(free)).expect("it is written");
        };
        let command = |folder: &Path| {
            let mut command = Command::new(program("nginx"));
            command.arg("-p").arg(folder).args(["-e", "error.log", "-c", "nginx.conf"]);
            command
        };
        Self::start(write, command).await
    }

    /// Starts what `command` makes of the folder, once `write` has put the configuration for an
    /// address there.
    pub(crate) async fn start(
        write: impl Fn(&Path, SocketAddr),
        command: impl Fn(&Path) -> Command,
    ) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder =
            std::env::temp_dir().join(format!("visnyk-proxy-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // Another process may take a free port before the proxy does.
        for _ in 0..5 {
            let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            write(&folder, free);
            let log = std::fs::File::create(folder.join("output.log")).unwrap();
            let mut child = command(&folder)
                .stdin(Stdio::null())
                .stdout(log.try_clone().unwrap())
                .stderr(log)
                .kill_on_drop(true)
                .spawn()
                .expect("the proxy is installed: tests/run does that");
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
        let log = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        panic!("the proxy does not start: {}{}", log("output.log"), log("error.log"));
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for ProxyProcess {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A program of Debian's, some of which are where only root looks for programs.
pub(crate) fn program(name: &str) -> PathBuf {
    let debian = Path::new("/usr/sbin").join(name);
    if debian.exists() { debian } else { name.into() }
}

/// The block of docs/deploying.md in this language.
pub(crate) fn documented(language: &str) -> String {
    let page = include_str!("../../../docs/deploying.md");
    let (_, rest) = page.split_once(&format!("```{language}\n")).expect("a configuration");
    let (text, _) = rest.split_once("```\n").expect("its end");
    assert!(text.contains("127.0.0.1:3000"), "it says where the hub is: {text}");
    text.to_owned()
}
