//! A model's answer as a room: read leniently, mended where that is harmless, then held to the rules of creation.

use serde::Deserialize;
use uuid::Uuid;

use crate::{
    clock::Timestamp,
    dispatch::plain,
    domain::{
        command::Command,
        decide::{self, Context, Facts},
        event::NewRoom,
        limits::{
            DISPLAY_NAME_CHARS, Limits, PERSONA_CHARS, ROOM_DESCRIPTION_CHARS, ROOM_NAME_CHARS, TITLE_CHARS,
        },
        llm::{ChatStyle, LlmConfig},
        room::{Profile, Visibility},
        settings::Settings,
    },
    ids::{LlmId, RoomId, is_disturbing},
};

/// Characters of an id that is made from a name.
const ID_CHARS: usize = 32;

#[derive(Debug, Deserialize)]
struct Proposed {
    name: String,
    #[serde(default)]
    description: String,
    llms: Vec<ProposedLlm>,
}

#[derive(Debug, Deserialize)]
struct ProposedLlm {
    display_name: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    persona: String,
    #[serde(default)]
    chat_style: String,
}

/// The room that an answer proposes, with at most `most` LLMs; or why it is none.
pub(super) fn read(answer: &str, most: usize, limits: &Limits) -> Result<NewRoom, String> {
    let proposed: Proposed = serde_json::from_str(object(answer)?).map_err(|error| error.to_string())?;
    let mut llms: Vec<LlmConfig> = Vec::new();
    let named = proposed.llms.into_iter().filter(|llm| !llm.display_name.trim().is_empty());
    for llm in named.take(most.min(limits.llms_per_room)) {
        llms.push(config(&llm, &llms)?);
    }
    if llms.is_empty() {
        return Err("it has no LLMs".to_owned());
    }
    let room = NewRoom {
        id: RoomId::random(),
        profile: Profile {
            name: name(&proposed.name, ROOM_NAME_CHARS),
            description: text(&proposed.description, ROOM_DESCRIPTION_CHARS),
            visibility: Visibility::Public,
            settings: Settings::default(),
        },
        created_by: None,
        llms,
    };
    let mut context = Context {
        at: Timestamp::default(),
        limits,
        facts: &Facts::default(),
        new_id: &mut Uuid::now_v7,
        secret: None,
    };
    decide::create(Command::CreateRoom(room.clone()), &mut context).map_err(|rejection| rejection.message)?;
    Ok(room)
}

/// Models like to write around it: a fence, or a sentence.
fn object(answer: &str) -> Result<&str, String> {
    let found = answer.find('{').zip(answer.rfind('}'));
    found.and_then(|(from, to)| answer.get(from..=to)).ok_or_else(|| "it holds no JSON object".to_owned())
}

fn config(proposed: &ProposedLlm, others: &[LlmConfig]) -> Result<LlmConfig, String> {
    let display_name = unlike(&name(&proposed.display_name, DISPLAY_NAME_CHARS), |wanted| {
        others.iter().any(|other| other.display_name.to_lowercase() == wanted.to_lowercase())
    });
    let wanted = unlike(&id(&display_name), |wanted| others.iter().any(|other| other.id.as_str() == wanted));
    Ok(LlmConfig {
        id: LlmId::parse(&wanted.replace(' ', "-")).map_err(|error| error.to_string())?,
        model: String::new(),
        persona: text(&proposed.persona, PERSONA_CHARS),
        display_name,
        title: name(&proposed.title, TITLE_CHARS),
        chat_style: match proposed.chat_style.to_ascii_lowercase().as_str() {
            "conversational" => ChatStyle::Conversational,
            "detailed" => ChatStyle::Detailed,
            "bullet" => ChatStyle::Bullet,
            _ => ChatStyle::Unspecified,
        },
        avatar: String::new(),
        allowed_tools: Vec::new(),
        fallback_models: Vec::new(),
    })
}

/// The first of `wanted`, `wanted 2`, `wanted 3` … that is not taken.
fn unlike(wanted: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut free = wanted.to_owned();
    let mut number = 2_u32;
    while is_taken(&free) || is_taken(&free.replace(' ', "-")) {
        free = format!("{} {number}", plain::start(wanted, DISPLAY_NAME_CHARS - 4));
        number += 1;
    }
    free
}

fn id(name: &str) -> String {
    let small = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' });
    let small: String = small.collect();
    let words: Vec<&str> = small.split('-').filter(|word| !word.is_empty()).collect();
    let id = words.join("-");
    let id = plain::start(&id, ID_CHARS).trim_end_matches('-');
    if id.is_empty() { "llm".to_owned() } else { id.to_owned() }
}

/// One line.
fn name(text: &str, most: usize) -> String {
    let one: String = text.chars().map(|c| if is_disturbing(c) { ' ' } else { c }).collect();
    plain::start(one.trim(), most).trim_end().to_owned()
}

fn text(text: &str, most: usize) -> String {
    plain::start(text.trim(), most).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            message_bytes: 1000,
            llms_per_room: 32,
            members_per_room: 10,
            chain_depth: 5,
            open_runs_per_room: 8,
            private_by_invitation: false,
        }
    }

    fn of(answer: &serde_json::Value) -> Result<NewRoom, String> {
        read(&answer.to_string(), 6, &limits())
    }

    #[test]
    fn what_is_around_an_object_and_unknown_in_it_is_passed_by() {
        let answer = "Sure!\n```json\n{\"name\": \" Tea\\nhouse \", \"mood\": 7, \"llms\": [{\"display_name\": \"Müller\", \
            \"chat_style\": \"BULLET\"}]}\n```\nEnjoy.";
        let room = read(answer, 6, &limits()).unwrap();
        assert_eq!((room.profile.name.as_str(), room.llms[0].id.as_str()), ("Tea house", "m-ller"));
        assert_eq!(room.llms[0].chat_style, ChatStyle::Bullet);
    }

    #[test]
    fn what_is_harmless_is_mended() {
        let llm = |name: &str| serde_json::json!({"display_name": name, "persona": "p".repeat(9000)});
        let llms: Vec<_> = ["Ann", "ann", "安", "茶", " ", "Ann 2", "A-nn", "B"].map(llm).into();
        let room = of(&serde_json::json!({"name": "n".repeat(500), "llms": llms})).unwrap();
        let shown: Vec<_> =
            room.llms.iter().map(|llm| (llm.display_name.as_str(), llm.id.as_str())).collect();
        let expected = [
            ("Ann", "ann"),
            ("ann 2", "ann-2"),
            ("安", "llm"),
            ("茶", "llm-2"),
            ("Ann 2 2", "ann-2-2"),
            ("A-nn", "a-nn"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(room.profile.name.chars().count(), ROOM_NAME_CHARS);
        assert!(room.llms.iter().all(|llm| llm.persona.chars().count() == PERSONA_CHARS));
    }

    #[test]
    fn what_is_no_room_is_none() {
        assert_eq!(read("I would rather not.", 6, &limits()), Err("it holds no JSON object".into()));
        assert!(read("{\"name\": \"x\", ", 6, &limits()).is_err());
        assert!(read("} {", 6, &limits()).is_err());
        assert!(of(&serde_json::json!({"name": "x"})).unwrap_err().contains("llms"));
        assert_eq!(of(&serde_json::json!({"name": "x", "llms": []})), Err("it has no LLMs".into()));
        let nameless = serde_json::json!({"name": " ", "llms": [{"display_name": "a"}]});
        assert!(of(&nameless).unwrap_err().contains("name"));
    }
}
