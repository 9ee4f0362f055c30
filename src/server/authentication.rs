//! Builds the verifier of tokens from the settings, and reads the key files that they name.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;

use super::{Settings, settings::SECRET_BYTES_MIN};
use crate::{
    auth::{
        Algorithm, FetchError, Jwks, JwksUrlError, KeyError, KeySet, Rules, Secret, Verifier,
        VerifyingKey, bounded_file,
    },
    http::Access,
};

/// Why keys of the settings cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// A file cannot be read.
    #[error("{setting}: {} cannot be read", path.display())]
    Unreadable {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// A file does not hold a key of the expected kind.
    #[error("{setting}: {} cannot be used: {reason}", path.display())]
    BadKey {
        /// The setting that names the file.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with the key.
        reason: KeyError,
    },
    /// The secret cannot be used.
    #[error("the secret cannot be used: {0}")]
    BadSecret(KeyError),
    /// The secret is so short that it can be found by trying.
    #[error(
        "jwt_secret_file: {} has a secret of {bytes} bytes and listen reaches beyond this machine: \
         a secret of less than {SECRET_BYTES_MIN} bytes can be found by trying; make a longer one, as \
         with `openssl rand -base64 32`",
        path.display()
    )]
    ShortSecret {
        /// The file.
        path: PathBuf,
        /// The length of the secret.
        bytes: usize,
    },
    /// The URL of the keys is refused.
    #[error("auth.jwks_url: {0}")]
    Url(#[from] JwksUrlError),
    /// The keys at the URL can never be fetched.
    #[error("auth.jwks_url: the issuer's keys cannot be requested")]
    Jwks(#[source] FetchError),
}

/// The verifier of tokens for a hub with these settings; `None` without authentication.
///
/// Reads the key files. Keys at a URL are not fetched here: see [`Jwks::keep_fresh`].
///
/// # Errors
/// A file that cannot be read, or that does not hold a key of the expected kind.
pub fn verifier(settings: &Settings) -> Result<Option<Verifier>, AuthenticationError> {
    verifier_with(settings, None)
}

/// As [`verifier`], for a running hub. `fetched` are the keys at the URL of the settings, if the
/// hub has them already.
pub(super) fn verifier_with(
    settings: &Settings,
    fetched: Option<Arc<Jwks>>,
) -> Result<Option<Verifier>, AuthenticationError> {
    if !settings.authenticates() {
        return Ok(None);
    }
    let auth = &settings.auth;
    let mut keys = Vec::new();
    if let Some(secret) = secret(settings)? {
        let algorithm = auth.secret_algorithm;
        let key = VerifyingKey::from_secret(&secret, algorithm);
        keys.push(key.map_err(AuthenticationError::BadSecret)?);
    }
    for file in &auth.public_key_files {
        let setting = "auth.public_key_files";
        let key = VerifyingKey::from_pem(&read(setting, file.path())?, file.algorithm());
        keys.push(key.map_err(bad_key(setting, file.path()))?);
    }
    let mut keys = KeySet::new(keys);
    if !auth.jwks_file.is_empty() {
        let (setting, path) = ("auth.jwks_file", Path::new(&auth.jwks_file));
        let more = KeySet::from_jwks(&read(setting, path)?)
            .and_then(|keys| if keys.is_empty() { Err(KeyError::NoKey) } else { Ok(keys) })
            .map_err(bad_key(setting, path))?;
        keys.extend(more);
    }
    let jwks = if auth.jwks_url.is_empty() {
        None
    } else if fetched.is_some() {
        fetched
    } else {
        let refresh_min = Duration::from_secs(auth.jwks_refresh_min_s.into());
        let jwks = Jwks::new(auth.jwks_url.parse()?, refresh_min);
        Some(Arc::new(jwks.map_err(AuthenticationError::Jwks)?))
    };
    let rules = Rules {
        issuer: Some(auth.issuer.clone()).filter(|issuer| !issuer.is_empty()),
        audience: auth.audience.clone(),
        expiry_required: auth.expiry_required,
        leeway_s: auth.leeway_s,
        token_bytes_max: auth.token_bytes_max as usize,
    };
    Ok(Some(Verifier::new(rules, keys, jwks, settings.allow_anonymous.clone())))
}

/// The secret that tokens are signed with and its algorithm, if the settings have one.
///
/// # Errors
/// A file that cannot be read, or a secret that is too short for a hub which other machines can
/// reach.
pub fn signing_secret(
    settings: &Settings,
) -> Result<Option<(Secret, Algorithm)>, AuthenticationError> {
    Ok(secret(settings)?.map(|secret| (secret, settings.auth.secret_algorithm)))
}

/// The settings of authentication for the HTTP interface.
pub(super) fn access(settings: &Settings, verifier: Option<Arc<Verifier>>) -> Access {
    let auth = &settings.auth;
    Access {
        verifier,
        query_token: auth.query_token,
        cookie: Some(auth.cookie.clone()).filter(|cookie| !cookie.is_empty()),
        cookie_origins: auth.cookie_origins.clone(),
        metrics: auth.metrics,
        metrics_token: auth.metrics_token.clone(),
    }
}

fn secret(settings: &Settings) -> Result<Option<Secret>, AuthenticationError> {
    if !settings.jwt_secret.is_empty() {
        return Ok(Some(settings.jwt_secret.clone()));
    }
    if settings.jwt_secret_file.is_empty() {
        return Ok(None);
    }
    let path = Path::new(&settings.jwt_secret_file);
    let secret = Secret::from_file(read("jwt_secret_file", path)?);
    let bytes = secret.len();
    if bytes < SECRET_BYTES_MIN && !settings.is_on_loopback() && !settings.insecure {
        return Err(AuthenticationError::ShortSecret { path: path.to_owned(), bytes });
    }
    Ok(Some(secret))
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, AuthenticationError> {
    bounded_file::read(path, FILE_BYTES_MAX).map_err(|source| AuthenticationError::Unreadable {
        setting,
        path: path.to_owned(),
        source,
    })
}

fn bad_key(
    setting: &'static str,
    path: &Path,
) -> impl FnOnce(KeyError) -> AuthenticationError + use<> {
    let path = path.to_owned();
    move |reason| AuthenticationError::BadKey { setting, path, reason }
}

/// Limit of a key file. Keys have a few kilobytes.
const FILE_BYTES_MAX: u64 = 256 * 1024;
