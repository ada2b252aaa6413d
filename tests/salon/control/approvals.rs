//! A call that waits on one server, and whoever decides on the other.

use serde_json::json;

use super::*;
use crate::answers::{
    model::{Model, assert_refused},
    tools_outside::Outside,
};

/// A call that waits on the first server, and the second server.
async fn waiting() -> (Outside, TestServer, Model, pb::ToolApproval) {
    let (store, hub) = (Arc::new(GatedStore::shared()), Arc::new(Hub::default()));
    let (mut all, script) = Outside::start(|setup| joined(setup, &store, &hub)).await;
    let there = joined(Setup::default().provider(nobody()), &store, &hub).start().await;
    all.ann.talk("@ada delete it").await;
    let mut model = Model::asked(script).await;
    model.begin("web__delete", &json!({"path": "/a"})).await;
    let requested = |payload: &Payload| match payload {
        Payload::ApprovalRequested(requested) => requested.approval.clone(),
        _ => None,
    };
    let approval = all.ann.pick(requested).await;
    (all, there, model, approval)
}

fn decide(approval: &pb::ToolApproval, approve: bool) -> Say {
    let approval_id = approval.approval_id.clone();
    Say::DecideApproval(pb::DecideApproval { approval_id, approve, reason: "because".into() })
}

#[tokio::test]
async fn a_call_that_waits_is_approved_on_another_server() {
    let (all, there, mut model, approval) = waiting().await;
    let mut ann = there.join(&all.room, "ann").await;
    assert_eq!(
        ann.state.approvals,
        std::slice::from_ref(&approval),
        "whoever comes there sees that it waits"
    );
    ann.command(decide(&approval, true)).await.unwrap();
    assert_eq!(model.told().await["ok"], true);
    assert_eq!(all.called(), ["delete"]);
    let late = ann.command(decide(&approval, false)).await.unwrap_err();
    assert_eq!(late.code, "not_found");
    drop(model.say("Done.").await);
    assert_eq!(done(&mut ann).await.reason(), pb::LlmDoneReason::Completed);
    all.server.shutdown().await;
    there.shutdown().await;
}

#[tokio::test]
async fn and_denied_on_another_server() {
    let (all, there, mut model, approval) = waiting().await;
    let mut admin = there.join(&all.room, "admin").await;
    admin.command(decide(&approval, false)).await.unwrap();
    let told = model.told().await;
    assert_refused(&told, "denied");
    assert_eq!(told["reason"], "because");
    assert!(all.called().is_empty());
    drop(model.say("Then not.").await);
    done(&mut admin).await;
    all.server.shutdown().await;
    there.shutdown().await;
}
