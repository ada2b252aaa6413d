//! Why a token is refused, and why keys or settings are no good.
//!
//! Every text can be told to whoever sent the token: none repeats a part of it, and none says more of our keys than
//! that there is none that fits.

use std::time::Duration;

use thiserror::Error;

/// Why a token is not believed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TokenError {
    /// More than anybody needs.
    #[error("the token must have at most {max} bytes")]
    TooLong {
        /// The limit.
        max: usize,
    },
    /// It is no signed token in the compact form.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// It is signed in a way that this issuer's tokens are not, or not at all.
    #[error("the token is signed with an algorithm that is not accepted from its issuer")]
    Algorithm,
    /// It asks for something to be understood that is not understood here.
    #[error("the token has critical headers (`crit`), and none is understood here")]
    Critical,
    /// It is a token of another kind.
    #[error("the token is of another type: `typ` must be `JWT`, `at+jwt` or left out")]
    Type,
    /// Nobody whom we trust.
    #[error("the issuer of the token (`iss`) is not trusted here")]
    Issuer,
    /// It is meant for somebody else.
    #[error("the token is not meant for this server (`aud`)")]
    Audience,
    /// None of the issuer's keys is the one it names.
    #[error("the token names a key (`kid`) that its issuer does not have")]
    UnknownKey,
    /// The signature is not the issuer's.
    #[error("the signature of the token is wrong")]
    Signature,
    /// Its time is over.
    #[error("the token has expired (`exp`)")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet (`nbf`, `iat`)")]
    NotYet,
    /// It would be valid for longer than its issuer may say.
    #[error("the token is valid for too long: at most {} s are accepted from its issuer", .max.as_secs())]
    TooLongLived {
        /// The limit.
        max: Duration,
    },
    /// A claim is missing, or says something that it cannot.
    #[error("the claim `{name}` of the token {rule}")]
    Claim {
        /// The claim.
        name: String,
        /// What it has to be.
        rule: String,
    },
    /// The issuer's keys could not be fetched, so that nobody knows. The same token may be believed later.
    #[error("the keys of the token's issuer cannot be fetched at the moment")]
    Unavailable,
}

impl TokenError {
    /// Whether the same token may be believed in a moment.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable)
    }

    pub(super) fn claim(name: &str, rule: impl Into<String>) -> Self {
        Self::Claim { name: name.to_owned(), rule: rule.into() }
    }
}

/// Why a key cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Too easy to guess.
    #[error("a secret for HS256 must have at least {min} bytes, has {len}")]
    ShortSecret {
        /// The least length.
        min: usize,
        /// The length it has.
        len: usize,
    },
    /// What everybody may know was given as a secret.
    #[error("a secret must not be a key in the PEM format: what is public is no secret")]
    PemAsSecret,
    /// Nothing that is read here.
    #[error("must be one public key in the PEM format (`BEGIN PUBLIC KEY`): RSA, P-256 or Ed25519")]
    NotPem,
    /// Nothing that is read here.
    #[error("must be one private key in the PEM format (`BEGIN PRIVATE KEY`): Ed25519")]
    NotPrivatePem,
    /// It can be broken.
    #[error("an RSA key must have 2048 to 8192 bits, has {bits}")]
    RsaSize {
        /// The bits it has.
        bits: usize,
    },
    /// It is no set of keys.
    #[error("must be a JSON Web Key Set: {0}")]
    NotKeySet(&'static str),
    /// Nothing of it can be used.
    #[error("the key set holds no key that can be used")]
    NoUsableKey,
    /// More than can be tried.
    #[error("must have at most {max} keys")]
    TooMany {
        /// The limit.
        max: usize,
    },
    /// The key set is fetched in a way that others can change on its way.
    #[error("must be an https:// URL; http:// is for this machine only")]
    Url,
    /// There is no client to fetch it with.
    #[error("cannot make an HTTP client: {0}")]
    HttpClient(String),
}

/// Why issuers cannot be trusted as they are described.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IssuerError {
    /// A key is no good.
    #[error("the key of issuer `{issuer}`: {source}")]
    Key {
        /// The issuer, as the operator calls it.
        issuer: String,
        /// What is wrong.
        source: KeyError,
    },
    /// A description that contradicts itself.
    #[error("issuer `{issuer}` {rule}")]
    Refused {
        /// The issuer, as the operator calls it.
        issuer: String,
        /// What has to be.
        rule: &'static str,
    },
    /// Nobody could say whose token it is.
    #[error(
        "issuers `{one}` and `{other}` cannot be told apart: they have the same `iss` and an audience in common"
    )]
    Ambiguous {
        /// One of them.
        one: String,
        /// The other.
        other: String,
    },
}
