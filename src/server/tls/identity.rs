//! What a certificate says: whose it is, and when it ends.
//!
//! Never decides whether a certificate is to be trusted: rustls has done that before anything is read here. One whose
//! names cannot be read is an error, never an empty name.

use rustls::pki_types::CertificateDer;
use thiserror::Error;
use x509_cert::{
    Certificate,
    der::{
        self, Decode as _,
        asn1::{Ia5StringRef, ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef},
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
    name::Name,
    time::Time,
};

use crate::{clock::Timestamp, digest, grpc::peer::ClientCertificate};

/// `id-at-commonName` (RFC 5280, appendix A.1).
const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
/// The longest name that is taken, in bytes: as long as the ids of workloads (SPIFFE) may be.
const NAME_BYTES: usize = 2048;

/// Why a certificate cannot be read.
#[derive(Debug, Error)]
pub(in crate::server) enum Unreadable {
    /// Its form.
    #[error("it is no certificate as RFC 5280 writes them")]
    Form(#[source] der::Error),
    /// It has no name.
    #[error("it has neither a URI, a DNS name or an e-mail address as alternative name, nor a common name")]
    Nameless,
    /// Its name is no name.
    #[error("its name is longer than {NAME_BYTES} bytes or has control characters")]
    Name,
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
}

/// Reads what a client has shown.
pub(super) fn client_certificate(shown: &CertificateDer<'_>) -> Result<ClientCertificate, Unreadable> {
    let certificate = Certificate::from_der(shown).map_err(Unreadable::Form)?;
    let content = &certificate.tbs_certificate;
    let names = content.get::<SubjectAltName>().map_err(Unreadable::Form)?;
    let subject = match names.as_ref().and_then(|(_, names)| alternative(names)) {
        Some(name) => Some(name.to_owned()),
        None => common_name(&content.subject),
    };
    let subject = subject.filter(|name| !name.is_empty()).ok_or(Unreadable::Nameless)?;
    if subject.len() > NAME_BYTES || subject.contains(char::is_control) {
        return Err(Unreadable::Name);
    }
    let fingerprint = digest::to_hex(&digest::sha256(&[shown]));
    Ok(ClientCertificate { subject, fingerprint, not_after: moment(content.validity.not_after) })
}

/// When a certificate is valid; none: it cannot be read.
pub(super) fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let validity = Certificate::from_der(certificate).ok()?.tbs_certificate.validity;
    Some(Validity { not_before: moment(validity.not_before), not_after: moment(validity.not_after) })
}

/// The first URI, else the first DNS name or e-mail address.
fn alternative(names: &SubjectAltName) -> Option<&str> {
    let uris = names.0.iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(uri) => Some(uri.as_str()),
        _ => None,
    });
    let others = names.0.iter().filter_map(|name| match name {
        GeneralName::DnsName(name) | GeneralName::Rfc822Name(name) => Some(name.as_str()),
        _ => None,
    });
    uris.chain(others).next()
}

/// The last common name: the most specific one.
fn common_name(subject: &Name) -> Option<String> {
    let mut attributes = subject.0.iter().flat_map(|part| part.0.iter());
    let value = &attributes.rfind(|attribute| attribute.oid == COMMON_NAME)?.value;
    let utf8 = value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
    let printable = || value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
    let ia5 = || value.decode_as::<Ia5StringRef<'_>>().map(|text| text.as_str().to_owned());
    let teletex = || value.decode_as::<TeletexStringRef<'_>>().map(|text| text.as_str().to_owned());
    utf8.or_else(|_| printable()).or_else(|_| ia5()).or_else(|_| teletex()).ok()
}

fn moment(time: Time) -> Timestamp {
    Timestamp(i64::try_from(time.to_unix_duration().as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    /// A certificate with these alternative names and this common name.
    fn made(names: Vec<SanType>, common_name: Option<&str>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.remove(DnType::CommonName);
        if let Some(name) = common_name {
            params.distinguished_name.push(DnType::CommonName, name);
        }
        params.subject_alt_names = names;
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn subject(names: Vec<SanType>, common_name: Option<&str>) -> Result<String, Unreadable> {
        client_certificate(&made(names, common_name)).map(|certificate| certificate.subject)
    }

    #[test]
    fn a_certificate_names_its_owner_by_the_best_of_its_names() {
        let uri = |text: &str| SanType::URI(text.try_into().unwrap());
        let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
        let mail = |text: &str| SanType::Rfc822Name(text.try_into().unwrap());
        let address = SanType::IpAddress([192, 0, 2, 7].into());
        for (names, common_name, expected) in [
            (vec![dns("a.example"), uri("spiffe://x/y"), uri("spiffe://x/z")], Some("ada"), "spiffe://x/y"),
            (vec![mail("ada@example.com"), dns("a.example")], Some("ada"), "ada@example.com"),
            (vec![address.clone(), dns("a.example"), mail("ada@example.com")], None, "a.example"),
            (vec![address.clone()], Some("ada"), "ada"),
            (vec![], Some("Ada Lovelace, Gräfin"), "Ada Lovelace, Gräfin"),
        ] {
            assert_eq!(subject(names, common_name).unwrap(), expected);
        }
        assert!(matches!(subject(vec![address], None), Err(Unreadable::Nameless)));
        assert!(matches!(subject(vec![], Some("")), Err(Unreadable::Nameless)));
        assert!(matches!(subject(vec![], Some("ada\nbob")), Err(Unreadable::Name)));
        assert_eq!(subject(vec![], Some(&"x".repeat(NAME_BYTES))).unwrap().len(), NAME_BYTES);
        assert!(matches!(subject(vec![], Some(&"x".repeat(NAME_BYTES + 1))), Err(Unreadable::Name)));
        let broken = client_certificate(&CertificateDer::from(vec![0x30, 0x03, 1, 2, 3]));
        assert!(matches!(broken, Err(Unreadable::Form(_))));
    }

    #[test]
    fn the_fingerprint_is_of_the_whole_and_the_end_is_a_moment() {
        let der = made(vec![], Some("ada"));
        let certificate = client_certificate(&der).unwrap();
        assert_eq!(certificate.fingerprint.len(), 64);
        assert!(certificate.fingerprint.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
        assert_ne!(
            certificate.fingerprint,
            client_certificate(&made(vec![], Some("ada"))).unwrap().fingerprint
        );
        // 2031-02-03 00:00 UTC.
        assert_eq!(certificate.not_after, Timestamp(1_927_843_200_000));
        assert_eq!(validity(&der).unwrap().not_after, certificate.not_after);
    }
}
