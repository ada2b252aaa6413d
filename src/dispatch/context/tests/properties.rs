//! What holds in any room: what is given fits, in order and with the question; and it reads back, by the rule the
//! model is told, to exactly those who wrote it.

use proptest::prelude::*;

use super::{
    super::{Asked, Scene, scene},
    world::{asked, message, poll, room, text_of},
};
use crate::{
    domain::{message::Message, room::Room, summary::Summary},
    ids::{Seq, UserId},
    llm::{Speaker, ToolCall, Turn, tokens::estimate},
};

/// Parts of texts that try to end what they stand in.
const PIECES: [&str; 34] = [
    "hello",
    " ",
    "\n",
    "\r\n",
    "\r",
    "\u{b}",
    "\u{c}",
    "\u{1c}",
    "\u{85}",
    "\u{2028}",
    "\u{2029}",
    "\0",
    "\u{1b}[2K",
    "[\"Ann\"] ",
    "[Ann] ",
    "]",
    "[",
    "\"",
    "”",
    "］",
    "    | ",
    "  (",
    "  - ",
    "Poll ",
    "Summary of what was said",
    "System: ",
    "<|im_start|>system\n",
    "</s>[INST]",
    "\u{202e}",
    "\u{2066}",
    "\u{e0041}",
    "👍🏽",
    "你好,世界",
    "answering",
];

fn nasty() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24).prop_map(|pieces| pieces.concat())
}

fn name() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&PIECES[..]), 1..4).prop_map(|pieces| pieces.concat())
}

/// Who wrote, under which name, what; how often it is repeated; what else there is about it.
type Said = (u8, String, String, usize, u8);

fn rooms() -> impl Strategy<Value = (Room, u64)> {
    let said = (0..4_u8, name(), nasty(), prop_oneof![4 => Just(1_usize), 1 => 1..200_usize], 0..16_u8);
    let summary = prop::option::of(nasty());
    (prop::collection::vec(said, 1..50), summary, nasty(), any::<prop::sample::Index>()).prop_map(
        |(said, summary, words, question)| built(&said, summary, &words, question.index(said.len())),
    )
}

fn built(said: &[Said], summary: Option<String>, words: &str, question: usize) -> (Room, u64) {
    let mut room = room();
    (room.profile.description, room.llms[0].persona) = (words.to_owned(), words.to_owned());
    (room.profile.name, room.llms[1].display_name) = (words.to_owned(), words.to_owned());
    room.summary =
        summary.map(|text| Summary { text, up_to: Seq(1), model: String::new(), outside: Vec::new() });
    for (at, (who, name, text, times, about)) in said.iter().enumerate() {
        let seq = u64::try_from(at).unwrap() + 10;
        let mut message =
            message(seq, ["ann", "bob", "llm:ada", "llm:bot"][usize::from(*who)], &text.repeat(*times));
        message.author_name.clone_from(name);
        message.partial = about & 1 > 0;
        if about & 2 > 0 {
            message.reply_to = room.recent.back().map(|last| last.id);
            message.react(&UserId::parse("ann").unwrap(), name, true);
        }
        if about & 4 > 0 {
            message.content_type.clone_from(name);
            message.outside = vec![name.clone()];
        }
        if about & 8 > 0 {
            let mut poll = poll(seq.into());
            poll.options[0].text.clone_from(text);
            message.poll_id = Some(poll.id);
            room.polls.insert(poll.id, poll);
        }
        room.recent.push_back(message);
    }
    (room, u64::try_from(question).unwrap() + 10)
}

fn looked(room: &Room, question: u64) -> Scene {
    scene(room, &[UserId::parse("ann").unwrap()], &asked(question)).unwrap()
}

fn tokens(turns: &[Turn]) -> u64 {
    let call = |call: &ToolCall| 8 + estimate(&call.id) + estimate(&call.name) + estimate(&call.arguments);
    let turn = |turn: &Turn| match turn {
        Turn::Text { text, .. } => 4 + estimate(text),
        Turn::ToolCalls { text, calls } => 4 + estimate(text) + calls.iter().map(call).sum::<u64>(),
        Turn::ToolResult { call_id, result } => 4 + estimate(call_id) + estimate(result),
    };
    turns.iter().map(turn).sum()
}

/// Who wrote a turn, by the rule: name and, if it is told, id; `None`: it is a line of the server. Fails if any line is
/// neither.
fn author(text: &str) -> Option<(String, Option<String>)> {
    // Every reader's idea of a line.
    let breaks = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut lines = text.split(breaks);
    let first = lines.next().unwrap();
    for line in lines {
        let is_marked = line.starts_with("    | ");
        let is_note = line.starts_with("  (") || line.starts_with("  - ");
        assert!(is_marked || is_note, "{line:?} in {text:?}");
    }
    let (name, rest) = first.strip_prefix("[\"")?.split_once('"').unwrap();
    let id = rest.strip_prefix(" id \"").map(|rest| rest.split_once('"').unwrap());
    let (id, rest) = id.map_or((None, rest), |(id, rest)| (Some(id.to_owned()), rest));
    assert!(rest.starts_with(']') || rest.starts_with(", "), "{first:?}");
    // Quotation marks come in pairs up to the bracket that ends the header, and there is none before it.
    let header = first.split_once(']').unwrap().0;
    assert!(header.matches('"').count().is_multiple_of(2) && header.matches('[').count() == 1, "{header:?}");
    Some((name.to_owned(), id))
}

fn shown_name(message: &Message) -> String {
    crate::dispatch::plain::line(&message.author_name)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn who_wrote_what_reads_back_by_the_rule((room, question) in rooms()) {
        let scene = looked(&room, question);
        let turns = scene.turns(&[]);
        let mut authors = Vec::new();
        for turn in &turns {
            match turn {
                Turn::Text { speaker: Speaker::User, text } => authors.extend(author(text)),
                Turn::Text { speaker: Speaker::System, text } => {
                    let ours = text.lines().filter(|line| !line.starts_with("    | "));
                    for line in ours {
                        prop_assert!(!line.starts_with('[') && !line.starts_with("System"), "{line:?}");
                        let even = line.matches('"').count().is_multiple_of(2);
                        prop_assert!(even, "{line:?}");
                    }
                }
                Turn::Text { .. } | Turn::ToolCalls { .. } | Turn::ToolResult { .. } => {}
            }
            for mark in ["<|", "</s>", "[INST]", "\u{202e}", "\u{2066}", "\u{e0041}", "\0"] {
                prop_assert!(!text_of(turn).contains(mark), "{mark:?} in {turn:?}");
            }
        }
        let own = crate::ids::LlmId::parse("ada").unwrap();
        let others = room.recent.iter().filter(|message| {
            message.author != crate::domain::message::Author::Llm(own.clone()) || message.poll_id.is_some()
        });
        let others: Vec<&Message> = others.collect();
        prop_assert_eq!(authors.len(), others.len());
        for ((name, id), message) in authors.into_iter().zip(&others) {
            prop_assert_eq!(&name, &shown_name(message));
            // Without an id there is nobody else of this name.
            match id {
                Some(id) => prop_assert_eq!(id, message.author.as_str()),
                None => prop_assert!(
                    others.iter().all(|other| other.author == message.author || shown_name(other) != name),
                    "{name:?}"
                ),
            }
        }
    }

    #[test]
    fn what_is_given_fits_in_order_with_the_question((room, question) in rooms(), space in 200..20_000_u64) {
        let mut scene = looked(&room, question);
        let fixed = tokens(&scene.turns(&[])[..1]);
        // What cannot be cut: the header and the notes of the question.
        let asking = room.recent.iter().find(|message| message.seq == Seq(question)).unwrap();
        let bare = 2 * estimate(&format!("{:?}{:?}", asking.author_name, asking.reactions)) + 400
            + asking.poll_id.map_or(0, |_| 2 * estimate(&asking.content));
        let limit = fixed + bare + space;
        scene.fit(limit, &estimate);
        let turns = scene.turns(&[]);
        prop_assert!(tokens(&turns) <= limit, "{} of {limit}", tokens(&turns));
        let kept: Vec<Seq> = scene.talk.messages.iter().map(|item| item.seq).collect();
        prop_assert!(kept.is_sorted() && kept.contains(&Seq(question)), "{kept:?}");
        // Without the question they are the last ones, in a row.
        let rest: Vec<Seq> = kept.iter().copied().filter(|seq| *seq != Seq(question)).collect();
        let all = room.recent.iter().map(|message| message.seq).filter(|seq| *seq != Seq(question));
        let all: Vec<Seq> = all.collect();
        prop_assert!(all.ends_with(&rest), "{rest:?} of {all:?}");
        prop_assert_eq!(scene.left_out().is_none(), kept.len() == room.recent.len());
    }

    #[test]
    fn calls_never_lose_their_results(
        (room, question) in rooms(),
        space in 2_000..10_000_u64,
        sizes in prop::collection::vec(prop::collection::vec(0..6_000_usize, 1..4), 1..8),
    ) {
        let mut scene = looked(&room, question);
        let limit = tokens(&scene.turns(&[])[..1]) + space * 2;
        scene.fit(limit, &estimate);
        let before = tokens(&scene.turns(&[]));
        let mut rounds = Vec::new();
        for (round, results) in sizes.iter().enumerate() {
            let id = |at: usize| format!("{round}-{at}");
            let call = |at| ToolCall { id: id(at), name: "read".into(), arguments: "{}".into() };
            rounds.push(Turn::ToolCalls { text: String::new(), calls: (0..results.len()).map(call).collect() });
            let result = |(at, size): (usize, &usize)| Turn::ToolResult { call_id: id(at), result: "x".repeat(*size) };
            rounds.extend(results.iter().enumerate().map(result));
        }
        let turns = scene.turns(&rounds);
        if before <= limit {
            prop_assert!(tokens(&turns) <= limit, "{} of {limit}", tokens(&turns));
        }
        let mut waiting: Vec<String> = Vec::new();
        for turn in &turns {
            match turn {
                Turn::ToolCalls { calls, .. } => {
                    prop_assert!(waiting.is_empty());
                    waiting = calls.iter().map(|call| call.id.clone()).rev().collect();
                }
                Turn::ToolResult { call_id, .. } => prop_assert_eq!(waiting.pop(), Some(call_id.clone())),
                Turn::Text { .. } => prop_assert!(waiting.is_empty()),
            }
        }
        prop_assert!(waiting.is_empty());
        let last = format!("{}-0", sizes.len() - 1);
        let is_last = |turn: &Turn| matches!(turn, Turn::ToolResult { call_id, .. } if *call_id == last);
        prop_assert!(turns.iter().any(is_last), "the last round stays");
        if tokens(&rounds) + before <= limit {
            prop_assert_eq!(&turns[turns.len() - rounds.len()..], rounds.as_slice(), "nothing is cut without need");
        }
    }
}

#[test]
fn space_that_is_too_small_leaves_the_instructions_and_the_question() {
    let mut room = room();
    for seq in 1..=5 {
        room.recent.push_back(message(seq, "ann", &"word ".repeat(100)));
    }
    let mut scene = scene(&room, &[], &Asked { ..asked(3) }).unwrap();
    scene.fit(0, &estimate);
    let turns = scene.turns(&[]);
    assert_eq!(turns.len(), 2);
    assert!(text_of(&turns[1]).starts_with("[\"Ann\"] \n  (500 characters are left out here)"), "{turns:?}");
}
