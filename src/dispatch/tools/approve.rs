//! Calls that wait until a person allows them.
//!
//! The waiting call is a lasting fact of the room, so that everybody sees the same and only the room decides who may
//! decide. Here is only the run that waits for the word. Nobody in time, an end of the run or of the room, and
//! everything that goes wrong count as no. A run for which nobody decided once does not ask again: it would hold its
//! place for hours.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use super::{call::Caller, repeats::normalised};
use crate::{
    dispatch::toolbox::Word,
    domain::{
        approval::{Approval, Decided},
        command::{Actor, Command},
        limits::APPROVAL_ARGUMENTS_BYTES,
        rejection::{Code, Rejection},
    },
    ids::{ApprovalId, is_disturbing},
};

/// Between two tries to record that nobody decided when the store fails.
const RETRY: Duration = Duration::from_millis(250);
/// A decision that was recorded just before the deadline is known by then.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Asks the room, and waits for what becomes of it; `Err`: why it cannot be asked, for the model. Nobody is asked about
/// a call that cannot be shown whole: what was cut away would be approved unseen.
///
/// Cancel-safe: the end of the run cancels what it has asked.
pub(super) async fn ask(by: Caller<'_>, tool: &str, arguments: &Value) -> Result<Word, String> {
    let arguments = readable(arguments)?;
    let (inner, job) = (by.inner, by.job);
    let id = ApprovalId(Uuid::now_v7());
    let time = inner.limits.approval;
    // Before it is asked: the answer may be there before the question has returned.
    let mut waiter = inner.toolbox.approvals.wait(id);
    let approval = Approval {
        id,
        message_id: job.message_id,
        llm_id: job.llm_id.clone(),
        tool: tool.to_owned(),
        arguments,
        asked_by: job.asked_by.clone(),
        expires_at: inner.rooms.clock().now().plus(time),
    };
    let request = Command::RequestApproval(approval);
    inner.rooms.submit(&job.room, Actor::Server, request).await.map_err(|rejection| rejection.message)?;
    let decided = match timeout(time, &mut waiter.decided).await {
        Ok(decided) => decided.ok(),
        Err(_) => {
            expire(by, id).await;
            timeout(LAST_WORD, &mut waiter.decided).await.ok().and_then(Result::ok)
        }
    };
    Ok(decided.unwrap_or((Decided::Expired, String::new())))
}

/// Records that nobody has decided, unless somebody just has.
async fn expire(by: Caller<'_>, id: ApprovalId) {
    let expire = || by.inner.rooms.submit(&by.job.room, Actor::Server, Command::ExpireApproval(id));
    while let Err(Rejection { code: Code::Unavailable, .. }) = expire().await {
        sleep(RETRY).await;
    }
}

/// Arguments as whoever decides is shown them: compact, so that nothing is hidden behind spaces, without characters
/// that change how others look, and whole; `Err`: they are too long for that.
fn readable(arguments: &Value) -> Result<String, String> {
    let whole = normalised(arguments);
    let mut text = String::with_capacity(whole.len());
    for c in whole.chars() {
        if is_disturbing(c) {
            // Only inside of strings, where this means the same.
            text.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            text.push(c);
        }
    }
    if text.len() <= APPROVAL_ARGUMENTS_BYTES {
        return Ok(text);
    }
    Err(format!(
        "a person has to approve this call, and its arguments are too long to be shown: they take {} bytes, at most \
         {APPROVAL_ARGUMENTS_BYTES} are shown; make it shorter, or several calls of it",
        text.len()
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn arguments_are_shown_as_they_are() {
        let odd = json!({"b": "x\u{202e}y\n", "a": [1]});
        assert_eq!(readable(&odd).unwrap(), "{\"a\":[1],\"b\":\"x\\u202ey\\n\"}");
        assert_eq!(serde_json::from_str::<Value>(&readable(&odd).unwrap()).unwrap(), odd);
        // `{"a":"…"}` takes 8 bytes.
        let fits = json!({"a": "x".repeat(APPROVAL_ARGUMENTS_BYTES - 8)});
        assert_eq!(readable(&fits).unwrap().len(), APPROVAL_ARGUMENTS_BYTES);
        let long = readable(&json!({"a": "x".repeat(APPROVAL_ARGUMENTS_BYTES - 7)})).unwrap_err();
        assert!(long.contains("take 4097 bytes, at most 4096"), "{long}");
    }
}
