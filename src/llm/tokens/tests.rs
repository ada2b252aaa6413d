//! Counts against known ones, the estimate against counts, and texts made to be slow.

use std::time::Instant;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::llm::{AnswerForm, Speaker, Tool, ToolCall};

/// Many pieces.
const SLOW_BYTES: usize = 48 << 10;

/// Texts in several scripts, and the kinds of text that are written in rooms.
const SAMPLES: [&str; 14] = [
    "The quick brown fox jumps over the lazy dog, and nobody in the room says a word about it.",
    "Der Aufsichtsratsvorsitzende überprüfte gewissenhaft die Zuverlässigkeitsuntersuchungen.",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "Ξεσκεπάζω την ψυχοφθόρα βδελυγμία στην πόλη των Αθηνών.",
    "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر",
    "דג סקרן שט בים מאוכזב ולפתע מצא חברה",
    "他们在房间里讨论明天的天气,没有人知道答案。",
    "色は匂へど散りぬるを、我が世誰ぞ常ならむ。",
    "다람쥐 헌 쳇바퀴에 타고파, 그리고 아무도 대답하지 않았다.",
    "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश",
    "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน",
    "fn main() { let x: Vec<u8> = (0..10).map(|i| i * 2).collect(); println!(\"{x:?}\"); }",
    "2026-11-21T10:59:32Z 192.168.0.17 POST /api/v1/rooms?id=8f14e45fceea167a 404 17.3ms",
    "👍🎉😀 great work 👩‍👩‍👧‍👦 🇩🇪 ❤️",
];

#[test]
fn models_have_the_vocabulary_they_were_made_with() {
    for (model, tokenizer) in [
        ("gpt-4o-mini", Tokenizer::O200k),
        ("openai/gpt-4.1", Tokenizer::O200k),
        ("gpt-5-nano", Tokenizer::O200k),
        ("o3", Tokenizer::O200k),
        ("gpt-4", Tokenizer::Cl100k),
        ("gpt-3.5-turbo", Tokenizer::Cl100k),
        ("meta/llama-3:free", Tokenizer::Estimate),
        ("", Tokenizer::Estimate),
    ] {
        assert_eq!(Tokenizer::of(model), tokenizer, "{model}");
    }
}

#[test]
fn known_counts_are_met() {
    // As OpenAI's own tool counts them.
    assert_eq!(count("gpt-4", "tiktoken is great!"), 6);
    assert_eq!(count("gpt-4o", "hello world"), 2);
    assert_eq!(count("gpt-4o", ""), 0);
    assert_eq!(count("unknown", ""), 0);
    // A mark of the vocabulary that somebody types is a text like any other.
    assert!(count("gpt-4o", "<|endoftext|>") > 1);
}

#[test]
fn a_text_in_pieces_counts_as_the_whole_where_words_end() {
    let words = "the room is full of people who talk about nothing ".repeat(1000);
    let whole = u64::try_from(o200k_base_singleton().count_ordinary(&words)).unwrap();
    assert!(words.len() > 10 * PIECE_BYTES);
    assert_eq!(Tokenizer::O200k.count(&words), whole);
}

#[test]
fn a_text_made_to_be_slow_is_counted_as_fast_as_its_length() {
    let plain = "word ".repeat(SLOW_BYTES / 5);
    for tokenizer in [Tokenizer::O200k, Tokenizer::Cl100k] {
        tokenizer.count("the vocabulary is read");
        let started = Instant::now();
        tokenizer.count(&plain);
        let usual = started.elapsed();
        for unit in ["a", " ", "\n", "A", "ab", "'s", "你", "\u{301}", "!?", " \n", "1", "a\u{301}", "\t "] {
            let text = unit.repeat(SLOW_BYTES / unit.len());
            let started = Instant::now();
            let tokens = tokenizer.count(&text);
            let took = started.elapsed();
            assert!(tokens > 0 && took < usual * 40, "{unit:?}: {took:?} against {usual:?} for words");
        }
    }
    let huge = "a".repeat(EXACT_BYTES_MAX + 1);
    assert_eq!(Tokenizer::O200k.count(&huge), estimate(&huge));
}

#[test]
fn the_estimate_is_rounded_up() {
    assert_eq!(["", "a", "aaa", "aaaa", "你好", "1"].map(estimate), [0, 1, 1, 2, 3, 1]);
}

proptest! {
    #[test]
    fn the_estimate_is_never_below_half_of_the_count(
        picks in prop::collection::vec((0..SAMPLES.len(), 0usize..40, 1usize..60), 1..8),
    ) {
        let part = |(sample, skip, take): &(usize, usize, usize)| -> String {
            SAMPLES[*sample].chars().skip(*skip).take(*take).collect()
        };
        let text = picks.iter().map(part).collect::<Vec<_>>().join(" ");
        for tokenizer in [Tokenizer::O200k, Tokenizer::Cl100k] {
            let (real, estimated) = (tokenizer.count(&text), estimate(&text));
            prop_assert!(real <= 2 * estimated + 2, "{real} against {estimated} for {text:?}");
            prop_assert!(estimated <= 6 * real + 4, "{real} against {estimated} for {text:?}");
        }
    }

    #[test]
    fn no_text_is_too_strange(text in any::<String>()) {
        for tokenizer in [Tokenizer::O200k, Tokenizer::Cl100k] {
            let most = u64::try_from(text.len()).unwrap();
            prop_assert!(tokenizer.count(&text) <= most);
        }
    }
}

#[tokio::test]
async fn a_request_counts_everything_that_is_sent() {
    let text = |text: &str| Turn::Text { speaker: Speaker::User, text: text.into() };
    let mut request = Request {
        model: "gpt-4o".into(),
        turns: vec![text("hello world")],
        tools: Vec::new(),
        form: None,
        max_tokens: 10,
        display_name: "Ada".into(),
    };
    assert_eq!(count_request("gpt-4o", &request).await, 2 + MESSAGE_TOKENS + ANSWER_TOKENS);
    let changes: [fn(&mut Request); 4] = [
        |request| {
            let call = ToolCall { id: "1".into(), name: "vote".into(), arguments: "{\"option\":1}".into() };
            request.turns.push(Turn::ToolCalls { text: String::new(), calls: vec![call] });
        },
        |request| request.turns.push(Turn::ToolResult { call_id: "1".into(), result: "counted".into() }),
        |request| {
            let parameters = json!({"type": "object", "properties": {"option": {"type": "integer"}}});
            request.tools.push(Tool { name: "vote".into(), description: "Votes.".into(), parameters });
        },
        |request| request.form = Some(AnswerForm { name: "room".into(), schema: json!({"type": "object"}) }),
    ];
    for change in changes {
        let before = request.clone();
        change(&mut request);
        for model in ["gpt-4o", "llama"] {
            let (before, now) = (count_request(model, &before).await, count_request(model, &request).await);
            assert!(now > before, "{model}: {now} after {before}");
        }
    }
}

#[tokio::test]
async fn an_answer_is_counted_where_nobody_waits() {
    let text = "a word and another ".repeat(5_000);
    let mut counting = std::pin::pin!(count_text(Tokenizer::O200k, &text));
    assert!(futures_util::poll!(counting.as_mut()).is_pending());
    assert_eq!(counting.await, Tokenizer::O200k.count(&text));
    assert_eq!(count_text(Tokenizer::Estimate, &text).await, estimate(&text));
    assert_eq!(count_text(Tokenizer::O200k, "").await, 0);
}
