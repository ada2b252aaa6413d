//! What a client does next, from what it knows of the room.

use salon::wire::pb::room::v1::{self as pb, client_message::Payload as Say, server_event::Payload};

use super::{model::LLMS, random::Random};

/// Things of each kind that a client remembers.
const REMEMBERED: usize = 12;

/// What a client knows of the room, to name in its commands.
#[derive(Debug, Default)]
pub struct Known {
    messages: Vec<String>,
    mine: Vec<String>,
    answers: Vec<String>,
    polls: Vec<String>,
}

impl Known {
    /// Learns from an event.
    pub fn learn(&mut self, event: &pb::ServerEvent, me: &str) {
        match &event.payload {
            Some(Payload::MessageReceived(received)) => {
                received.message.iter().for_each(|message| self.message(message, me));
            }
            Some(Payload::PollCreated(created)) => {
                created.poll.iter().for_each(|poll| remember(&mut self.polls, &poll.poll_id));
            }
            _ => {}
        }
    }

    /// Learns from a `room_state`.
    pub fn look(&mut self, state: &pb::RoomState, me: &str) {
        state.messages.iter().for_each(|message| self.message(message, me));
        state.polls.iter().for_each(|poll| remember(&mut self.polls, &poll.poll_id));
    }

    fn message(&mut self, message: &pb::Message, me: &str) {
        remember(&mut self.messages, &message.message_id);
        if message.sender_id == me {
            remember(&mut self.mine, &message.message_id);
        }
        if message.sender_type() == pb::ParticipantType::Llm {
            remember(&mut self.answers, &message.message_id);
        }
    }
}

fn remember(list: &mut Vec<String>, id: &str) {
    if list.iter().any(|known| known == id) {
        return;
    }
    if list.len() == REMEMBERED {
        list.remove(0);
    }
    list.push(id.to_owned());
}

/// Something to do.
#[derive(Debug)]
pub struct Act {
    pub label: &'static str,
    pub say: Say,
    /// It is sent again until it is answered.
    pub keeps: bool,
}

fn act(label: &'static str, say: Say) -> Act {
    Act { label, say, keeps: true }
}

fn passing(label: &'static str, say: Say) -> Act {
    Act { keeps: false, ..act(label, say) }
}

/// The next one. Whoever names what it does not know says something instead.
pub fn next(random: &mut Random, known: &Known, request_id: &str) -> Act {
    let choice = random.below(100);
    let found = match choice {
        0..=6 => edit(random, known, request_id),
        7..=10 => random_of(random, &known.mine)
            .map(|message_id| act("deletes", Say::DeleteMessage(pb::DeleteMessage { message_id }))),
        11..=20 => react(random, known),
        21..=24 => Some(create_poll(request_id)),
        25..=34 => vote(random, known),
        35..=36 => random_of(random, &known.polls)
            .map(|poll_id| act("closes a poll", Say::ClosePoll(pb::ClosePoll { poll_id }))),
        37..=40 => Some(passing("interrupts", Say::Interrupt(pb::InterruptLlm::default()))),
        41..=43 => Some(passing("types", Say::Typing(pb::TypingIndicator { is_typing: true }))),
        44..=46 => random_of(random, &known.messages).map(|message_id| {
            passing("has read", Say::MarkRead(pb::MarkRead { message_id, ..Default::default() }))
        }),
        47..=49 => Some(leave(random)),
        50..=51 => random_of(random, &known.answers).map(|message_id| {
            act("wants another answer", Say::Regenerate(pb::Regenerate { message_id, ..Default::default() }))
        }),
        52 => Some(describe(request_id)),
        53..=64 => Some(message(&format!("{request_id} @{} what?", random.pick(&LLMS)))),
        _ => None,
    };
    found.unwrap_or_else(|| message(request_id))
}

fn random_of(random: &mut Random, from: &[String]) -> Option<String> {
    (!from.is_empty()).then(|| random.pick(from).clone())
}

fn message(content: &str) -> Act {
    let content = content.to_owned();
    act("says something", Say::Message(pb::SendMessage { content, ..Default::default() }))
}

fn edit(random: &mut Random, known: &Known, request_id: &str) -> Option<Act> {
    let message_id = random_of(random, &known.mine)?;
    let content = format!("edited by {request_id}");
    let edit = pb::EditMessage { message_id, content, regenerate: random.percent(20) };
    Some(act("edits", Say::EditMessage(edit)))
}

fn react(random: &mut Random, known: &Known) -> Option<Act> {
    let message_id = random_of(random, &known.messages)?;
    let emoji = (*random.pick(&["👍", "🦊"])).to_owned();
    Some(act("reacts", Say::React(pb::React { message_id, emoji, remove: random.percent(30) })))
}

fn create_poll(request_id: &str) -> Act {
    let option = |text: &str| pb::PollOptionInput { text: text.to_owned(), ..Default::default() };
    let poll = pb::CreatePoll {
        question: format!("{request_id}?"),
        options: vec![option("yes"), option("no")],
        closes_in_ms: 5000,
        ..Default::default()
    };
    act("asks all", Say::CreatePoll(poll))
}

fn vote(random: &mut Random, known: &Known) -> Option<Act> {
    let poll_id = random_of(random, &known.polls)?;
    if random.percent(15) {
        return Some(act("takes back a vote", Say::RetractVote(pb::RetractVote { poll_id })));
    }
    let option = (*random.pick(&["1", "2"])).to_owned();
    let vote = pb::CastVote { poll_id, option_ids: vec![option], ..Default::default() };
    Some(act("votes", Say::CastVote(vote)))
}

/// Not sent again: leaving a second time could end a membership that began behind the first.
fn leave(random: &mut Random) -> Act {
    passing("leaves", Say::Leave(pb::LeaveRoom { keep_membership: random.percent(50) }))
}

fn describe(request_id: &str) -> Act {
    let description = format!("described by {request_id}");
    act("describes", Say::UpdateRoomDescription(pb::UpdateRoomDescription { description }))
}

/// What an event is, in one word or two, without anything that a server has drawn.
pub fn kind(event: &pb::ServerEvent) -> String {
    match &event.payload {
        Some(Payload::MessageReceived(received)) => {
            let message = received.message.as_ref();
            message.map(|m| format!("message of {}: {}", m.sender_id, m.content)).unwrap_or_default()
        }
        Some(Payload::LlmThinking(thinking)) => format!("{} thinks", thinking.llm_id),
        Some(Payload::LlmDone(done)) => format!("{} is done: {:?}", done.llm_id, done.reason()),
        Some(other) => {
            let shown = format!("{other:?}");
            shown.split(['(', ' ']).next().unwrap_or_default().to_owned()
        }
        None => String::from("nothing"),
    }
}
