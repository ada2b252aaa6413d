//! Calls that wait for a person: who decides, what comes of it, and that waiting costs the answer nothing.

use std::{sync::Arc, time::Duration};

use salon::{
    llm::Finish,
    store::{Store, memory::MemoryStore},
};
use serde_json::json;
use tokio::time::{advance, pause, resume};

use super::{
    model::{Model, assert_refused},
    tools_outside::Outside,
    *,
};

fn requested(payload: &Payload) -> Option<pb::ToolApproval> {
    if let Payload::ApprovalRequested(requested) = payload { requested.approval.clone() } else { None }
}

fn decided(payload: &Payload) -> Option<pb::ApprovalDecided> {
    if let Payload::ApprovalDecided(decided) = payload { Some(decided.clone()) } else { None }
}

fn decide(approval: &pb::ToolApproval, approve: bool) -> Say {
    let approval_id = approval.approval_id.clone();
    Say::DecideApproval(pb::DecideApproval { approval_id, approve, reason: "because".into() })
}

/// Asks `ada`, who calls the tool that has to be approved.
async fn waiting(change: impl FnOnce(Setup) -> Setup) -> (Outside, Model, pb::ToolApproval) {
    let (mut all, script) = Outside::start(change).await;
    all.ann.talk("@ada delete it").await;
    let mut model = Model::asked(script).await;
    model.begin("web__delete", &json!({"path": "/a", "all": true})).await;
    let approval = all.ann.pick(requested).await;
    (all, model, approval)
}

#[tokio::test]
async fn an_approved_call_is_made_and_the_room_saw_which() {
    let (mut all, mut model, approval) = waiting(|setup| setup).await;
    assert_eq!((approval.tool.as_str(), approval.llm_id.as_str()), ("web__delete", "ada"));
    assert_eq!(
        (approval.arguments.as_str(), approval.asked_by_id.as_str()),
        (r#"{"all":true,"path":"/a"}"#, "ann")
    );
    assert!(all.called().is_empty(), "it waits");
    // Whoever comes now sees that something waits.
    let mut bob = all.server.join(&all.room, "bob").await;
    assert_eq!(bob.state.approvals, std::slice::from_ref(&approval));
    let refused = bob.command(decide(&approval, true)).await.unwrap_err();
    assert_eq!(refused.code, "permission_denied");
    // The one who asked decides, on another stream.
    let mut other = all.server.join(&all.room, "ann").await;
    other.command(decide(&approval, true)).await.unwrap();
    assert_eq!(model.told().await["ok"], true);
    assert_eq!(all.called(), ["delete"]);
    let decision = all.ann.pick(decided).await;
    assert_eq!((decision.decision(), decision.by_id.as_str()), (pb::ApprovalDecision::Approved, "ann"));
    let late = all.admin.command(decide(&approval, false)).await.unwrap_err();
    assert_eq!(late.code, "not_found");
    drop(model.say("Done.").await);
    follow(&mut all.ann).await.assert_ended(Reason::Completed, "Done.");
    assert_eq!(all.server.join(&all.room, "cem").await.state.approvals, []);
    all.server.shutdown().await;
}

#[tokio::test]
async fn who_waits_for_a_person_takes_no_place_in_the_queue() {
    let narrow =
        |setup: Setup| setup.config(|config| (config.llm.runs_per_room, config.llm.queue_per_room) = (1, 0));
    let (mut all, mut model, approval) = waiting(narrow).await;
    thinking(&mut all.ann).await;
    all.ann.talk("@ada hello").await;
    let mut other = model.other().await;
    assert!(other.text("Hello.").await && other.done(Finish::Stop).await);
    follow(&mut all.ann).await.assert_ended(Reason::Completed, "Hello.");
    all.ann.command(decide(&approval, true)).await.unwrap();
    assert_eq!(model.told().await["ok"], true);
    all.server.shutdown().await;
}

#[tokio::test]
async fn nobody_is_asked_about_what_cannot_be_shown_whole() {
    let (mut all, script) = Outside::start(|setup| setup).await;
    all.ann.talk("@ada delete it").await;
    let mut model = Model::asked(script).await;
    let hidden = json!({"a": "x".repeat(5000), "path": "/everything"});
    assert_refused(&model.call("web__delete", &hidden).await, "too long to be shown");
    drop(model.say("Then not.").await);
    let log_end = follow(&mut all.ann).await;
    log_end.assert_ended(Reason::Completed, "Then not.");
    let log = all.server.log(&all.room).await;
    assert!(!log.iter().any(|event| event.payload.as_ref().and_then(requested).is_some()));
    assert_eq!(all.called(), Vec::<String>::new());
    all.server.shutdown().await;
}

#[tokio::test]
async fn a_denied_call_is_not_made_and_the_answer_goes_on() {
    let (mut all, mut model, approval) = waiting(|setup| setup).await;
    all.admin.command(decide(&approval, false)).await.unwrap();
    let told = model.told().await;
    assert_refused(&told, "denied");
    assert_eq!(told["reason"], "because");
    drop(model.say("Then not.").await);
    let answer = follow(&mut all.ann).await;
    answer.assert_ended(Reason::Completed, "Then not.");
    assert_eq!((answer.done.tool_uses[0].calls, answer.done.tool_uses[0].failures), (1, 1));
    assert_eq!(all.called(), Vec::<String>::new());
    all.server.shutdown().await;
}

#[tokio::test]
async fn who_was_approved_and_has_lost_the_right_meanwhile_is_refused() {
    let (mut all, mut model, approval) = waiting(|setup| setup).await;
    let demote = pb::UpdateMember { user_id: "ann".into(), role: pb::Role::Viewer.into() };
    all.admin.command(Say::UpdateMember(demote)).await.unwrap();
    assert_eq!(all.ann.command(decide(&approval, true)).await.unwrap_err().code, "permission_denied");
    all.admin.command(decide(&approval, true)).await.unwrap();
    assert_refused(&model.told().await, "needs the role");
    assert_eq!(all.called(), Vec::<String>::new());
    drop(model.say("Then not.").await);
    all.server.shutdown().await;
}

#[tokio::test]
async fn an_interrupt_takes_the_question_back() {
    let (mut all, _model, approval) = waiting(|setup| setup).await;
    all.ann.say(interrupt("ada", None)).await;
    let decision = all.ann.pick(decided).await;
    assert_eq!(decision.decision(), pb::ApprovalDecision::Cancelled);
    follow(&mut all.ann).await.assert_ended(Reason::Interrupted, "");
    let late = all.ann.command(decide(&approval, true)).await.unwrap_err();
    assert_eq!(late.code, "not_found");
    assert_eq!(all.called(), Vec::<String>::new());
    all.server.shutdown().await;
}

#[tokio::test]
async fn nobody_in_time_is_no() {
    let (mut all, mut model, approval) = waiting(Setup::virtual_time).await;
    pause();
    advance(Duration::from_secs(299)).await;
    assert!(!all.ann.settle().await.iter().any(|event| event.payload.as_ref().and_then(decided).is_some()));
    advance(Duration::from_secs(1)).await;
    resume();
    let decision = all.ann.pick(decided).await;
    assert_eq!((decision.decision(), decision.by_id.as_str()), (pb::ApprovalDecision::Expired, ""));
    assert_refused(&model.told().await, "in time");
    assert_refused(&model.call("web__delete", &json!({"path": "/b"})).await, "not asked again");
    let late = all.ann.command(decide(&approval, true)).await.unwrap_err();
    assert_eq!(late.code, "not_found");
    drop(model.say("Then not.").await);
    // Its beginning was read above.
    let done =
        |payload: &Payload| if let Payload::LlmDone(done) = payload { Some(done.reason()) } else { None };
    assert_eq!(all.ann.pick(done).await, Reason::Completed);
    assert_eq!(all.called(), Vec::<String>::new());
    all.server.shutdown().await;
}

#[tokio::test]
async fn the_time_of_waiting_is_not_the_answers() {
    let short = |setup: Setup| {
        setup.virtual_time().config(|config| {
            config.llm.total_timeout = Duration::from_secs(60);
            config.llm.idle_timeout = Duration::from_secs(20);
        })
    };
    let (mut all, mut model, approval) = waiting(short).await;
    pause();
    advance(Duration::from_secs(200)).await;
    resume();
    until("the tools", || all.server.server.graph().mcp.tool("web__delete").is_some()).await;
    all.ann.command(decide(&approval, true)).await.unwrap();
    assert_eq!(model.told().await["ok"], true);
    drop(model.say("Done.").await);
    let answer = follow(&mut all.ann).await;
    answer.assert_ended(Reason::Completed, "Done.");
    assert!(answer.done.duration_ms >= 200_000, "{:?}", answer.done);
    all.server.shutdown().await;
}

#[tokio::test]
async fn what_waited_when_the_process_died_is_closed_by_the_next() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (all, _model, approval) = waiting(|setup| setup.store(Arc::clone(&store))).await;
    // For the log, the first one is dead as soon as the second one starts.
    let next = Setup::default().store(store).start().await;
    let log = next.log(&all.room).await;
    let decisions: Vec<_> = log.iter().filter_map(|event| event.payload.as_ref().and_then(decided)).collect();
    assert_eq!(decisions.len(), 1, "{decisions:?}");
    assert_eq!(decisions[0].approval_id, approval.approval_id);
    assert_eq!(decisions[0].decision(), pb::ApprovalDecision::Cancelled);
    assert_eq!(all_ended_once(&next, &all.room).await[0].reason(), Reason::Interrupted);
    next.shutdown().await;
}

#[tokio::test]
async fn waiting_for_a_person_keeps_nobody_from_answering() {
    let narrow = |setup: Setup| {
        setup.config(|config| {
            config.llm.runs_per_room = 1;
            config.llm.runs_per_node = 1;
        })
    };
    let (mut all, mut model, approval) = waiting(narrow).await;
    all.ann.talk("@ada and what is new?").await;
    let mut other = model.other().await;
    // It is approved, and goes on when the other has ended.
    all.ann.command(decide(&approval, true)).await.unwrap();
    all.ann.settle().await;
    assert_eq!(all.called(), Vec::<String>::new());
    assert!(other.text("Nothing.").await && other.done(Finish::Stop).await);
    assert_eq!(model.told().await["ok"], true);
    assert_eq!(all.called(), ["delete"]);
    drop(model.say("Done.").await);
    quiet(&all.server).await;
    assert_eq!(all_ended_once(&all.server, &all.room).await.len(), 2);
    all.server.shutdown().await;
}
