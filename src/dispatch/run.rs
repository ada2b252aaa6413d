//! One run, from `llm_thinking` to `llm_done`.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout_at};

use crate::{
    dispatch::{
        answer::AnswerText,
        autopilot,
        context::Scene,
        ended::{Ended, crash},
        inner::{Inner, LlmDispatcher},
        job::{Job, Stop},
        listen::{Progress, millis, publish_chunk, settle},
        look::look,
        plain,
        tools::Effects,
        vote,
    },
    domain::{
        command::{Actor, Command, RunOutcome},
        event::{Event, Recorded},
        limits::REASON_CHARS,
        llm::{LiveAnswer, RunEnd, RunReport},
        rejection::{Code, Rejection},
        room::Room,
        summary::add_outside,
    },
    ids::{MessageId, PollId, RoomId},
    wire::reply,
};

/// Between two tries to record the end of a run when the store fails.
const FINISH_RETRY: Duration = Duration::from_millis(250);

/// Runs a job to its end. Never returns before the end is recorded, or cannot be; an error says why it did not begin.
pub(super) async fn run(inner: &Arc<Inner>, job: Job, stop: Stop) -> Result<(), Rejection> {
    // Whoever is stopped before the beginning leaves no trace in the room.
    if let Some(why) = stop.refusal() {
        return Err(why);
    }
    if let Err(rejection) = inner.rooms.submit(&job.room, Actor::Server, job.start()).await {
        if rejection.code == Code::Unavailable {
            // A store that fails may have written the beginning: then there must be an end. If not, there is no such
            // answer, and nothing is written, unless the beginning comes into the log behind that.
            inner.doubts.add(job.message_id);
            if finish(inner, &job.room, unstarted(job.message_id)).await {
                inner.doubts.take(job.message_id);
            }
        }
        return Err(rejection);
    }
    // A panic ends the run, not the process; the room is told like of any other failure.
    let (task_inner, task_job, task_stop) = (Arc::clone(inner), job.clone(), stop);
    let answering = inner.tasks.spawn(async move { answer(&task_inner, &task_job, &task_stop).await });
    let outcome = answering.await.unwrap_or_else(|_| crashed(&job));
    finish(inner, &job.room, outcome).await;
    Ok(())
}

fn crashed(job: &Job) -> RunOutcome {
    failed(job.message_id, crash())
}

/// An answer of which nobody knows whether it has begun, and which will not go on.
pub(super) fn unstarted(answer: MessageId) -> RunOutcome {
    let rejection = reply::unavailable();
    failed(answer, (rejection.code.as_str().to_owned(), "the answer could not begin".to_owned()))
}

fn failed(message_id: MessageId, (error_code, error_message): (String, String)) -> RunOutcome {
    let report = RunReport { error_code, error_message, ..RunReport::default() };
    RunOutcome {
        message_id,
        end: RunEnd::Failed,
        text: String::new(),
        mentions: Vec::new(),
        outside: Vec::new(),
        report,
    }
}

/// Records the end, however long the store takes: an answer must not stay open. Whether there was one to be ended.
pub(super) async fn finish(inner: &Inner, room: &RoomId, outcome: RunOutcome) -> bool {
    loop {
        let command = Command::FinishRun(outcome.clone());
        match inner.rooms.submit(room, Actor::Server, command).await {
            Ok(_) => return true,
            Err(Rejection { code: Code::Unavailable, .. }) => tokio::time::sleep(FINISH_RETRY).await,
            // The room has ended, and has ended the answer with itself.
            Err(rejection) => {
                tracing::debug!(%room, %rejection, "the end of an answer was not recorded");
                return false;
            }
        }
    }
}

impl LlmDispatcher {
    /// Ends answers that have begun behind all hope.
    pub(super) fn end_late(&self, room: &Room, events: &[Recorded]) {
        for recorded in events {
            let Event::RunStarted(begun) = &recorded.event else {
                continue;
            };
            let answer = begun.message_id;
            if self.0.doubts.take(answer) && room.runs.contains_key(&answer) {
                let (inner, room) = (Arc::clone(&self.0), room.id.clone());
                self.0.tasks.spawn(async move { finish(&inner, &room, unstarted(answer)).await });
            }
        }
    }
}

async fn answer(inner: &Arc<Inner>, job: &Job, stop: &Stop) -> RunOutcome {
    let started = Instant::now();
    let scene = seen_in_time(look(inner, job), stop, started + inner.limits.total).await;
    let scene = scene.and_then(|found| seen(found, job.poll_id));
    let name = scene.as_ref().map_or(job.llm_id.as_str(), |scene| scene.llm.display_name.as_str());
    let mut progress = Progress {
        answer: AnswerText::new(name),
        live: LiveAnswer {
            message_id: job.message_id,
            llm_id: job.llm_id.clone(),
            reply_to: job.reply_to,
            text: String::new(),
            started_at: inner.rooms.clock().now(),
        },
        effects: Effects::default(),
        report: RunReport::default(),
        started,
        flush_at: None,
        last_flush: None,
        calls_left: inner.limits.tool_calls,
        taken_up: false,
        call: None,
        aside: String::new(),
        stop: stop.clone(),
    };
    let mut outside = Vec::new();
    let ended = match scene {
        Ok(scene) => {
            outside.clone_from(&scene.outside);
            tokio::select! {
                biased;
                () = stop.token.cancelled() => Ended::by_itself(RunEnd::Interrupted, stop.why()),
                // A provider's panic must not take away what it has said before.
                ended = AssertUnwindSafe(vote::converse(inner, job, &scene, &mut progress))
                    .catch_unwind() => ended.unwrap_or_else(|_| Ended::crashed()),
            }
        }
        Err(ended) => *ended,
    };
    // Of a call that was cut off, what is known of it counts.
    settle(&mut progress).await;
    autopilot::conclude(inner, job, &progress.effects).await;
    let mut outcome = outcome(inner, job, progress, ended);
    // Whatever it has said, it has read this before.
    add_outside(&mut outcome.outside, &outside);
    outcome
}

/// What there is to be seen, unless the run is stopped or its time is up before: reading and counting may take long.
async fn seen_in_time<T>(
    look: impl Future<Output = T>,
    stop: &Stop,
    deadline: Instant,
) -> Result<T, Box<Ended>> {
    let found = tokio::select! {
        biased;
        () = stop.token.cancelled() => return Err(Box::new(Ended::by_itself(RunEnd::Interrupted, stop.why()))),
        found = timeout_at(deadline, AssertUnwindSafe(look).catch_unwind()) => found,
    };
    let late = |_| Box::new(Ended::by_itself(RunEnd::TimedOut, "the room was not read in time"));
    found.map_err(late)?.map_err(|_| Box::new(Ended::crashed()))
}

/// What there is to be asked about, or how the run ends without asking.
fn seen(found: Result<Option<Scene>, Rejection>, poll: Option<PollId>) -> Result<Scene, Box<Ended>> {
    let scene = found.map_err(|rejection| Box::new(Ended::blind(rejection)))?.ok_or_else(|| {
        Box::new(Ended::by_itself(RunEnd::Interrupted, "the LLM was removed from the room"))
    })?;
    match poll {
        Some(id) if !scene.open_polls.iter().any(|open| open.id == id) => {
            Err(Box::new(Ended::by_itself(RunEnd::OptedOut, "the poll is closed")))
        }
        Some(_) | None => Ok(scene),
    }
}

fn outcome(inner: &Inner, job: &Job, mut progress: Progress, ended: Ended) -> RunOutcome {
    progress.answer.finish();
    let silent = progress.answer.text().trim().is_empty();
    // Whatever is asked for a vote says nothing aloud, and half an answer calls nobody.
    if job.poll_id.is_none() && (silent || ended.end == RunEnd::Completed) {
        // A call of another LLM without a text of its own is still something said; and what it is told by the call
        // reaches it as a part of the message.
        let told = progress.effects.mention_text(silent);
        if !told.is_empty() {
            progress.answer.new_part();
            progress.answer.push(&told);
            progress.answer.finish();
        }
    }
    publish_chunk(inner, job, &mut progress);
    if let Some(error) = &ended.error {
        tracing::warn!(room = %job.room, llm = %job.llm_id, provider = %error.provider, kind = ?error.kind,
            message = %error.message, "an answer failed");
        progress.report.error_code = error.kind.as_str().to_owned();
        progress.report.error_message = error.kind.public_message().to_owned();
    }
    if let Some(fault) = ended.fault {
        (progress.report.error_code, progress.report.error_message) = fault;
    }
    progress.report.detail = plain::start(&ended.detail, REASON_CHARS).to_owned();
    progress.report.duration_ms = millis(progress.started.elapsed());
    progress.report.tools = std::mem::take(&mut progress.effects.uses);
    RunOutcome {
        message_id: job.message_id,
        end: ended.end,
        text: progress.answer.text().to_owned(),
        mentions: progress.effects.mentions,
        outside: progress.effects.outside,
        report: progress.report,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        dispatch::{tools, unasked::unwanted},
        domain::llm::{ChatStyle, LlmConfig},
        ids::LlmId,
    };

    #[test]
    fn a_room_that_cannot_be_seen_is_a_fault_and_a_removed_llm_is_none() {
        let unavailable = Rejection::new(Code::Unavailable, "try again");
        let Err(ended) = seen(Err(unavailable), None) else { panic!("nothing was seen") };
        assert_eq!(
            (ended.end, ended.fault),
            (RunEnd::Failed, Some(("unavailable".into(), "try again".into())))
        );
        let Err(ended) = seen(Ok(None), None) else { panic!("nothing was seen") };
        assert_eq!((ended.end, ended.fault), (RunEnd::Interrupted, None));
        assert_eq!(ended.detail, "the LLM was removed from the room");
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_is_stopped_by_a_word_and_by_the_time() {
        let deadline = Instant::now() + Duration::from_secs(300);
        let never = || std::future::pending::<()>();
        let stop = Stop::default();
        let Err(ended) = seen_in_time(never(), &stop, deadline).await else { panic!("nothing was seen") };
        assert_eq!((ended.end, Instant::now()), (RunEnd::TimedOut, deadline));
        let deadline = deadline + Duration::from_secs(300);
        let reading = seen_in_time(never(), &stop, deadline);
        let (read, ()) = tokio::join!(reading, async { stop.stop(&unwanted("enough")) });
        let Err(ended) = read else { panic!("nothing was seen") };
        assert_eq!((ended.end, ended.detail.as_str()), (RunEnd::Interrupted, "enough"));
        assert!(Instant::now() < deadline);
        let fresh = Stop::default();
        let broken = async {
            assert!(!fresh.why().is_empty(), "told to fail");
        };
        let Err(ended) = seen_in_time(broken, &fresh, deadline).await else { panic!("nothing was seen") };
        assert_eq!(ended.end, RunEnd::Failed);
        assert!(matches!(seen_in_time(async { 7 }, &fresh, deadline).await, Ok(7)));
    }

    #[test]
    fn nobody_is_asked_about_a_poll_that_is_closed() {
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
        let scene = Scene {
            llm,
            others: Vec::new(),
            open_polls: Vec::new(),
            outside: Vec::new(),
            talk: crate::dispatch::context::Talk::default(),
            model: None,
            part: None,
            unquoted: Vec::new(),
            names: Arc::default(),
        };
        let poll = PollId(uuid::Uuid::from_u128(1));
        assert!(tools::built_in(&scene, Some(poll), true).is_empty(), "nor offered anything");
        assert!(seen(Ok(Some(scene.clone())), None).is_ok());
        let Err(ended) = seen(Ok(Some(scene)), Some(poll)) else { panic!("it would be asked") };
        assert_eq!((ended.end, ended.detail.as_str()), (RunEnd::OptedOut, "the poll is closed"));
    }
}
