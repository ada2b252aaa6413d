//! What this node tells others of who is in a room here, what it hears of them, and what its sessions are told then.
//!
//! Every change is told at once, that nothing has changed from time to time, and everybody to whoever asks: a node that
//! has just come, or one that has missed a change. Nothing here may be lost without being noticed, and a node that is
//! silent is forgotten, so that a room heals by itself, whatever bus and nodes do. Sessions are told what changes for a
//! user on all nodes together. With a bus within this process there are no other nodes, and nothing is told.
//!
//! It is published when no lock is held: a bus may deliver what another node answers on the same stack.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    bus::{Audience, BusMessage, Transient, TransientContent},
    clock::Clock,
    domain::room::Member,
    ids::{EventId, NodeId, UserId},
    registry::{
        HandlerRegistry, RegistryLimits,
        feed::Feed,
        others::Beyond,
        ours::SETTLING,
        outbound::Expelled,
        presence::{Heard, PresenceNews},
        state::State,
    },
    wire::{
        hint::presence::{PAGE_BYTES, PAGE_USERS, PAGES, PresenceHint, PresentPage, PresentUser, Said},
        transient::{self, Stamp},
    },
};

/// How often a node says that nothing has changed. A little less than five looks once a second, so that it is not six.
const RENEWAL: Duration = Duration::from_millis(4500);
/// Between two answers to whoever asks; who asks in between is answered at the next look.
const ANSWER_PAUSE: Duration = Duration::from_millis(500);

impl State {
    /// Tells other nodes how a user is on this one.
    pub(super) fn say_of(&mut self, user: &UserId, limits: RegistryLimits) {
        let one_by_one = self.present.user_count() <= limits.participants_shown;
        if let Some(ours) = &mut self.ours {
            ours.version += 1;
            ours.say(Said::Changed(self.present.said_of(user, one_by_one)));
        }
    }

    /// Keeps what other nodes are told of a user, if there are any.
    pub(super) fn keep_member(&mut self, member: &Member) {
        if self.ours.is_some() {
            self.present.keep_member(member);
        }
    }

    /// Asks the oldest sessions of a user to end, if there are too many.
    pub(super) fn end_oldest(&self, user: &UserId, limits: RegistryLimits) {
        // Who does not know of others' connections cannot know that its own are older.
        let alone = self.ours.as_ref().is_none_or(|ours| ours.settled_at.is_some());
        for oldest in self.present.beyond(user, limits.sessions_per_user, alone) {
            oldest.expel(Expelled::TooManySessions);
        }
    }

    /// Tells everybody on this node, now or, if that was just done, at the next look.
    fn answer(&mut self, now: Instant, limits: RegistryLimits) {
        let one_by_one = self.present.user_count() <= limits.participants_shown;
        let Some(ours) = &mut self.ours else {
            return;
        };
        ours.asked = ours.answered.is_some_and(|at| now.saturating_duration_since(at) < ANSWER_PAUSE);
        if ours.asked {
            return;
        }
        ours.answered = Some(now);
        // Answers that show members and answers that do not are cut into other pages: they are told apart.
        if ours.answered_one_by_one.replace(one_by_one).is_some_and(|before| before != one_by_one) {
            ours.version += 1;
        }
        let pages = pages(self.present.here().map(|user| self.present.said_of(user, one_by_one)));
        let count = u32::try_from(pages.len()).map_or(PAGES, |count| count.min(PAGES));
        for (page, users) in (0..count).zip(pages) {
            ours.say(Said::All(PresentPage { page, pages: count, users }));
        }
    }

    /// Takes what another node says; returns what sessions are told.
    fn hear(
        &mut self,
        hint: &PresenceHint,
        now: Instant,
        limits: RegistryLimits,
    ) -> Result<Vec<(Heard, PresenceNews)>, Beyond> {
        let Some(ours) = &self.ours else {
            return Ok(Vec::new());
        };
        let is_settling = ours.settled_at.is_some();
        match &hint.said {
            Said::Ask(Some(node)) if *node == ours.node => self.answer(now, limits),
            Said::Ask(None) if self.present.here().next().is_some() => self.answer(now, limits),
            Said::Ask(_) | Said::Changed(_) | Said::All(_) | Said::Same | Said::Closed => {}
        }
        let was_known = self.present.knows(hint.node);
        let heard = self.present.hear(hint, now)?;
        if let Said::Changed(_) = hint.said {
            // Not from the hint: one that is late says what was true before.
            heard.iter().filter_map(|heard| heard.member.as_ref()).for_each(|member| self.learn(member));
        }
        if is_settling && !was_known && matches!(hint.said, Said::All(_)) && self.present.knows(hint.node) {
            self.meet_another(limits);
        }
        for Heard { user, .. } in &heard {
            self.end_oldest(user, limits);
        }
        Ok(self.news_of(heard, limits))
    }

    /// A member has come back changed on another node.
    fn learn(&mut self, member: &Arc<Member>) {
        if self.present.learn(member)
            && let Some(ours) = &mut self.ours
        {
            // What everybody here is told as has changed, and pages of before and after must not be mixed. Without
            // what is shown: two nodes that have heard different things would go on telling one another.
            ours.version += 1;
            ours.say(Said::Changed(self.present.said_of(&member.id, false)));
        }
    }

    /// A node has said for the first time who is there, and whoever is here came before that was known.
    fn meet_another(&mut self, limits: RegistryLimits) {
        let here: Vec<UserId> = self.present.here().cloned().collect();
        for user in here {
            if self.present.come_last(&user) {
                self.say_of(&user, limits);
            }
        }
        if self.present.user_count() > limits.participants_shown {
            // They were told of nobody, and in a large room would be told of a number only.
            self.present.sessions().iter().for_each(|session| session.outbound.tell_anew());
        }
    }

    fn news_of(&mut self, heard: Vec<Heard>, limits: RegistryLimits) -> Vec<(Heard, PresenceNews)> {
        let news = heard.into_iter().map(|heard| {
            let news = self.news(heard.change, limits);
            (heard, news)
        });
        news.filter(|(_, news)| *news != PresenceNews::None).collect()
    }

    /// Says what is due at `now`.
    fn say_what_is_due(&mut self, now: Instant, limits: RegistryLimits) {
        let missed: Vec<NodeId> = self.present.incomplete().collect();
        let anybody = !self.present.sessions().is_empty();
        let Some(ours) = &mut self.ours else {
            return;
        };
        for node in missed {
            ours.say(Said::Ask(Some(node)));
        }
        // Once more when nobody is left: the last change may be lost.
        if now >= ours.renew_at && (anybody || ours.renewed != ours.version) {
            (ours.renewed, ours.renew_at) = (ours.version, now + RENEWAL);
            ours.say(Said::Same);
        }
        let (asked, is_settled) = (ours.asked, ours.settled_at.is_some_and(|at| at <= now));
        if asked {
            self.answer(now, limits);
        }
        if is_settled {
            if let Some(ours) = &mut self.ours {
                ours.settled_at = None;
            }
            for user in self.present.here() {
                self.end_oldest(user, limits);
            }
        }
    }
}

impl Feed {
    /// Takes what another node says of who is there.
    pub(super) fn hear(&self, hint: &PresenceHint, clock: &dyn Clock) -> Result<(), Beyond> {
        let _telling = self.telling();
        let news = self.lock().hear(hint, Instant::now(), self.limits)?;
        self.tell_news(news, clock);
        Ok(())
    }

    /// Waits, if the room was just taken up, until others may have said who is there.
    pub async fn wait_for_others(&self) {
        let until = self.lock().ours.as_ref().map(|ours| ours.answered_at);
        if let Some(until) = until {
            tokio::time::sleep_until(until).await;
        }
    }

    /// The room is subscribed to: what others say from now on arrives, and what they have said is asked for.
    pub(super) fn is_subscribed(&self) {
        if let Some(ours) = &mut self.lock().ours {
            // A subscription that was ended and made again is no beginning.
            if !std::mem::replace(&mut ours.is_subscribed, true) {
                ours.settled_at = Some(Instant::now() + SETTLING);
            }
            ours.say(Said::Ask(None));
        }
    }

    /// Forgets nodes that are silent, and says what is due. Called once a second.
    pub(super) fn tend(&self, clock: &dyn Clock) {
        let now = Instant::now();
        loop {
            let _telling = self.telling();
            let mut state = self.lock();
            let Some((node, heard)) = state.present.forget_one(now) else {
                state.say_what_is_due(now, self.limits);
                return;
            };
            tracing::debug!(room = %self.room(), %node, users = heard.len(), "another node is silent: forgotten");
            let news = state.news_of(heard, self.limits);
            drop(state);
            self.tell_news(news, clock);
        }
    }

    /// Nobody is here any more, and nothing more is said.
    pub(super) fn say_closed(&self) {
        if let Some(ours) = &mut self.lock().ours
            && ours.version > 0
        {
            ours.say(Said::Closed);
            ours.is_closed = true;
        }
    }

    /// Tells the sessions here that are not of this user.
    pub(super) fn tell_others(&self, user: &UserId, frame: Bytes) {
        let audience = Audience::Others(user.clone());
        let told = Transient { frame, audience, content: TransientContent::Other };
        // It is no chunk: nobody must keep its pace.
        let _ = self.deliver_transient(&told);
    }

    fn tell_news(&self, news: Vec<(Heard, PresenceNews)>, clock: &dyn Clock) {
        for (Heard { user, shown, member, .. }, news) in news {
            let stamp = Stamp { event_id: EventId(Uuid::now_v7()), at: clock.now() };
            let frame = match (news, shown, &member) {
                (PresenceNews::None, _, _) => continue,
                (PresenceNews::User, None, _) => transient::user_left(stamp, &user),
                (PresenceNews::User, Some(presence), Some(member)) => {
                    transient::user_joined(stamp, member, presence)
                }
                // Others were more here a moment ago, and then nobody's name is told.
                (PresenceNews::User, Some(presence), None) | (PresenceNews::Shown(presence), _, _) => {
                    transient::presence(stamp, &user, presence)
                }
            };
            self.tell_others(&user, frame);
        }
    }

    fn take_waiting(&self) -> Vec<PresenceHint> {
        self.lock().ours.as_mut().map(|ours| std::mem::take(&mut ours.waiting)).unwrap_or_default()
    }
}

impl HandlerRegistry {
    /// Publishes what other nodes must know of who is here. No lock may be held.
    pub(super) fn tell_nodes(&self, feed: &Feed) {
        for hint in feed.take_waiting() {
            self.bus.publish(feed.room(), BusMessage::Presence(hint));
        }
    }
}

/// Everybody in parts that every bus takes; at least one, which may be empty.
fn pages(users: impl Iterator<Item = PresentUser>) -> Vec<Vec<PresentUser>> {
    let (mut pages, mut page, mut bytes) = (Vec::new(), Vec::new(), 0);
    for user in users {
        let size = user.size();
        if page.len() >= PAGE_USERS || (bytes + size > PAGE_BYTES && !page.is_empty()) {
            pages.push(std::mem::take(&mut page));
            bytes = 0;
        }
        bytes += size;
        page.push(user);
    }
    pages.push(page);
    pages
}

#[cfg(test)]
mod tests;
