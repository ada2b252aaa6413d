//! Join tokens: whoever makes one gives away no more than they have, and for no longer.

use secrecy::ExposeSecret as _;

use crate::{
    auth::{mint::NewToken, scope::Scope},
    domain::{
        rejection::{Code, Rejection},
        room::Role,
    },
    grpc::admin::{
        AdminApi, Done,
        caller::Caller,
        convert::{grants_from_pb, lifetime_from_pb},
        user,
    },
    ids::RoomId,
    wire::{basic::time, pb::room::v1 as pb},
};

impl AdminApi {
    /// Makes a token that ends with the API key by which it is made.
    pub(super) async fn mint(
        &self,
        caller: &Caller,
        asked: &pb::CreateJoinTokenRequest,
    ) -> Done<pb::CreateJoinTokenResponse> {
        let namespace = caller.within(&asked.namespace, Scope::Tokens)?;
        self.directory.get_namespace(&namespace).await?;
        let room = match asked.room_id.as_str() {
            "" => None,
            name => {
                let room = RoomId::parse(name).map_err(|error| Rejection::id("room_id", &error))?;
                Some(room.within(&namespace))
            }
        };
        let token = NewToken {
            user: user("user_id", &asked.user_id)?,
            name: Some(asked.display_name.clone()).filter(|name| !name.is_empty()),
            room,
            grants: grants_from_pb(asked.grants)?,
            lifetime: caller.lifetime(lifetime_from_pb(asked.lifetime_ms), self.clock.now())?,
            minted_by: caller.key(),
            namespace,
        };
        // It is the one thing in a token that gives more than the room would.
        if token.grants.role == Some(Role::Admin) {
            caller.within(&asked.namespace, Scope::Admin)?;
        }
        let Some(mint) = &self.mint else {
            return Err(Rejection::new(Code::Unsupported, "no signing key is configured"));
        };
        let minted = mint.mint(&token, self.clock.now())?;
        let answer = pb::CreateJoinTokenResponse {
            token: minted.token.expose_secret().to_owned(),
            token_id: minted.id.clone(),
            expires_at: time(minted.expires_at),
        };
        Ok((answer, minted.id))
    }
}
