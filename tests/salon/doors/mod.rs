//! Every door of a server that asks everybody who they are: which call is answered to which credential, and that who is
//! refused has changed nothing.

mod apart;
mod calls;
mod commands;
mod drafts;
mod lists;
mod logs;
mod rotation;
mod streams;

use std::time::Duration;

use salon::{
    auth::{grants::Grants, scope::Scope},
    domain::room::Role,
    ids::RoomId,
    llm::{
        Finish,
        scripted::{ScriptedProvider, Step},
    },
    wire::pb::room::v1::{self as pb, client_message::Payload as Say},
};

use crate::harness::{
    Session, Shown, Tenants, TestServer,
    tenants::{namespace, signer},
};

/// Who stands before a door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    /// Without a credential.
    Nobody,
    /// With a secret that is nobody's.
    Garbage,
    /// With a token that somebody else has signed.
    Forged,
    /// With a token whose time is over.
    Expired,
    /// A user of the same name, of another tenant.
    Elsewhere,
    /// Of the tenant, and not a member of the room, which is private.
    Stranger,
    /// Was a member, and is banned.
    Banned,
    Viewer,
    /// A member who is muted.
    Muted,
    /// An ADMIN with a token that grants nothing but to be there.
    Reader,
    /// An ADMIN with a token that grants nothing.
    Ungranted,
    /// An ADMIN with a token of another room.
    OtherRoom,
    /// An ADMIN: whom everything is allowed.
    Admin,
}

impl Who {
    /// The last one is let in everywhere, and changes things.
    const ALL: [Self; 13] = [
        Self::Nobody,
        Self::Garbage,
        Self::Forged,
        Self::Expired,
        Self::Elsewhere,
        Self::Stranger,
        Self::Banned,
        Self::Viewer,
        Self::Muted,
        Self::Reader,
        Self::Ungranted,
        Self::OtherRoom,
        Self::Admin,
    ];

    /// Whom they say to be.
    fn user(self) -> &'static str {
        match self {
            Self::Stranger => "sam",
            Self::Banned => "ben",
            Self::Viewer => "vic",
            Self::Muted => "mia",
            Self::Reader => "ada",
            _ => "ann",
        }
    }

    /// Whether they are not known at all.
    fn is_unknown(self) -> bool {
        self <= Self::Expired
    }
}

/// A server with the tenants `acme` and `other`.
struct World {
    tenants: Tenants,
    server: TestServer,
    owner: Shown,
    foreign_owner: Shown,
    shown: Vec<(Who, Shown)>,
}

impl World {
    async fn new() -> Self {
        let tenants = Tenants::new().await;
        let (owner, foreign_owner) = (tenants.tenant("acme").await, tenants.tenant("other").await);
        let proposal = r#"{"name": "Tea", "description": "Tea.", "llms": [
            {"display_name": "Bo", "title": "Guest", "persona": "You ask.", "chat_style": "detailed"}]}"#;
        let steps = vec![Step::text(proposal), Step::Done(Finish::Stop)];
        let provider = ScriptedProvider::with("scripted", move |_| steps.clone());
        let server = tenants.setup().provider(provider).start().await;
        let mut world = Self { tenants, server, owner, foreign_owner, shown: Vec::new() };
        for who in Who::ALL {
            let shown = world.credential(who).await;
            world.shown.push((who, shown));
        }
        world
    }

    async fn credential(&self, who: Who) -> Shown {
        let tenants = &self.tenants;
        let mut claims = tenants.claims("acme", who.user());
        match who {
            Who::Nobody => return Shown::Nothing,
            Who::Garbage => return Shown::Bearer("0123456789abcdef".repeat(4)),
            Who::Forged => {
                let forger = signer(&["another-key-of-at-least-thirty-two-bytes"]);
                return Shown::Bearer(forger.sign(&claims, tenants.clock.now()).unwrap().token);
            }
            Who::Expired => {
                let then = tenants.clock.now().0 - 3_600_000;
                return tenants.sign_at(&claims, salon::clock::Timestamp(then)).1;
            }
            Who::Elsewhere => return tenants.identity("other", "ann").await.1,
            Who::Stranger | Who::Banned | Who::Viewer | Who::Muted | Who::Admin => {
                return tenants.identity("acme", who.user()).await.1;
            }
            Who::Reader => claims.grants = Grants { join: true, ..Grants::NONE },
            Who::Ungranted => claims.grants = Grants::NONE,
            Who::OtherRoom => {
                claims.room = Some(RoomId::parse("milk").unwrap().within(&namespace("acme")));
            }
        }
        tenants.sign(&claims).1
    }

    fn shown(&self, who: Who) -> &Shown {
        &self.shown.iter().find(|(known, _)| *known == who).unwrap().1
    }

    /// A token with which a user comes in whatever the room says, and is this there.
    fn invited(&self, user: &str, role: Role) -> Shown {
        let mut claims = self.tenants.claims("acme", user);
        claims.grants.role = Some(role);
        self.tenants.sign(&claims).1
    }

    /// Creates a private room with everybody in it who is to be; returns the stream of its first ADMIN.
    async fn room(&self, name: &str) -> Session {
        let ann = self.shown(Who::Admin);
        let request = pb::CreateRoomRequest {
            name: "Tea".into(),
            room_id: Some(name.into()),
            visibility: pb::RoomVisibility::Private.into(),
            llms: vec![crate::harness::llm("bot")],
            ..Default::default()
        };
        self.server.client().await.create_room(ann.on(request)).await.unwrap();
        let mut admin = self.server.join_as(ann, name, "ann").await;
        let members = [
            ("vic", Role::Viewer),
            ("mia", Role::Member),
            ("ben", Role::Member),
            ("eve", Role::Member),
            ("ada", Role::Admin),
            ("amy", Role::Admin),
        ];
        for (user, role) in members {
            drop(self.server.join_as(&self.invited(user, role), name, user).await);
        }
        let ban = pb::RemoveMember { user_id: "ben".into(), ban: true, reason: String::new() };
        admin.command(Say::RemoveMember(ban)).await.unwrap();
        let hour = Duration::from_secs(3600).as_millis().try_into().unwrap();
        let mute = pb::MuteMember { user_id: "mia".into(), duration_ms: hour, reason: String::new() };
        admin.command(Say::MuteMember(mute)).await.unwrap();
        admin
    }

    async fn key(&self, scopes: &[Scope]) -> Shown {
        self.tenants.key("acme", scopes, None).await.1
    }
}
