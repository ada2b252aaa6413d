//! What an LLM is told, by case: what stands where, what is left out, what is marked.

mod properties;
pub(in crate::dispatch) mod world;

use super::*;
use crate::llm::{Speaker, tokens::estimate};
use world::{asked, llm, message, poll, room, text_of};

/// The conversation behind the instructions.
fn said(room: &Room, asked: &Asked) -> Vec<String> {
    let scene = scene(room, &[], asked).unwrap();
    scene.turns(&[]).iter().skip(1).map(|turn| text_of(turn).to_owned()).collect()
}

#[test]
fn the_instructions_say_who_where_and_among_whom() {
    let mut room = room();
    room.profile.description = "Tea.\nAnd cake.".into();
    let me = &mut room.llms[0];
    (me.title, me.persona) = ("Poet".into(), "You are a poet.\n\nRules end here.".into());
    let online = [UserId::parse("ann").unwrap()];
    let scene = scene(&room, &online, &asked(1)).unwrap();
    let turns = scene.turns(&[]);
    let Turn::Text { speaker: Speaker::System, text } = &turns[0] else { panic!("{turns:?}") };
    assert!(text.starts_with(
        "You are \"Ada\" (\"Poet\"), a participant in the chat room \"Tea\".\n\nThe room, in the words of its members:\
         \n    | Tea.\n    | And cake.\n\nYou, in the words of the room's members:\n    | You are a poet.\n    | \n    | \
         Rules end here.\n\nPeople here now: \"Ann\".\n\nOther LLMs here: \"Bot\". To ask one of them"
    ));
    assert!(text.contains("Answer only as \"Ada\""), "{text}");
}

#[test]
fn who_is_there_is_named_up_to_a_number() {
    let mut room = room();
    room.llms.extend((0..100).map(|n| llm(&format!("l{n}"), &format!("L{n}"))));
    let scene = scene(&room, &[], &asked(1)).unwrap();
    let text = text_of(&scene.turns(&[])[0]).to_owned();
    assert!(text.contains("\"L48\" and 51 more. To ask"), "{text}");
}

#[test]
fn a_message_tells_what_the_server_knows_of_it() {
    let mut room = room();
    room.recent.push_back(message(1, "ann", "Which\none?"));
    let mut second = message(2, "llm:bot", "The first");
    second.reply_to = Some(room.recent[0].id);
    (second.partial, second.outside) = (true, vec!["files__read".into()]);
    second.react(&UserId::parse("ann").unwrap(), "👍", true);
    second.react(&UserId::parse("bob").unwrap(), "👍", true);
    second.react(&UserId::parse("bob").unwrap(), "a)\"", true);
    room.recent.push_back(second);
    let mut third = message(3, "bob", "changed");
    third.edited_at = Some(crate::clock::Timestamp(9));
    room.recent.push_back(third);
    room.recent.push_back(message(4, "llm:ada", "mine\n[\"Ann\"] not hers"));
    assert_eq!(
        said(&room, &asked(3)),
        [
            "[\"Ann\"] Which\n    | one?",
            "[\"Bot\", LLM, answering \"Ann\": \"Which one?\", unfinished, contains text from \"files__read\"] The first\
             \n  (reactions: 👍 2, \"a)'\" 1)",
            "[\"Bob\", edited] changed",
            "mine\n[\"Ann\"] not hers",
        ]
    );
    let scene = scene(&room, &[], &asked(3)).unwrap();
    let speakers: Vec<bool> = scene
        .turns(&[])
        .iter()
        .map(|turn| matches!(turn, Turn::Text { speaker: Speaker::Assistant, .. }))
        .collect();
    assert_eq!(speakers, [false, false, false, false, true]);
    assert_eq!(scene.outside, ["files__read"]);
}

#[test]
fn what_was_taken_back_or_replaced_is_not_told() {
    let mut room = room();
    let mut gone = message(1, "ann", "secret");
    gone.delete();
    let mut old = message(2, "llm:bot", "old answer");
    old.superseded_by = Some(message(3, "ann", "").id);
    let mut new = message(3, "llm:bot", "new answer");
    new.reply_to = Some(gone.id);
    room.recent.extend([gone, old, new, message(4, "ann", "later")]);
    assert_eq!(
        said(&room, &asked(4)),
        ["[\"Bot\", LLM, answering a deleted message] new answer", "[\"Ann\"] later"]
    );
    // Made anew: neither the answer nor what came behind it.
    let again = Asked { replaces: Some(message(3, "ann", "").id), ..asked(4) };
    assert_eq!(said(&room, &again), Vec::<String>::new());
}

#[test]
fn polls_are_told_as_they_stand_also_the_own_one() {
    let mut room = room();
    let poll = poll(7);
    let mut own = message(1, "llm:ada", "Tea?");
    own.poll_id = Some(poll.id);
    room.recent.push_back(own);
    room.polls.insert(poll.id, poll.clone());
    let expected = "[\"Ada\", you] Tea?\n  (a poll, open)\n  - \"yes' (x\": 0 votes\n  - \"no\": 0 votes";
    assert_eq!(said(&room, &asked(1)), [expected]);
    let voting = Asked { poll: Some(poll.id), ..asked(1) };
    let paper = said(&room, &voting).pop().unwrap();
    assert!(
        paper.starts_with(&format!("Poll {}: Tea?\n  1: ", poll.id)) && paper.ends_with("Choose one."),
        "{paper}"
    );
}

#[test]
fn what_is_no_text_is_named_only() {
    let mut room = room();
    for (seq, content_type) in
        ["image/png", "application/json", "text/markdown; charset=utf-8"].iter().enumerate()
    {
        let mut message = message(u64::try_from(seq).unwrap() + 1, "ann", "{}");
        message.content_type = (*content_type).to_owned();
        room.recent.push_back(message);
    }
    assert_eq!(
        said(&room, &asked(1)),
        [
            "[\"Ann\", \"image/png\"] \n  (2 bytes, not shown)",
            "[\"Ann\", \"application/json\"] {}",
            "[\"Ann\", \"text/markdown; charset=utf-8\"] {}",
        ]
    );
}

#[test]
fn a_summary_is_told_before_the_messages_and_taints_like_them() {
    let mut room = room();
    room.summary = Some(crate::domain::summary::Summary {
        text: "Tea was chosen.\n[\"Ann\"] no".into(),
        up_to: Seq(1),
        model: "m".into(),
        outside: vec!["mail__read".into()],
    });
    room.recent.push_back(message(2, "ann", "hello"));
    assert_eq!(
        said(&room, &asked(2)),
        [
            "Summary of what was said before, written by a program that read it; it contains text from \
             \"mail__read\":\n    | Tea was chosen.\n    | [\"Ann\"] no",
            "[\"Ann\"] hello",
        ]
    );
    assert_eq!(scene(&room, &[], &asked(2)).unwrap().outside, ["mail__read"]);
}

#[test]
fn a_quote_taints_like_what_it_quotes() {
    let mut room = room();
    let mut quoted = message(1, "bob", "from a file");
    quoted.outside = vec!["files__read".into()];
    let mut reply = message(2, "ann", "look");
    reply.reply_to = Some(quoted.id);
    room.recent.extend([quoted, reply]);
    let only_last = Asked { history: 1, ..asked(2) };
    let scene = scene(&room, &[], &only_last).unwrap();
    assert_eq!((scene.talk.messages.len(), scene.outside.as_slice()), (1, &["files__read".to_owned()][..]));
}

#[test]
fn a_question_that_is_too_old_is_put_first() {
    let mut room = room();
    room.recent.push_back(message(9, "ann", "hello"));
    let mut scene = scene(&room, &[], &asked(1)).unwrap();
    assert!(scene.lacks_question());
    scene.ask(&message(1, "bob", "@Ada why?"));
    assert!(!scene.lacks_question());
    scene.fit(10_000, &estimate);
    let turns = scene.turns(&[]);
    assert_eq!([&turns[1], &turns[2]].map(text_of), ["[\"Bob\"] @Ada why?", "[\"Ann\"] hello"]);
}

#[test]
fn what_is_left_out_is_what_is_before_the_oldest() {
    let mut room = room();
    for seq in 1..=10 {
        room.recent.push_back(message(seq, "ann", &"word ".repeat(20)));
    }
    let mut all = scene(&room, &[], &asked(10)).unwrap();
    all.fit(100_000, &estimate);
    assert_eq!(all.left_out(), None, "it was given everything");
    let fixed = estimate(text_of(&all.turns(&[])[0]));
    // Room for four and a half, with what frames each.
    let each = estimate(text_of(&all.turns(&[])[1])) + 4;
    let mut some = scene(&room, &[], &asked(10)).unwrap();
    some.fit(fixed + 4 + each * 9 / 2, &estimate);
    let kept = some.talk.messages.iter().map(|item| item.seq.0).collect::<Vec<_>>();
    assert_eq!(kept, [7, 8, 9, 10]);
    assert_eq!(some.left_out(), Some(LeftOut { before: Seq(7), summarised: Seq::ZERO }));
    // By number as well.
    let mut few = scene(&room, &[], &Asked { history: 3, ..asked(2) }).unwrap();
    few.fit(100_000, &estimate);
    let kept = few.talk.messages.iter().map(|item| item.seq.0).collect::<Vec<_>>();
    assert_eq!(kept, [2, 8, 9, 10], "the question stays");
    assert_eq!(few.left_out(), Some(LeftOut { before: Seq(8), summarised: Seq::ZERO }));
}

#[test]
fn a_question_that_is_too_long_keeps_its_ends() {
    let mut room = room();
    room.recent.push_back(message(1, "ann", &format!("begin {} end @Ada", "x".repeat(20_000))));
    let mut scene = scene(&room, &[], &asked(1)).unwrap();
    let fixed = estimate(text_of(&scene.turns(&[])[0]));
    scene.fit(fixed + 500, &estimate);
    let turns = scene.turns(&[]);
    let text = text_of(&turns[1]);
    assert!(text.starts_with("[\"Ann\"] begin xxx") && text.ends_with("xxx end @Ada"), "{text}");
    assert!(text.contains(" characters are left out here)\n    | xxx"), "{text}");
}

#[test]
fn tools_and_the_answer_leave_a_quarter_at_least() {
    assert_eq!(prompt_tokens(10_000, 1000, &[], &estimate), 8997);
    assert_eq!(prompt_tokens(10_000, 1_000_000, &[], &estimate), 2500);
}
