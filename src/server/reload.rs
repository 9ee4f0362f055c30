//! Reloads: reads the settings of a running hub again, and applies those that a running hub can
//! change.
//!
//! Everything that a start would check is checked before anything is applied, so a reload is
//! applied as a whole or not at all. Open streams and requests under way keep the settings of their
//! start.

use std::{sync::Arc, time::Duration};

use thiserror::Error;
use tokio::{
    signal::unix::Signal,
    sync::{mpsc, watch},
    task::{JoinError, JoinHandle, spawn_blocking},
};

use super::{
    AuthenticationError, Settings, TlsError,
    authentication::{self, verifier_with},
    node_name::node_name,
    service_manager,
    settings::{Effective, Reload, SettingsErrors},
    tls::{LoadedPair, Reloading},
    traces::sampling,
};
use crate::{
    auth::{Jwks, Verifier},
    http::{Cors, Dispatcher, HttpSettings, ReloadAnswer, ReloadRefusal, Reloaded, TrustedProxies},
    hub::{Hub, RulesError},
    telemetry::{self, Tracer},
};

/// The task that performs reloads one after the other: at SIGHUP, and at each request for one.
pub(super) struct Reloader {
    pub(super) running: Arc<Effective>,
    pub(super) verifier: Option<Arc<Verifier>>,
    pub(super) key_refresh: KeyRefresh,
    pub(super) certificate: Option<Arc<Reloading>>,
    pub(super) hub: Hub,
    pub(super) dispatcher: Dispatcher,
    pub(super) proxies: TrustedProxies,
    pub(super) tracer: Option<Arc<Tracer>>,
    /// The settings that the shutdown of the process reads.
    pub(super) current: watch::Sender<Settings>,
}

/// Why a reload was refused. Nothing was applied then.
#[derive(Debug, Error)]
enum ReloadError {
    #[error(transparent)]
    Settings(#[from] SettingsErrors),
    #[error(transparent)]
    Authentication(#[from] AuthenticationError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("channels.rules: {0}")]
    Rules(#[from] RulesError),
    #[error("the settings cannot be read")]
    Panicked(#[from] JoinError),
}

/// New settings and what the files that they name hold, all of it checked.
struct Prepared {
    reload: Reload,
    verifier: Option<Arc<Verifier>>,
    certificate: Option<LoadedPair>,
}

impl Reloader {
    /// Reloads until it is dropped.
    pub(super) async fn run(
        mut self,
        mut hangup: Signal,
        mut requests: mpsc::Receiver<ReloadAnswer>,
    ) {
        loop {
            let answer = tokio::select! {
                _ = hangup.recv() => None,
                Some(answer) = requests.recv() => Some(answer),
            };
            let result = self.reload(if answer.is_some() { "request" } else { "SIGHUP" }).await;
            if let Some(answer) = answer {
                // The client may have gone.
                let _ = answer.send(result);
            }
        }
    }

    async fn reload(&mut self, by: &'static str) -> Result<Reloaded, ReloadRefusal> {
        if self.hub.is_draining() {
            tracing::info!(by, "ignoring the reload: the hub is draining");
            return Err(ReloadRefusal::Draining);
        }
        tracing::info!(by, "reading the settings again");
        service_manager::reloading();
        let result = self.try_reload().await;
        self.hub.counters().reloads.count(result.is_ok());
        service_manager::reloaded(result.is_ok());
        match result {
            Ok(reloaded) => {
                let changed = reloaded.changed.join(" ");
                tracing::info!(
                    by,
                    changed,
                    "the settings, and the files that they name, were read again"
                );
                if !reloaded.needs_restart.is_empty() {
                    let settings = reloaded.needs_restart.join(" ");
                    tracing::warn!(
                        settings,
                        "settings have changed that need a restart; the old values stay"
                    );
                }
                Ok(reloaded)
            }
            Err(error) => {
                let reasons = reasons(&error);
                let reason = reasons.join("; ");
                tracing::error!(by, reason, "the reload is refused, and nothing has changed");
                Err(ReloadRefusal::Invalid(reasons))
            }
        }
    }

    async fn try_reload(&mut self) -> Result<Reloaded, ReloadError> {
        let (running, certificate) = (Arc::clone(&self.running), self.certificate.clone());
        let jwks = self.verifier.as_ref().and_then(|verifier| verifier.jwks().cloned());
        // Files are read on a blocking thread, since their disk may not answer.
        let prepared = spawn_blocking(move || prepare(&running, certificate.as_deref(), jwks));
        let Prepared { reload, verifier, certificate } = prepared.await??;
        let Reload { effective, changed, needs_restart } = reload;
        let settings = effective.settings();
        let has_changed = |key: &str| changed.contains(&key);
        // This is the only step that can fail, so it comes first.
        if changed.iter().any(|key| *key == "channels.rules" || key.starts_with("limits.")) {
            let rules = settings.channels.rules.clone();
            self.hub.set_limits(&settings.limits, rules).await?;
        }
        let tracer = self.tracer.clone();
        if let Some(tracer) = &tracer {
            tracer.set_sampling(sampling(settings));
        }
        self.dispatcher.set_settings(http_settings(settings, verifier.clone(), tracer));
        self.proxies.replace(&settings.trusted_proxies);
        if let (Some(reloading), Some(loaded)) = (&self.certificate, certificate) {
            reloading.replace(loaded);
        }
        // Only if the setting has changed: SIGUSR2 may have switched the level meanwhile.
        if has_changed("log.level")
            && let Ok(filter) = settings.log.level.parse()
        {
            telemetry::set_log_level(filter);
        }
        self.key_refresh.follow(verifier.as_deref(), settings);
        self.current.send_replace(settings.clone());
        self.verifier = verifier;
        self.running = Arc::new(effective);
        Ok(Reloaded { changed, needs_restart })
    }
}

/// Reads and checks settings and files; blocks. `jwks` are the keys that were fetched from the URL
/// of the running settings.
fn prepare(
    running: &Effective,
    certificate: Option<&Reloading>,
    jwks: Option<Arc<Jwks>>,
) -> Result<Prepared, ReloadError> {
    let reload = running.read_again()?;
    let settings = reload.effective.settings();
    // Keep fetched keys if the JWKS URL is the same; otherwise no token would be valid until the
    // next fetch.
    let jwks = jwks.filter(|_| !reload.changed.contains(&"auth.jwks_url"));
    let verifier = verifier_with(settings, jwks)?.map(Arc::new);
    let certificate = match certificate {
        Some(certificate) => certificate.read(settings)?,
        None => None,
    };
    Ok(Prepared { reload, verifier, certificate })
}

/// The settings of the HTTP interface.
pub(super) fn http_settings(
    settings: &Settings,
    verifier: Option<Arc<Verifier>>,
    tracer: Option<Arc<Tracer>>,
) -> HttpSettings {
    HttpSettings {
        quickstart: settings.quickstart,
        plain_refusals: settings.plain_refusals,
        faults: settings.faults,
        body_read_timeout_s: settings.body_read_timeout_s,
        allowed_hosts: settings.allowed_hosts.clone(),
        access: authentication::access(settings, verifier),
        access_log: settings.log.access,
        hsts_max_age_s: settings.hsts_max_age_s,
        role: settings.role,
        node: node_name(settings),
        tracer,
        cors: Cors {
            origins: settings.cors_origins.clone(),
            credentials: settings.cors.credentials,
            max_age_s: settings.cors.max_age_s,
        },
    }
}

/// A text for each error, with its causes.
fn reasons(error: &ReloadError) -> Vec<String> {
    match error {
        ReloadError::Settings(errors) => {
            errors.iter().map(|error| telemetry::with_causes(error)).collect()
        }
        error => vec![telemetry::with_causes(error)],
    }
}

/// The task that refreshes the keys at the URL of the settings, if they have one.
#[derive(Debug, Default)]
pub(super) struct KeyRefresh {
    task: Option<JoinHandle<()>>,
    source: Option<(Arc<Jwks>, u32)>,
}

impl KeyRefresh {
    /// Refreshes the keys of `verifier` from now on, at the interval of the settings.
    pub(super) fn follow(&mut self, verifier: Option<&Verifier>, settings: &Settings) {
        let (every_s, min_s) = (settings.auth.jwks_refresh_s, settings.auth.jwks_refresh_min_s);
        let source = verifier.and_then(|verifier| verifier.jwks()).map(|jwks| (jwks, every_s));
        if let Some((jwks, _)) = source {
            jwks.set_refresh_min(Duration::from_secs(min_s.into()));
        }
        let is_same = match (&self.source, &source) {
            (Some((old, old_s)), Some((new, new_s))) => Arc::ptr_eq(old, new) && old_s == new_s,
            (old, new) => old.is_none() && new.is_none(),
        };
        if is_same {
            return;
        }
        self.stop();
        self.source = source.map(|(jwks, every_s)| (Arc::clone(jwks), every_s));
        self.task = self.source.clone().map(|(jwks, every_s)| {
            let every = Duration::from_secs(every_s.into());
            tokio::spawn(async move { jwks.keep_fresh(every).await })
        });
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

impl Drop for KeyRefresh {
    fn drop(&mut self) {
        self.stop();
    }
}
