//! What every token must fulfil, whatever its key.

/// The rules of a hub for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The one issuer (`iss`), if it is checked.
    pub issuer: Option<String>,
    /// Audiences of which a token must name one (`aud`); none: not checked.
    pub audience: Vec<String>,
    /// Whether a token must expire.
    pub expiry_required: bool,
    /// How far clocks may differ when a token is shown, in seconds. A stream ends without it.
    pub leeway_s: u32,
    /// Bytes of a token.
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
