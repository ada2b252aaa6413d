//! The unary calls and the log's stream.

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use tokio::{task::JoinSet, time::Instant};
use tonic::{Request, Response, Status};

use crate::{
    allowance::{Allowances, rate::What, usage::Usages},
    auth::{
        gate::{Gate, Refused},
        grants::Need,
    },
    budget::{Budgets, Scopes},
    dispatch::generate::Generator,
    domain::{
        rejection::{Code, Rejection},
        room::{Member, Presence, Room, Visibility},
    },
    grpc::{cursor, guard, payer::charge, status, usage::budget_to_pb},
    ids::{RoomId, Seq, UserId},
    registry::feed::Feed,
    rooms::Rooms,
    store::{Direction, Page, Record, RoomFilter},
    wire::{
        command, decode,
        model::{draft_to_pb, integrity_to_pb, member_to_pb, message_to_pb, room_info, room_size},
        pb::room::v1::{self as pb, room_service_server::RoomService},
        polls::poll_to_pb,
    },
};

/// Rooms on a page of a list when none is asked for, and the most.
const ROOMS_PAGE: (usize, usize) = (20, 100);
/// Messages on a page of history when none is asked for.
const HISTORY_PAGE: usize = 50;
/// Members on a page when none is asked for, and the most.
const MEMBERS_PAGE: (usize, usize) = (200, 1000);
/// How much of a log is read at once.
const LOG_PAGE: Page = Page { events: 256, bytes: 1024 * 1024 };

/// How often it is asked whether whoever reads a log is still a member.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// How much calls give at most.
#[derive(Debug, Clone, Copy)]
pub struct ApiLimits {
    /// Messages on a page of history.
    pub history_page: usize,
    /// Participants in an answer to `GetRoom`.
    pub participants_shown: usize,
}

/// The calls of the contract but for the session.
#[derive(Debug, Clone)]
pub struct RoomApi {
    rooms: Rooms,
    budgets: Budgets,
    generator: Generator,
    limits: ApiLimits,
    usages: Usages,
    gate: Gate,
}

impl RoomApi {
    /// Calls on these rooms and budgets; rooms are proposed by `generator`.
    pub fn new(
        rooms: Rooms,
        budgets: Budgets,
        generator: Generator,
        limits: ApiLimits,
        allowances: Allowances,
        gate: Gate,
    ) -> Self {
        let usages = Usages::new(Arc::clone(rooms.store()), allowances);
        Self { rooms, budgets, generator, limits, usages, gate }
    }
}

/// The log as it is sent.
type LogStream = Pin<Box<dyn Stream<Item = Result<pb::ReadLogResponse, Status>> + Send>>;

#[tonic::async_trait]
impl RoomService for RoomApi {
    async fn create_room(
        &self,
        request: Request<pb::CreateRoomRequest>,
    ) -> Result<Response<pb::CreateRoomResponse>, Status> {
        let principal = Arc::clone(&guard::caller(request.extensions())?.principal);
        let creator = UserId::parse(&request.get_ref().created_by).ok();
        let creator = principal.speaks_for("created_by", creator).map_err(refuse)?;
        let allowance = charge(self.usages.allowances(), &request, creator, What::Rooms)?;
        let mut new = command::new_room(request.into_inner()).map_err(refuse)?;
        principal.grants.require(Need::Write).map_err(refuse)?;
        new.id = principal.room(&new.id).map_err(refuse)?;
        new.created_by = principal.speaks_for("created_by", new.created_by).map_err(refuse)?;
        // Whoever comes first would be its ADMIN: anybody of the namespace.
        if !principal.is_open() && new.created_by.is_none() && new.profile.visibility == Visibility::Private {
            let problem = "must say whose a private room is, where the credential does not";
            return Err(refuse(Rejection::field("created_by", problem)));
        }
        self.usages.check_room(&allowance).await.map_err(refuse)?;
        let room_id = self.rooms.create(new).await.map_err(refuse)?.name().to_owned();
        Ok(Response::new(pb::CreateRoomResponse { room_id }))
    }

    async fn get_room(
        &self,
        request: Request<pb::GetRoomRequest>,
    ) -> Result<Response<pb::GetRoomResponse>, Status> {
        let (id, reader) = reader(&request, &request.get_ref().room_id, None)?;
        charge(self.usages.allowances(), &request, reader.clone(), What::History)?;
        let shown = self.limits.participants_shown;
        let look = move |room: &Room, feed: &Arc<Feed>| {
            let is_in = reader.as_ref().is_none_or(|reader| room.members.contains_key(reader));
            if !is_in && room.profile.visibility == Visibility::Private {
                return Err(Rejection::no_room(&room.id));
            }
            // Who is there is told to those who are.
            let online = if is_in { feed.online(shown) } else { Vec::new() };
            let participant = |(user, presence): &(UserId, Presence)| {
                Some(member_to_pb(room.members.get(user)?, *presence))
            };
            Ok(pb::GetRoomResponse {
                room: Some(room_info(room)),
                participants: online.iter().filter_map(participant).collect(),
                seq: room.seq.0,
                integrity: room.chain.as_ref().map(integrity_to_pb),
            })
        };
        self.rooms.wait_for_others(&id).await.map_err(refuse)?;
        self.rooms.read_latest(&id, look).await.map_err(refuse)?.map(Response::new).map_err(refuse)
    }

    async fn list_rooms(
        &self,
        request: Request<pb::ListRoomsRequest>,
    ) -> Result<Response<pb::ListRoomsResponse>, Status> {
        let principal = Arc::clone(&guard::caller(request.extensions())?.principal);
        principal.grants.require(Need::Join).and_then(|()| principal.reaches_all_rooms()).map_err(refuse)?;
        let asker = optional_user(request.get_ref().user_id.as_deref())?;
        let asker = principal.speaks_for("user_id", asker).map_err(refuse)?;
        charge(self.usages.allowances(), &request, asker, What::History)?;
        let (request, namespace) = (request.into_inner(), principal.namespace.clone());
        let named = optional_user(request.user_id.as_deref())?;
        let (filter, list) = match named.clone() {
            None => {
                let list = format!("rooms in {namespace}");
                (RoomFilter::Public(namespace), list)
            }
            named @ Some(_) => {
                let user = principal.speaks_for("user_id", named).map_err(refuse)?;
                let user = user.ok_or_else(|| Status::internal("a user that was named is none"))?;
                let list = format!("rooms in {namespace} of {user}");
                (RoomFilter::Of(namespace, user), list)
            }
        };
        let before = match request.cursor.as_deref() {
            None | Some("") => u64::MAX,
            Some(text) => cursor::decode_number(&list, text).map_err(refuse)?,
        };
        let limit = page(request.limit, ROOMS_PAGE);
        let limits = self.rooms.limits().domain;
        let look = move |room: &Room| room.is_listed_to(named.as_ref(), &limits).then(|| room_info(room));
        let page = self.rooms.list(filter, before, limit, look, room_size).await.map_err(refuse)?;
        let next_cursor = page.next.map(|position| cursor::encode(&list, &position.to_be_bytes()));
        Ok(Response::new(pb::ListRoomsResponse { rooms: page.items, next_cursor }))
    }

    async fn load_history(
        &self,
        request: Request<pb::LoadHistoryRequest>,
    ) -> Result<Response<pb::LoadHistoryResponse>, Status> {
        let (id, reader) =
            reader(&request, &request.get_ref().room_id, request.get_ref().user_id.as_deref())?;
        charge(self.usages.allowances(), &request, reader.clone(), What::History)?;
        let request = request.into_inner();
        self.rooms.check_reader(&id, reader).await.map_err(refuse)?;
        let (back, forth) = (format!("history {id} back"), format!("history {id} forth"));
        let cursor = request.cursor.as_deref().filter(|text| !text.is_empty());
        let direction = match (cursor, request.after_seq) {
            (Some(_), Some(_)) => {
                return Err(refuse(Rejection::field("cursor", "must not be given together with after_seq")));
            }
            (None, Some(after)) => Direction::After(Seq(after)),
            (None, None) => Direction::Before(Seq(u64::MAX)),
            (Some(text), None) => match cursor::decode_number(&forth, text) {
                Ok(after) => Direction::After(Seq(after)),
                Err(_) => Direction::Before(Seq(cursor::decode_number(&back, text).map_err(refuse)?)),
            },
        };
        let limit = page(request.limit, (HISTORY_PAGE, self.limits.history_page));
        let page = self.rooms.history(&id, direction, limit).await.map_err(refuse)?;
        let next = match direction {
            Direction::Before(_) => {
                page.messages.first().map(|m| cursor::encode(&back, &m.seq.0.to_be_bytes()))
            }
            Direction::After(_) => {
                page.messages.last().map(|m| cursor::encode(&forth, &m.seq.0.to_be_bytes()))
            }
        };
        Ok(Response::new(pb::LoadHistoryResponse {
            messages: page.messages.iter().map(message_to_pb).collect(),
            next_cursor: next.filter(|_| page.more),
            polls: page.polls.iter().map(|poll| poll_to_pb(poll, id.name())).collect(),
        }))
    }

    async fn list_members(
        &self,
        request: Request<pb::ListMembersRequest>,
    ) -> Result<Response<pb::ListMembersResponse>, Status> {
        let (id, reader) = reader(&request, &request.get_ref().room_id, None)?;
        charge(self.usages.allowances(), &request, reader.clone(), What::History)?;
        let request = request.into_inner();
        self.rooms.check_reader(&id, reader).await.map_err(refuse)?;
        let list = format!("members {id}");
        let after = match request.cursor.as_deref() {
            None | Some("") => None,
            Some(text) => {
                let bytes = cursor::decode(&list, text).map_err(refuse)?;
                let user = String::from_utf8(bytes).ok().and_then(|text| UserId::parse(&text).ok());
                Some(user.ok_or_else(|| refuse(crate::rooms::history::bad_cursor()))?)
            }
        };
        let (members, last) =
            self.rooms.members(&id, after, page(request.limit, MEMBERS_PAGE)).await.map_err(refuse)?;
        let shown = |(member, presence): &(Member, Presence)| member_to_pb(member, *presence);
        Ok(Response::new(pb::ListMembersResponse {
            members: members.iter().map(shown).collect(),
            next_cursor: last.map(|user| cursor::encode(&list, user.as_str().as_bytes())),
        }))
    }

    type ReadLogStream = LogStream;

    async fn read_log(&self, request: Request<pb::ReadLogRequest>) -> Result<Response<LogStream>, Status> {
        let (id, reader) =
            reader(&request, &request.get_ref().room_id, request.get_ref().user_id.as_deref())?;
        charge(self.usages.allowances(), &request, reader.clone(), What::History)?;
        let principal = Arc::clone(&guard::caller(request.extensions())?.principal);
        let request = request.into_inner();
        self.rooms.check_reader(&id, reader.clone()).await.map_err(refuse)?;
        // Of the store, not of the room in memory: what was acknowledged through another server is in it.
        let end = self.rooms.end(&id).await.map_err(refuse)?;
        let after = Seq(request.after_seq);
        let last = match request.limit {
            0 => end,
            limit => end.min(after.plus(limit)),
        };
        let (mut credential, gate) = (JoinSet::new(), self.gate.clone());
        if !principal.is_open() {
            credential.spawn(async move { gate.until_over(&principal).await });
        }
        let reading = Reading {
            rooms: self.rooms.clone(),
            credential,
            reader,
            looked_at: Instant::now(),
            id,
            after,
            last,
            ready: VecDeque::new(),
        };
        let events = stream::unfold(reading, |mut reading| async move {
            let event = reading.next().await.transpose()?;
            Some((event, reading))
        });
        Ok(Response::new(Box::pin(events)))
    }

    async fn get_usage(
        &self,
        request: Request<pb::GetUsageRequest>,
    ) -> Result<Response<pb::GetUsageResponse>, Status> {
        let principal = Arc::clone(&guard::caller(request.extensions())?.principal);
        principal.grants.require(Need::Join).map_err(refuse)?;
        let asker = optional_user(request.get_ref().user_id.as_deref())?;
        let user = principal.speaks_for("user_id", asker).map_err(refuse)?;
        charge(self.usages.allowances(), &request, user.clone(), What::History)?;
        let room = request.into_inner().room_id.filter(|text| !text.is_empty());
        let room = room.map(|text| room_id(&text)).transpose()?;
        let scopes = Scopes {
            namespace: principal.namespace.clone(),
            user,
            room: room.map(|room| principal.room(&room)).transpose().map_err(refuse)?,
        };
        if let Some(room) = &scopes.room {
            self.rooms.check_reader(room, principal.user.clone()).await.map_err(refuse)?;
        }
        let usage = self.budgets.usage(&scopes).await.map_err(|error| {
            tracing::warn!(%error, "the budgets cannot be read");
            refuse(Rejection::new(Code::Unavailable, "the budgets cannot be read now; try again"))
        })?;
        let budgets = usage.into_iter().map(budget_to_pb).collect();
        Ok(Response::new(pb::GetUsageResponse { budgets }))
    }

    async fn generate_room(
        &self,
        request: Request<pb::GenerateRoomRequest>,
    ) -> Result<Response<pb::GenerateRoomResponse>, Status> {
        let principal = Arc::clone(&guard::caller(request.extensions())?.principal);
        principal.grants.require(Need::Write).and_then(|()| principal.reaches_all_rooms()).map_err(refuse)?;
        let asker = optional_user(request.get_ref().user_id.as_deref())?;
        let user = principal.speaks_for("user_id", asker).map_err(refuse)?;
        charge(self.usages.allowances(), &request, user.clone(), What::Generations)?;
        let prompt = request.into_inner().prompt;
        // A model may take a minute, and its answer would be somebody's whose time is over.
        let generated = tokio::select! {
            biased;
            refused = self.gate.until_over(&principal) => Err(refused.rejection()),
            generated = self.generator.propose(&prompt, principal.namespace.clone(), user) => generated,
        };
        let generated = generated.map_err(refuse)?;
        Ok(Response::new(pb::GenerateRoomResponse {
            draft: Some(draft_to_pb(&generated.room)),
            model: generated.model,
            usage: Some(pb::TokenUsage {
                prompt_tokens: generated.prompt_tokens,
                completion_tokens: generated.completion_tokens,
                cost_micros: generated.cost_micros,
            }),
        }))
    }

    type RoomSessionStream = Pin<Box<dyn Stream<Item = Result<pb::ServerEvent, Status>> + Send>>;

    /// Never called: the door takes the session stream before the generated code sees it.
    async fn room_session(
        &self,
        _: Request<tonic::Streaming<pb::ClientMessage>>,
    ) -> Result<Response<Self::RoomSessionStream>, Status> {
        Err(Status::unimplemented("RoomSession is served by the door"))
    }
}

/// A log that is being read, page by page: a slow reader holds one page.
struct Reading {
    rooms: Rooms,
    /// Ends when the reader's credential does. A task, since a stream that nobody reads is not polled.
    credential: JoinSet<Refused>,
    reader: Option<UserId>,
    /// When it was asked the last time whether the reader may go on.
    looked_at: Instant,
    id: RoomId,
    after: Seq,
    last: Seq,
    ready: VecDeque<Record>,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<pb::ReadLogResponse>, Status> {
        if self.ready.is_empty() && self.after < self.last {
            self.ready = self.rooms.log(&self.id, self.after, LOG_PAGE).await.map_err(refuse)?.into();
        }
        if let Some(over) = self.credential.try_join_next() {
            return Err(refuse(over.unwrap_or(Refused::Unavailable).rejection()));
        }
        if self.looked_at.elapsed() >= LOOK_INTERVAL && !self.ready.is_empty() {
            // Who was removed or banned reads no further.
            self.rooms.check_reader(&self.id, self.reader.clone()).await.map_err(refuse)?;
            self.looked_at = Instant::now();
        }
        let Some(record) = self.ready.pop_front().filter(|record| record.seq <= self.last) else {
            return Ok(None);
        };
        self.after = record.seq;
        let event = decode::public(record.seq, &record.public)
            .map_err(|_| Status::data_loss(format!("the event at {} cannot be read", record.seq)))?;
        Ok(Some(pb::ReadLogResponse { event: Some(event) }))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn refuse(rejection: Rejection) -> Status {
    status::of(&rejection)
}

/// What cannot be a room's id is no room.
fn room_id(text: &str) -> Result<RoomId, Status> {
    RoomId::parse(text).map_err(|error| {
        let shown: String = text.chars().take(64).collect();
        Status::not_found(format!("there is no room {shown:?}: room_id {error}"))
    })
}

/// The room that a call is about, and who wants to read it; none: whoever holds a key to the whole namespace, or
/// everybody where nobody is asked who they are.
fn reader<T>(
    request: &Request<T>,
    room: &str,
    user: Option<&str>,
) -> Result<(RoomId, Option<UserId>), Status> {
    let principal = &guard::caller(request.extensions())?.principal;
    principal.grants.require(Need::Join).map_err(refuse)?;
    let room = principal.room(&room_id(room)?).map_err(refuse)?;
    Ok((room, principal.speaks_for("user_id", optional_user(user)?).map_err(refuse)?))
}

fn optional_user(text: Option<&str>) -> Result<Option<UserId>, Status> {
    match text {
        None | Some("") => Ok(None),
        Some(text) => UserId::parse(text).map(Some).map_err(|error| refuse(Rejection::id("user_id", &error))),
    }
}

/// A page of the size that is asked for, within bounds.
fn page(asked: u32, (default, max): (usize, usize)) -> usize {
    match usize::try_from(asked) {
        Ok(0) => default.min(max),
        Ok(asked) => asked.min(max),
        Err(_) => max,
    }
}
