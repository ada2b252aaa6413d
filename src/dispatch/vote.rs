//! The conversation of an answer whose LLM has to vote: who does not is asked once more, whatever has become of the
//! tools it was given before, and then has abstained. What it has said meanwhile is why.

use std::sync::Arc;

use crate::{
    dispatch::{context::Scene, converse, ended::Ended, inner::Inner, job::Job, listen::Progress},
    domain::{llm::RunEnd, poll::Poll},
};

/// What an LLM is told that had to vote and did not.
const REMINDER: &str = "You have not voted. In this poll everybody must vote, and nobody may opt out: call the tool \
                        vote_on_poll now. You are not asked again.";

/// Calls that there are for the second question at least: a wrong one, and the vote.
const CALLS_LEAST: usize = 2;
/// Why somebody has abstained who has said nothing about it.
const SILENT: &str = "did not vote, although it was asked twice";

/// [`converse::converse`], and once more if a vote is owed.
pub(super) async fn converse(inner: &Arc<Inner>, job: &Job, scene: &Scene, progress: &mut Progress) -> Ended {
    let ended = converse::converse(inner, job, scene, progress).await;
    if !owes_a_vote(job, &ended, progress) {
        return ended;
    }
    let Some(poll) = owed(job, scene) else {
        return Ended { end: RunEnd::OptedOut, ..ended };
    };
    progress.effects.begin_anew();
    progress.calls_left = progress.calls_left.max(CALLS_LEAST.min(inner.limits.tool_calls));
    let mut reminded = scene.clone();
    reminded.remind(REMINDER);
    let ended = converse::converse(inner, job, &reminded, progress).await;
    if !owes_a_vote(job, &ended, progress) {
        return ended;
    }
    Ended::by_itself(RunEnd::OptedOut, reason(poll, &progress.aside))
}

/// Why it has abstained: in its own words, but where those could tell what nobody is to know.
fn reason<'a>(poll: &Poll, said: &'a str) -> &'a str {
    if said.is_empty() || poll.anonymous || poll.results_hidden() { SILENT } else { said }
}

/// Whether a conversation about a poll has come to its end by itself, and to no vote.
fn owes_a_vote(job: &Job, ended: &Ended, progress: &Progress) -> bool {
    let by_itself = matches!(ended.end, RunEnd::Completed | RunEnd::OptedOut);
    by_itself && job.poll_id.is_some_and(|poll| !progress.effects.voted.contains(&poll))
}

/// The poll, if everybody has to vote in it.
fn owed<'a>(job: &Job, scene: &'a Scene) -> Option<&'a Poll> {
    scene.open_polls.iter().find(|poll| Some(poll.id) == job.poll_id && poll.mandatory)
}
