//! Certificates of hubs that a client does not accept: another attempt does not help.

use std::error::Error;
use std::io;

use rustls::CertificateError;
use thiserror::Error;

/// Why the hub's certificate is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the hub's certificate is not accepted: {0}")]
pub struct CertificateRejected(String);

impl CertificateRejected {
    /// The rejection among the causes of an error, if that is what it was.
    pub(crate) fn found_in(error: &(dyn Error + 'static)) -> Option<Self> {
        let mut cause = Some(error);
        while let Some(error) = cause {
            // An I/O error hands out what is behind the error in it, and not that itself.
            let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            let inner = inner.map(|inner| inner as &(dyn Error + 'static));
            for error in [Some(error), inner].into_iter().flatten() {
                if let Some(rustls::Error::InvalidCertificate(error)) = error.downcast_ref() {
                    return Some(Self(in_words(error)));
                }
            }
            cause = inner.or_else(|| error.source());
        }
        None
    }
}

fn in_words(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            "its issuer is not trusted here (SSL_CERT_FILE names a file of roots)".to_owned()
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "it has expired".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "it is not valid yet".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is for another host name".to_owned()
        }
        CertificateError::Revoked => "it was revoked".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_certificate_is_found_in_whatever_it_is_wrapped() {
        let rejected = || rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let once = io::Error::other(rejected());
        let twice = io::Error::other(io::Error::other(rejected()));
        for error in [&rejected() as &(dyn Error + 'static), &once, &twice] {
            let found = CertificateRejected::found_in(error).expect("it is there");
            assert!(found.to_string().contains("issuer"), "{found}");
        }
        let other = io::Error::other(rustls::Error::DecryptError);
        assert_eq!(CertificateRejected::found_in(&other), None);
    }
}
