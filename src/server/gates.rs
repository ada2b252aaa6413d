//! Who is let in, and who may change that, as the configuration says.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    audit::{self, Act, Audit, Origin},
    auth::{
        audit::{AuditSink, Fact},
        directory::{Directory, DirectorySettings},
        gate::{Gate, Sources},
        jwt::source::TokenSource,
        mint::MintTokens,
    },
    clock::Clock,
    config::{AuthMode, Config},
    grpc::admin::AdminApi,
    ids::Namespace,
    server::{
        graph::Graph,
        tokens::{self, TokenParts, TokensError},
    },
    store::{self, Store},
};

/// What stands before the doors, and what administers it.
#[derive(Debug)]
pub(super) struct Gates {
    /// Asked by every door.
    pub(super) gate: Gate,
    /// Who there is.
    pub(super) directory: Directory,
    mint: Option<Arc<dyn MintTokens>>,
    /// `None`: nobody is asked.
    tokens: Option<Arc<TokenSource>>,
    clock: Arc<dyn Clock>,
}

impl Gates {
    /// As the configuration says. Nothing is read or fetched yet.
    pub(super) fn open(
        config: &Config,
        store: &Arc<dyn Store>,
        clock: &Arc<dyn Clock>,
    ) -> Result<Self, TokensError> {
        let certificates =
            config.auth.certificate_namespace.as_deref().and_then(|name| Namespace::parse(name).ok());
        let settings = DirectorySettings {
            certificates: certificates.clone(),
            tokens_live: tokens::longest_life(&config.auth.tokens),
            ..DirectorySettings::default()
        };
        let directory = Directory::new(Arc::clone(store), Arc::clone(clock), settings);
        let TokenParts { verifier, signer } = tokens::build(&config.auth.tokens)?;
        let (gate, tokens) = match config.auth.mode {
            AuthMode::Open => (Gate::open(Arc::clone(clock)), None),
            AuthMode::Required => {
                let tokens = Arc::new(TokenSource::new(verifier, directory.clone()));
                let sources = Sources {
                    tokens: Some(Arc::<TokenSource>::clone(&tokens)),
                    secrets: Some(Arc::new(directory.clone())),
                    certificates,
                    namespaces: Some(directory.clone()),
                    revoked: Some(Arc::new(directory.revocations().clone())),
                };
                (Gate::required(Arc::clone(clock), sources), Some(tokens))
            }
        };
        let mint = signer.map(|signer| Arc::new(signer) as Arc<dyn MintTokens>);
        Ok(Self { gate, directory, mint, tokens, clock: Arc::clone(clock) })
    }

    /// Reads what is revoked, and begins to hear what is from now on, here and on other servers, and to read the keys of
    /// issuers, where anybody is asked who they are.
    pub(super) async fn start(
        &self,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<(), store::Error> {
        if let Some(tokens) = self.tokens.clone() {
            // A credential that was taken back must not be good for the first moments of a server.
            self.directory.revocations().catch_up().await?;
            tasks.spawn(self.directory.revocations().clone().run(stop.clone()));
            tasks.spawn(async move {
                stop.run_until_cancelled(tokens.warm()).await;
            });
        }
        Ok(())
    }

    /// The calls of the administration.
    pub(super) fn admin(&self, graph: &Graph) -> AdminApi {
        let (audit, allowances) = (graph.audit.clone(), graph.services.allowances.clone());
        let sink = Arc::new(Administration(audit.clone()));
        let clock = Arc::clone(&self.clock);
        AdminApi::new(self.directory.clone(), self.mint.clone(), sink, audit, allowances, clock)
    }
}

/// What the administration does, told to the audit.
#[derive(Debug)]
struct Administration(Audit);

#[async_trait]
impl AuditSink for Administration {
    async fn tell(&self, fact: Fact) {
        let Fact { at: _, namespace, by, from, action, target, refused } = fact;
        let act = act(action);
        // Who only looks, and may, changes nothing.
        if act == Act::Look && refused.is_none() {
            return;
        }
        let told = audit::Fact::new(namespace.unwrap_or_else(Namespace::default), act)
            .to(target)
            .detail(action)
            .from(Origin { credential: by.to_string(), peer: from });
        self.0.record(match refused {
            Some(code) => told.refused(code.as_str()),
            None => told,
        });
    }
}

fn act(action: &str) -> Act {
    match action {
        "namespace.create" => Act::NamespaceCreate,
        "namespace.update" | "namespace.unarchive" => Act::NamespaceUpdate,
        "namespace.rotate" => Act::NamespaceRotate,
        "namespace.archive" => Act::NamespaceArchive,
        "identity.create" => Act::IdentityCreate,
        "identity.update" => Act::IdentityUpdate,
        "identity.rotate" => Act::IdentityRotate,
        "identity.revoke" => Act::IdentityRevoke,
        "key.create" => Act::KeyCreate,
        "key.revoke" => Act::KeyRevoke,
        "token.create" => Act::TokenMint,
        "token.revoke" => Act::TokenRevoke,
        "user.revoke" => Act::UserRevoke,
        "certificate.revoke" => Act::CertificateRevoke,
        _ => Act::Look,
    }
}
