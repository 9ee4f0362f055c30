//! The options of a shared log, from the settings and the files that they name.

use std::{io, path::Path, time::Duration};

use super::Settings;
use crate::{
    hub::BackendOptions,
    redis::{BackendAddress, Credentials, RedisOptions},
};

/// The options of the storage backend; `None` if the settings have no backend.
pub(super) fn options(settings: &Settings) -> io::Result<Option<BackendOptions>> {
    let backend = &settings.backend;
    if backend.url.is_empty() {
        return Ok(None);
    }
    let address: BackendAddress = backend.url.parse().map_err(io::Error::other)?;
    Ok(Some(BackendOptions {
        redis: RedisOptions {
            address,
            user: backend.user.clone(),
            credentials: credentials(settings)?,
            namespace: backend.namespace.clone(),
        },
        events_max: backend.events_max,
        bytes_max: backend.bytes_max,
        age_max: Duration::from_secs(backend.age_max_s.into()),
        batch_events_max: backend.batch_events_max,
        catch_up_wait: Duration::from_millis(backend.catch_up_wait_ms.into()),
        counts_interval: Duration::from_millis(backend.counts_interval_ms.into()),
        counts_expiry: Duration::from_millis(backend.counts_expiry_ms.into()),
        counts_channels_max: backend.counts_channels_max,
    }))
}

/// The credentials in the files that the settings name.
fn credentials(settings: &Settings) -> io::Result<Credentials> {
    let mut credentials = Credentials::default();
    let (password, ca) = (&settings.backend.password_file, &settings.backend.ca_file);
    let in_setting = |setting, path: &str, error: io::Error| {
        io::Error::new(error.kind(), format!("{setting}: {path}: {error}"))
    };
    if !password.is_empty() {
        credentials = credentials
            .with_password_file(Path::new(password))
            .map_err(|error| in_setting("backend.password_file", password, error))?;
    }
    if !ca.is_empty() {
        credentials = credentials
            .with_ca_file(Path::new(ca))
            .map_err(|error| in_setting("backend.ca_file", ca, error))?;
    }
    Ok(credentials)
}
