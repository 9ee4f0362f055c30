//! The proxies that docs/deploying.md shows, each with the configuration that stands there.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use tokio::process::Command;

use super::process::{ProxyProcess, documented, program};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Nginx,
    Caddy,
    Haproxy,
    Apache,
}

/// What is changed of the documented configuration, besides addresses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    /// Its timeouts of 90 s, in seconds.
    pub(crate) patience_s: Option<u64>,
    /// TLS with this certificate and key, and HTTP/2.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Nginx, Self::Caddy, Self::Haproxy, Self::Apache];
    /// Those that cut what is quiet for too long.
    pub(crate) const IMPATIENT: [Self; 3] = [Self::Nginx, Self::Haproxy, Self::Apache];

    /// Starts one in front of `hub`.
    pub(crate) async fn start(self, hub: SocketAddr, changes: &Changes) -> ProxyProcess {
        let write = |folder: &Path, free: SocketAddr| {
            let text = self.configuration(folder, free, hub, changes);
            fs::write(folder.join("proxy.conf"), text).unwrap();
            // Apache started by root becomes another user before it writes its log.
            fs::set_permissions(folder, fs::Permissions::from_mode(0o777)).unwrap();
        };
        ProxyProcess::start(write, |folder| self.command(folder)).await
    }

    fn command(self, folder: &Path) -> Command {
        let file = folder.join("proxy.conf");
        let (name, args): (_, &[&str]) = match self {
            Self::Nginx => ("nginx", &["-e", "error.log", "-c"]),
            Self::Caddy => ("caddy", &["run", "--adapter", "caddyfile", "--config"]),
            Self::Haproxy => ("haproxy", &["-db", "-f"]),
            Self::Apache => ("apache2", &["-X", "-f"]),
        };
        let mut command = Command::new(program(name));
        if self == Self::Nginx {
            command.arg("-p").arg(folder);
        }
        command.args(args).arg(file).current_dir(folder);
        command.env("HOME", folder).env("XDG_CONFIG_HOME", folder).env("XDG_DATA_HOME", folder);
        command
    }

    fn configuration(
        self,
        folder: &Path,
        listen: SocketAddr,
        hub: SocketAddr,
        changes: &Changes,
    ) -> String {
        let port = listen.port();
        let (language, address, replacement) = match self {
            Self::Nginx => ("nginx", "listen 80;", format!("listen {listen};")),
            Self::Caddy => {
                ("caddyfile", "hub.example.org {", format!("http://:{port} {{\nbind 127.0.0.1"))
            }
            Self::Haproxy => ("haproxy", "bind :80\n", format!("bind {listen}\n")),
            Self::Apache => ("apache", "*:80>", format!("{listen}>")),
        };
        let documented = documented(language);
        assert!(documented.contains(address), "{self:?} has an address to replace");
        let mut text = documented.replace("127.0.0.1:3000", &hub.to_string());
        text = text.replace(address, &replacement);
        if let Some(patience_s) = changes.patience_s {
            let whole = match self {
                Self::Apache => "timeout=90",
                _ => " 90s",
            };
            assert!(text.contains(whole), "{self:?} has a timeout to replace");
            text = text.replace(whole, &whole.replace("90", &patience_s.to_string()));
        }
        let mut modules = vec!["mpm_event", "authz_core", "proxy", "proxy_http"];
        if let Some((cert, key)) = &changes.tls {
            let (cert, key) = (cert.display(), key.display());
            text = match self {
                Self::Nginx => text.replace(
                    &format!("listen {listen};"),
                    &format!("listen {listen} ssl http2; ssl_certificate {cert}; ssl_certificate_key {key};"),
                ),
                Self::Caddy => text.replace(
                    &format!("http://:{port} {{"),
                    &format!("https://localhost:{port} {{\ntls {cert} {key}"),
                ),
                Self::Haproxy => {
                    // One file with both.
                    let both = folder.join("both.pem");
                    let parts = [cert.to_string(), key.to_string()];
                    let parts = parts.map(|part| fs::read_to_string(part).unwrap());
                    fs::write(&both, parts.concat()).unwrap();
                    let tls = format!("bind {listen} ssl crt {} alpn h2,http/1.1\n", both.display());
                    text.replace(&format!("bind {listen}\n"), &tls)
                }
                Self::Apache => {
                    modules.extend(["ssl", "http2"]);
                    let tls = format!(
                        "{listen}>\nProtocols h2 http/1.1\nSSLEngine on\n\
                         SSLCertificateFile {cert}\nSSLCertificateKeyFile {key}\n"
                    );
                    text.replace(&format!("{listen}>"), &tls)
                }
            };
        }
        // One process each, so that none is left behind when it is killed.
        match self {
            Self::Nginx => format!(
                "daemon off; master_process off; pid nginx.pid;\n\
                 events {{ worker_connections 1000; }}\n\
                 http {{\n access_log off; client_body_temp_path body; proxy_temp_path proxy;\n \
                 fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n{text}\n}}\n"
            ),
            Self::Caddy => format!("{{\n admin off\n auto_https disable_redirects\n}}\n{text}"),
            Self::Haproxy => format!("global\n    maxconn 1000\n{text}"),
            Self::Apache => {
                let modules: String = modules
                    .iter()
                    .map(|name| {
                        format!("LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n")
                    })
                    .collect();
                // Only root is made another user.
                format!(
                    "ServerRoot {}\nPidFile apache.pid\nErrorLog error.log\nServerName localhost\n\
                     Listen {listen}\nMutex pthread\n{modules}\
                     <IfModule !unixd_module>\nLoadModule unixd_module \
                     /usr/lib/apache2/modules/mod_unixd.so\n</IfModule>\n\
                     User www-data\nGroup www-data\n{text}",
                    folder.display()
                )
            }
        }
    }
}
