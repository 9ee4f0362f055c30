//! Which build of a server was measured.

use std::path::Path;
use std::process::{Command, Stdio};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;

use crate::outcome::Build;

impl Build {
    /// That of a process. It is run once more to ask for its version only if it `has_version`:
    /// another program may take the question for an order to start.
    pub fn of(pid: u32, has_version: bool) -> Self {
        Self::at(Path::new(&format!("/proc/{pid}/exe")), has_version)
    }

    /// That of this process.
    pub fn here() -> Self {
        let version = format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
        Self { version, ..Self::at(Path::new("/proc/self/exe"), false) }
    }

    fn at(path: &Path, has_version: bool) -> Self {
        let version = if has_version { version(path) } else { None };
        Self { version: version.unwrap_or_default(), sha256: sha256(path).unwrap_or_default() }
    }
}

fn version(path: &Path) -> Option<String> {
    let output = Command::new(path).arg("--version").stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    Some(said.lines().next()?.trim().to_owned())
}

/// The first digits of the hash, as `sha256sum` gives them.
fn sha256(path: &Path) -> Option<String> {
    let SupportedCipherSuite::Tls13(suite) = TLS13_AES_128_GCM_SHA256 else { return None };
    let digest = suite.common.hash_provider.hash(&std::fs::read(path).ok()?);
    Some(digest.as_ref().iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect())
}

/// Enough to tell builds apart.
const DIGITS: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_that_of_sha256sum() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").expect("there is room");
        assert_eq!(sha256(&path).as_deref(), Some("ba7816bf8f01"));
        assert_eq!(Build::at(&folder.path().join("none"), true), Build::default());
    }

    #[test]
    fn process_has_the_hash_of_its_program() {
        assert_eq!(Build::of(std::process::id(), false).sha256, Build::here().sha256);
        assert!(Build::here().version.starts_with("visnyk-loadtest "));
    }
}
