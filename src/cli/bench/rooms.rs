//! The rooms of a load: made by the ordinary client, so that a server that refuses or is not there is told in words.
//!
//! Without gRPC a room is made by whoever comes first. The names differ from run to run: a room that was there before
//! has a history and members, and remembers the ids of requests.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Request, client::Grpc, service::interceptor::InterceptedService, transport::Channel};
use tonic_prost::ProstCodec;

use super::{dial::Dial, plan::Plan};
use crate::{
    cli::{
        client::{self, Error},
        token::Bearer,
    },
    wire::pb::room::v1 as pb,
};

/// Calls under way at the same time.
const AT_ONCE: usize = 32;

/// Who takes part: a name for each session, the same in every run.
pub(super) fn user(session: usize) -> String {
    format!("bench-{session}")
}

/// Creates the rooms and returns their ids; the first member of each is who made it.
pub(super) async fn create(
    plan: &Plan,
    dial: &Dial,
    llms: &[pb::LlmConfig],
    tell: &dyn Fn(u64),
) -> Result<Vec<String>, Error> {
    let run = uuid::Uuid::new_v4().simple().to_string();
    let run = run.get(..8).unwrap_or_default();
    let names = (0..plan.rooms).map(|room| format!("bench-{run}-{room}"));
    if !dial.is_grpc() {
        return Ok(names.collect());
    }
    let channel = client::connect(&dial.server).await?;
    let bearer = Bearer(dial.server.token.clone());
    let path = http::uri::PathAndQuery::try_from(format!("/{}/CreateRoom", plan.contract.service()))
        .map_err(|error| Error::Answer(error.to_string()))?;
    let made = stream::iter(names.enumerate().map(|(room, name)| {
        let request = pb::CreateRoomRequest {
            name: name.clone(),
            created_by: user(room * plan.members),
            room_id: Some(name.clone()),
            llms: llms.to_vec(),
            ..Default::default()
        };
        let (channel, bearer, path) = (channel.clone(), bearer.clone(), path.clone());
        async move {
            let id = create_one(channel, bearer, path, request).await?;
            // Who has not changed the id need not repeat it.
            Ok(if id.is_empty() { name } else { id })
        }
    }));
    made.buffered(AT_ONCE).inspect_ok(|_| tell(1)).try_collect().await
}

async fn create_one(
    channel: Channel,
    bearer: Bearer,
    path: http::uri::PathAndQuery,
    request: pb::CreateRoomRequest,
) -> Result<String, Error> {
    let codec = ProstCodec::<pb::CreateRoomRequest, pb::CreateRoomResponse>::default();
    let mut grpc = Grpc::new(InterceptedService::new(channel, bearer));
    grpc.ready().await.map_err(|error| Error::Lost(error.to_string()))?;
    let response = grpc.unary(Request::new(request), path, codec).await;
    Ok(response.map_err(|status| Error::from_status(&status, None))?.into_inner().room_id)
}
