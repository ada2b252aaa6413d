//! A model thinks for long: whose credential ends meanwhile is not told what it proposes.

use tokio::time::{Instant, sleep};
use tonic::{Code, Status};

use super::*;

/// How long the model takes.
const THOUGHT: Duration = Duration::from_secs(120);

/// What becomes of whoever waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Revoked,
    Expired,
    /// Nothing: they get the draft.
    Nothing,
}

/// What a call comes to during which this happens, and how long it takes.
async fn proposed(end: End) -> (Result<pb::GenerateRoomResponse, Status>, Duration) {
    let tenants = Tenants::in_virtual_time().await;
    tenants.tenant("acme").await;
    let provider = ScriptedProvider::with("scripted", |_| {
        let draft = r#"{"name": "Tea house", "llms": [{"display_name": "Bo", "persona": "You ask."}]}"#;
        vec![Step::Pause(THOUGHT), Step::text(draft), Step::Done(Finish::Stop)]
    });
    let setup =
        tenants.setup().provider(provider).config(|config| config.llm.first_token_timeout = 2 * THOUGHT);
    let server = setup.start_without_port().await;
    let (id, identity) = tenants.identity("acme", "bob").await;
    let shown = match end {
        End::Expired => {
            let mut claims = tenants.claims("acme", "bob");
            claims.lifetime = Duration::from_secs(5);
            tenants.sign(&claims).1
        }
        End::Revoked | End::Nothing => identity,
    };
    let began = Instant::now();
    let mut client = server.client().await;
    let asked = pb::GenerateRoomRequest { prompt: "Tea".into(), user_id: None };
    let calling = client.generate_room(shown.on(asked));
    let happening = async {
        sleep(Duration::from_secs(1)).await;
        if end == End::Revoked {
            tenants.directory.revoke_identity(&namespace("acme"), &id).await.unwrap();
        }
    };
    let (answer, ()) = tokio::join!(calling, happening);
    let took = began.elapsed();
    server.shutdown().await;
    (answer.map(tonic::Response::into_inner), took)
}

#[tokio::test(start_paused = true)]
async fn whose_credential_ends_while_a_model_thinks_gets_no_draft() {
    let (answer, took) = proposed(End::Nothing).await;
    assert_eq!(answer.unwrap().draft.unwrap().name, "Tea house");
    assert!(took >= THOUGHT);
    for end in [End::Revoked, End::Expired] {
        let (answer, took) = proposed(end).await;
        assert_eq!(answer.unwrap_err().code(), Code::Unauthenticated, "{end:?}");
        // Nobody waits for the model any more.
        assert!(took < THOUGHT, "{end:?}: {took:?}");
    }
}
