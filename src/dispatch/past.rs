//! A room as it was when a question was asked: for an answer that takes the place of another, or answers an edited
//! text. It must not know the answer it replaces, nor what was said because of it.
//!
//! Only messages, their polls and the summary are taken back; people, LLMs and the text of edited messages are those
//! of now. Read from the log, because the question may be old.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    dispatch::{Inner, Job},
    domain::{limits::RECENT_MESSAGES, poll::Poll, rejection::Rejection, room::Room},
    ids::{Seq, UserId},
    rooms::history::HistoryPage,
    store::Direction,
};

/// What was said up to a question, with it.
#[derive(Debug)]
pub(super) struct Past {
    question: Seq,
    page: HistoryPage,
}

/// Reads what was said up to the message that asks.
pub(super) async fn up_to_question(inner: &Inner, job: &Job) -> Result<Past, Rejection> {
    let question = inner.rooms.message(&job.room, job.reply_to).await?;
    let question = question.ok_or_else(|| Rejection::not_found("message", job.reply_to))?.seq;
    let page = inner.rooms.history(&job.room, Direction::Before(question.next()), RECENT_MESSAGES).await?;
    Ok(Past { question, page })
}

impl Past {
    /// `room` with only this said in it, for the eyes of an LLM: of its members only those who are `online`, since the
    /// room stands still meanwhile, and nothing of what an LLM is not told.
    pub(super) fn of(self, room: &Room, online: &[UserId]) -> Room {
        let is_open = |poll: &Poll| poll.is_open() && poll.message_id.0 <= self.last();
        let open = room.polls.values().filter(|poll| is_open(poll)).cloned().map(|poll| (poll.id, poll));
        let shown = self.page.polls.iter().cloned().map(|poll| (poll.id, poll));
        let members = online.iter().filter_map(|id| room.members.get_key_value(id));
        Room {
            id: room.id.clone(),
            profile: room.profile.clone(),
            status: room.status,
            created_at: room.created_at,
            created_by: room.created_by.clone(),
            members: members.map(|(id, member)| (id.clone(), member.clone())).collect(),
            banned: BTreeSet::new(),
            former_roles: BTreeMap::new(),
            llms: room.llms.clone(),
            polls: shown.chain(open).collect(),
            summary: room.summary.clone().filter(|summary| summary.up_to <= self.question),
            recent: self.page.messages.into(),
            runs: BTreeMap::new(),
            approvals: BTreeMap::new(),
            autopilot: None,
            seq: room.seq,
            fence: room.fence,
        }
    }

    /// The id of the question: ids are ordered by time.
    fn last(&self) -> uuid::Uuid {
        self.page.messages.last().map_or(uuid::Uuid::nil(), |message| message.id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::context::tests::world::{message, room};

    #[test]
    fn the_past_is_what_an_llm_is_told_of_it_and_no_copy_of_the_room() {
        let mut room = room();
        room.recent.extend([message(2, "ann", "then"), message(3, "bob", "since")]);
        let said = vec![message(2, "ann", "then")];
        let page = HistoryPage { messages: said.clone(), ..HistoryPage::default() };
        let bob = UserId::parse("bob").unwrap();
        let past = Past { question: Seq(2), page }.of(&room, std::slice::from_ref(&bob));
        assert_eq!((&past.llms, &past.profile), (&room.llms, &room.profile));
        assert_eq!(past.recent, said);
        assert_eq!(
            past.members.keys().collect::<Vec<_>>(),
            [&bob],
            "whoever else is a member is told to nobody"
        );
    }
}
