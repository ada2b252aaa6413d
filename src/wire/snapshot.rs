//! The state of a room as the store keeps it.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use prost::Message as _;

use crate::{
    clock::Timestamp,
    domain::{
        chain::Link,
        llm::Run,
        message::Message,
        poll::Poll,
        room::{Presence, Profile, Role, Room, Status, Visibility},
        summary::ChangedMessage,
    },
    ids::{Seq, UserId},
    wire::{
        basic::{Corrupt, id, namespace_of, optional_id, room_id, timestamp},
        conduct,
        model::{
            llms_from_pb, member_from_pb, member_to_pb, message_from_pb, message_to_pb, role_from_pb,
            role_to_pb, room_info, visibility_from_pb,
        },
        pb::{room::v1 as pb, salon::log::v1 as log},
        polls::{Ballots, poll_from_pb, poll_with},
        rights,
    },
};

/// The form this server writes. Snapshots of any other form are ignored and the log is folded instead.
pub const VERSION: u32 = 4;

/// Encodes a room.
pub fn encode(room: &Room) -> Bytes {
    let recent = |message: &Message| log::RecentMessage {
        message: Some(message_to_pb(message)),
        chain_depth: message.chain_depth,
        from_run: message.from_run,
        changes: message.changes,
    };
    let snapshot = log::RoomSnapshot {
        room: Some(room_info(room)),
        members: room.members.values().map(|m| member_to_pb(m, Presence::Offline)).collect(),
        banned: room.banned.iter().map(ToString::to_string).collect(),
        former_roles: room.former_roles.iter().map(|(u, role)| (u.to_string(), role_to_pb(*role))).collect(),
        polls: room.polls.values().map(|p| poll_with(p, room.id.name(), Ballots::All)).collect(),
        recent: room.recent.iter().map(recent).collect(),
        runs: room.runs.values().map(run_to_pb).collect(),
        seq: room.seq.0,
        fence: room.fence.0,
        namespace: namespace_of(&room.id),
        approvals: room.approvals.values().map(conduct::approval_to_pb).collect(),
        autopilot: room.autopilot.as_ref().map(conduct::autopilot_to_pb),
        summary: room.summary.as_ref().map(conduct::summary_to_pb),
        earlier_summaries: room.earlier_summaries.iter().map(conduct::summary_to_pb).collect(),
        changed: room
            .changed
            .iter()
            .map(|changed| log::ChangedMessage { at: changed.at.0, of: changed.of.0 })
            .collect(),
        poll_asked_by: room
            .polls
            .values()
            .filter_map(|poll| Some((poll.id.to_string(), poll.asked_by.as_ref()?.to_string())))
            .collect(),
        chain: room.chain.as_ref().filter(|link| link.seq == room.seq).map(|link| link.hash.to_vec()),
        invitations: rights::open_invitations(room),
        former_mutes: times_to_pb(&room.former_mutes),
        last_posts: times_to_pb(&room.last_posts),
    };
    snapshot.encode_to_vec().into()
}

/// Reads a room back.
pub fn decode(bytes: &[u8]) -> Result<Room, Corrupt> {
    let snapshot = log::RoomSnapshot::decode(bytes).map_err(|e| Corrupt::new("snapshot", e))?;
    let info = snapshot.room.ok_or_else(|| Corrupt::new("snapshot", "it has no room"))?;
    let status = match info.status() {
        pb::RoomStatus::Waiting => Status::Waiting,
        pb::RoomStatus::Active => Status::Active,
        pb::RoomStatus::Ended => Status::Ended(timestamp(info.ended_at.as_ref())),
        pb::RoomStatus::Unspecified => return Err(Corrupt::new("snapshot", "the room has no status")),
    };
    let mut members = BTreeMap::new();
    for member in snapshot.members {
        let member = member_from_pb(member)?;
        members.insert(member.id.clone(), member);
    }
    let mut polls: BTreeMap<_, Poll> = BTreeMap::new();
    for poll in snapshot.polls {
        let asked_by = snapshot.poll_asked_by.get(&poll.poll_id);
        let asked_by = asked_by.map(|user| id("user id", user)).transpose()?;
        let poll = Poll { asked_by, ..poll_from_pb(poll)? };
        polls.insert(poll.id, poll);
    }
    let mut recent = VecDeque::with_capacity(snapshot.recent.len());
    for entry in snapshot.recent {
        let message = entry.message.ok_or_else(|| Corrupt::new("snapshot", "a message is empty"))?;
        let read = message_from_pb(message, entry.chain_depth, entry.from_run)?;
        recent.push_back(Message { changes: entry.changes, ..read });
    }
    let mut runs = BTreeMap::new();
    for run in snapshot.runs {
        let run = run_from_pb(&run)?;
        runs.insert(run.message_id, run);
    }
    let mut approvals = BTreeMap::new();
    for approval in snapshot.approvals {
        let approval = conduct::approval_from_pb(approval)?;
        approvals.insert(approval.id, approval);
    }
    let created_at = timestamp(info.created_at.as_ref());
    Ok(Room {
        id: room_id(&info.room_id, &snapshot.namespace)?,
        profile: Profile {
            name: info.name,
            description: info.description,
            visibility: visibility_from_pb(info.visibility).unwrap_or(Visibility::Private),
            settings: conduct::settings_from_pb(info.settings.as_ref()),
        },
        status,
        created_at,
        created_by: optional_id("user id", &info.created_by)?,
        members,
        banned: snapshot.banned.iter().map(|u| id("user id", u)).collect::<Result<BTreeSet<_>, _>>()?,
        former_roles: roles_from_pb(&snapshot.former_roles)?,
        former_mutes: times_from_pb(&snapshot.former_mutes)?,
        last_posts: times_from_pb(&snapshot.last_posts)?,
        invitations: rights::invitations_from_pb(&snapshot.invitations)?,
        llms: llms_from_pb(info.llms)?,
        polls,
        recent,
        runs,
        approvals,
        autopilot: snapshot.autopilot.map(conduct::autopilot_from_pb).transpose()?,
        summary: snapshot.summary.map(conduct::summary_from_pb),
        earlier_summaries: snapshot.earlier_summaries.into_iter().map(conduct::summary_from_pb).collect(),
        changed: snapshot.changed.iter().map(changed_from_pb).collect(),
        seq: Seq(snapshot.seq),
        fence: Seq(snapshot.fence),
        chain: chain_from_pb(Seq(snapshot.seq), snapshot.chain)?,
    })
}

fn chain_from_pb(seq: Seq, chain: Option<Vec<u8>>) -> Result<Option<Link>, Corrupt> {
    let hash = chain.map(|chain| chain.try_into().map_err(|_| Corrupt::new("snapshot", "its link is none")));
    Ok(hash.transpose()?.map(|hash| Link { seq, hash }))
}

fn roles_from_pb(roles: &HashMap<String, i32>) -> Result<BTreeMap<UserId, Role>, Corrupt> {
    let read = |(user, role): (&String, &i32)| {
        let role =
            role_from_pb(*role).ok_or_else(|| Corrupt::new("snapshot", "a former member has no role"))?;
        Ok((id("user id", user)?, role))
    };
    roles.iter().map(read).collect()
}

fn times_to_pb(times: &BTreeMap<UserId, Timestamp>) -> HashMap<String, i64> {
    times.iter().map(|(user, at)| (user.to_string(), at.0)).collect()
}

fn times_from_pb(times: &HashMap<String, i64>) -> Result<BTreeMap<UserId, Timestamp>, Corrupt> {
    times.iter().map(|(user, at)| Ok((id("user id", user)?, Timestamp(*at)))).collect()
}

fn changed_from_pb(changed: &log::ChangedMessage) -> ChangedMessage {
    ChangedMessage { at: Seq(changed.at), of: Seq(changed.of) }
}

fn run_to_pb(run: &Run) -> log::OpenRun {
    log::OpenRun {
        message_id: run.message_id.to_string(),
        llm_id: run.llm_id.to_string(),
        reply_to: run.reply_to.to_string(),
        poll_id: run.poll_id.map(|id| id.to_string()).unwrap_or_default(),
        chain_depth: run.chain_depth,
        asked_by: run.asked_by.as_ref().map(ToString::to_string).unwrap_or_default(),
        started_at_ms: run.started_at.0,
        llm_name: run.llm_name.clone(),
        replaces: run.replaces.map(|id| id.to_string()).unwrap_or_default(),
        autopilot_turn: run.turn.unwrap_or_default(),
        model: run.model.clone(),
    }
}

fn run_from_pb(run: &log::OpenRun) -> Result<Run, Corrupt> {
    Ok(Run {
        message_id: id("message id", &run.message_id)?,
        llm_id: id("LLM id", &run.llm_id)?,
        llm_name: run.llm_name.clone(),
        reply_to: id("message id", &run.reply_to)?,
        poll_id: optional_id("poll id", &run.poll_id)?,
        chain_depth: run.chain_depth,
        asked_by: optional_id("user id", &run.asked_by)?,
        started_at: Timestamp(run.started_at_ms),
        replaces: optional_id("message id", &run.replaces)?,
        turn: (run.autopilot_turn > 0).then_some(run.autopilot_turn),
        model: run.model.clone(),
    })
}
