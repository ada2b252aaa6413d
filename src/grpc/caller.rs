//! Whose call it is, as limits count it: read off what the layers before have put beside a request.

use std::{net::IpAddr, sync::Arc};

use tonic::{Request, Status};

use crate::{
    allowance::{Allowance, Allowances, caller::Caller, rate::What},
    auth::principal::Principal,
    grpc::{peer::Peer, status},
    ids::UserId,
};

/// Whose call it is: nobody has been asked who they are where no principal is there.
pub(super) fn caller(principal: Option<&Arc<Principal>>, peer: Option<&Peer>) -> Caller {
    let peer: Option<IpAddr> = peer.and_then(Peer::counted);
    match principal {
        Some(principal) => Caller::new(principal, peer),
        None => Caller::new(&Principal::open(), peer),
    }
}

/// Takes one of what the caller of a unary call may have; `user` is whom it speaks for, as far as it says.
pub(super) fn charge<T>(
    allowances: &Allowances,
    request: &Request<T>,
    user: Option<UserId>,
    what: What,
) -> Result<Allowance, Status> {
    let extensions = request.extensions();
    let caller = caller(extensions.get(), extensions.get()).speaking_for(user);
    let allowance = allowances.of(&caller);
    allowance.take(what).map_err(|rejection| status::of(&rejection))?;
    Ok(allowance)
}
