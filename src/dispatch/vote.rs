//! The conversation of an answer whose LLM has to vote: who does not is asked once more, and then has abstained.

use std::sync::Arc;

use crate::{
    dispatch::{
        Inner, Job,
        context::Scene,
        converse::{self, Ended},
        listen::Progress,
    },
    domain::llm::RunEnd,
};

/// What an LLM is told that had to vote and did not.
const REMINDER: &str = "You have not voted. In this poll everybody must vote, and nobody may opt out: call the tool \
                        vote_on_poll now. You are not asked again.";

/// [`converse::converse`], and once more if a vote is owed.
pub(super) async fn converse(inner: &Arc<Inner>, job: &Job, scene: &Scene, progress: &mut Progress) -> Ended {
    let ended = converse::converse(inner, job, scene, progress).await;
    if !owes_a_vote(job, &ended, progress) {
        return ended;
    }
    if !is_mandatory(job, scene) || progress.calls_left == 0 {
        return Ended { end: RunEnd::OptedOut, ..ended };
    }
    let mut scene = scene.clone();
    scene.remind(REMINDER);
    let ended = converse::converse(inner, job, &scene, progress).await;
    if !owes_a_vote(job, &ended, progress) {
        return ended;
    }
    Ended::by_itself(RunEnd::OptedOut, "did not vote, although it was asked twice")
}

/// Whether a conversation about a poll has come to its end by itself, and to no vote.
fn owes_a_vote(job: &Job, ended: &Ended, progress: &Progress) -> bool {
    let by_itself = matches!(ended.end, RunEnd::Completed | RunEnd::OptedOut);
    by_itself && job.poll_id.is_some_and(|poll| !progress.effects.voted.contains(&poll))
}

fn is_mandatory(job: &Job, scene: &Scene) -> bool {
    scene.open_polls.iter().any(|poll| Some(poll.id) == job.poll_id && poll.mandatory)
}
