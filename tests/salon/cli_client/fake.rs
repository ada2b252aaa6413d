//! A server that plays a script: what a client must cope with, said exactly when the test wants it.

use std::{
    collections::VecDeque,
    future::Future,
    io::Write,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use salon::wire::pb::room::v1::{
    self as pb, ClientMessage, ServerEvent,
    client_message::Payload as Said,
    room_service_server::{RoomService, RoomServiceServer},
    server_event::Payload,
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming};

/// Nothing on one machine takes so long, so whoever waits longer waits for something that will not come.
pub const LONG: Duration = Duration::from_secs(20);

type Script = Box<dyn FnOnce(Peer) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// The server and what it was asked.
#[derive(Clone, Default)]
pub struct Fake {
    scripts: Arc<Mutex<VecDeque<Script>>>,
    pub created: Arc<Mutex<Vec<pb::CreateRoomRequest>>>,
    pub rooms: Arc<Mutex<Vec<pb::RoomInfo>>>,
    pub log: Arc<Mutex<Vec<ServerEvent>>>,
    /// What went wrong in a script: a panic there would only look like a lost connection.
    failures: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    /// Plays `script` on the next stream that has none yet.
    pub fn on_stream<F: Future<Output = ()> + Send + 'static>(
        &self,
        script: impl FnOnce(Peer) -> F + Send + 'static,
    ) {
        let script: Script = Box::new(move |peer| Box::pin(script(peer)));
        self.scripts.lock().unwrap().push_back(script);
    }

    /// Listens on a free port.
    pub async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (health, health_service) = tonic_health::server::health_reporter();
        health.set_serving::<RoomServiceServer<Self>>().await;
        health.set_service_status("draining", tonic_health::ServingStatus::NotServing).await;
        let server = tonic::transport::Server::builder()
            .add_service(health_service)
            .add_service(RoomServiceServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        address
    }

    /// Every script was played to its end.
    pub fn assert_played(&self) {
        assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
        assert_eq!(self.scripts.lock().unwrap().len(), 0, "scripts that were not asked for");
    }
}

/// The server's end of one stream.
pub struct Peer {
    said: Streaming<ClientMessage>,
    tell: mpsc::Sender<Result<ServerEvent, Status>>,
}

impl Peer {
    /// The next thing the client says.
    pub async fn hears(&mut self) -> (String, Said) {
        let said = tokio::time::timeout(LONG, self.said.next()).await.expect("the client is silent");
        let said = said.expect("the client has gone").expect("the stream is broken");
        (said.request_id, said.payload.expect("an empty message"))
    }

    /// The client joins; answered with a room that has the LLM `ada`, at position 5.
    pub async fn lets_in(&mut self) -> pb::JoinRoom {
        let (_, Said::Join(join)) = self.hears().await else { panic!("no join") };
        let ada = pb::Participant {
            id: "ada".into(),
            name: "Ada".into(),
            r#type: pb::ParticipantType::Llm.into(),
            ..Default::default()
        };
        let you = pb::Participant { id: join.user_id.clone(), name: "Ann".into(), ..Default::default() };
        let state =
            pb::RoomState { participants: vec![ada], you: Some(you), online_count: 1, ..Default::default() };
        self.tells(5, Payload::RoomState(state)).await;
        join
    }

    /// Tells the client something.
    pub async fn tells(&mut self, seq: u64, payload: Payload) {
        let event = ServerEvent { seq, payload: Some(payload), ..Default::default() };
        self.tell.send(Ok(event)).await.expect("the client has gone");
    }

    /// Tells the client something that its command has caused.
    pub async fn tells_as(&mut self, event_id: &str, seq: u64, payload: Payload) {
        let event =
            ServerEvent { seq, event_id: event_id.into(), payload: Some(payload), ..Default::default() };
        self.tell.send(Ok(event)).await.expect("the client has gone");
    }

    /// Answers a command.
    pub async fn answers(&mut self, request_id: String, payload: Payload) {
        let event = ServerEvent { request_id, payload: Some(payload), ..Default::default() };
        self.tell.send(Ok(event)).await.expect("the client has gone");
    }

    /// Accepts a message of ann's at `seq` and shows it.
    pub async fn accepts(&mut self, request_id: String, seq: u64, message: pb::Message) {
        let ack = pb::Ack { seq, last_seq: seq, event_id: message.message_id.clone(), duplicate: false };
        self.answers(request_id, Payload::Ack(ack)).await;
        self.shows(seq, message).await;
    }

    /// Shows a message.
    pub async fn shows(&mut self, seq: u64, message: pb::Message) {
        let received = pb::MessageReceived { message: Some(message) };
        self.tells(seq, Payload::MessageReceived(received)).await;
    }

    /// The client says nothing for a moment.
    pub async fn hears_nothing(&mut self) {
        let said = tokio::time::timeout(Duration::from_millis(100), self.said.next()).await;
        assert!(said.is_err(), "{said:?}");
    }

    /// The client gives this stream up without a word.
    pub async fn is_left(&mut self) {
        let said = tokio::time::timeout(LONG, self.said.next()).await.expect("the stream is still open");
        assert!(!matches!(said, Some(Ok(_))), "{said:?}");
    }

    /// The client leaves and stays a member, and the stream ends as the contract says.
    pub async fn lets_go(&mut self) {
        let (_, Said::Leave(leave)) = self.hears().await else { panic!("no leave") };
        assert!(leave.keep_membership);
        let reason = pb::ClosingReason::Left.into();
        self.tells(0, Payload::Closing(pb::Closing { reason, ..Default::default() })).await;
    }
}

/// A message of `sender`.
pub fn message(id: &str, sender: &str, content: &str) -> pb::Message {
    pb::Message {
        message_id: id.into(),
        sender_id: sender.to_lowercase(),
        sender_name: sender.into(),
        content: content.into(),
        ..Default::default()
    }
}

/// What was written to one of a command's outputs.
#[derive(Clone, Default)]
pub struct Written(Arc<Mutex<Vec<u8>>>);

impl Written {
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tonic::async_trait]
impl RoomService for Fake {
    type ReadLogStream = Pin<Box<dyn Stream<Item = Result<pb::ReadLogResponse, Status>> + Send>>;
    type RoomSessionStream = ReceiverStream<Result<ServerEvent, Status>>;

    async fn create_room(
        &self,
        request: Request<pb::CreateRoomRequest>,
    ) -> Result<Response<pb::CreateRoomResponse>, Status> {
        let request = request.into_inner();
        let room_id = request.room_id.clone().unwrap_or_default();
        self.created.lock().unwrap().push(request);
        Ok(Response::new(pb::CreateRoomResponse { room_id }))
    }

    async fn list_rooms(
        &self,
        request: Request<pb::ListRoomsRequest>,
    ) -> Result<Response<pb::ListRoomsResponse>, Status> {
        let request = request.into_inner();
        let rooms = self.rooms.lock().unwrap();
        let from: usize = request.cursor.map_or(0, |cursor| cursor.parse().unwrap());
        // Pages of two, so that a few rooms need several.
        let to = rooms.len().min(from + usize::try_from(request.limit).unwrap().min(2));
        let next_cursor = (to < rooms.len()).then(|| to.to_string());
        Ok(Response::new(pb::ListRoomsResponse { rooms: rooms[from..to].to_vec(), next_cursor }))
    }

    async fn read_log(
        &self,
        request: Request<pb::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let request = request.into_inner();
        if request.room_id != "tea" {
            return Err(Status::not_found("no such room"));
        }
        let log = self.log.lock().unwrap().clone();
        let events = log.into_iter().filter(move |event| event.seq > request.after_seq);
        let responses = events.map(|event| Ok(pb::ReadLogResponse { event: Some(event) }));
        Ok(Response::new(Box::pin(tokio_stream::iter(responses.collect::<Vec<_>>()))))
    }

    async fn room_session(
        &self,
        request: Request<Streaming<ClientMessage>>,
    ) -> Result<Response<Self::RoomSessionStream>, Status> {
        let Some(script) = self.scripts.lock().unwrap().pop_front() else {
            self.failures.lock().unwrap().push("a stream nobody expected".into());
            return Err(Status::permission_denied("no script"));
        };
        let (tell, told) = mpsc::channel(64);
        let played = tokio::spawn(script(Peer { said: request.into_inner(), tell }));
        let failures = Arc::clone(&self.failures);
        tokio::spawn(async move {
            if let Err(panic) = played.await {
                let panic = panic.into_panic();
                let text = panic.downcast_ref::<String>().cloned();
                failures.lock().unwrap().push(text.unwrap_or_else(|| "a script failed".into()));
            }
        });
        Ok(Response::new(ReceiverStream::new(told)))
    }

    async fn get_room(
        &self,
        _: Request<pb::GetRoomRequest>,
    ) -> Result<Response<pb::GetRoomResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn load_history(
        &self,
        _: Request<pb::LoadHistoryRequest>,
    ) -> Result<Response<pb::LoadHistoryResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn generate_room(
        &self,
        _: Request<pb::GenerateRoomRequest>,
    ) -> Result<Response<pb::GenerateRoomResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn get_usage(
        &self,
        _: Request<pb::GetUsageRequest>,
    ) -> Result<Response<pb::GetUsageResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }

    async fn list_members(
        &self,
        _: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        Err(Status::unimplemented("not played"))
    }
}
