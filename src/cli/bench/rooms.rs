//! The rooms of a load: made by the ordinary client, so that a server that refuses, is not there or does not answer is
//! told in words.
//!
//! Without gRPC a room is made by whoever comes first. The names differ from run to run: a room that was there before
//! has a history and members, and remembers the ids of requests.

use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::timeout;
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

/// How long the server may take to create one: what it takes is written to a disk at most.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

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
    let call = async {
        grpc.ready().await.map_err(|error| Error::Lost(error.to_string()))?;
        let response = grpc.unary(Request::new(request), path, codec).await;
        Ok(response.map_err(|status| Error::from_status(&status, None))?.into_inner().room_id)
    };
    let late = |_| Error::Lost(format!("no answer to CreateRoom within {CALL_TIMEOUT:?}"));
    timeout(CALL_TIMEOUT, call).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_a_connection_and_never_answers_is_told() {
        let (ours, _theirs) = tokio::io::duplex(1 << 16);
        let mut ours = Some(hyper_util::rt::TokioIo::new(ours));
        let connector = tower::service_fn(move |_: http::Uri| {
            let io = ours.take().ok_or_else(|| std::io::Error::other("connected once"));
            async move { io }
        });
        let endpoint = tonic::transport::Endpoint::from_static("http://duplex");
        let channel = endpoint.connect_with_connector(connector).await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/room.v1.RoomService/CreateRoom");
        let created = create_one(channel, Bearer(None), path, pb::CreateRoomRequest::default()).await;
        let said = created.unwrap_err().to_string();
        assert!(said.contains("CreateRoom within 30s"), "{said}");
    }
}
