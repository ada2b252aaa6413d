//! The one place that turns what a call shows into who calls.
//!
//! Owns which kinds of credentials are taken. Knows no gRPC: doors hand over what they were shown. What cannot be
//! verified is refused, and so is everything while a source of credentials cannot answer; what is said of it names the
//! kind of problem and nothing that was secret. Where nobody is asked, everybody is the open principal.

use std::{fmt, net::IpAddr, sync::Arc};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;

use crate::{
    auth::{
        directory::Directory,
        jwt::error::TokenError,
        principal::{Credential, Principal},
    },
    clock::{Clock, Timestamp},
    domain::rejection::{Code, Rejection},
    ids::{Namespace, UserId},
};

/// Who calls, and from where.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who, and how far the credential goes.
    pub principal: Arc<Principal>,
    /// The address at the other end, as far as it is known; behind a proxy, the proxy's.
    pub peer: Option<IpAddr>,
}

/// What a call shows of itself.
#[derive(Debug, Default)]
pub struct Shown {
    /// What stands behind `Bearer`: a token, an API key, or any other secret.
    pub bearer: Option<SecretString>,
    /// The secret of an identity.
    pub identity: Option<SecretString>,
    /// The certificate that the connection was made with, verified already.
    pub certificate: Option<Certificate>,
}

/// What counts of a client's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whom it names.
    pub subject: String,
    /// Its SHA-256, in hexadecimal digits.
    pub fingerprint: String,
    /// When it ends.
    pub not_after: Timestamp,
}

/// Why a call is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// Nothing was shown.
    #[error("credentials are required: send `authorization: Bearer <token or key>` or `x-identity-secret`")]
    Missing,
    /// More than one kind was shown, and they might be of different callers.
    #[error("more than one credential was sent: send one of `authorization` and `x-identity-secret`")]
    Several,
    /// It is not what it should be; the reason is the same for all that could help a guess.
    #[error("the credential is not valid: {0}")]
    Invalid(&'static str),
    /// It is a token that is not believed.
    #[error(transparent)]
    Token(TokenError),
    /// It was valid once.
    #[error("the credential has expired")]
    Expired,
    /// Somebody has taken it back.
    #[error("the credential was revoked")]
    Revoked,
    /// It cannot be verified now.
    #[error("credentials cannot be verified now; try again")]
    Unavailable,
}

impl Refused {
    /// Whether what was shown may have been a guess; what was valid once, or cannot be verified, is none.
    pub fn may_be_guess(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::Token(_) => true,
            Self::Missing | Self::Several | Self::Expired | Self::Revoked | Self::Unavailable => false,
        }
    }

    /// What a client is told.
    pub fn rejection(&self) -> Rejection {
        let code = match self {
            Self::Missing
            | Self::Several
            | Self::Invalid(_)
            | Self::Token(_)
            | Self::Expired
            | Self::Revoked => Code::Unauthenticated,
            Self::Unavailable => Code::Unavailable,
        };
        Rejection::new(code, self.to_string())
    }
}

/// How much may be done to find out who shows a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Whatever it takes.
    Full,
    /// What is in memory is asked, and a secret that was found good before is read again. Nothing is looked up or
    /// fetched that whoever shows it might have invented.
    Known,
}

/// A source of credentials.
///
/// # Contract
///
/// * **Time.** `now` is the time to judge by; nothing else is asked for it.
/// * **Answers.** What is not known to the source is [`Refused::Invalid`], in words that are the same whatever was
///   missing. [`Refused::Unavailable`] when it could not be found out; never a principal then.
/// * **Effort.** With [`Effort::Known`] what is not known in memory is refused as if it were not there.
/// * **Cancel safety.** A dropped call has no effect.
#[async_trait]
pub trait Source: Send + Sync + fmt::Debug {
    /// Who shows this.
    async fn verify(&self, credential: &str, now: Timestamp, effort: Effort) -> Result<Principal, Refused>;
}

/// Tells that a principal is not to be let go on, on whichever node that was said.
pub trait Revoked: Send + Sync + fmt::Debug {
    /// Whether it was taken back already.
    fn is_revoked(&self, principal: &Principal) -> bool;

    /// Resolves when it is taken back; never, if nobody does.
    fn until_revoked(&self, principal: Arc<Principal>) -> BoxFuture<'static, ()>;

    /// Resolves when it is known that it will be taken back, before `known` if there is that, with the time at which it
    /// will; never, if nobody says so.
    fn until_replaced(
        &self,
        principal: Arc<Principal>,
        known: Option<Timestamp>,
    ) -> BoxFuture<'static, Timestamp>;
}

/// What is asked of callers.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// For signed tokens.
    pub tokens: Option<Arc<dyn Source>>,
    /// For secrets: of identities, namespaces, and API keys.
    pub secrets: Option<Arc<dyn Source>>,
    /// The namespace that clients' certificates speak for; none: a certificate is no credential.
    pub certificates: Option<Namespace>,
    /// Which namespaces there are, for credentials that are kept nowhere.
    pub namespaces: Option<Directory>,
    /// What was taken back.
    pub revoked: Option<Arc<dyn Revoked>>,
}

/// Lets callers in, or not.
#[derive(Debug, Clone)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Arc<dyn Clock>,
    /// Who everybody is where nobody is asked.
    open: Option<Arc<Principal>>,
    sources: Sources,
}

impl Gate {
    /// A gate that asks nobody.
    pub fn open(clock: Arc<dyn Clock>) -> Self {
        let open = Some(Arc::new(Principal::open()));
        Self(Arc::new(Inner { clock, open, sources: Sources::default() }))
    }

    /// A gate that asks everybody.
    pub fn required(clock: Arc<dyn Clock>, sources: Sources) -> Self {
        Self(Arc::new(Inner { clock, open: None, sources }))
    }

    /// Who everybody is, if nobody is asked.
    pub fn anybody(&self) -> Option<Arc<Principal>> {
        self.0.open.clone()
    }

    /// Who shows this.
    pub async fn admit(&self, shown: Shown, effort: Effort) -> Result<Arc<Principal>, Refused> {
        if let Some(open) = self.anybody() {
            return Ok(open);
        }
        let principal = match shown {
            Shown { bearer: Some(_), identity: Some(_), .. } => return Err(Refused::Several),
            Shown { bearer: Some(secret), .. } | Shown { identity: Some(secret), .. } => {
                self.verify(&secret, effort).await?
            }
            Shown { certificate: Some(certificate), .. } => self.certified(certificate).await?,
            Shown { .. } => return Err(Refused::Missing),
        };
        self.judge(principal).map(Arc::new)
    }

    /// Who shows this credential in the middle of a stream.
    pub async fn verify_again(&self, credential: &SecretString) -> Result<Arc<Principal>, Refused> {
        match self.anybody() {
            Some(open) => Ok(open),
            None => {
                let found = self.verify(credential, Effort::Full).await;
                found.and_then(|found| self.judge(found)).map(Arc::new)
            }
        }
    }

    /// Refuses who was let in and would not be any more: the credential may have ended since.
    pub fn still_admits(&self, principal: &Principal) -> Result<(), Refused> {
        if principal.expires_at.is_some_and(|at| at <= self.0.clock.now()) {
            return Err(Refused::Expired);
        }
        if self.0.sources.revoked.as_ref().is_some_and(|revoked| revoked.is_revoked(principal)) {
            return Err(Refused::Revoked);
        }
        Ok(())
    }

    /// How long a credential is still good; none: as long as nobody takes it back.
    pub fn time_left(&self, principal: &Principal) -> Option<std::time::Duration> {
        principal.expires_at.map(|at| self.time_until(at))
    }

    /// How long it is until then.
    pub fn time_until(&self, at: Timestamp) -> std::time::Duration {
        let left = at.0.saturating_sub(self.0.clock.now().0);
        std::time::Duration::from_millis(u64::try_from(left).unwrap_or(0))
    }

    /// Resolves when it is known when the principal will be taken back, sooner than `known`, with that time.
    pub fn until_replaced(
        &self,
        principal: &Arc<Principal>,
        known: Option<Timestamp>,
    ) -> Option<BoxFuture<'static, Timestamp>> {
        Some(self.0.sources.revoked.as_ref()?.until_replaced(Arc::clone(principal), known))
    }

    /// Resolves when the principal is taken back.
    pub fn until_revoked(&self, principal: &Arc<Principal>) -> Option<BoxFuture<'static, ()>> {
        Some(self.0.sources.revoked.as_ref()?.until_revoked(Arc::clone(principal)))
    }

    /// Resolves when the principal would not be let in any more, with the reason; never where nobody is asked.
    pub async fn until_over(&self, principal: &Arc<Principal>) -> Refused {
        let revoked = async {
            match self.until_revoked(principal) {
                Some(revoked) => revoked.await,
                None => std::future::pending().await,
            }
        };
        let ended = async {
            match self.time_left(principal) {
                Some(left) => tokio::time::sleep(left).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = revoked => Refused::Revoked,
            () = ended => Refused::Expired,
        }
    }

    async fn verify(&self, credential: &SecretString, effort: Effort) -> Result<Principal, Refused> {
        let text = credential.expose_secret();
        // A token is three parts with points between them; no secret of ours has one.
        let source = match text.contains('.') {
            true => &self.0.sources.tokens,
            false => &self.0.sources.secrets,
        };
        match source {
            Some(source) => source.verify(text, self.0.clock.now(), effort).await,
            None => Err(Refused::Invalid("this server takes none of its kind")),
        }
    }

    async fn certified(&self, certificate: Certificate) -> Result<Principal, Refused> {
        let Some(namespace) = self.0.sources.certificates.clone() else {
            return Err(Refused::Missing);
        };
        if let Some(directory) = &self.0.sources.namespaces {
            directory.admits(&namespace).await?;
            directory.admits_certificate(&namespace, &certificate.fingerprint).await?;
        }
        let user = UserId::parse(&certificate.subject)
            .map_err(|_| Refused::Invalid("its subject cannot be the id of a user"))?;
        Ok(Principal {
            namespace,
            user: Some(user),
            expires_at: Some(certificate.not_after),
            credential: Credential::Certificate(certificate.fingerprint),
            ..Principal::open()
        })
    }

    /// What holds for every kind.
    fn judge(&self, principal: Principal) -> Result<Principal, Refused> {
        self.still_admits(&principal).map(|()| principal)
    }
}
