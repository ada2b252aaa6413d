//! What a person types: a message or a slash command. Pure.
//!
//! Owns the syntax alone. Numbers are not looked up here: whether poll 3 exists is asked of the room's view. A
//! line that is no command is told why, with what comes near.

use crate::cli::chat::{
    direct::{self, Direct},
    people::{self, People},
    words::{number, split_word, text},
};

/// A line, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Say it to the room.
    Say(String),
    /// `/reply N text`
    Reply(u64, String),
    /// `/react [N] EMOJI`; without a number the last message.
    React(Option<u64>, String),
    /// `/edit text`: the last own message.
    Edit(String),
    /// `/delete [N]`: without a number the last own message.
    Delete(Option<u64>),
    /// `/topic text`
    Topic(String),
    /// `/poll question | option | option`
    Poll {
        /// What is asked.
        question: String,
        /// What can be chosen, in order.
        options: Vec<String>,
        /// More than one may be chosen.
        multiple: bool,
        /// Nobody sees who voted.
        anonymous: bool,
    },
    /// `/vote POLL OPTION[,OPTION] [reason]`
    Vote {
        /// The poll's number on the screen.
        poll: usize,
        /// The options' numbers, counted from 1.
        options: Vec<usize>,
        /// May be empty.
        reason: String,
    },
    /// `/retract POLL`
    Retract(usize),
    /// `/close POLL`
    Close(usize),
    /// `/who`
    Who,
    /// `/interrupt [LLM]`; without a name all of them.
    Interrupt(Option<String>),
    /// `/llm add ID NAME [MODEL] [persona…]`
    AddLlm {
        /// Its id.
        id: String,
        /// Its display name.
        name: String,
        /// The provider's model; may be empty.
        model: String,
        /// Who it is; may be empty.
        persona: String,
    },
    /// `/llm remove ID`
    RemoveLlm(String),
    /// A command to the LLMs.
    Direct(Direct),
    /// A command about people.
    People(People),
    /// `/help`
    Help,
    /// `/quit`
    Quit,
}

/// The commands with how they are written, in the order of `/help`.
const COMMANDS: &[(&str, &str, &str)] = &[
    ("/reply", "N text", "answer message #N"),
    ("/react", "[N] EMOJI", "react to the last message, or to #N"),
    ("/edit", "text", "change your last message"),
    ("/delete", "[N]", "delete your last message, or #N"),
    ("/poll", "[--multiple] [--anonymous] Question | a | b [| c]", "ask everybody, LLMs too"),
    ("/vote", "POLL OPTION[,OPTION] [reason]", "vote, or move your vote"),
    ("/retract", "POLL", "take your vote back"),
    ("/close", "POLL", "close a poll"),
    ("/who", "", "who is here"),
    ("/interrupt", "[LLM]", "stop an answer, or all of them"),
    ("/regenerate", "[#N] [MODEL]", "another answer in the place of the last one, or of #N"),
    ("/approve", "[N]", "let an LLM call a tool"),
    ("/deny", "[N] [reason]", "do not let it; the LLM is told why"),
    ("/autopilot", "MODE [@LLM…] topic | stop | pause | resume", "let LLMs talk among themselves"),
    ("/llm", "add ID NAME [MODEL] [persona…] | remove ID", "change who answers; \"…\" keeps words together"),
    ("/topic", "text", "describe the room"),
    ("/invite", "[USER]", "make an invitation, for anybody or only for USER"),
    (
        "/mute",
        "USER [MINUTES]",
        "let somebody only read for 10 minutes, or for as long as you say; 0 ends it",
    ),
    ("/kick", "USER [reason]", "remove somebody from the room"),
    ("/help", "", "this list"),
    ("/quit", "", "leave; you stay a member"),
];

/// What `/autopilot` takes.
const MODE: &str = "MODE is round_robin, debate, relay, consensus or moderator:LLM";

/// The lines of `/help`.
pub fn help() -> Vec<String> {
    let mut lines: Vec<String> = COMMANDS
        .iter()
        .map(|(name, usage, what)| format!("{:<52} {what}", format!("{name} {usage}")))
        .collect();
    lines.push(format!("Of /autopilot, {MODE}."));
    lines.push(
        "A line that begins with // is a message that begins with /. Mention an LLM with @name. Times are UTC.".to_owned(),
    );
    lines
}

/// Understands one line; `None` for an empty one. The error is for the person who typed it.
pub fn parse(line: &str) -> Result<Option<Action>, String> {
    let line = line.trim();
    if line.is_empty() {
        return Ok(None);
    }
    let Some(command) = line.strip_prefix('/') else {
        return Ok(Some(Action::Say(line.to_owned())));
    };
    if command.starts_with('/') {
        return Ok(Some(Action::Say(command.to_owned())));
    }
    let (name, rest) = split_word(line);
    command_of(name, rest).map(Some)
}

fn command_of(name: &str, rest: &str) -> Result<Action, String> {
    let action = match name {
        "/reply" => {
            let (number, text) = split_word(rest);
            message_number(number)
                .filter(|_| !text.is_empty())
                .map(|number| Action::Reply(number, text.into()))
        }
        "/react" => match split_word(rest) {
            ("", _) => None,
            (emoji, "") => Some(Action::React(None, emoji.to_owned())),
            (number, emoji) => message_number(number).map(|number| Action::React(Some(number), emoji.into())),
        },
        "/edit" => text(rest).map(Action::Edit),
        "/delete" if rest.is_empty() => Some(Action::Delete(None)),
        "/delete" => message_number(rest).map(|number| Action::Delete(Some(number))),
        "/topic" => text(rest).map(Action::Topic),
        "/poll" => poll(rest),
        "/vote" => vote(rest),
        "/retract" => number(rest).map(Action::Retract),
        "/close" => number(rest).map(Action::Close),
        "/who" => Some(Action::Who),
        "/interrupt" => Some(Action::Interrupt(text(rest.trim_start_matches('@')))),
        "/llm" => llm(rest),
        "/approve" | "/deny" | "/regenerate" | "/autopilot" => direct::parse(name, rest).map(Action::Direct),
        "/invite" | "/mute" | "/kick" => people::parse(name, rest).map(Action::People),
        "/help" => Some(Action::Help),
        "/quit" | "/exit" => Some(Action::Quit),
        _ => return Err(unknown(name)),
    };
    action.ok_or_else(|| usage(name))
}

fn poll(rest: &str) -> Option<Action> {
    let (mut multiple, mut anonymous, mut rest) = (false, false, rest);
    while rest.starts_with("--") {
        let (flag, behind) = split_word(rest);
        match flag {
            "--multiple" => multiple = true,
            "--anonymous" => anonymous = true,
            _ => return None,
        }
        rest = behind;
    }
    let mut parts = rest.split('|').map(|part| part.trim().to_owned());
    let question = parts.next().filter(|question| !question.is_empty())?;
    let options: Vec<String> = parts.collect();
    let complete = options.len() >= 2 && options.iter().all(|option| !option.is_empty());
    complete.then_some(Action::Poll { question, options, multiple, anonymous })
}

fn vote(rest: &str) -> Option<Action> {
    let (poll, rest) = split_word(rest);
    let (options, reason) = split_word(rest);
    let options = options.split(',').map(number).collect::<Option<Vec<_>>>()?;
    Some(Action::Vote { poll: number(poll)?, options, reason: reason.to_owned() })
}

fn llm(rest: &str) -> Option<Action> {
    let (verb, rest) = split_word(rest);
    match verb {
        "add" => {
            let (id, rest) = split_quoted(rest);
            let (name, rest) = split_quoted(rest);
            let (model, persona) = split_quoted(rest);
            let complete = !id.is_empty() && !name.is_empty();
            complete.then(|| Action::AddLlm {
                id: id.trim_start_matches('@').into(),
                name: name.into(),
                model: model.into(),
                persona: persona.trim_matches('"').into(),
            })
        }
        "remove" => text(rest.trim_start_matches('@')).map(Action::RemoveLlm),
        _ => None,
    }
}

fn message_number(word: &str) -> Option<u64> {
    number(word).and_then(|number| u64::try_from(number).ok())
}

/// The first word, or what stands between double quotes.
fn split_quoted(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    match text.strip_prefix('"').and_then(|quoted| quoted.split_once('"')) {
        Some((quoted, rest)) => (quoted, rest.trim_start()),
        None => split_word(text),
    }
}

fn usage(name: &str) -> String {
    match COMMANDS.iter().find(|(known, _, _)| *known == name) {
        Some((known @ "/autopilot", usage, _)) => format!("write it as: {known} {usage}; {MODE}"),
        Some((known, usage, _)) => format!("write it as: {known} {usage}"),
        None => unknown(name),
    }
}

/// Says that there is no such command, and which ones come near.
fn unknown(name: &str) -> String {
    let wanted = name.to_lowercase();
    let near: Vec<&str> = COMMANDS
        .iter()
        .map(|(known, _, _)| *known)
        .filter(|known| {
            distance(known, &wanted) <= 2 || (wanted.len() > 2 && known.starts_with(wanted.as_str()))
        })
        .collect();
    let name: String = name.chars().take(40).collect();
    match near.as_slice() {
        [] => format!("there is no command {name}; /help lists them, and // sends a line that begins with /"),
        near => format!("there is no command {name}; did you mean {}?", near.join(" or ")),
    }
}

/// How many letters must be put in, taken out or replaced to make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(40).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut next = vec![i + 1];
        for (y, pair) in b.iter().zip(row.windows(2)) {
            let (diagonal, above) = (pair.first().copied().unwrap_or(0), pair.last().copied().unwrap_or(0));
            let left = next.last().copied().unwrap_or(0);
            next.push((diagonal + usize::from(x != *y)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn action(line: &str) -> Action {
        parse(line).unwrap().unwrap()
    }

    #[test]
    fn a_line_is_a_message_unless_it_begins_with_a_slash() {
        assert_eq!(parse("  \t"), Ok(None));
        assert_eq!(action(" hello /poll "), Action::Say("hello /poll".into()));
        assert_eq!(action("//etc/hosts"), Action::Say("/etc/hosts".into()));
    }

    #[test]
    fn polls_and_votes_are_read() {
        let poll = Action::Poll {
            question: "Tea or coffee?".into(),
            options: vec!["tea".into(), "coffee, black".into()],
            multiple: true,
            anonymous: false,
        };
        assert_eq!(action("/poll --multiple Tea or coffee? | tea|coffee, black"), poll);
        let vote = Action::Vote { poll: 2, options: vec![1, 3], reason: "it is warm".into() };
        assert_eq!(action("/vote #2 1,3 it is  warm".replace("  ", " ").as_str()), vote);
        assert_eq!(action("/retract 2"), Action::Retract(2));
        for bad in ["/poll", "/poll Why?", "/poll Why? | a", "/poll Q | a | ", "/poll --loud Q | a | b"] {
            assert!(parse(bad).unwrap_err().contains("Question | a | b"), "{bad}");
        }
        for bad in ["/vote", "/vote 1", "/vote 0 1", "/vote 1 0", "/vote 1 a", "/vote 1 1,,2"] {
            assert!(parse(bad).unwrap_err().contains("/vote POLL"), "{bad}");
        }
    }

    #[test]
    fn messages_are_named_by_their_number() {
        assert_eq!(action("/reply #12 yes, do"), Action::Reply(12, "yes, do".into()));
        assert_eq!(action("/react 🎉"), Action::React(None, "🎉".into()));
        assert_eq!(action("/react 12 🎉"), Action::React(Some(12), "🎉".into()));
        assert_eq!(action("/delete"), Action::Delete(None));
        assert!(parse("/reply 12").is_err());
        assert!(parse("/delete last").is_err());
    }

    #[test]
    fn an_llm_is_added_with_quoted_words_kept_together() {
        let expected = Action::AddLlm {
            id: "ada".into(),
            name: "Ada Lovelace".into(),
            model: String::new(),
            persona: "You count.".into(),
        };
        assert_eq!(action("/llm add @ada \"Ada Lovelace\" \"\" You count."), expected);
        assert_eq!(action("/llm remove @ada"), Action::RemoveLlm("ada".into()));
        assert_eq!(action("/interrupt"), Action::Interrupt(None));
        assert_eq!(action("/interrupt @Ada Lovelace"), Action::Interrupt(Some("Ada Lovelace".into())));
        assert!(parse("/llm add ada").is_err());
    }

    #[test]
    fn an_unknown_command_names_what_comes_near() {
        assert!(parse("/pol a").unwrap_err().contains("/poll"));
        assert!(parse("/int").unwrap_err().contains("/interrupt"));
        assert!(parse("/QUIT").unwrap_err().contains("/quit"));
        let far = parse("/frobnicate").unwrap_err();
        assert!(far.contains("/help") && !far.contains("did you mean"), "{far}");
        assert_eq!((distance("vote", "vtoe"), distance("", "abc"), distance("poll", "poll")), (2, 3, 0));
    }

    #[test]
    fn a_mode_that_is_none_is_told_which_there_are() {
        assert!(parse("/autopilot quarrel tea").unwrap_err().contains("debate, relay"));
        assert!(help().iter().any(|line| line.contains("debate, relay")));
    }

    #[test]
    fn every_command_of_the_help_is_understood() {
        for (name, ..) in COMMANDS {
            let answer = parse(name);
            assert!(!matches!(&answer, Err(why) if why.contains("no command")), "{name}: {answer:?}");
        }
    }
}
