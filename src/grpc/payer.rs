//! Whose call it is, as limits count it: read off what the layers before have put beside a request.

use tonic::{Request, Status};

use crate::{
    address::counted,
    allowance::{Allowance, Allowances, payer::Payer, rate::What},
    auth::gate::Caller,
    grpc::{guard, status},
    ids::UserId,
};

/// For whom a call counts.
pub(super) fn payer(caller: &Caller) -> Payer {
    Payer::new(&caller.principal, caller.peer.and_then(counted))
}

/// Takes one of what the caller of a unary call may have; `user` is whom it speaks for, as far as it says.
pub(super) fn charge<T>(
    allowances: &Allowances,
    request: &Request<T>,
    user: Option<UserId>,
    what: What,
) -> Result<Allowance, Status> {
    let payer = payer(guard::caller(request.extensions())?).speaking_for(user);
    let allowance = allowances.of(&payer);
    allowance.take(what).map_err(|rejection| status::of(&rejection))?;
    Ok(allowance)
}
