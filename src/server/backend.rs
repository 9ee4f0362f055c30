//! The options of a shared log, from the settings and the files that they name.

use std::{io, path::Path, time::Duration};

use super::Settings;
use crate::{
    auth::Secret,
    hub::BackendOptions,
    redis::{BackendAddress, CredentialFiles, RedisOptions, read_credentials},
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
            password: Secret::from_file(read("backend.password_file", &backend.password_file)?),
            ca: read("backend.ca_file", &backend.ca_file)?,
            files: CredentialFiles {
                password: backend.password_file.clone().into(),
                ca: backend.ca_file.clone().into(),
            },
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

/// The bytes of the file that a setting names; empty if the setting is empty.
fn read(setting: &str, path: &str) -> io::Result<Vec<u8>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    read_credentials(Path::new(path))
        .map_err(|error| io::Error::new(error.kind(), format!("{setting}: {path}: {error}")))
}
