//! Keys that signatures are checked with, each bound to the one algorithm it is for.
//!
//! A key is made for an algorithm and is never used with another, whatever a token says: that is why a public key can
//! never be taken for a secret. Keys that could be guessed or broken are refused when they are made.

use std::fmt;

use aws_lc_rs::{
    encoding::AsDer,
    hmac, rsa,
    signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey, RSA_PKCS1_2048_8192_SHA256},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};

use crate::auth::jwt::error::KeyError;

/// The shortest secret: as many bytes as the hash has, or guessing it is easier than breaking the hash.
pub const SECRET_BYTES: usize = 32;
/// How every key in the PEM format begins.
const PEM_BEGIN: &[u8] = b"-----BEGIN";
/// Sizes of RSA keys that can neither be broken nor make a check take long.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// How a token is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// HMAC with SHA-256: who checks could sign as well.
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Hs256, Self::Rs256, Self::Es256, Self::EdDsa];

    /// The algorithm that a header or a key names.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            // The second is the newer name, which says the curve.
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// Its name in a header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::Es256 => "ES256",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether its keys are secrets.
    pub fn is_symmetric(self) -> bool {
        self == Self::Hs256
    }
}

/// A key that signatures are checked with. What is printed of it is no secret.
#[derive(Clone)]
pub(super) struct Key {
    /// What tokens call it; none: any name is taken for its own.
    pub(super) kid: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

#[derive(Clone)]
enum Material {
    Secret(Box<hmac::Key>),
    Public(Box<ParsedPublicKey>),
}

impl Key {
    /// A secret for HS256.
    pub(super) fn secret(kid: Option<String>, secret: &[u8]) -> Result<Self, KeyError> {
        if secret.len() < SECRET_BYTES {
            return Err(KeyError::ShortSecret { min: SECRET_BYTES, len: secret.len() });
        }
        // Whoever configures a public key as a secret makes everybody an issuer.
        if secret.windows(PEM_BEGIN.len()).any(|part| part == PEM_BEGIN) {
            return Err(KeyError::PemAsSecret);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Ok(Self { kid, algorithm: Algorithm::Hs256, material: Material::Secret(Box::new(key)) })
    }

    /// A public key in the PEM format; which algorithm it is for shows from the key.
    pub(super) fn public_pem(kid: Option<String>, pem: &str) -> Result<Self, KeyError> {
        let der = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| KeyError::NotPem)?;
        Self::rsa_der(kid.clone(), der.as_ref())
            .or_else(|error| match error {
                KeyError::NotPem => Self::public(kid.clone(), Algorithm::Es256, der.as_ref()),
                other => Err(other),
            })
            .or_else(|error| match error {
                KeyError::NotPem => Self::public(kid, Algorithm::EdDsa, der.as_ref()),
                other => Err(other),
            })
    }

    /// The numbers of an RSA key.
    pub(super) fn rsa(kid: Option<String>, n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let der = rsa::PublicKeyComponents { n, e }.as_der().map_err(|_| KeyError::NotPem)?;
        Self::rsa_der(kid, der.as_ref())
    }

    fn rsa_der(kid: Option<String>, der: &[u8]) -> Result<Self, KeyError> {
        let key = rsa::PublicKey::from_der(der).map_err(|_| KeyError::NotPem)?;
        let bits = key.modulus_len() * 8;
        if !RSA_BITS.contains(&bits) {
            return Err(KeyError::RsaSize { bits });
        }
        Self::public(kid, Algorithm::Rs256, der)
    }

    /// A point on P-256.
    pub(super) fn p256(kid: Option<String>, x: &[u8; 32], y: &[u8; 32]) -> Result<Self, KeyError> {
        // 4 begins a point that is written out.
        let point = [&[4], x.as_slice(), y.as_slice()].concat();
        Self::public(kid, Algorithm::Es256, &point)
    }

    /// A point of Ed25519.
    pub(super) fn ed25519(kid: Option<String>, x: &[u8; 32]) -> Result<Self, KeyError> {
        Self::public(kid, Algorithm::EdDsa, x)
    }

    fn public(kid: Option<String>, algorithm: Algorithm, bytes: &[u8]) -> Result<Self, KeyError> {
        let key = match algorithm {
            Algorithm::Rs256 => ParsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, bytes),
            Algorithm::Es256 => ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, bytes),
            Algorithm::EdDsa => ParsedPublicKey::new(&ED25519, bytes),
            Algorithm::Hs256 => return Err(KeyError::NotPem),
        };
        let key = key.map_err(|_| KeyError::NotPem)?;
        Ok(Self { kid, algorithm, material: Material::Public(Box::new(key)) })
    }

    /// What it is for.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether a token that is signed like this, with this name of a key, may be signed with it.
    pub(super) fn fits(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        let is_named = match (&self.kid, kid) {
            (Some(own), Some(named)) => own == named,
            (None, _) | (_, None) => true,
        };
        self.algorithm == algorithm && is_named
    }

    /// Whether `signature` is this key's.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Secret(key) => hmac::verify(key, signed, signature).is_ok(),
            Material::Public(key) => key.verify_sig(signed, signature).is_ok(),
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("kid", &self.kid)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
