//! tonic as it is mostly written: the generated service, a channel of messages for each member, a clone for each of them
//! and prost's encoding on each stream.

use std::{collections::HashMap, sync::Arc};

use salon::wire::pb::room::v1::{
    self as pb,
    client_message::Payload as Say,
    room_service_server::{RoomService, RoomServiceServer},
};
use tokio::{
    net::TcpListener,
    sync::{Mutex, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::event::{self, Who};

/// Events that wait for one member; then who says more waits.
const QUEUE: usize = 1024;

/// Serves until accepting fails.
pub(super) async fn serve(listener: TcpListener) -> anyhow::Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let service = RoomServiceServer::new(Naive::default());
    Server::builder().add_service(service).serve_with_incoming(incoming).await?;
    Ok(())
}

type Sender = mpsc::Sender<Result<pb::ServerEvent, Status>>;
type Events<T> = ReceiverStream<Result<T, Status>>;

/// The service.
#[derive(Debug, Clone, Default)]
pub(super) struct Naive {
    rooms: Arc<Mutex<HashMap<String, Arc<Mutex<Room>>>>>,
    tasks: TaskTracker,
}

#[derive(Debug, Default)]
struct Room {
    seq: u64,
    members: Vec<Sender>,
}

impl Naive {
    /// Reads what one client says until it leaves.
    async fn listen(self, mut said: Streaming<pb::ClientMessage>, member: Sender) {
        let mut seat: Option<(Arc<Mutex<Room>>, Who)> = None;
        while let Ok(Some(message)) = said.message().await {
            let sent = match (message.payload, &seat) {
                (Some(Say::Join(join)), None) => {
                    let room = Arc::clone(self.rooms.lock().await.entry(join.room_id.clone()).or_default());
                    let who = Who::of(&join);
                    let mut entered = room.lock().await;
                    entered.members.push(member.clone());
                    let state = event::room_state(&join, &who, entered.seq, message.request_id);
                    let sent = member.send(Ok(state)).await;
                    drop(entered);
                    seat = Some((room, who));
                    sent
                }
                (Some(Say::Message(said)), Some((room, who))) => {
                    let mut room = room.lock().await;
                    room.seq += 1;
                    let event = event::received(who, said, room.seq);
                    for member in &room.members {
                        // Whoever has gone takes itself out.
                        let _ = member.send(Ok(event.clone())).await;
                    }
                    drop(room);
                    member.send(Ok(event::ack(&event, message.request_id))).await
                }
                _ => Ok(()),
            };
            if sent.is_err() {
                break;
            }
        }
        if let Some((room, _)) = seat {
            room.lock().await.members.retain(|other| !other.same_channel(&member));
        }
    }
}

#[tonic::async_trait]
impl RoomService for Naive {
    type RoomSessionStream = Events<pb::ServerEvent>;
    type ReadLogStream = Events<pb::ReadLogResponse>;

    async fn room_session(
        &self,
        request: Request<Streaming<pb::ClientMessage>>,
    ) -> Result<Response<Self::RoomSessionStream>, Status> {
        let (member, events) = mpsc::channel(QUEUE);
        self.tasks.spawn(self.clone().listen(request.into_inner(), member));
        Ok(Response::new(ReceiverStream::new(events)))
    }

    async fn create_room(
        &self,
        request: Request<pb::CreateRoomRequest>,
    ) -> Result<Response<pb::CreateRoomResponse>, Status> {
        let room_id = request.into_inner().room_id.unwrap_or_else(|| uuid::Uuid::now_v7().to_string());
        Ok(Response::new(pb::CreateRoomResponse { room_id }))
    }

    async fn get_room(
        &self,
        _: Request<pb::GetRoomRequest>,
    ) -> Result<Response<pb::GetRoomResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn list_rooms(
        &self,
        _: Request<pb::ListRoomsRequest>,
    ) -> Result<Response<pb::ListRoomsResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn load_history(
        &self,
        _: Request<pb::LoadHistoryRequest>,
    ) -> Result<Response<pb::LoadHistoryResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn list_members(
        &self,
        _: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn read_log(
        &self,
        _: Request<pb::ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn get_usage(
        &self,
        _: Request<pb::GetUsageRequest>,
    ) -> Result<Response<pb::GetUsageResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }

    async fn generate_room(
        &self,
        _: Request<pb::GenerateRoomRequest>,
    ) -> Result<Response<pb::GenerateRoomResponse>, Status> {
        Err(Status::unimplemented(NOT_HERE))
    }
}

/// What the calls answer that are not compared.
const NOT_HERE: &str = "a server to compare with has rooms and sessions only";
