//! Records of the directory as the contract says them, and back.

use std::time::Duration;

use crate::{
    auth::{
        directory::{IdentityRecord, KeyRecord, NamespaceRecord, SecretEntry},
        grants::{Grants, Media},
        quotas::Quotas,
        scope::{Scope, Scopes},
    },
    clock::Timestamp,
    domain::{rejection::Rejection, room::Role},
    ids::Namespace,
    wire::{basic::time, pb::room::v1 as pb},
};

/// How long a token is valid that says nothing of it.
const TOKEN_LIFETIME: Duration = Duration::from_secs(600);

pub(super) fn namespace_to_pb(name: &Namespace, record: NamespaceRecord) -> pb::NamespaceInfo {
    let NamespaceRecord { display_name, created_at, archived_at, quotas, secrets, .. } = record;
    pb::NamespaceInfo {
        namespace: name.to_string(),
        display_name,
        created_at: Some(created_at).filter(|at| *at != 0).and_then(|at| time(Timestamp(at))),
        archived_at: archived_at.and_then(|at| time(Timestamp(at))),
        quotas: Some(quotas_to_pb(quotas)),
        secrets: secrets.iter().map(secret_to_pb).collect(),
    }
}

pub(super) fn identity_to_pb(id: String, record: IdentityRecord) -> pb::Identity {
    let IdentityRecord { user, name, metadata, created_at, revoked_at, secrets, .. } = record;
    pb::Identity {
        identity_id: id,
        user_id: user,
        display_name: name.unwrap_or_default(),
        metadata: metadata.into_iter().collect(),
        created_at: time(Timestamp(created_at)),
        revoked_at: revoked_at.and_then(|at| time(Timestamp(at))),
        secrets: secrets.iter().map(secret_to_pb).collect(),
    }
}

pub(super) fn key_to_pb(id: String, record: KeyRecord) -> pb::ApiKey {
    let KeyRecord { label, scopes, created_at, revoked_at, secrets, .. } = record;
    pb::ApiKey {
        key_id: id,
        label,
        scopes,
        created_at: time(Timestamp(created_at)),
        expires_at: secrets.last().and_then(|key| key.until).and_then(|at| time(Timestamp(at))),
        revoked_at: revoked_at.and_then(|at| time(Timestamp(at))),
    }
}

fn secret_to_pb(secret: &SecretEntry) -> pb::SecretInfo {
    pb::SecretInfo {
        id: secret.id.clone(),
        created_at: time(Timestamp(secret.created_at)),
        expires_at: secret.expires_at().and_then(time),
    }
}

pub(super) fn quotas_from_pb(quotas: Option<pb::Quotas>) -> Quotas {
    let pb::Quotas { rooms, members, stored_bytes, runs, streams } = quotas.unwrap_or_default();
    Quotas { rooms, members, stored_bytes, runs, streams }
}

fn quotas_to_pb(quotas: Quotas) -> pb::Quotas {
    let Quotas { rooms, members, stored_bytes, runs, streams } = quotas;
    pb::Quotas { rooms, members, stored_bytes, runs, streams }
}

pub(super) fn scopes_from_pb(names: &[String]) -> Result<Scopes, Rejection> {
    let scope = |name: &String| {
        Scope::parse(name).ok_or_else(|| {
            let shown: String = name.chars().take(32).collect();
            let all: Vec<&str> = Scope::ALL.iter().map(|scope| scope.as_str()).collect();
            Rejection::field("scopes", format_args!("has {shown:?}; there are {}", all.join(", ")))
        })
    };
    names.iter().map(scope).collect()
}

pub(super) fn grants_from_pb(grants: Option<pb::TokenGrants>) -> Result<Grants, Rejection> {
    let Some(grants) = grants else {
        return Ok(Grants::default());
    };
    let role = match grants.role.map(pb::Role::try_from) {
        None | Some(Ok(pb::Role::Unspecified)) => None,
        Some(Ok(pb::Role::Admin)) => Some(Role::Admin),
        Some(Ok(pb::Role::Member)) => Some(Role::Member),
        Some(Ok(pb::Role::Viewer)) => Some(Role::Viewer),
        Some(Err(unknown)) => {
            return Err(Rejection::field("grants.role", format_args!("is unknown: {}", unknown.0)));
        }
    };
    let all = |allowed: Option<bool>| allowed.unwrap_or(true);
    Ok(Grants {
        role,
        join: all(grants.join),
        write: all(grants.write),
        moderate: all(grants.moderate),
        admin: all(grants.admin),
        media: Media {
            video: all(grants.video),
            audio: all(grants.audio),
            screen_share: all(grants.screen_share),
        },
    })
}

/// How long a token is to be valid.
pub(super) fn lifetime_from_pb(lifetime_ms: u64) -> Duration {
    match lifetime_ms {
        0 => TOKEN_LIFETIME,
        ms => Duration::from_millis(ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::rejection::Code;

    #[test]
    fn a_scope_that_is_not_there_is_named_with_those_that_are() {
        let refused = scopes_from_pb(&["tokens".into(), "root".into()]).unwrap_err();
        assert_eq!((refused.code, refused.field), (Code::InvalidArgument, Some("scopes")));
        for word in ["\"root\"", "rooms.read", "identities"] {
            assert!(refused.message.contains(word), "{refused}");
        }
    }

    #[test]
    fn grants_take_away_only_what_they_name() {
        assert_eq!(grants_from_pb(None).unwrap(), Grants::default());
        assert_eq!(grants_from_pb(Some(pb::TokenGrants::default())).unwrap(), Grants::default());
        let said = pb::TokenGrants { write: Some(false), role: Some(3), ..pb::TokenGrants::default() };
        let expected = Grants { write: false, role: Some(Role::Viewer), ..Grants::default() };
        assert_eq!(grants_from_pb(Some(said)).unwrap(), expected);
        let unknown = pb::TokenGrants { role: Some(99), ..pb::TokenGrants::default() };
        assert_eq!(grants_from_pb(Some(unknown)).unwrap_err().field, Some("grants.role"));
    }
}
