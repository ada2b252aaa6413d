//! Credentials that are shown in the middle of a stream, and ends that are told in time.

use std::num::NonZeroU32;

use super::*;
use crate::{
    allowance::{
        quotas::Given,
        rate::{Paces, Rate, RateTable, What},
        streams::StreamLimits,
    },
    auth::gate::{Effort, Refused, Source, Sources},
    clock::SystemClock,
    domain::{
        command::{JoinProfile, MessageInput},
        room::Role,
    },
    ids::{LlmId, MessageId, PollId},
};

fn in_minutes(minutes: u64) -> Timestamp {
    Timestamp(1).plus(Duration::from_secs(60 * minutes))
}

/// The credential of a stream that is judged by `sources`, when the clock stands at 1.
fn pass(sources: Sources, principal: Principal) -> Pass {
    let gate = Gate::required(Arc::new(crate::clock::ManualClock::new(Timestamp(1))), sources);
    let allowances = Allowances::new(RateTable::default(), StreamLimits::NINE, Given::default());
    let sign_ins = SignIns { allowances, peer: None };
    let (user, room) = (UserId::parse("ann").unwrap(), RoomId::parse("tea").unwrap());
    Pass::new(gate, Arc::new(principal), user, room, sign_ins)
}

/// Knows one secret.
#[derive(Debug)]
struct Known;

#[async_trait::async_trait]
impl Source for Known {
    async fn verify(&self, credential: &str, _: Timestamp, _: Effort) -> Result<Principal, Refused> {
        match credential {
            "good" => Ok(Principal::open()),
            "old" => Err(Refused::Expired),
            _ => Err(Refused::Invalid("it is not known")),
        }
    }
}

/// What a credential comes to: refused at once, or when it was looked at.
async fn show(pass: &mut Pass, credential: &str) -> Result<(), Code> {
    pass.renew(credential.to_owned().into(), None).map_err(|rejection| rejection.code)?;
    match pass.next().await {
        Turn::Renewed(_, result) => {
            result.map(|principal| pass.accept(principal)).map_err(|rejection| rejection.code)
        }
        Turn::Expiring(_) | Turn::Ended(_) => panic!("nothing ends here"),
    }
}

/// What somebody may do to whom the namespace gives no more space.
#[test]
fn who_has_no_space_can_get_out_and_take_back_and_add_nothing() {
    let (user_id, message_id) = (UserId::parse("ann").unwrap(), MessageId(uuid::Uuid::nil()));
    let (poll_id, reason) = (PollId(uuid::Uuid::nil()), String::new());
    let bob = || UserId::parse("bob").unwrap();
    let takes_back = [
        Command::Leave,
        Command::DeleteMessage { message_id },
        Command::RemoveLlm(LlmId::parse("ada").unwrap()),
        Command::RetractVote(poll_id),
        Command::ClosePoll(poll_id),
        Command::RemoveMember { user_id: bob(), ban: true, reason: reason.clone() },
        Command::MuteMember { user_id: bob(), duration: Duration::from_secs(1), reason: reason.clone() },
        Command::EndRoom { reason },
    ];
    for command in &takes_back {
        assert!(!stores(command), "{command:?}");
    }
    let adds = [
        Command::Join(JoinProfile::default()),
        Command::SendMessage(MessageInput {
            content: "hello".into(),
            content_type: String::new(),
            reply_to: None,
            mentions: Vec::new(),
        }),
        Command::React { message_id, emoji: "x".into(), add: true },
        // It is smaller than the message, but the old text stays in the log.
        Command::EditMessage { message_id, content: String::new(), regenerate: false },
        Command::CastVote { poll_id, options: Vec::new(), reason: String::new() },
        Command::UpdateMember { user_id, role: Role::Viewer },
        Command::CreateInvitation { expires_in: None, role: Role::Member, for_user: None },
    ];
    for command in &adds {
        assert!(stores(command), "{command:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn guesses_in_the_middle_of_a_stream_are_failed_sign_ins() {
    let two = Rate::in_each(NonZeroU32::new(2).unwrap(), Duration::from_secs(60));
    let peer = Paces::new([(What::FailedSignIns, Some(two))]);
    let allowances =
        Allowances::new(RateTable { peer, ..RateTable::default() }, StreamLimits::NINE, Given::default());
    let sources = Sources { secrets: Some(Arc::new(Known)), ..Sources::default() };
    let gate = Gate::required(Arc::new(SystemClock), sources);
    let peer: Option<IpAddr> = Some([192, 0, 2, 1].into());
    let sign_ins = SignIns { allowances: allowances.clone(), peer };
    let (user, room) = (UserId::parse("ann").unwrap(), RoomId::parse("tea").unwrap());
    let mut pass = Pass::new(gate, Arc::new(Principal::open()), user, room, sign_ins);
    // What was valid once is no guess.
    for credential in ["old", "old", "old", "one"] {
        assert_eq!(show(&mut pass, credential).await, Err(Code::Unauthenticated), "{credential}");
    }
    show(&mut pass, "good").await.unwrap();
    assert_eq!(show(&mut pass, "two").await, Err(Code::Unauthenticated));
    assert_eq!(show(&mut pass, "good").await, Err(Code::RateLimited), "nothing is looked at for a while");
    assert!(allowances.may_sign_in(peer).is_err(), "and nothing before a stream either");
    tokio::time::sleep(Duration::from_secs(60)).await;
    show(&mut pass, "good").await.unwrap();
}

/// Says again and again when a secret ends.
#[derive(Debug)]
struct Ends(tokio::sync::watch::Receiver<Timestamp>);

impl crate::auth::gate::Revoked for Ends {
    fn is_revoked(&self, _: &Principal) -> bool {
        false
    }

    fn until_revoked(&self, _: Arc<Principal>) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }

    fn until_replaced(&self, _: Arc<Principal>, known: Option<Timestamp>) -> BoxFuture<'static, Timestamp> {
        let mut at = self.0.clone();
        Box::pin(async move {
            *at.wait_for(|at| at.0 > 0 && known.is_none_or(|known| *at < known)).await.unwrap()
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_end_that_comes_sooner_than_the_one_before_is_told_in_time_too() {
    let (ends, at) = tokio::sync::watch::channel(Timestamp(0));
    let sources = Sources { revoked: Some(Arc::new(Ends(at))), ..Sources::default() };
    let mut pass = pass(sources, Principal::open());
    ends.send(in_minutes(60)).unwrap();
    assert!(tokio::time::timeout(Duration::from_secs(1), pass.next()).await.is_err(), "not yet");
    ends.send(in_minutes(5)).unwrap();
    let began = Instant::now();
    assert!(matches!(pass.next().await, Turn::Expiring(at) if at == in_minutes(5)));
    assert!(began.elapsed() <= Duration::from_secs(4 * 60), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_end_is_told_and_comes_and_another_credential_puts_both_off() {
    let until = |minutes| Principal { expires_at: Some(in_minutes(minutes)), ..Principal::open() };
    let mut pass = pass(Sources::default(), until(5));
    let began = Instant::now();
    assert!(matches!(pass.next().await, Turn::Expiring(at) if at == in_minutes(5)));
    assert_eq!(began.elapsed().as_secs(), 4 * 60);
    // The clock of the gate stands still.
    pass.accept(Arc::new(until(10)));
    assert!(matches!(pass.next().await, Turn::Expiring(at) if at == in_minutes(10)));
    assert_eq!(began.elapsed().as_secs(), 13 * 60);
    assert!(matches!(pass.next().await, Turn::Ended(end) if end.reason == ClosingReason::CredentialExpired));
    assert_eq!(began.elapsed().as_secs(), 14 * 60);
}

#[tokio::test(start_paused = true)]
async fn a_warning_that_is_due_says_the_sooner_end_of_what_was_replaced() {
    let (own, replaced) = (in_minutes(1), Timestamp(1).plus(Duration::from_secs(20)));
    let (_ends, at) = tokio::sync::watch::channel(replaced);
    let sources = Sources { revoked: Some(Arc::new(Ends(at))), ..Sources::default() };
    let mut pass = pass(sources, Principal { expires_at: Some(own), ..Principal::open() });
    assert!(matches!(pass.next().await, Turn::Expiring(at) if at == replaced));
    assert!(matches!(pass.next().await, Turn::Ended(_)), "and is told once");
}
