//! The credential of a stream, for as long as the stream lives.
//!
//! Says before it ends that it will, takes another one in its place, and ends the stream when it has ended or was taken
//! back. What it does not grant is refused here, before the room is asked; what the role does not allow is the room's to
//! refuse.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, FutureExt as _};
use secrecy::SecretString;
use tokio::time::Instant;

use crate::{
    allowance::Allowances,
    audit::{Act, Fact},
    auth::{gate::Gate, grants::Need, principal::Principal},
    clock::Timestamp,
    domain::{
        command::Command,
        permissions::Action,
        rejection::{Code, Rejection},
    },
    ids::{RequestId, RoomId, UserId},
    registry::seat::Seat,
    session::{End, Step, StreamHandler},
    wire::{
        reply::{self, ClosingReason},
        transient,
    },
};

/// How long before its end a credential's end is told: time to fetch another one.
const WARNING: Duration = Duration::from_secs(60);
/// How long a new credential may take to be verified, which may mean fetching keys.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a credential has come to.
pub(super) enum Turn {
    /// It ends at that time.
    Expiring(Timestamp),
    /// The stream ends with it.
    Ended(End),
    /// Another one was shown, and is one that may take the place of the old one, or is refused.
    /// It takes the place of the old one by [`Pass::accept`].
    Renewed(Option<RequestId>, Result<Arc<Principal>, Rejection>),
}

type Renewing = BoxFuture<'static, (Option<RequestId>, Result<Arc<Principal>, Rejection>)>;

/// Where credentials that are none are counted: in the middle of a stream they cost a guess what they cost before it.
pub(super) struct SignIns {
    /// What everybody may take.
    pub(super) allowances: Allowances,
    /// The address at the other end, as addresses are counted.
    pub(super) peer: Option<IpAddr>,
}

/// The credential of one stream that has joined.
pub(super) struct Pass {
    gate: Gate,
    principal: Arc<Principal>,
    user: UserId,
    room: RoomId,
    sign_ins: SignIns,
    /// When it ends, as far as that is known.
    ends: Option<Timestamp>,
    warn_at: Option<Instant>,
    end_at: Option<Instant>,
    /// Goes off at the earlier of the two; none: there is none. Made once, and not for each look.
    alarm: Option<BoxFuture<'static, ()>>,
    revoked: Option<BoxFuture<'static, ()>>,
    /// Its secret was replaced, and is worth something until then.
    replaced: Option<BoxFuture<'static, Timestamp>>,
    /// One at a time: each may cost a fetch.
    renewing: Option<Renewing>,
}

impl Pass {
    pub(super) fn new(
        gate: Gate,
        principal: Arc<Principal>,
        user: UserId,
        room: RoomId,
        sign_ins: SignIns,
    ) -> Self {
        let (ends, warn_at, end_at, alarm) = (None, None, None, None);
        let (revoked, replaced, renewing) = (None, None, None);
        let mut pass = Self {
            gate,
            principal,
            user,
            room,
            sign_ins,
            ends,
            warn_at,
            end_at,
            alarm,
            revoked,
            replaced,
            renewing,
        };
        pass.watch();
        pass
    }

    /// From now on the stream goes on with this.
    pub(super) fn accept(&mut self, principal: Arc<Principal>) {
        self.principal = principal;
        self.watch();
    }

    /// Whose it is.
    pub(super) fn principal(&self) -> &Arc<Principal> {
        &self.principal
    }

    /// From now on the principal's end counts.
    fn watch(&mut self) {
        self.end_at = self.gate.time_left(&self.principal).and_then(|left| Instant::now().checked_add(left));
        (self.ends, self.warn_at) = (None, None);
        if let Some(at) = self.principal.expires_at {
            self.warn_before(at);
        }
        self.set_alarm();
        self.revoked = self.gate.until_revoked(&self.principal);
        self.replaced = self.gate.until_replaced(&self.principal, None);
    }

    /// It ends at that time: that is told in time, unless an earlier end is.
    fn warn_before(&mut self, at: Timestamp) {
        if self.ends.is_none_or(|known| at < known) {
            self.ends = Some(at);
            let warn_in = self.gate.time_until(at).saturating_sub(WARNING);
            self.warn_at = Instant::now().checked_add(warn_in);
        }
        self.set_alarm();
    }

    fn set_alarm(&mut self) {
        let due = [self.end_at, self.warn_at].into_iter().flatten().min();
        self.alarm = due.map(|at| tokio::time::sleep_until(at).boxed());
    }

    /// What is due by now.
    fn due(&mut self) -> Option<Turn> {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        let turn = if is_due(self.end_at) {
            self.end_at = None;
            let message = "your credential has expired";
            Some(Turn::Ended(End::new(ClosingReason::CredentialExpired, message)))
        } else if is_due(self.warn_at) {
            self.warn_at = None;
            Some(Turn::Expiring(self.ends.unwrap_or_default()))
        } else {
            None
        };
        self.set_alarm();
        turn
    }

    /// What happens next to it. Nothing is lost when this is dropped.
    pub(super) async fn next(&mut self) -> Turn {
        loop {
            tokio::select! {
                biased;
                () = poll(&mut self.revoked) => {
                    self.revoked = None;
                    let message = "your credential was revoked";
                    return Turn::Ended(End::new(ClosingReason::CredentialRevoked, message));
                }
                (request_id, renewed) = poll(&mut self.renewing) => {
                    self.renewing = None;
                    return Turn::Renewed(request_id, renewed);
                }
                // Before the warning, which says when it ends.
                at = poll(&mut self.replaced) => {
                    self.warn_before(at);
                    // It may be replaced once more, sooner.
                    self.replaced = self.gate.until_replaced(&self.principal, Some(at));
                }
                () = poll(&mut self.alarm) => {
                    if let Some(turn) = self.due() {
                        return turn;
                    }
                }
            }
        }
    }

    /// Begins to verify another credential.
    pub(super) fn renew(
        &mut self,
        credential: SecretString,
        request_id: Option<RequestId>,
    ) -> Result<(), Rejection> {
        if self.renewing.is_some() {
            let rejection = Rejection::new(Code::RateLimited, "another credential is being verified");
            return Err(Rejection { retry_after: Some(Duration::from_secs(1)), ..rejection });
        }
        let SignIns { allowances, peer } = &self.sign_ins;
        allowances.may_sign_in(*peer)?;
        let (allowances, peer) = (allowances.clone(), *peer);
        let (gate, user, room) = (self.gate.clone(), self.user.clone(), self.room.clone());
        self.renewing = Some(Box::pin(async move {
            let verified = tokio::time::timeout(PATIENCE, gate.verify_again(&credential)).await;
            if let Ok(Err(refused)) = &verified
                && refused.may_be_guess()
            {
                allowances.sign_in_failed(peer);
            }
            let late = || Rejection::new(Code::Unavailable, "credentials cannot be verified now; try again");
            let principal = verified
                .map_err(|_| late())
                .and_then(|admitted| admitted.map_err(|refused| refused.rejection()));
            (request_id, principal.and_then(|principal| goes_on(principal, &user, &room)))
        }));
        Ok(())
    }

    /// Whether the credential grants this command. A command by which `seat` could act on what others have said is one
    /// of moderating, whosever it is this time: whose it is, the room knows, and the room knows nothing of credentials.
    pub(super) fn allows(&self, command: &Command, seat: &Seat) -> Result<(), Rejection> {
        let grants = self.principal.grants;
        grants.require(need(command))?;
        match on_others(command) {
            Some(action) if !grants.moderate && seat.require(action).is_ok() => {
                grants.require(Need::Moderate)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether a stream of this user in this room may go on with it.
fn goes_on(principal: Arc<Principal>, user: &UserId, room: &RoomId) -> Result<Arc<Principal>, Rejection> {
    let elsewhere = || Rejection::denied("the credential does not speak for this user in this room");
    let is_here = principal.room(room).is_ok_and(|reached| reached == *room);
    let is_theirs = principal.user.as_ref().is_none_or(|own| own == user);
    // What could not have begun the stream does not go on with it.
    match is_here && is_theirs && principal.may_join().is_ok() {
        true => Ok(principal),
        false => Err(elsewhere()),
    }
}

async fn poll<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(waiting) => waiting.await,
        None => std::future::pending().await,
    }
}

/// What becomes of a stream whose credential ends or is another now.
pub(super) fn take(handler: &StreamHandler, turn: Turn) -> Step {
    let fact = |act| Fact::new(handler.namespace.clone(), act).from(handler.origin());
    let told = |fact| handler.services.audit.record(fact);
    match turn {
        Turn::Ended(end) => {
            told(fact(Act::StreamRevoked));
            return Step::End(end);
        }
        Turn::Expiring(at) => handler.outbound.push_reply(transient::credential_expiring(at)),
        Turn::Renewed(request_id, Ok(_)) => {
            told(fact(Act::Reauthenticate));
            if let Some(id) = &request_id {
                handler.outbound.push_reply(reply::ack(id, None, false));
            }
        }
        Turn::Renewed(request_id, Err(rejection)) => {
            told(fact(Act::Reauthenticate).refused(rejection.code.as_str()));
            handler.refuse(&rejection, request_id.as_ref());
        }
    }
    Step::Continue
}

/// The right by which a command may be about what others have said.
fn on_others(command: &Command) -> Option<Action> {
    match command {
        Command::DeleteMessage { .. } => Some(Action::ModerateMessages),
        Command::EditMessage { .. } => Some(Action::EditOthers),
        Command::ClosePoll(_) => Some(Action::ClosePolls),
        _ => None,
    }
}

/// Whether a command adds to what the namespace has stored. What ends, hides or takes something back is let through where
/// no space is left: it is how people get out.
pub(super) fn stores(command: &Command) -> bool {
    match command {
        Command::Leave
        | Command::DeleteMessage { .. }
        | Command::RemoveLlm(_)
        | Command::RetractVote(_)
        | Command::ClosePoll(_)
        | Command::DecideApproval { .. }
        | Command::ControlAutopilot { .. }
        | Command::RemoveMember { .. }
        | Command::MuteMember { .. }
        | Command::RevokeInvitation(_)
        | Command::EndRoom { .. } => false,
        Command::CreateRoom(_)
        | Command::Join(_)
        | Command::SendMessage(_)
        | Command::EditMessage { .. }
        | Command::Regenerate { .. }
        | Command::React { .. }
        | Command::AddLlm(_)
        | Command::UpdateLlm { .. }
        | Command::CreatePoll(_)
        | Command::CastVote { .. }
        | Command::StartAutopilot(_)
        | Command::UpdateMember { .. }
        | Command::CreateInvitation { .. }
        | Command::UpdateRoom { .. }
        | Command::StartRun(_)
        | Command::StartTurn(..)
        | Command::FinishRun(_)
        | Command::Abstain { .. }
        | Command::RequestApproval(_)
        | Command::ExpireApproval(_)
        | Command::RecordSummary { .. }
        | Command::StepAutopilot(..) => true,
    }
}

/// What of a credential a command needs; whether the role allows it is another question.
fn need(command: &Command) -> Need {
    match command {
        Command::Join(_) | Command::Leave => Need::Join,
        Command::SendMessage(_)
        | Command::EditMessage { .. }
        | Command::Regenerate { .. }
        | Command::DeleteMessage { .. }
        | Command::React { .. }
        | Command::AddLlm(_)
        | Command::UpdateLlm { .. }
        | Command::RemoveLlm(_)
        | Command::CreatePoll(_)
        | Command::CastVote { .. }
        | Command::RetractVote(_)
        | Command::ClosePoll(_)
        | Command::DecideApproval { .. }
        | Command::StartAutopilot(_)
        | Command::ControlAutopilot { .. } => Need::Write,
        Command::UpdateMember { .. }
        | Command::RemoveMember { .. }
        | Command::MuteMember { .. }
        | Command::CreateInvitation { .. }
        | Command::RevokeInvitation(_) => Need::Moderate,
        Command::UpdateRoom { .. } | Command::EndRoom { .. } => Need::Admin,
        // Not a client's: nobody can send them.
        Command::CreateRoom(_)
        | Command::StartRun(_)
        | Command::StartTurn(..)
        | Command::FinishRun(_)
        | Command::Abstain { .. }
        | Command::RequestApproval(_)
        | Command::ExpireApproval(_)
        | Command::RecordSummary { .. }
        | Command::StepAutopilot(..) => Need::Admin,
    }
}

#[cfg(test)]
mod tests;
