//! The rules that every token must satisfy, whatever its key.

/// The rules of a hub for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The issuer (`iss`) that a token must have; not checked if `None`.
    pub issuer: Option<String>,
    /// A token must be for one of these audiences (`aud`); not checked if empty.
    pub audience: Vec<String>,
    /// Whether a token must have an expiry (`exp`).
    pub expiry_required: bool,
    /// Seconds by which clocks may differ when a request is authenticated. Open streams end at the
    /// expiry, without this leeway.
    pub leeway_s: u32,
    /// Most bytes of a token.
    pub token_bytes_max: usize,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            issuer: None,
            audience: Vec::new(),
            expiry_required: true,
            leeway_s: 5,
            token_bytes_max: 8_192,
        }
    }
}
