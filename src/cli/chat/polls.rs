//! How polls and votes are shown. Pure.

use crate::{
    cli::{
        chat::{style::Style, view::View},
        text,
    },
    wire::pb::room::v1::{OptionTally, Poll, PollStatus, server_event::Payload},
};

/// A poll with its options, as it is announced and as it stands in what was said before.
pub fn summary(style: Style, view: &View, number: usize) -> String {
    let Some(poll) = view.poll(number) else { return String::new() };
    let creator = if poll.creator_name.is_empty() { view.name(&poll.creator_id) } else { &poll.creator_name };
    let creator = style.name(&poll.creator_id, &text::line(creator));
    format!("* {creator} asks, poll {number}: {}{}{}", text::line(&poll.question), kind(poll), options(poll))
}

/// What to tell about polls; `None` when the event is about something else.
pub fn told(style: Style, view: &View, payload: &Payload) -> Option<String> {
    let number = |poll_id: &str| view.poll_number(poll_id).map_or("a poll".into(), |n| format!("poll {n}"));
    match payload {
        Payload::PollCreated(created) => {
            let number = view.poll_number(&created.poll.as_ref()?.poll_id)?;
            let told = summary(style, view, number);
            Some(format!("{}\n  vote with: /vote {number} OPTION", told.trim_start_matches("* ")))
        }
        Payload::PollVoted(voted) => {
            let vote = voted.vote.clone().unwrap_or_default();
            let who = match (vote.voter_name.as_str(), vote.voter_id.as_str()) {
                ("", "") => "somebody".to_owned(),
                ("", id) => text::line(view.name(id)),
                (name, _) => text::line(name),
            };
            let choice = option_text(view, &voted.poll_id, &voted.option_id);
            let choice = choice.map(|text| format!(" for {text}")).unwrap_or_default();
            let reason = match text::line(&vote.reason).as_str() {
                "" => String::new(),
                reason => format!(" ({reason})"),
            };
            let tally = tally(view, &voted.poll_id, &voted.tallies, voted.ballot_count);
            Some(format!("{who} voted in {}{choice}{reason}{tally}", number(&voted.poll_id)))
        }
        Payload::VoteRetracted(retracted) => {
            let who = match retracted.voter_id.as_str() {
                "" => "somebody".to_owned(),
                id => text::line(view.name(id)),
            };
            let tally = tally(view, &retracted.poll_id, &retracted.tallies, retracted.ballot_count);
            Some(format!("{who} took a vote in {} back{tally}", number(&retracted.poll_id)))
        }
        Payload::PollClosed(closed) => {
            let results = closed.poll.as_ref().map(options).unwrap_or_default();
            let by = match text::line(&closed.closed_by_name).as_str() {
                "" => "at its deadline".to_owned(),
                name => format!("by {name}"),
            };
            Some(format!("{} was closed {by}{results}", number(&closed.poll_id)))
        }
        _ => None,
    }
}

fn kind(poll: &Poll) -> String {
    let traits = [
        (poll.allow_multiple, "choose any"),
        (poll.anonymous, "anonymous"),
        (poll.hide_results_until_closed, "results at the end"),
        (poll.status() == PollStatus::PollClosed, "closed"),
    ];
    let kind: Vec<&str> = traits.into_iter().filter(|(is, _)| *is).map(|(_, what)| what).collect();
    if kind.is_empty() { String::new() } else { format!(" ({})", kind.join(", ")) }
}

/// The options with their numbers and votes, each on a line of its own.
fn options(poll: &Poll) -> String {
    let option = |(index, option): (usize, &crate::wire::pb::room::v1::PollOption)| {
        let votes = match option.vote_count {
            0 => String::new(),
            1 => " · 1 vote".to_owned(),
            count => format!(" · {count} votes"),
        };
        format!("\n  {}. {}{votes}", index + 1, text::line(&option.text))
    };
    poll.options.iter().enumerate().map(option).collect()
}

fn option_text(view: &View, poll_id: &str, option_id: &str) -> Option<String> {
    let poll = view.poll(view.poll_number(poll_id)?)?;
    poll.options.iter().find(|option| option.id == option_id).map(|option| text::line(&option.text))
}

fn tally(view: &View, poll_id: &str, tallies: &[OptionTally], ballots: u32) -> String {
    let counts: Vec<String> = tallies
        .iter()
        .filter(|tally| tally.vote_count > 0)
        .filter_map(|tally| {
            Some(format!("{} {}", option_text(view, poll_id, &tally.option_id)?, tally.vote_count))
        })
        .collect();
    match (counts.is_empty(), ballots) {
        (false, _) => format!(" · {}", counts.join(", ")),
        (true, 0) => String::new(),
        (true, ballots) => format!(" · {ballots} voted"),
    }
}
