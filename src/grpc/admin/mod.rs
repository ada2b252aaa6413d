//! `room.v1.AdminService`: namespaces, identities, API keys, tokens, the audit.
//!
//! Says who may ask (`caller.rs`) and hands on to the directory, which says what can be. Every call is told to the audit,
//! also a refused one, but for those without a caller and those that are too many. Secrets are in the answers that make
//! them and in no log.

mod caller;
mod convert;
mod entries;
mod tokens;

use std::{future::Future, sync::Arc, time::Duration};

use tonic::{Request, Response, Status};

use crate::{
    allowance::{Allowances, rate::What},
    audit::Audit,
    auth::{
        audit::AuditSink,
        directory::{Directory, IdentityChange, NamespaceChange, NewIdentity, NewKey, NewNamespace},
        mint::MintTokens,
        revoked::Revoked,
        scope::Scope,
    },
    clock::Clock,
    domain::{limits::check_required, rejection::Rejection},
    grpc::{
        admin::{
            caller::Caller,
            convert::{identity_to_pb, key_to_pb, namespace_to_pb, quotas_from_pb, scopes_from_pb},
        },
        cursor,
        payer::charge,
        status,
    },
    ids::{Namespace, UserId},
    wire::{
        basic::timestamp,
        pb::room::v1::{self as pb, admin_service_server::AdminService},
    },
};

/// What a list gives when nothing is asked for, and the most.
const PAGE: (usize, usize) = (50, 500);
/// The longest id of a token, in characters.
const TOKEN_ID_CHARS: usize = 256;

/// The calls of the administration.
#[derive(Debug, Clone)]
pub struct AdminApi {
    directory: Directory,
    mint: Option<Arc<dyn MintTokens>>,
    audit: Arc<dyn AuditSink>,
    entries: Audit,
    allowances: Allowances,
    clock: Arc<dyn Clock>,
}

/// What was done, and to what.
type Done<T> = Result<(T, String), Rejection>;

impl AdminApi {
    /// Calls on this directory. Without `mint` no tokens are made. What is done is told to `audit`; what is read of it is
    /// in `entries`.
    pub fn new(
        directory: Directory,
        mint: Option<Arc<dyn MintTokens>>,
        audit: Arc<dyn AuditSink>,
        entries: Audit,
        allowances: Allowances,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { directory, mint, audit, entries, allowances, clock }
    }

    /// Who calls; it counts as one of their calls.
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        charge(&self.allowances, request, None, What::Admin)?;
        Caller::of(request)
    }

    /// Does it, tells the audit, and answers. `target` is what the call names, for when it is refused.
    async fn answer<T>(
        &self,
        caller: &Caller,
        action: &'static str,
        (namespace, target): (&str, &str),
        work: impl Future<Output = Done<T>> + Send,
    ) -> Result<Response<T>, Status> {
        let (result, target) = match work.await {
            Ok((answer, target)) => (Ok(answer), target),
            Err(rejection) => (Err(rejection), target.chars().take(TOKEN_ID_CHARS).collect()),
        };
        let refused = result.as_ref().err().map(|rejection| rejection.code);
        self.audit.tell(caller.fact(self.clock.now(), action, (namespace, target), refused)).await;
        result.map(Response::new).map_err(|rejection| status::of(&rejection))
    }

    async fn revoke(&self, namespace: &Namespace, what: Revoked) -> Result<(), Rejection> {
        self.directory.revocations().revoke(namespace, what, self.clock.now()).await
    }
}

#[tonic::async_trait]
impl AdminService for AdminApi {
    async fn create_namespace(
        &self,
        request: Request<pb::CreateNamespaceRequest>,
    ) -> Result<Response<pb::CreateNamespaceResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let named = (asked.namespace.as_str(), "");
        let work = async {
            caller.everywhere()?;
            let name = Namespace::parse(&asked.namespace).map_err(|e| Rejection::id("namespace", &e))?;
            let new = NewNamespace {
                name: name.clone(),
                display_name: asked.display_name.clone(),
                quotas: quotas_from_pb(asked.quotas),
            };
            let (record, secret) = self.directory.create_namespace(new).await?;
            // Here they hold at once, on other servers when they look the next time.
            self.allowances.set_quotas(&name, Some(record.quotas));
            let (namespace, secret) = (Some(namespace_to_pb(&name, record)), secret.expose().to_owned());
            Ok((pb::CreateNamespaceResponse { namespace, secret }, String::new()))
        };
        self.answer(&caller, "namespace.create", named, work).await
    }

    async fn list_namespaces(
        &self,
        request: Request<pb::ListNamespacesRequest>,
    ) -> Result<Response<pb::ListNamespacesResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            caller.everywhere()?;
            let after = after("namespaces", asked.cursor.as_deref())?;
            let after = after.and_then(|name| Namespace::parse(&name).ok());
            let limit = page(asked.limit);
            let listed = self.directory.list_namespaces(after.as_ref(), limit).await?;
            let next_cursor =
                next("namespaces", listed.last().map(|(name, _)| name.as_str()), listed.len(), limit);
            let namespaces =
                listed.into_iter().map(|(name, record)| namespace_to_pb(&name, record)).collect();
            Ok((pb::ListNamespacesResponse { namespaces, next_cursor }, String::new()))
        };
        self.answer(&caller, "namespace.list", ("", ""), work).await
    }

    async fn get_namespace(
        &self,
        request: Request<pb::GetNamespaceRequest>,
    ) -> Result<Response<pb::GetNamespaceResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let name = caller.within(&asked.namespace, Scope::Admin)?;
            let record = self.directory.get_namespace(&name).await?;
            let namespace = Some(namespace_to_pb(&name, record));
            Ok((pb::GetNamespaceResponse { namespace }, String::new()))
        };
        self.answer(&caller, "namespace.get", (&asked.namespace, ""), work).await
    }

    async fn update_namespace(
        &self,
        request: Request<pb::UpdateNamespaceRequest>,
    ) -> Result<Response<pb::UpdateNamespaceResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let name = caller.within(&asked.namespace, Scope::Admin)?;
            if asked.quotas.is_some() {
                caller.everywhere()?;
            }
            let quotas = asked.quotas.map(|quotas| quotas_from_pb(Some(quotas)));
            let change = NamespaceChange { display_name: asked.display_name.clone(), quotas };
            let record = self.directory.change_namespace(&name, change).await?;
            self.allowances.set_quotas(&name, Some(record.quotas));
            let namespace = Some(namespace_to_pb(&name, record));
            Ok((pb::UpdateNamespaceResponse { namespace }, String::new()))
        };
        self.answer(&caller, "namespace.update", (&asked.namespace, ""), work).await
    }

    async fn archive_namespace(
        &self,
        request: Request<pb::ArchiveNamespaceRequest>,
    ) -> Result<Response<pb::ArchiveNamespaceResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let name = caller.within(&asked.namespace, Scope::Admin)?;
            let record = self.directory.archive_namespace(&name, true).await?;
            let namespace = Some(namespace_to_pb(&name, record));
            Ok((pb::ArchiveNamespaceResponse { namespace }, String::new()))
        };
        self.answer(&caller, "namespace.archive", (&asked.namespace, ""), work).await
    }

    async fn unarchive_namespace(
        &self,
        request: Request<pb::UnarchiveNamespaceRequest>,
    ) -> Result<Response<pb::UnarchiveNamespaceResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            caller.everywhere()?;
            let name = caller.within(&asked.namespace, Scope::Admin)?;
            let record = self.directory.archive_namespace(&name, false).await?;
            let namespace = Some(namespace_to_pb(&name, record));
            Ok((pb::UnarchiveNamespaceResponse { namespace }, String::new()))
        };
        self.answer(&caller, "namespace.unarchive", (&asked.namespace, ""), work).await
    }

    async fn rotate_namespace_secret(
        &self,
        request: Request<pb::RotateNamespaceSecretRequest>,
    ) -> Result<Response<pb::RotateNamespaceSecretResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let name = caller.within(&asked.namespace, Scope::Admin)?;
            let overlap = Duration::from_millis(asked.overlap_ms);
            let (record, secret) = self.directory.rotate_namespace_secret(&name, overlap).await?;
            let (namespace, secret) = (Some(namespace_to_pb(&name, record)), secret.expose().to_owned());
            Ok((pb::RotateNamespaceSecretResponse { namespace, secret }, String::new()))
        };
        self.answer(&caller, "namespace.rotate", (&asked.namespace, ""), work).await
    }

    async fn create_identity(
        &self,
        request: Request<pb::CreateIdentityRequest>,
    ) -> Result<Response<pb::CreateIdentityResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let named = (asked.namespace.as_str(), "");
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Identities)?;
            let given = Some(asked.user_id.as_str()).filter(|text| !text.is_empty());
            let new = NewIdentity {
                user: given.map(|text| user("user_id", text)).transpose()?,
                name: Some(asked.display_name.clone()),
                metadata: asked.metadata.clone().into_iter().collect(),
            };
            let (id, record, secret) = self.directory.create_identity(&namespace, new).await?;
            let identity = Some(identity_to_pb(id.clone(), record));
            Ok((pb::CreateIdentityResponse { identity, secret: secret.expose().to_owned() }, id))
        };
        self.answer(&caller, "identity.create", named, work).await
    }

    async fn list_identities(
        &self,
        request: Request<pb::ListIdentitiesRequest>,
    ) -> Result<Response<pb::ListIdentitiesResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Identities)?;
            let (list, limit) = (format!("identities of {namespace}"), page(asked.limit));
            let after = after(&list, asked.cursor.as_deref())?;
            let listed = self.directory.list_identities(&namespace, after.as_deref(), limit).await?;
            let next_cursor = next(&list, listed.last().map(|(id, _)| id.as_str()), listed.len(), limit);
            let identities = listed.into_iter().map(|(id, record)| identity_to_pb(id, record)).collect();
            Ok((pb::ListIdentitiesResponse { identities, next_cursor }, String::new()))
        };
        self.answer(&caller, "identity.list", (&asked.namespace, ""), work).await
    }

    async fn get_identity(
        &self,
        request: Request<pb::GetIdentityRequest>,
    ) -> Result<Response<pb::GetIdentityResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Identities)?;
            let record = self.directory.get_identity(&namespace, &asked.identity_id).await?;
            let identity = Some(identity_to_pb(asked.identity_id.clone(), record));
            Ok((pb::GetIdentityResponse { identity }, asked.identity_id.clone()))
        };
        self.answer(&caller, "identity.get", (&asked.namespace, &asked.identity_id), work).await
    }

    async fn update_identity(
        &self,
        request: Request<pb::UpdateIdentityRequest>,
    ) -> Result<Response<pb::UpdateIdentityResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Identities)?;
            let metadata = asked.metadata.clone().map(|metadata| metadata.entries.into_iter().collect());
            let change = IdentityChange { name: asked.display_name.clone(), metadata };
            let record = self.directory.change_identity(&namespace, &asked.identity_id, change).await?;
            let identity = Some(identity_to_pb(asked.identity_id.clone(), record));
            Ok((pb::UpdateIdentityResponse { identity }, asked.identity_id.clone()))
        };
        self.answer(&caller, "identity.update", (&asked.namespace, &asked.identity_id), work).await
    }

    async fn rotate_identity_secret(
        &self,
        request: Request<pb::RotateIdentitySecretRequest>,
    ) -> Result<Response<pb::RotateIdentitySecretResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let id = asked.identity_id.as_str();
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Identities)?;
            let overlap = Duration::from_millis(asked.overlap_ms);
            let (record, secret) = self.directory.rotate_identity_secret(&namespace, id, overlap).await?;
            let identity = Some(identity_to_pb(id.to_owned(), record));
            let secret = secret.expose().to_owned();
            Ok((pb::RotateIdentitySecretResponse { identity, secret }, id.to_owned()))
        };
        self.answer(&caller, "identity.rotate", (&asked.namespace, id), work).await
    }

    async fn revoke_identity(
        &self,
        request: Request<pb::RevokeIdentityRequest>,
    ) -> Result<Response<pb::RevokeIdentityResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Identities)?;
            let record = self.directory.revoke_identity(&namespace, &asked.identity_id).await?;
            let identity = Some(identity_to_pb(asked.identity_id.clone(), record));
            Ok((pb::RevokeIdentityResponse { identity }, asked.identity_id.clone()))
        };
        self.answer(&caller, "identity.revoke", (&asked.namespace, &asked.identity_id), work).await
    }

    async fn create_api_key(
        &self,
        request: Request<pb::CreateApiKeyRequest>,
    ) -> Result<Response<pb::CreateApiKeyResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.keys_of(&asked.namespace, asked.server)?;
            let scopes = scopes_from_pb(&asked.scopes)?;
            caller.covers(scopes)?;
            let expires_at = asked.expires_at.as_ref().map(|at| timestamp(Some(at)));
            let new = NewKey { label: asked.label.clone(), scopes, expires_at };
            let (id, record, secret) = self.directory.create_key(namespace.as_ref(), new).await?;
            let key = Some(key_to_pb(id.clone(), record));
            Ok((pb::CreateApiKeyResponse { key, secret: secret.expose().to_owned() }, id))
        };
        self.answer(&caller, "key.create", (&asked.namespace, ""), work).await
    }

    async fn list_api_keys(
        &self,
        request: Request<pb::ListApiKeysRequest>,
    ) -> Result<Response<pb::ListApiKeysResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.keys_of(&asked.namespace, asked.server)?;
            let of = namespace.as_ref().map_or("the server", Namespace::as_str);
            let (list, limit) = (format!("keys of {of}"), page(asked.limit));
            let after = after(&list, asked.cursor.as_deref())?;
            let listed = self.directory.list_keys(namespace.as_ref(), after.as_deref(), limit).await?;
            let next_cursor = next(&list, listed.last().map(|(id, _)| id.as_str()), listed.len(), limit);
            let keys = listed.into_iter().map(|(id, record)| key_to_pb(id, record)).collect();
            Ok((pb::ListApiKeysResponse { keys, next_cursor }, String::new()))
        };
        self.answer(&caller, "key.list", (&asked.namespace, ""), work).await
    }

    async fn revoke_api_key(
        &self,
        request: Request<pb::RevokeApiKeyRequest>,
    ) -> Result<Response<pb::RevokeApiKeyResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.keys_of(&asked.namespace, asked.server)?;
            let record = self.directory.revoke_key(namespace.as_ref(), &asked.key_id).await?;
            let key = Some(key_to_pb(asked.key_id.clone(), record));
            Ok((pb::RevokeApiKeyResponse { key }, asked.key_id.clone()))
        };
        self.answer(&caller, "key.revoke", (&asked.namespace, &asked.key_id), work).await
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<pb::CreateJoinTokenResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = self.mint(&caller, &asked);
        self.answer(&caller, "token.create", (&asked.namespace, &asked.user_id), work).await
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Tokens)?;
            self.directory.get_namespace(&namespace).await?;
            check_required("token_id", &asked.token_id, TOKEN_ID_CHARS)?;
            self.revoke(&namespace, Revoked::Token { id: asked.token_id.clone() }).await?;
            Ok((pb::RevokeTokenResponse {}, asked.token_id.clone()))
        };
        self.answer(&caller, "token.revoke", (&asked.namespace, &asked.token_id), work).await
    }

    async fn revoke_user(
        &self,
        request: Request<pb::RevokeUserRequest>,
    ) -> Result<Response<pb::RevokeUserResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Tokens)?;
            self.directory.get_namespace(&namespace).await?;
            let user = user("user_id", &asked.user_id)?;
            self.directory.revocations().revoke_user(&namespace, &user).await?;
            Ok((pb::RevokeUserResponse {}, user.to_string()))
        };
        self.answer(&caller, "user.revoke", (&asked.namespace, &asked.user_id), work).await
    }

    async fn revoke_certificate(
        &self,
        request: Request<pb::RevokeCertificateRequest>,
    ) -> Result<Response<pb::RevokeCertificateResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Tokens)?;
            let fingerprint = self.directory.revoke_certificate(&namespace, &asked.fingerprint).await?;
            Ok((pb::RevokeCertificateResponse {}, fingerprint))
        };
        self.answer(&caller, "certificate.revoke", (&asked.namespace, &asked.fingerprint), work).await
    }

    async fn read_audit(
        &self,
        request: Request<pb::ReadAuditRequest>,
    ) -> Result<Response<pb::ReadAuditResponse>, Status> {
        let (caller, asked) = (self.caller(&request)?, request.into_inner());
        let work = async {
            let namespace = caller.within(&asked.namespace, Scope::Audit)?;
            self.directory.get_namespace(&namespace).await?;
            Ok((entries::read(&self.entries, &namespace, &asked).await?, String::new()))
        };
        self.answer(&caller, "audit.read", (&asked.namespace, ""), work).await
    }
}

fn user(field: &'static str, text: &str) -> Result<UserId, Rejection> {
    UserId::parse(text).map_err(|error| Rejection::id(field, &error))
}

fn page(asked: u32) -> usize {
    match usize::try_from(asked) {
        Ok(0) => PAGE.0,
        Ok(asked) => asked.min(PAGE.1),
        Err(_) => PAGE.1,
    }
}

/// Behind which name a page begins.
fn after(list: &str, cursor: Option<&str>) -> Result<Option<String>, Rejection> {
    let Some(cursor) = cursor.filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let bytes = cursor::decode(list, cursor)?;
    String::from_utf8(bytes).map(Some).map_err(|_| crate::rooms::history::bad_cursor())
}

/// Where the page behind this one begins. A page that is not full is the last.
fn next(list: &str, last: Option<&str>, len: usize, limit: usize) -> Option<String> {
    last.filter(|_| len == limit).map(|name| cursor::encode(list, name.as_bytes()))
}

#[cfg(test)]
mod tests;
