//! One stream of a client, above the session's queue and below gRPC.

use std::{
    future::poll_fn,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use prost::Message as _;
use salon::{
    auth::{gate::Caller, principal::Principal},
    registry::outbound::Outbound,
    session::{InboundError, StreamHandler},
    wire::{frame, pb::room::v1 as pb, reply::Dialect},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::node::Node;

/// Messages under way to the node.
const UNDER_WAY: usize = 64;

/// See the module.
#[derive(Debug)]
pub struct Stream {
    pub node: Arc<Node>,
    outbound: Arc<Outbound>,
    inbound: Mutex<Option<mpsc::Sender<Result<Bytes, InboundError>>>>,
}

impl Stream {
    pub fn open(node: &Arc<Node>) -> Self {
        let services = Arc::clone(&node.services);
        let outbound = Arc::new(Outbound::speaking(services.limits.queue, Dialect::V1));
        let caller = Caller { principal: Arc::new(Principal::open()), peer: None };
        let handler = StreamHandler::new(services, Arc::clone(&outbound), Dialect::V1, caller);
        let (inbound, messages) = mpsc::channel(UNDER_WAY);
        tokio::spawn(handler.run(ReceiverStream::new(messages)));
        Self { node: Arc::clone(node), outbound, inbound: Mutex::new(Some(inbound)) }
    }

    /// Says something; what does not fit is lost, as on a connection that breaks.
    pub fn say(&self, message: &pb::ClientMessage) {
        if let Some(inbound) = self.inbound.lock().unwrap().as_ref() {
            let _ = inbound.try_send(Ok(message.encode_to_vec().into()));
        }
    }

    /// What comes next, with its bytes; `None`: nothing more comes.
    pub async fn next(&self) -> Option<Vec<(pb::ServerEvent, Bytes)>> {
        let bytes = poll_fn(|context| self.outbound.poll_next(context)).await?.ok()?;
        let (mut events, mut at) = (Vec::new(), 0);
        while let Some(len) = frame::len_at(&bytes, at) {
            let message = bytes.slice(at + frame::PREFIX..at + len);
            events.push((pb::ServerEvent::decode(message.clone()).unwrap(), message));
            at += len;
        }
        assert_eq!(at, bytes.len(), "half a frame");
        Some(events)
    }
}

/// The connection is gone: what was under way in either direction is lost.
impl Drop for Stream {
    fn drop(&mut self) {
        self.outbound.close();
        self.inbound.lock().unwrap().take();
    }
}
