//! What is done about who may come and do what: permissions, join rules, slow mode, mutes, invitations.

use std::time::Duration;

use proptest::prelude::*;
use salon::domain::{
    command::{Command, JoinProfile},
    invitation::Secret,
    permissions::{Action, Least},
    room::Role,
    settings::{JoinRule, SettingsPatch},
};

use super::{steps::user, world::World};

/// Numbers become what there is in the room when the step is made.
#[derive(Debug, Clone)]
pub enum Rights {
    Permit { action: Action, least: Option<Least> },
    Rule { invited: bool },
    Slow { ms: u64 },
    Mute { user: u8, ms: u64 },
    Invite { role: Role, only: Option<u8>, seconds: u8 },
    Revoke { back: usize },
    Come { back: usize },
}

pub fn rights() -> BoxedStrategy<Rights> {
    let roles = prop::sample::select(vec![Role::Viewer, Role::Member, Role::Admin]);
    let least = prop_oneof![roles.clone().prop_map(Least::Role), Just(Least::Nobody)];
    let action = prop::sample::select(Action::ALL.to_vec());
    prop_oneof![
        2 => (action, prop::option::weighted(0.5, least))
            .prop_map(|(action, least)| Rights::Permit { action, least }),
        2 => any::<bool>().prop_map(|invited| Rights::Rule { invited }),
        // The last is more than a room may have.
        1 => prop::sample::select(vec![0, 0, 30, 30_000_000]).prop_map(|ms| Rights::Slow { ms }),
        3 => (1..5_u8, prop::sample::select(vec![0, 50, 50, 500]))
            .prop_map(|(user, ms)| Rights::Mute { user, ms }),
        5 => (roles, prop::option::weighted(0.3, 0..5_u8), prop::sample::select(vec![0, 1, 30]))
            .prop_map(|(role, only, seconds)| Rights::Invite { role, only, seconds }),
        2 => (0..4_usize).prop_map(|back| Rights::Revoke { back }),
        6 => (0..4_usize).prop_map(|back| Rights::Come { back }),
    ]
    .boxed()
}

fn secret(world: &World, back: usize) -> Secret {
    world.secrets.iter().rev().nth(back).cloned().unwrap_or_else(|| Secret::new([255; 32]))
}

fn update(settings: SettingsPatch) -> Command {
    Command::UpdateRoom { name: None, description: None, visibility: None, settings }
}

impl Rights {
    pub fn command(&self, world: &World) -> Command {
        match *self {
            Self::Permit { action, least } => {
                update(SettingsPatch { permissions: vec![(action, least)], ..Default::default() })
            }
            Self::Rule { invited } => {
                let join_rule = Some(if invited { JoinRule::Invited } else { JoinRule::Open });
                update(SettingsPatch { join_rule, ..Default::default() })
            }
            Self::Slow { ms } => {
                let slow_mode = Some(Duration::from_millis(ms));
                update(SettingsPatch { slow_mode, ..Default::default() })
            }
            Self::Mute { user: id, ms } => Command::MuteMember {
                user_id: user(id),
                duration: Duration::from_millis(ms),
                reason: "enough".into(),
            },
            Self::Invite { role, only, seconds } => Command::CreateInvitation {
                expires_in: Some(Duration::from_secs(seconds.into())),
                role,
                for_user: only.map(user),
            },
            Self::Revoke { back } => Command::RevokeInvitation(secret(world, back).hash().id()),
            Self::Come { back } => Command::Join(JoinProfile {
                invitation: Some(secret(world, back).hash()),
                ..JoinProfile::default()
            }),
        }
    }
}
