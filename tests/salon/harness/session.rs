//! One `RoomSession` stream of a test.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use salon::wire::pb::room::v1::{
    self as pb, client_message::Payload as Say, room_service_client::RoomServiceClient, server_event::Payload,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use super::DEADLINE;

/// How many request ids were made: two streams of one user must not have the same.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// A request that shows this credential.
pub fn showing<T>(credential: Option<&str>, asked: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(asked);
    if let Some(credential) = credential {
        request.metadata_mut().insert("authorization", format!("Bearer {credential}").parse().unwrap());
    }
    request
}

/// A stream; it ends when this is dropped.
pub struct Session {
    sender: Option<mpsc::Sender<pb::ClientMessage>>,
    receiver: Streaming<pb::ServerEvent>,
    /// Events that were received while another was waited for, in order.
    skipped: VecDeque<pb::ServerEvent>,
    /// What the join was answered with.
    pub state: pb::RoomState,
    /// The position of `state`.
    pub seq: u64,
    pub user: String,
    /// How long an event may take.
    pub patience: Duration,
}

impl Session {
    /// Opens a stream and says nothing.
    pub async fn open(client: RoomServiceClient<Channel>) -> Self {
        Self::open_with(client, None).await
    }

    /// Opens a stream that shows this credential, and says nothing.
    pub async fn open_with(mut client: RoomServiceClient<Channel>, credential: Option<&str>) -> Self {
        let (sender, receiver) = mpsc::channel(1024);
        let request = showing(credential, ReceiverStream::new(receiver));
        let response = client.room_session(request).await.unwrap();
        Self {
            sender: Some(sender),
            receiver: response.into_inner(),
            skipped: VecDeque::new(),
            state: pb::RoomState::default(),
            seq: 0,
            user: String::new(),
            patience: DEADLINE,
        }
    }

    /// Opens a stream, joins, and takes the `room_state`.
    pub async fn join(client: RoomServiceClient<Channel>, room: &str, user: &str) -> Self {
        let mut session = Self::open(client).await;
        session.say(Say::Join(join(room, user))).await;
        session.take_state().await;
        session.user = user.to_owned();
        session
    }

    /// As [`Session::join`], with this credential.
    pub async fn join_with(
        client: RoomServiceClient<Channel>,
        credential: &str,
        room: &str,
        user: &str,
    ) -> Self {
        let mut session = Self::open_with(client, Some(credential)).await;
        session.say(Say::Join(join(room, user))).await;
        session.take_state().await;
        session.user = user.to_owned();
        session
    }

    /// Opens a stream and resumes behind `after`; the answer is the caller's to read.
    pub async fn resume(client: RoomServiceClient<Channel>, room: &str, user: &str, after: u64) -> Self {
        let mut session = Self::open(client).await;
        session.say(Say::Join(pb::JoinRoom { after_seq: Some(after), ..join(room, user) })).await;
        session.user = user.to_owned();
        session
    }

    /// Takes the `room_state` that must come next.
    pub async fn take_state(&mut self) {
        let event = self.next().await;
        let Some(Payload::RoomState(state)) = event.payload else { panic!("not a room_state: {event:?}") };
        (self.state, self.seq) = (state, event.seq);
    }

    fn new_request_id(&self, kind: &str) -> String {
        format!("{}-{kind}{}", self.user, REQUESTS.fetch_add(1, Ordering::Relaxed))
    }

    /// Sends a payload without a request id.
    pub async fn say(&mut self, payload: Say) {
        self.send(pb::ClientMessage { payload: Some(payload), request_id: String::new() }).await;
    }

    /// Sends a whole message.
    pub async fn send(&mut self, message: pb::ClientMessage) {
        self.sender.as_ref().expect("the stream was finished").send(message).await.unwrap();
    }

    /// Sends a command and waits for its ack or its error; everything else is kept for later.
    pub async fn command(&mut self, payload: Say) -> Result<pb::Ack, pb::Error> {
        let request_id = self.new_request_id("");
        self.command_as(&request_id, payload).await
    }

    /// [`Session::command`] with a request id of the caller's.
    pub async fn command_as(&mut self, request_id: &str, payload: Say) -> Result<pb::Ack, pb::Error> {
        self.send(pb::ClientMessage { payload: Some(payload), request_id: request_id.to_owned() }).await;
        let event = self.find(|event| event.request_id == request_id).await;
        match event.payload {
            Some(Payload::Ack(ack)) => Ok(ack),
            Some(Payload::Error(error)) => Err(error),
            other => panic!("neither ack nor error: {other:?}"),
        }
    }

    /// Says something and waits for the ack.
    pub async fn talk(&mut self, content: &str) -> pb::Ack {
        self.command(message(content)).await.unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// The next event that was not taken yet.
    pub async fn next(&mut self) -> pb::ServerEvent {
        match self.try_next().await {
            Ok(Some(event)) => event,
            other => panic!("{}: the stream ended: {other:?}", self.user),
        }
    }

    /// The next event, the end of the stream, or its status.
    pub async fn try_next(&mut self) -> Result<Option<pb::ServerEvent>, Status> {
        if let Some(event) = self.skipped.pop_front() {
            return Ok(Some(event));
        }
        self.receive().await
    }

    async fn receive(&mut self) -> Result<Option<pb::ServerEvent>, Status> {
        let patience = self.patience;
        match timeout(patience, self.receiver.message()).await {
            Ok(message) => message,
            Err(_) => panic!("{}: nothing came within {patience:?}; kept: {:?}", self.user, self.skipped),
        }
    }

    /// Waits for the first event that matches; what comes before it is kept for later.
    pub async fn find(&mut self, matches: impl Fn(&pb::ServerEvent) -> bool) -> pb::ServerEvent {
        if let Some(at) = self.skipped.iter().position(&matches) {
            return self.skipped.remove(at).unwrap();
        }
        loop {
            let event = match self.receive().await {
                Ok(Some(event)) => event,
                other => panic!("{}: the stream ended: {other:?}; kept: {:?}", self.user, self.skipped),
            };
            if matches(&event) {
                return event;
            }
            self.skipped.push_back(event);
        }
    }

    /// Waits for the first payload that `pick` takes; what comes before it is kept for later.
    pub async fn pick<T>(&mut self, pick: impl Fn(&Payload) -> Option<T>) -> T {
        let event =
            self.find(|event| event.payload.as_ref().is_some_and(|payload| pick(payload).is_some())).await;
        event.payload.as_ref().and_then(pick).unwrap()
    }

    /// Everything that came up to the answer to a ping that is sent now.
    pub async fn settle(&mut self) -> Vec<pb::ServerEvent> {
        let request_id = self.new_request_id("ping-");
        let ping =
            pb::ClientMessage { payload: Some(Say::Ping(pb::Ping {})), request_id: request_id.clone() };
        self.send(ping).await;
        let mut events = Vec::new();
        loop {
            let event = self.next().await;
            if event.request_id == request_id {
                return events;
            }
            events.push(event);
        }
    }

    /// Reads lasting events up to and with position `last`.
    pub async fn lasting_until(&mut self, last: u64) -> Vec<pb::ServerEvent> {
        let mut events = Vec::new();
        while events.last().is_none_or(|event: &pb::ServerEvent| event.seq < last) {
            let event = self.next().await;
            if is_lasting(&event) {
                events.push(event);
            }
        }
        events
    }

    /// Half-closes: nothing more will be said.
    pub fn finish(&mut self) {
        self.sender = None;
    }

    /// Reads to the end; returns the `closing` event, if one came, and the status.
    pub async fn end(&mut self) -> (Option<pb::Closing>, Result<(), Status>) {
        let mut closing = None;
        loop {
            match self.try_next().await {
                Ok(Some(event)) => {
                    if let Some(Payload::Closing(last)) = event.payload {
                        closing = Some(last);
                    }
                }
                Ok(None) => return (closing, Ok(())),
                Err(status) => return (closing, Err(status)),
            }
        }
    }
}

/// Whether an event is part of the log.
pub fn is_lasting(event: &pb::ServerEvent) -> bool {
    event.seq != 0 && !matches!(event.payload, Some(Payload::RoomState(_) | Payload::Resumed(_)))
}

/// A join without a profile.
pub fn join(room: &str, user: &str) -> pb::JoinRoom {
    pb::JoinRoom { room_id: room.into(), user_id: user.into(), ..Default::default() }
}

/// A message.
pub fn message(content: &str) -> Say {
    Say::Message(pb::SendMessage { content: content.into(), ..Default::default() })
}
