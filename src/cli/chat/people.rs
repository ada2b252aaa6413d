//! What a person types about who may be here and speak: invitations, mutes, removals. Pure.
//!
//! Owns the syntax of these commands and their meaning in a room. Who may do it is the server's to say.

use crate::{
    cli::chat::{
        view::View,
        words::{split_word, text},
    },
    wire::pb::room::v1::{CreateInvitation, MuteMember, RemoveMember, client_message::Payload},
};

/// How long somebody is muted when nobody says otherwise, in minutes.
const MUTE_MINUTES: u64 = 10;

/// A command about people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum People {
    /// `/invite [USER]`
    Invite(Option<String>),
    /// `/mute USER [MINUTES]`
    Mute {
        /// Whom, by id or name.
        who: String,
        /// 0: they may write again.
        minutes: u64,
    },
    /// `/kick USER [reason]`
    Kick {
        /// Whom, by id or name.
        who: String,
        /// May be empty.
        reason: String,
    },
}

/// Understands what follows one of these commands.
pub(super) fn parse(name: &str, rest: &str) -> Option<People> {
    let (word, rest) = split_word(rest.trim_start_matches('@'));
    match (name, text(word)) {
        ("/invite", who) if rest.is_empty() => Some(People::Invite(who)),
        ("/mute", Some(who)) => {
            let minutes = if rest.is_empty() { MUTE_MINUTES } else { rest.parse().ok()? };
            Some(People::Mute { who, minutes })
        }
        ("/kick", Some(who)) => Some(People::Kick { who, reason: rest.to_owned() }),
        _ => None,
    }
}

/// The command for this room. Who is not known here is asked for by the id as it was typed.
pub(super) fn payload(people: People, view: &View) -> Payload {
    match people {
        // Who is invited is not here yet.
        People::Invite(who) => Payload::CreateInvitation(CreateInvitation {
            for_user_id: who.unwrap_or_default(),
            ..Default::default()
        }),
        People::Mute { who, minutes } => Payload::MuteMember(MuteMember {
            user_id: user(view, &who),
            duration_ms: minutes.saturating_mul(60_000),
            reason: String::new(),
        }),
        People::Kick { who, reason } => {
            Payload::RemoveMember(RemoveMember { user_id: user(view, &who), ban: false, reason })
        }
    }
}

fn user(view: &View, called: &str) -> String {
    let wanted = called.to_lowercase();
    let people = || view.people().filter(|(_, person)| !person.llm);
    let by_id = people().find(|(id, _)| *id == called);
    let found = by_id.or_else(|| people().find(|(_, person)| person.name.to_lowercase() == wanted));
    found.map_or(called, |(id, _)| id).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::room::v1::{
        Participant, ParticipantType, RoomState, ServerEvent, server_event::Payload as Told,
    };

    #[test]
    fn commands_about_people_are_words() {
        let mute = |minutes| Some(People::Mute { who: "bob".into(), minutes });
        assert_eq!(parse("/invite", ""), Some(People::Invite(None)));
        assert_eq!(parse("/invite", "@cy"), Some(People::Invite(Some("cy".into()))));
        assert_eq!(parse("/invite", "cy and di"), None);
        assert_eq!((parse("/mute", "bob"), parse("/mute", "@bob 0")), (mute(10), mute(0)));
        assert_eq!((parse("/mute", ""), parse("/mute", "bob soon")), (None, None));
        let kick = People::Kick { who: "bob".into(), reason: "too loud".into() };
        assert_eq!((parse("/kick", "bob too loud"), parse("/kick", "")), (Some(kick), None));
    }

    #[test]
    fn people_are_called_by_id_or_name() {
        let participant = |id: &str, name: &str, kind: ParticipantType| Participant {
            id: id.into(),
            name: name.into(),
            r#type: kind.into(),
            ..Default::default()
        };
        let people = vec![
            participant("u1", "Bob", ParticipantType::Human),
            participant("bob", "Ann", ParticipantType::Human),
            participant("l1", "Ada", ParticipantType::Llm),
        ];
        let state = RoomState { participants: people, ..Default::default() };
        let mut view = View::default();
        view.apply(&ServerEvent { payload: Some(Told::RoomState(state)), ..Default::default() });
        for (called, id) in [("bob", "bob"), ("BOB", "u1"), ("ann", "bob"), ("ada", "ada"), ("u1", "u1")] {
            assert_eq!(user(&view, called), id, "{called}");
        }
    }
}
