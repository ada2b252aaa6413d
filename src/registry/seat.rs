//! A session's place in a room: what it shows to others, and that it always leaves.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    bus::{Audience, BusMessage, Transient, TransientContent},
    clock::Clock,
    domain::{
        permissions::Action,
        rejection::Rejection,
        room::{Member, Presence},
    },
    ids::{ConnectionId, EventId, MessageId, Seq, UserId},
    registry::{HandlerRegistry, feed::Feed, presence::PresenceNews},
    wire::transient::{self, Stamp},
};

/// One session in one room. Dropping it leaves the room, whatever ended the session.
#[derive(Debug)]
pub struct Seat {
    registry: Arc<HandlerRegistry>,
    clock: Arc<dyn Clock>,
    feed: Arc<Feed>,
    connection: ConnectionId,
    member: Member,
}

impl Seat {
    /// Takes the place of a session that has entered `feed`, and tells the others here if the user was not there
    /// before. [`Feed::telling`] is held from the entering to here; behind it [`Seat::tell_nodes`] must be called.
    pub fn take(
        registry: Arc<HandlerRegistry>,
        clock: Arc<dyn Clock>,
        feed: Arc<Feed>,
        connection: ConnectionId,
        member: Member,
        news: PresenceNews,
    ) -> Self {
        let seat = Self { registry, clock, feed, connection, member };
        match news {
            PresenceNews::User => {
                let frame = transient::user_joined(seat.stamp(), &seat.member, Presence::Online);
                seat.feed.tell_others(&seat.member.id, frame);
            }
            PresenceNews::Shown(presence) => seat.tell_presence(presence),
            PresenceNews::None => {}
        }
        seat
    }

    /// Tells the other nodes what has changed here. No lock may be held.
    pub fn tell_nodes(&self) {
        self.registry.tell_nodes(&self.feed);
    }

    /// Who sits here.
    pub fn user(&self) -> &UserId {
        &self.member.id
    }

    /// The room's delivery.
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// Whether the user may do something now.
    pub fn require(&self, action: Action) -> Result<(), Rejection> {
        match self.feed.rights(self.connection, action) {
            Some((standing, least)) => standing.check(&self.member.id, action, least, self.clock.now()),
            None => Err(Rejection::denied("this session has ended")),
        }
    }

    /// Tells the others that somebody types here or has stopped.
    pub fn typing(&self, is_typing: bool) {
        let frame = transient::typing(self.stamp(), &self.member.id, &self.member.name, is_typing);
        self.publish(Audience::Others(self.member.id.clone()), frame);
    }

    /// Sets how this connection is shown.
    pub fn set_presence(&self, presence: Presence) {
        {
            let _telling = self.feed.telling();
            if let Some((_, PresenceNews::Shown(shown))) = self.feed.set_presence(self.connection, presence) {
                self.tell_presence(shown);
            }
        }
        self.tell_nodes();
    }

    /// Tells the others how far the user has read, and the user's own other devices. In large rooms nobody is told: it
    /// would be everybody to everybody.
    pub fn receipt(&self, seq: Seq, message: Option<MessageId>) {
        if self.feed.tells_everybody() {
            let frame = transient::receipt(self.stamp(), &self.member.id, seq, message);
            self.publish(Audience::OtherConnections(self.connection), frame);
        }
    }

    /// Passes on something of the application's own.
    pub fn signal(&self, kind: String, data: Bytes, to: Vec<UserId>) {
        let audience = if to.is_empty() {
            Audience::OtherConnections(self.connection)
        } else {
            Audience::Users(to.into())
        };
        self.publish(audience, transient::signal(self.stamp(), &self.member.id, kind, data));
    }

    fn tell_presence(&self, presence: Presence) {
        let frame = transient::presence(self.stamp(), &self.member.id, presence);
        self.feed.tell_others(&self.member.id, frame);
    }

    fn publish(&self, audience: Audience, frame: Bytes) {
        let transient = Transient { frame, audience, content: TransientContent::Other };
        self.registry.bus().publish(self.feed.room(), BusMessage::Transient(transient));
    }

    fn stamp(&self) -> Stamp {
        Stamp { event_id: EventId(Uuid::now_v7()), at: self.clock.now() }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        {
            let _telling = self.feed.telling();
            match self.feed.exit(self.connection) {
                Some((_, PresenceNews::User)) => {
                    let frame = transient::user_left(self.stamp(), &self.member.id);
                    self.feed.tell_others(&self.member.id, frame);
                }
                Some((_, PresenceNews::Shown(presence))) => self.tell_presence(presence),
                Some((_, PresenceNews::None)) | None => {}
            }
        }
        self.tell_nodes();
    }
}
