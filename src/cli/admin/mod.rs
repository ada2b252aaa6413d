//! `salon admin`: namespaces, identities, API keys, tokens and the audit, through the server's `AdminService`.
//!
//! A secret is printed once, to the standard output, with what it belongs to; whoever loses it makes another. What the
//! server refuses is told in its words.

pub mod args;
mod print;

use std::{io::Write, time::Duration};

use tonic::{Response, Status};

use crate::{
    cli::{
        admin::{
            args::{
                Call, Common, Identity, Key, Keys, Namespace, Quota, QuotaChange, ReadAudit, Role, Since,
                Token, Within,
            },
            print::Output,
        },
        client::{self, Admin, Error},
        exit::Exit,
    },
    clock::Timestamp,
    wire::{
        basic::time,
        pb::room::v1::{self as pb},
    },
};

/// The largest page that the server gives.
const PAGE: u32 = 500;

/// Asks the server once, or until a list is at its end, and writes the answer to `out`.
pub async fn run(call: Call, now: Timestamp, out: &mut (impl Write + Send)) -> Result<Exit, Error> {
    let mut output = Output::new(out);
    let done = match call {
        Call::Namespace(command) => namespace(command, &mut output).await,
        Call::Identity(command) => identity(command, &mut output).await,
        Call::Key(command) => key(command, now, &mut output).await,
        Call::Token(command) => token(command, &mut output).await,
        Call::Audit(asked) => audit(asked, now, &mut output).await,
    };
    match done.and_then(|()| output.flush()) {
        Err(error) if !error.is_broken_pipe() => Err(error),
        Ok(()) | Err(_) => Ok(Exit::Success),
    }
}

async fn client(common: &Common, output: &mut Output<impl Write>) -> Result<Admin, Error> {
    output.is_json = common.json;
    client::admin(&common.server.clone().into()).await
}

fn answer<T>(answered: Result<Response<T>, Status>) -> Result<T, Error> {
    answered.map(Response::into_inner).map_err(|status| Error::from_status(&status, None))
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

async fn namespace(command: Namespace, output: &mut Output<impl Write>) -> Result<(), Error> {
    match command {
        Namespace::Create { name: namespace, display_name, common } => {
            let mut client = client(&common, output).await?;
            let asked = pb::CreateNamespaceRequest { namespace, display_name, quotas: None };
            let made = answer(client.create_namespace(asked).await)?;
            output.made("room.v1.CreateNamespaceResponse", &made, "the secret of its owner", &made.secret)
        }
        Namespace::List(common) => {
            let mut client = client(&common, output).await?;
            let (mut all, mut cursor) = (Vec::new(), None);
            loop {
                let asked = pb::ListNamespacesRequest { limit: PAGE, cursor };
                let page = answer(client.list_namespaces(asked).await)?;
                cursor = page.next_cursor.filter(|_| !page.namespaces.is_empty());
                all.extend(page.namespaces);
                if cursor.is_none() {
                    return output.namespaces(&all);
                }
            }
        }
        Namespace::Show { name: namespace, common } => {
            let mut client = client(&common, output).await?;
            let asked = pb::GetNamespaceRequest { namespace };
            output.namespaces(answer(client.get_namespace(asked).await)?.namespace.as_slice())
        }
        Namespace::Update { name: namespace, display_name, quotas: change, common } => {
            let mut client = client(&common, output).await?;
            let quotas = match change {
                QuotaChange { rooms: None, members: None, stored_bytes: None, runs: None, streams: None } => {
                    None
                }
                change => {
                    // The contract replaces them as a whole.
                    let asked = pb::GetNamespaceRequest { namespace: namespace.clone() };
                    let known = answer(client.get_namespace(asked).await)?.namespace;
                    Some(changed(known.and_then(|known| known.quotas).unwrap_or_default(), change))
                }
            };
            let asked = pb::UpdateNamespaceRequest { namespace, display_name, quotas };
            output.namespaces(answer(client.update_namespace(asked).await)?.namespace.as_slice())
        }
        Namespace::Archive { name: namespace, undo: false, common } => {
            let mut client = client(&common, output).await?;
            let asked = pb::ArchiveNamespaceRequest { namespace };
            output.namespaces(answer(client.archive_namespace(asked).await)?.namespace.as_slice())
        }
        Namespace::Archive { name: namespace, undo: true, common } => {
            let mut client = client(&common, output).await?;
            let asked = pb::UnarchiveNamespaceRequest { namespace };
            output.namespaces(answer(client.unarchive_namespace(asked).await)?.namespace.as_slice())
        }
        Namespace::Rotate { name: namespace, overlap, common } => {
            let mut client = client(&common, output).await?;
            let asked = pb::RotateNamespaceSecretRequest { namespace, overlap_ms: ms(overlap) };
            let made = answer(client.rotate_namespace_secret(asked).await)?;
            let message = "room.v1.RotateNamespaceSecretResponse";
            output.made(message, &made, "the new secret of its owner", &made.secret)
        }
    }
}

/// These quotas, with what is changed of them.
fn changed(known: pb::Quotas, change: QuotaChange) -> pb::Quotas {
    pb::Quotas {
        rooms: change.rooms.map_or(known.rooms, Quota::most),
        members: change.members.map_or(known.members, Quota::most),
        stored_bytes: change.stored_bytes.map_or(known.stored_bytes, Quota::most),
        runs: change.runs.map_or(known.runs, Quota::most),
        streams: change.streams.map_or(known.streams, Quota::most),
    }
}

/// Page after page, until the audit or the limit is at its end.
async fn audit(asked: ReadAudit, now: Timestamp, output: &mut Output<impl Write>) -> Result<(), Error> {
    let ReadAudit { since, limit, within: Within { namespace, common } } = asked;
    let mut client = client(&common, output).await?;
    let begin = match since {
        Since::Ago(ago) => {
            Timestamp(now.0.saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX)))
        }
        Since::At(moment) => moment,
    };
    let (mut since, mut cursor, mut left) = (time(begin), None, limit);
    while left > 0 {
        let asked =
            pb::ReadAuditRequest { namespace: namespace.clone(), limit: left.min(PAGE), cursor, since };
        let page = answer(client.read_audit(asked).await)?;
        output.audit(&page.entries)?;
        left = left.saturating_sub(u32::try_from(page.entries.len()).unwrap_or(u32::MAX));
        cursor = page.next_cursor.filter(|_| !page.entries.is_empty());
        since = None;
        if cursor.is_none() {
            return Ok(());
        }
    }
    Ok(())
}

async fn identity(command: Identity, output: &mut Output<impl Write>) -> Result<(), Error> {
    match command {
        Identity::Create { user: user_id, name: display_name, within } => {
            let Within { namespace, common } = within;
            let mut client = client(&common, output).await?;
            let metadata = std::collections::HashMap::default();
            let asked = pb::CreateIdentityRequest { namespace, user_id, display_name, metadata };
            let made = answer(client.create_identity(asked).await)?;
            let of = made.identity.as_ref().map(|identity| identity.identity_id.as_str()).unwrap_or_default();
            let whose = format!("the secret of identity {of}");
            output.made("room.v1.CreateIdentityResponse", &made, &whose, &made.secret)
        }
        Identity::List(Within { namespace, common }) => {
            let mut client = client(&common, output).await?;
            let (mut all, mut cursor) = (Vec::new(), None);
            loop {
                let asked = pb::ListIdentitiesRequest { namespace: namespace.clone(), limit: PAGE, cursor };
                let page = answer(client.list_identities(asked).await)?;
                cursor = page.next_cursor.filter(|_| !page.identities.is_empty());
                all.extend(page.identities);
                if cursor.is_none() {
                    return output.identities(&all);
                }
            }
        }
        Identity::Show { id: identity_id, within: Within { namespace, common } } => {
            let mut client = client(&common, output).await?;
            let asked = pb::GetIdentityRequest { namespace, identity_id };
            output.identities(answer(client.get_identity(asked).await)?.identity.as_slice())
        }
        Identity::Update { id: identity_id, name: display_name, metadata, within } => {
            let Within { namespace, common } = within;
            let mut client = client(&common, output).await?;
            let metadata = Some(pb::Metadata { entries: metadata.into_iter().collect() })
                .filter(|metadata| !metadata.entries.is_empty());
            let asked = pb::UpdateIdentityRequest { namespace, identity_id, display_name, metadata };
            output.identities(answer(client.update_identity(asked).await)?.identity.as_slice())
        }
        Identity::Rotate { id: identity_id, overlap, within: Within { namespace, common } } => {
            let mut client = client(&common, output).await?;
            let overlap_ms = ms(overlap);
            let asked = pb::RotateIdentitySecretRequest { namespace, identity_id, overlap_ms };
            let made = answer(client.rotate_identity_secret(asked).await)?;
            output.made("room.v1.RotateIdentitySecretResponse", &made, "the new secret", &made.secret)
        }
        Identity::Revoke { id: identity_id, within: Within { namespace, common } } => {
            let mut client = client(&common, output).await?;
            let asked = pb::RevokeIdentityRequest { namespace, identity_id };
            output.identities(answer(client.revoke_identity(asked).await)?.identity.as_slice())
        }
    }
}

async fn key(command: Key, now: Timestamp, output: &mut Output<impl Write>) -> Result<(), Error> {
    match command {
        Key::Create { label, scopes, expires_in, keys } => {
            let Keys { everywhere: server, within: Within { namespace, common } } = keys;
            let mut client = client(&common, output).await?;
            let expires_at = expires_in.and_then(|after| time(now.plus(after)));
            let asked = pb::CreateApiKeyRequest { namespace, server, label, scopes, expires_at };
            let made = answer(client.create_api_key(asked).await)?;
            let of = made.key.as_ref().map(|key| key.key_id.as_str()).unwrap_or_default();
            output.made("room.v1.CreateApiKeyResponse", &made, &format!("key {of}"), &made.secret)
        }
        Key::List(Keys { everywhere: server, within: Within { namespace, common } }) => {
            let mut client = client(&common, output).await?;
            let (mut all, mut cursor) = (Vec::new(), None);
            loop {
                let namespace = namespace.clone();
                let asked = pb::ListApiKeysRequest { namespace, server, limit: PAGE, cursor };
                let page = answer(client.list_api_keys(asked).await)?;
                cursor = page.next_cursor.filter(|_| !page.keys.is_empty());
                all.extend(page.keys);
                if cursor.is_none() {
                    return output.keys(&all);
                }
            }
        }
        Key::Revoke { id: key_id, keys } => {
            let Keys { everywhere: server, within: Within { namespace, common } } = keys;
            let mut client = client(&common, output).await?;
            let asked = pb::RevokeApiKeyRequest { namespace, server, key_id };
            output.keys(answer(client.revoke_api_key(asked).await)?.key.as_slice())
        }
    }
}

async fn token(command: Token, output: &mut Output<impl Write>) -> Result<(), Error> {
    match command {
        Token::Create {
            user: user_id,
            name: display_name,
            room: room_id,
            role,
            read_only,
            lifetime,
            within,
        } => {
            let Within { namespace, common } = within;
            let mut client = client(&common, output).await?;
            let role = role.map(|role| match role {
                Role::Viewer => pb::Role::Viewer.into(),
                Role::Member => pb::Role::Member.into(),
                Role::Admin => pb::Role::Admin.into(),
            });
            let allowed = read_only.then_some(false);
            let grants = pb::TokenGrants {
                role,
                write: allowed,
                moderate: allowed,
                admin: allowed,
                ..pb::TokenGrants::default()
            };
            let asked = pb::CreateJoinTokenRequest {
                namespace,
                user_id,
                display_name,
                room_id,
                grants: Some(grants),
                lifetime_ms: ms(lifetime),
            };
            let made = answer(client.create_join_token(asked).await)?;
            let what = format!("token {}", made.token_id);
            output.made("room.v1.CreateJoinTokenResponse", &made, &what, &made.token)
        }
        Token::Revoke { id, user, certificate, within: Within { namespace, common } } => {
            let mut client = client(&common, output).await?;
            match (id, user, certificate) {
                (_, Some(user_id), _) => {
                    answer(client.revoke_user(pb::RevokeUserRequest { namespace, user_id }).await)?;
                }
                (_, None, Some(fingerprint)) => {
                    let asked = pb::RevokeCertificateRequest { namespace, fingerprint };
                    answer(client.revoke_certificate(asked).await)?;
                }
                (id, None, None) => {
                    let token_id = id.unwrap_or_default();
                    answer(client.revoke_token(pb::RevokeTokenRequest { namespace, token_id }).await)?;
                }
            }
            output.done("revoked")
        }
    }
}
