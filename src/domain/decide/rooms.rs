//! The life of a room: created, changed, ended.

use crate::{
    domain::{
        autopilot::{Autopilot, Status as AutopilotStatus},
        decide::{Context, Decision, approvals, llms, member, polls},
        event::{Event, NewRoom},
        limits::{
            REASON_CHARS, ROOM_DESCRIPTION_CHARS, ROOM_NAME_CHARS, check_chars, check_name, check_required,
        },
        llm::{RunEnd, RunReport},
        message::Author,
        rejection::Rejection,
        room::{Profile, Role, Room, Visibility},
        settings::{self, SettingsPatch},
    },
    ids::UserId,
};

pub(super) fn create(room: NewRoom, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    check_profile(&room.profile)?;
    llms::check_all(&room.llms, context.limits)?;
    let created = context.event(Event::RoomCreated(room));
    Ok(Decision::fenced(vec![created]))
}

pub(super) fn update(
    room: &Room,
    user: &UserId,
    (name, description, visibility): (Option<String>, Option<String>, Option<Visibility>),
    settings: SettingsPatch,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    // Whoever may change the room cannot give themselves or others more rights by it.
    let opens = visibility.is_some_and(|visibility| visibility != room.profile.visibility);
    if (settings.is_about_rights() || opens) && member(room, user)?.role != Role::Admin {
        return Err(Rejection::denied("who may come and do what in a room is changed by an ADMIN only"));
    }
    let profile = Profile {
        name: name.unwrap_or_else(|| room.profile.name.clone()),
        description: description.unwrap_or_else(|| room.profile.description.clone()),
        visibility: visibility.unwrap_or(room.profile.visibility),
        settings: room.profile.settings.patched(settings),
    };
    check_profile(&profile)?;
    if profile == room.profile {
        return Ok(Decision::nothing());
    }
    Ok(Decision::fenced(vec![context.event(Event::RoomUpdated(profile))]))
}

/// Ends the room, and before it everything in it that would otherwise stay open for ever.
pub(super) fn end(
    room: &Room,
    user: &UserId,
    reason: String,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let member = member(room, user)?;
    check_chars("reason", &reason, REASON_CHARS)?;
    let mut events = Vec::new();
    if let Some(autopilot) = room.open_autopilot() {
        let (status, reason) = (AutopilotStatus::Ended, "the room ended".into());
        let ended = Autopilot { status, reason, ..autopilot.clone() };
        events.push(context.event(Event::AutopilotChanged(ended)));
    }
    for run in room.runs.values() {
        events.extend(approvals::cancel_of(room, run.message_id, context));
        let duration = context.at.since(run.started_at).as_millis();
        let report = RunReport {
            duration_ms: u32::try_from(duration).unwrap_or(u32::MAX),
            detail: "the room ended".into(),
            ..RunReport::default()
        };
        let ended = Event::RunEnded { run: run.clone(), end: RunEnd::Interrupted, report: Box::new(report) };
        events.push(context.event(ended));
    }
    for poll in room.open_polls() {
        let by = (Some(Author::User(user.clone())), member.name.clone());
        events.extend(polls::closing(room, poll.clone(), by, "the room ended", context));
    }
    events.push(context.event(Event::RoomEnded { by: Author::User(user.clone()), reason }));
    Ok(Decision::fenced(events))
}

fn check_profile(profile: &Profile) -> Result<(), Rejection> {
    check_required("name", &profile.name, ROOM_NAME_CHARS)?;
    check_name("name", &profile.name, ROOM_NAME_CHARS)?;
    check_chars("description", &profile.description, ROOM_DESCRIPTION_CHARS)?;
    settings::check(&profile.settings)
}
