//! What happened in the room besides messages and polls, in one sentence each. Pure.

use crate::{
    cli::{chat::view::View, text},
    wire::pb::room::v1::{LlmDone, LlmDoneReason, MemberChange, MemberChanged, Role, server_event::Payload},
};

/// What to tell about people, messages, LLMs and the room; `None` when there is nothing to tell.
pub fn told(view: &View, payload: &Payload) -> Option<String> {
    let name = |id: &str| text::line(view.name(id));
    let number =
        |id: &str| view.message_by_id(id).map_or("a message".into(), |known| format!("#{}", known.seq));
    Some(match payload {
        Payload::UserJoined(joined) => {
            let user = joined.user.as_ref().filter(|user| user.id != view.me)?;
            format!("{} joined", name(&user.id))
        }
        Payload::UserLeft(left) => format!("{} left", name(&left.user_id)),
        Payload::MemberChanged(changed) => member(view, changed)?,
        Payload::MessageEdited(edited) => {
            let content = text::lines(&edited.content).trim_end().replace('\n', "\n  ");
            format!("{} now says: {content}", number(&edited.message_id))
        }
        Payload::MessageDeleted(deleted) => {
            format!("{} deleted a message", name(&deleted.deleted_by_id))
        }
        Payload::ReactionChanged(changed) => {
            let (who, emoji) = (name(&changed.user_id), text::line(&changed.emoji));
            let verb = if changed.added { "reacts" } else { "takes back" };
            format!("{who} {verb} {emoji} to {}", number(&changed.message_id))
        }
        Payload::LlmAdded(added) => {
            let llm = added.llm.as_ref()?;
            format!(
                "the LLM {} was added; call it with @{}",
                text::line(&llm.display_name),
                text::line(&llm.id)
            )
        }
        Payload::LlmUpdated(updated) => {
            format!("the LLM {} was changed", name(&updated.llm.as_ref()?.id))
        }
        Payload::LlmRemoved(removed) => format!("the LLM {} was removed", text::line(&removed.llm_id)),
        Payload::RoomUpdated(updated) => {
            let room = updated.room.as_ref()?;
            let topic = text::line(&room.description);
            let topic = if topic.is_empty() { String::new() } else { format!(" · {topic}") };
            format!("the room is now: {}{topic}", text::line(&room.name))
        }
        Payload::RoomEnded(ended) => match text::line(&ended.reason).as_str() {
            "" => format!("{} ended the room", name(&ended.ended_by_id)),
            reason => format!("{} ended the room: {reason}", name(&ended.ended_by_id)),
        },
        Payload::InvitationSecret(told) => {
            format!(
                "invitation {}, told only once: {}",
                text::line(&told.invitation_id),
                text::line(&told.secret)
            )
        }
        Payload::InvitationCreated(created) => {
            let invitation = created.invitation.as_ref()?;
            format!("{} has made an invitation", name(&invitation.created_by_id))
        }
        Payload::InvitationClosed(closed) if !closed.revoked_by_id.is_empty() => {
            format!("{} has revoked an invitation", name(&closed.revoked_by_id))
        }
        Payload::Occupancy(occupancy) => format!("{} are here", occupancy.online_count),
        _ => return None,
    })
}

/// How an answer ended, when it did not simply end.
pub fn done(view: &View, done: &LlmDone) -> Option<String> {
    let name = text::line(view.name(&done.llm_id));
    let detail = |prefix: &str, detail: &str| {
        let detail = text::line(detail);
        if detail.is_empty() { String::new() } else { format!("{prefix}{detail}") }
    };
    let what = match done.reason() {
        LlmDoneReason::Completed | LlmDoneReason::Unspecified => return None,
        LlmDoneReason::OptedOut => format!("says nothing{}", detail(": ", &done.detail)),
        LlmDoneReason::Interrupted => match done.detail.strip_prefix("interrupted by ") {
            Some(id) => format!("was interrupted{}", detail(" by ", view.name(id))),
            None => format!("was interrupted{}", detail(": ", &done.detail)),
        },
        LlmDoneReason::Failed => format!("could not answer{}", detail(": ", &done.error_message)),
        LlmDoneReason::TimedOut => format!("took too long{}", detail(": ", &done.error_message)),
        LlmDoneReason::OverBudget => format!("may not answer{}", detail(": ", &done.error_message)),
    };
    Some(format!("{name} {what}"))
}

fn member(view: &View, changed: &MemberChanged) -> Option<String> {
    let member = changed.member.as_ref()?;
    let name = text::line(if member.name.is_empty() { &member.id } else { &member.name });
    let what = match changed.change() {
        // Whoever joins for the first time is announced by `user_joined` as well.
        MemberChange::Joined | MemberChange::Unspecified => return None,
        MemberChange::Updated if member.muted_until.is_some() => "is muted".to_owned(),
        MemberChange::Updated => format!("is now {}", role_name(member.role())),
        MemberChange::Left => "is no longer a member".to_owned(),
        MemberChange::Removed => "was removed".to_owned(),
        MemberChange::Banned => "was banned".to_owned(),
        MemberChange::Unbanned => "may come back".to_owned(),
    };
    let by = match changed.by_id.as_str() {
        "" => String::new(),
        by => format!(" by {}", text::line(view.name(by))),
    };
    let reason = match text::line(&changed.reason).as_str() {
        "" => String::new(),
        reason => format!(": {reason}"),
    };
    Some(format!("{name} {what}{by}{reason}"))
}

/// A role as it is read.
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Admin => "admin",
        Role::Viewer => "viewer",
        Role::Member | Role::Unspecified => "member",
    }
}
