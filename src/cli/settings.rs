//! The flags that set settings: shared by `serve`, which obeys them, and `config`, which shows
//! them.

use std::path::PathBuf;

use visnyk::server::settings::{Effective, Settings, Sources};

use super::CliError;

/// Flags for settings. Values are checked with all other layers, not here, so that every refusal
/// reads the same.
#[derive(Debug, clap::Args)]
pub(crate) struct SettingsArgs {
    /// Settings file, instead of visnyk.toml in the working directory.
    #[arg(long, env = "VISNYK_CONFIG", value_name = "FILE", help_heading = "Settings")]
    config: Option<PathBuf>,

    /// Reads visnyk.PROFILE.toml, beside the settings file, over it.
    #[arg(long, env = "VISNYK_PROFILE", help_heading = "Settings")]
    profile: Option<String>,

    /// Address to listen on, port 0 for any free one, :PORT for every address of this machine;
    /// repeatable.
    /// Default: 127.0.0.1:3000 and [::1]:3000.
    #[arg(long, value_name = "HOST:PORT", help_heading = "Network")]
    listen: Vec<String>,

    /// Allows listening beyond loopback although nothing authenticates clients.
    #[arg(long, help_heading = "Network")]
    insecure: bool,

    /// Publishes events on 20 channels, an update to `default` every 3 seconds among them, for a
    /// first look.
    #[arg(long, help_heading = "Settings")]
    demo: bool,

    /// How log lines look: text or json.
    #[arg(long, value_name = "FORMAT", help_heading = "Log")]
    log_format: Option<String>,

    /// Logs a line for each request, whatever the level.
    #[arg(long)]
    access_log: bool,

    /// What is logged: off, error, warn, info, debug, trace, or by module as in
    /// info,visnyk::http=debug.
    #[arg(long, value_name = "LEVEL", help_heading = "Log")]
    log_level: Option<String>,

    /// File with the secret of tokens (HS256), which turns authentication on; or the secret itself
    /// in VISNYK_JWT_SECRET.
    #[arg(long, value_name = "FILE", help_heading = "Who may do what")]
    jwt_secret_file: Option<String>,

    /// Keeps history on disk, in this directory: nothing that was acknowledged is lost.
    #[arg(long, value_name = "DIR", help_heading = "History")]
    data_dir: Option<String>,

    /// Shares the log with other hubs, in Redis at this address (redis://HOST:PORT, or rediss://
    /// for TLS); memory: keeps it in this process.
    #[arg(long, value_name = "URL")]
    backend: Option<String>,

    /// What the hub serves among those that share a log: all, edge (subscribers) or ingest
    /// (publishes).
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,

    /// Takes the listening sockets and the log over from the hub that uses the data directory now,
    /// so that a restart refuses no connection.
    #[arg(long, help_heading = "History")]
    take_over: bool,

    /// File with the certificate chain of TLS, in PEM; goes together with --tls-key.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    tls_cert: Option<String>,

    /// File with the certificate's key, in PEM.
    #[arg(long, value_name = "FILE", help_heading = "Network")]
    tls_key: Option<String>,

    /// Channels that may be subscribed to without a token; repeatable.
    #[arg(long, value_name = "PATTERN", help_heading = "Who may do what")]
    allow_anonymous: Vec<String>,

    /// Origins whose pages may use the hub, as https://app.example.org, https://*.example.org, or *
    /// for any; repeatable.
    #[arg(long, value_name = "ORIGIN", help_heading = "Who may do what")]
    cors_origin: Vec<String>,

    #[command(flatten)]
    reserved: Reserved,
}

/// Flags of later versions. They are known so that they are refused with a reason, never ignored.
#[derive(Debug, clap::Args)]
struct Reserved {
    #[arg(long, hide = true)]
    mercure: bool,
}

impl SettingsArgs {
    /// Reads all layers: the working directory, the process's environment and these flags.
    pub(crate) fn load(self) -> Result<Effective, CliError> {
        let mut sources = Sources::in_directory("")
            .config(self.config)
            .profile(self.profile)
            .environment(std::env::vars_os());
        for (flag, key, values) in [
            ("--listen", "listen", self.listen),
            ("--allow-anonymous", "allow_anonymous", self.allow_anonymous),
            ("--cors-origin", "cors_origins", self.cors_origin),
        ] {
            if !values.is_empty() {
                sources = sources.flag(flag, key, values.join(","));
            }
        }
        for (flag, key, given) in [
            ("--insecure", "insecure", self.insecure),
            ("--demo", "demo", self.demo),
            ("--take-over", "take_over", self.take_over),
            ("--access-log", "log.access", self.access_log),
        ] {
            if given {
                sources = sources.flag(flag, key, "true");
            }
        }
        for (flag, key, value) in [
            ("--log-format", "log.format", self.log_format),
            ("--log-level", "log.level", self.log_level),
            ("--jwt-secret-file", "jwt_secret_file", self.jwt_secret_file),
            ("--data-dir", "data_dir", self.data_dir),
            ("--backend", "backend.url", self.backend),
            ("--role", "role", self.role),
            ("--tls-cert", "tls_cert", self.tls_cert),
            ("--tls-key", "tls_key", self.tls_key),
        ] {
            if let Some(value) = value {
                sources = sources.flag(flag, key, value);
            }
        }
        for (flag, key) in self.reserved.given() {
            sources = sources.flag(flag, key, "");
        }
        Ok(Settings::load(&sources)?)
    }
}

impl Reserved {
    /// Flag and key of those that were given.
    fn given(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        [(self.mercure, "--mercure", "mercure")]
            .into_iter()
            .filter_map(|(given, flag, key)| given.then_some((flag, key)))
    }
}
