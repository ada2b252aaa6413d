//! What a run sees before it asks: the room as it is now or was at the question, as much of it as fits into the model.

use std::sync::Arc;

use crate::{
    dispatch::{
        context::{self, Asked, Scene, View},
        inner::Inner,
        job::Job,
        model::Model,
        past::{self, Past},
        summarise,
        tools::{self, Caller},
    },
    domain::{rejection::Rejection, room::Room},
    ids::UserId,
    llm::{Turn, tokens::Tokenizer},
    registry::feed::Feed,
};

/// Looks at the room through the eyes of the LLM that is asked; `None`: it is not there any more.
pub(super) async fn look(inner: &Arc<Inner>, job: &Job) -> Result<Option<Scene>, Rejection> {
    let mut asked = Asked {
        llm: job.llm_id.clone(),
        question: job.reply_to,
        replaces: job.replaces,
        poll: job.poll_id,
        history: inner.limits.history_messages,
        quotes: Vec::new(),
    };
    let past = if job.at_question { Some(past::up_to_question(inner, job).await?) } else { None };
    let past = past.map(Arc::new);
    let Some(mut scene) = see(inner, job, &asked, past.clone()).await? else {
        return Ok(None);
    };
    if !scene.unquoted.is_empty() {
        for id in std::mem::take(&mut scene.unquoted) {
            asked.quotes.extend(inner.rooms.message(&job.room, id).await?);
        }
        // The room may have moved on: it is looked at anew, not mended.
        match see(inner, job, &asked, past).await? {
            Some(again) => scene = again,
            None => return Ok(None),
        }
    }
    if !job.model.is_empty() {
        scene.llm.model.clone_from(&job.model);
    }
    if scene.lacks_question()
        && let Some(question) = inner.rooms.message(&job.room, job.reply_to).await?
    {
        let quoted = match question.reply_to {
            Some(id) => inner.rooms.message(&job.room, id).await?,
            None => None,
        };
        scene.ask(&question, quoted.as_ref());
    }
    let limit = inner.limits.context_tokens;
    let model = Model::of(&inner.router, &scene.llm.model, &scene.llm.fallback_models, limit);
    let scene = fit(inner, job, scene, model).await;
    summarise::consider(inner, &job.room, scene.left_out());
    Ok(Some(scene))
}

/// One look at the room.
async fn see(
    inner: &Inner,
    job: &Job,
    asked: &Asked,
    past: Option<Arc<Past>>,
) -> Result<Option<Scene>, Rejection> {
    let has_turn = job.turn.is_some();
    let asked = asked.clone();
    let shown = inner.rooms.limits().participants_shown;
    let look = move |room: &Room, feed: &Arc<Feed>| {
        let online: Vec<UserId> = feed.online(shown).into_iter().map(|(user, _)| user).collect();
        let view = past.as_deref().map_or_else(|| View::from(room), |past| View::of_past(room, past));
        let mut scene = context::scene(view, &online, &asked)?;
        if has_turn && let Some(part) = context::part(room, &asked.llm) {
            scene.take_part(part);
        }
        Some(scene)
    };
    inner.rooms.read(&job.room, look).await
}

/// Leaves out what does not fit beside the tools and the answer.
async fn fit(inner: &Arc<Inner>, job: &Job, mut scene: Scene, model: Model) -> Scene {
    let offered = tools::offered(Caller { inner, job, scene: &scene }).await;
    let tools = tools::shown(&offered, &tools::Effects::default());
    let answer = u64::from(inner.limits.max_tokens);
    let (tokenizer, window) = (model.tokenizer, model.window);
    scene.model = Some(model);
    let given = scene.clone();
    let fitting = counting(tokenizer, move || {
        let count = move |text: &str| tokenizer.count(text);
        scene.fit(context::prompt_tokens(window, answer, &tools, &count), &count);
        scene
    });
    // It fails only by a fault of the library: then the provider says whether it is too long.
    fitting.await.unwrap_or(given)
}

/// Does what counts tokens. A vocabulary is read at its first use, and counting takes its time: not where others wait.
/// An estimate takes none. `None`: the library has failed.
async fn counting<T: Send + 'static>(
    tokenizer: Tokenizer,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    match tokenizer {
        Tokenizer::Estimate => Some(work()),
        Tokenizer::O200k | Tokenizer::Cl100k => tokio::task::spawn_blocking(work).await.ok(),
    }
}

/// Everything a model is given, with the rounds of tools that there have been. They are counted, each time all of them:
/// not where others wait.
pub(super) async fn told(scene: &Scene, rounds: &[Turn]) -> Vec<Turn> {
    if rounds.is_empty() {
        return scene.turns(rounds);
    }
    let (copy, given) = (scene.clone(), rounds.to_vec());
    let tokenizer = scene.model.as_ref().map_or(Tokenizer::Estimate, |model| model.tokenizer);
    // Like the fitting it hardly fails.
    counting(tokenizer, move || copy.turns(&given)).await.unwrap_or_else(|| scene.turns(rounds))
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::poll;

    use super::*;
    use crate::{
        domain::llm::{ChatStyle, LlmConfig},
        ids::LlmId,
        llm::{Speaker, ToolCall, route::Router},
    };

    fn scene(tokenizer: Tokenizer) -> Scene {
        let llm = LlmConfig {
            id: LlmId::parse("ada").unwrap(),
            model: String::new(),
            persona: String::new(),
            display_name: "Ada".into(),
            title: String::new(),
            chat_style: ChatStyle::Unspecified,
            avatar: String::new(),
            allowed_tools: Vec::new(),
            fallback_models: Vec::new(),
        };
        let providers = [("p".to_owned(), Arc::new(crate::llm::offline::OfflineProvider::new("p")) as _)];
        let router =
            Router::new(providers.into(), "p", crate::llm::route::RouterSettings::default()).unwrap();
        let model = Model { tokenizer, ..Model::of(&router, "", &[], 1000) };
        let mut scene = Scene {
            llm,
            others: Vec::new(),
            open_polls: Vec::new(),
            outside: Vec::new(),
            talk: context::Talk::default(),
            model: Some(model),
            part: None,
            unquoted: Vec::new(),
            names: Arc::default(),
        };
        scene.fit(1000, &|text: &str| tokenizer.count(text));
        scene
    }

    #[tokio::test]
    async fn rounds_of_tools_are_counted_where_nobody_waits() {
        let scene = scene(Tokenizer::O200k);
        let call = ToolCall { id: "1".into(), name: "look".into(), arguments: "{}".into() };
        let result = Turn::ToolResult { call_id: "1".into(), result: "a long result ".repeat(10_000) };
        let rounds = [Turn::ToolCalls { text: String::new(), calls: vec![call] }, result];
        let mut telling = pin!(told(&scene, &rounds));
        assert!(poll!(telling.as_mut()).is_pending());
        let turns = telling.await;
        assert_eq!(turns, scene.turns(&rounds));
        let [
            Turn::Text { speaker: Speaker::System, .. },
            Turn::ToolCalls { .. },
            Turn::ToolResult { result, .. },
        ] = turns.as_slice()
        else {
            panic!("{turns:?}")
        };
        assert!(result.contains("left out here"), "it was shortened");
    }
}
