//! Clients' certificates that were taken back, by their fingerprints.
//!
//! A certificate is kept by nobody here, so that only its end is written down, and stays: it may be valid for years. Its
//! streams are told like those of a secret. A store that does not answer lets no certificate in.

use serde::{Deserialize, Serialize};

use crate::{
    auth::{
        directory::{self, Directory, records::revoked_certificates, shelf::Fault},
        gate::Refused,
        revoked::Revoked,
    },
    domain::rejection::{Code, Rejection},
    ids::Namespace,
    store::documents::Expect,
};

/// Digits of a SHA-256.
const DIGITS: usize = 64;
/// Certificates that may be revoked in one namespace.
const MAX: u64 = 100_000;

/// What to do where there are as many.
const MEND: &str = "a new authority ends all certificates of the old one";

/// What is kept of a certificate that was taken back. It is never over.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Ended {
    /// Since when.
    since: i64,
}

impl Directory {
    /// Ends a certificate and its streams; returns its fingerprint as we write it. A repeat is carried out again.
    pub async fn revoke_certificate(&self, namespace: &Namespace, shown: &str) -> Result<String, Rejection> {
        let fingerprint = fingerprint(shown)?;
        if let Some(of) = self.0.settings.certificates.as_ref().filter(|of| *of != namespace) {
            let problem = format_args!("certificates are of the namespace {of} (auth.certificate_namespace)");
            return Err(Rejection::field("namespace", problem));
        }
        let now = self.0.clock.now();
        // Streams end here even if nothing can be written down, unless too many were revoked in the last minute: then
        // nothing is changed.
        let what = Revoked::Certificate { id: fingerprint.clone() };
        let found = self.get_namespace(namespace).await;
        if let Err(rejection) = found.as_ref()
            && rejection.code != Code::Unavailable
        {
            return Err(rejection.clone());
        }
        let told = self.0.revocations.revoke(namespace, what, now).await;
        if let Err(rejection) = told.as_ref()
            && rejection.code == Code::ResourceExhausted
        {
            return Err(rejection.clone());
        }
        found?;
        let folder = revoked_certificates(namespace);
        let shelf = &self.0.shelf;
        if shelf.get::<Ended>(&folder, &fingerprint).await.map_err(Fault::from)?.is_none() {
            shelf.take_place(&folder, (MAX, "revoked certificates of one namespace"), MEND, now).await?;
            // One that is there now was revoked by somebody else at the same time.
            shelf.put(&folder, &fingerprint, Expect::Nothing, &Ended { since: now.0 }).await?;
        }
        self.0.certificates.forget(|(of, one), _| of == namespace && *one == fingerprint);
        told.map(|()| fingerprint)
    }

    /// Refuses a certificate that was taken back.
    pub async fn admits_certificate(&self, namespace: &Namespace, fingerprint: &str) -> Result<(), Refused> {
        let key = (namespace.clone(), fingerprint.to_owned());
        let ended = match self.0.certificates.get(&key) {
            Ok(kept) => kept,
            Err(begun) => {
                let read = self.0.shelf.get::<Ended>(&revoked_certificates(namespace), fingerprint).await;
                let ended = read.map_err(directory::Refused::Unavailable)?.map(drop);
                self.0.certificates.put(key, ended, begun);
                ended
            }
        };
        ended.map_or(Ok(()), |()| Err(Refused::Revoked))
    }
}

/// A fingerprint as programs print it: digits of either case, with colons or without.
fn fingerprint(shown: &str) -> Result<String, Rejection> {
    let digits: String = shown.chars().filter(|c| *c != ':').map(|c| c.to_ascii_lowercase()).collect();
    match digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        true => Ok(digits),
        false => {
            let problem = format_args!("must be the SHA-256 of a certificate, {DIGITS} hexadecimal digits");
            Err(Rejection::field("fingerprint", problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_programs_print_it() {
        let plain = "0a".repeat(32);
        assert_eq!(fingerprint(&plain).unwrap(), plain);
        assert_eq!(fingerprint(&["0A"; 32].join(":")).unwrap(), plain);
        for none in ["", "0a", &"0g".repeat(32), &"0a".repeat(33)] {
            assert_eq!(fingerprint(none).unwrap_err().field, Some("fingerprint"));
        }
    }
}
