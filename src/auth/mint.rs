//! Making tokens with the hub's own secret.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::json;

use super::{Claims, KeyError, Secret};

/// A token with these claims, signed with a shared secret.
///
/// # Errors
/// An empty secret, or an algorithm that takes another kind of key.
pub fn mint(claims: &Claims, secret: &Secret, algorithm: Algorithm) -> Result<String, KeyError> {
    if secret.is_empty() {
        return Err(KeyError::EmptySecret);
    }
    let encode = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": format!("{algorithm:?}"), "typ": "JWT" });
    let claims = serde_json::to_value(claims).expect("claims are plain data");
    let message = format!("{}.{}", encode(header), encode(claims));
    let key = EncodingKey::from_secret(secret.expose());
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm)
        .map_err(|_| KeyError::Kind)?;
    Ok(format!("{message}.{signature}"))
}
