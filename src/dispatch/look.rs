//! What a run sees before it asks: the room as it is now or was at the question, as much of it as fits into the model.

use std::sync::Arc;

use crate::{
    dispatch::{
        Inner, Job, autopilot,
        context::{self, Asked, Scene},
        past, summarise,
        tools::{self, Caller},
    },
    domain::{rejection::Rejection, room::Room},
    ids::UserId,
    llm::{
        route::{Plan, Router},
        tokens::Tokenizer,
    },
    registry::feed::Feed,
};

/// Who is asked, and how much it may be given.
#[derive(Debug, Clone)]
pub(super) struct Model {
    /// Who answers, and who stands in for them.
    pub(super) plan: Plan,
    /// How the tokens of the first are counted.
    pub(super) tokenizer: Tokenizer,
    /// What it may be given, its answer included.
    pub(super) window: u64,
}

impl Model {
    /// The model of this name; `limit` bounds what it is given, also where more would fit.
    pub(super) fn of(router: &Router, name: &str, fallbacks: &[String], limit: u64) -> Self {
        let plan = router.plan(name, fallbacks);
        let first = plan.targets().first();
        let tokenizer = first.map_or(Tokenizer::Estimate, |target| Tokenizer::of(&target.model));
        let window = first.map_or(limit, |target| limit.min(target.info.context_tokens.into()));
        Self { plan, tokenizer, window }
    }
}

/// Looks at the room through the eyes of the LLM that is asked; `None`: it is not there any more.
pub(super) async fn look(inner: &Arc<Inner>, job: &Job) -> Result<Option<Scene>, Rejection> {
    let asked = Asked {
        llm: job.llm_id.clone(),
        question: job.reply_to,
        replaces: job.replaces,
        poll: job.poll_id,
        history: inner.limits.history_messages,
    };
    let has_turn = job.turn.is_some();
    let past = if job.at_question { Some(past::up_to_question(inner, job).await?) } else { None };
    let shown = inner.rooms.limits().participants_shown;
    let see = move |room: &Room, feed: &Arc<Feed>| {
        let online: Vec<UserId> = feed.online(shown).into_iter().map(|(user, _)| user).collect();
        let mut scene = match past {
            Some(past) => context::scene(&past.of(room, &online), &online, &asked),
            None => context::scene(room, &online, &asked),
        }?;
        if has_turn && let Some(part) = autopilot::part(room, &asked.llm) {
            scene.remind(&part.text);
            scene.part = Some(part);
        }
        Some(scene)
    };
    let Some(mut scene) = inner.rooms.read(&job.room, see).await? else {
        return Ok(None);
    };
    if !job.model.is_empty() {
        scene.llm.model.clone_from(&job.model);
    }
    if scene.lacks_question()
        && let Some(question) = inner.rooms.message(&job.room, job.reply_to).await?
    {
        scene.ask(&question);
    }
    let limit = inner.limits.context_tokens;
    let model = Model::of(&inner.router, &scene.llm.model, &scene.llm.fallback_models, limit);
    let scene = fit(inner, job, scene, model).await;
    summarise::consider(inner, &job.room, scene.left_out());
    Ok(Some(scene))
}

/// Leaves out what does not fit beside the tools and the answer.
async fn fit(inner: &Arc<Inner>, job: &Job, mut scene: Scene, model: Model) -> Scene {
    let offered = tools::offered(Caller { inner, job, scene: &scene }).await;
    let tools = tools::shown(&offered, &tools::Effects::default());
    let answer = u64::from(inner.limits.max_tokens);
    let (tokenizer, window) = (model.tokenizer, model.window);
    scene.model = Some(model);
    let given = scene.clone();
    // A vocabulary is read at its first use, and counting takes its time: not where others wait.
    let fitting = tokio::task::spawn_blocking(move || {
        let count = move |text: &str| tokenizer.count(text);
        scene.fit(context::prompt_tokens(window, answer, &tools, &count), &count);
        scene
    });
    // It fails only by a fault of the library: then the provider says whether it is too long.
    fitting.await.unwrap_or(given)
}
