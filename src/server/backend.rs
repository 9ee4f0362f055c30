//! The options of a shared log, from the settings and the files that they name.

use std::{
    fs::File,
    io::{self, Read as _},
    time::Duration,
};

use super::Settings;
use crate::{
    auth::Secret,
    hub::BackendOptions,
    redis::{BackendAddress, RedisOptions},
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
    let mut bytes = Vec::new();
    if path.is_empty() {
        return Ok(bytes);
    }
    let named =
        |error: io::Error| io::Error::new(error.kind(), format!("{setting}: {path}: {error}"));
    let file = File::open(path).map_err(named)?;
    file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).map_err(named)?;
    Ok(bytes)
}

/// Limit of such a file. Passwords and certificates are a few kilobytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
