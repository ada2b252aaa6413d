//! The LLMs of a room.

use crate::{
    domain::{
        decide::{Context, Decision},
        event::Event,
        limits::{
            AVATAR_CHARS, DISPLAY_NAME_CHARS, FALLBACK_MODELS, Limits, MODEL_CHARS, PERSONA_CHARS,
            TITLE_CHARS, check_chars, check_name, check_required,
        },
        llm::{LlmConfig, LlmPatch},
        mention::{self, is_everyone},
        rejection::{Code, Rejection},
        room::Room,
        settings::check_patterns,
    },
    ids::LlmId,
};

pub(super) fn add(room: &Room, llm: LlmConfig, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    check_count(room.llms.len() + 1, context.limits)?;
    check(&llm)?;
    check_unique(&llm, &room.llms)?;
    Ok(Decision::fenced(vec![context.event(Event::LlmAdded(llm))]))
}

pub(super) fn update(
    room: &Room,
    llm_id: &LlmId,
    patch: LlmPatch,
    context: &mut Context<'_>,
) -> Result<Decision, Rejection> {
    let llm = room.llm(llm_id).ok_or_else(|| Rejection::not_found("LLM", llm_id))?;
    let now = LlmConfig {
        id: llm.id.clone(),
        model: patch.model.unwrap_or_else(|| llm.model.clone()),
        persona: patch.persona.unwrap_or_else(|| llm.persona.clone()),
        display_name: patch.display_name.unwrap_or_else(|| llm.display_name.clone()),
        title: patch.title.unwrap_or_else(|| llm.title.clone()),
        chat_style: patch.chat_style.unwrap_or(llm.chat_style),
        avatar: patch.avatar.unwrap_or_else(|| llm.avatar.clone()),
        allowed_tools: patch.allowed_tools.unwrap_or_else(|| llm.allowed_tools.clone()),
        fallback_models: patch.fallback_models.unwrap_or_else(|| llm.fallback_models.clone()),
    };
    check(&now)?;
    let others: Vec<LlmConfig> = room.llms.iter().filter(|other| &other.id != llm_id).cloned().collect();
    check_unique(&now, &others)?;
    if &now == llm {
        return Ok(Decision::nothing());
    }
    Ok(Decision::fenced(vec![context.event(Event::LlmUpdated(now))]))
}

pub(super) fn remove(room: &Room, llm_id: LlmId, context: &mut Context<'_>) -> Result<Decision, Rejection> {
    if room.llm(&llm_id).is_none() {
        return Err(Rejection::not_found("LLM", llm_id));
    }
    Ok(Decision::fenced(vec![context.event(Event::LlmRemoved(llm_id))]))
}

/// Checks the LLMs a room is created with.
pub(super) fn check_all(llms: &[LlmConfig], limits: &Limits) -> Result<(), Rejection> {
    check_count(llms.len(), limits)?;
    for (index, llm) in llms.iter().enumerate() {
        check(llm)?;
        check_unique(llm, llms.get(..index).unwrap_or_default())?;
    }
    Ok(())
}

fn check_count(count: usize, limits: &Limits) -> Result<(), Rejection> {
    let max = limits.llms_per_room;
    if count > max {
        return Err(Rejection::new(Code::ResourceExhausted, format!("a room has at most {max} LLMs")));
    }
    Ok(())
}

fn check(llm: &LlmConfig) -> Result<(), Rejection> {
    check_required("llm.display_name", &llm.display_name, DISPLAY_NAME_CHARS)?;
    check_name("llm.display_name", &llm.display_name, DISPLAY_NAME_CHARS)?;
    check_name("llm.model", &llm.model, MODEL_CHARS)?;
    check_name("llm.title", &llm.title, TITLE_CHARS)?;
    check_name("llm.avatar", &llm.avatar, AVATAR_CHARS)?;
    check_chars("llm.persona", &llm.persona, PERSONA_CHARS)?;
    check_patterns("llm.allowed_tools", &llm.allowed_tools)?;
    let len = llm.fallback_models.len();
    if len > FALLBACK_MODELS {
        let problem = format_args!("must have at most {FALLBACK_MODELS} models, has {len}");
        return Err(Rejection::field("llm.fallback_models", problem));
    }
    for model in &llm.fallback_models {
        check_required("llm.fallback_models", model, MODEL_CHARS)?;
        check_name("llm.fallback_models", model, MODEL_CHARS)?;
    }
    if llm.display_name.contains(['@', '＠']) {
        return Err(Rejection::field("llm.display_name", "must not contain '@'"));
    }
    for (field, name) in [("llm.id", llm.id.as_str()), ("llm.display_name", llm.display_name.as_str())] {
        if is_everyone(name) {
            return Err(Rejection::field(field, format_args!("must not be {name:?}, which calls every LLM")));
        }
    }
    Ok(())
}

/// A mention must mean one LLM: neither id nor name may be another's id or name, as mentions compare them.
fn check_unique(llm: &LlmConfig, others: &[LlmConfig]) -> Result<(), Rejection> {
    let keys = |l: &LlmConfig| [mention::key(l.id.as_str()), mention::key(&l.display_name)];
    let mine = keys(llm);
    for other in others {
        let theirs = keys(other);
        if let Some(taken) = mine.iter().find(|key| theirs.contains(key)) {
            return Err(Rejection {
                field: Some(if *taken == mention::key(llm.id.as_str()) {
                    "llm.id"
                } else {
                    "llm.display_name"
                }),
                ..Rejection::new(
                    Code::AlreadyExists,
                    format!(
                        "{:?} is already the name of the LLM {} of this room",
                        llm.display_name, other.id
                    ),
                )
            });
        }
    }
    Ok(())
}
