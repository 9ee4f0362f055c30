//! The settings of TLS.

use serde::{Deserialize, Serialize};

use super::Settings;

/// How TLS is kept, where there is a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct TlsSettings {
    /// Seconds between two looks at whether the files have changed.
    pub reload_s: u32,
}

impl Default for TlsSettings {
    fn default() -> Self {
        Self { reload_s: 5 }
    }
}

impl Settings {
    /// Whether connections are encrypted.
    pub fn has_tls(&self) -> bool {
        !self.tls_cert.is_empty() && !self.tls_key.is_empty()
    }
}
