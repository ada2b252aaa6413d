//! A stream that goes on with another credential: it is counted and recorded for that one from then on.

use std::sync::Arc;

use crate::{
    allowance::payer::Payer,
    auth::principal::Principal,
    domain::rejection::Rejection,
    session::{
        Step,
        active::Active,
        pass::{self, Turn},
    },
};

impl Active<'_> {
    /// What becomes of the stream by what has become of its credential.
    pub(super) fn turn(&mut self, turn: Turn) -> Step {
        let turn = match turn {
            Turn::Renewed(request_id, Ok(principal)) => {
                let taken = self.go_on_with(&principal);
                Turn::Renewed(request_id, taken.map(|()| principal))
            }
            other => other,
        };
        pass::take(self.handler, turn)
    }

    /// Whoever shows a credential that has all the streams it may have keeps the one before.
    fn go_on_with(&mut self, principal: &Arc<Principal>) -> Result<(), Rejection> {
        let user = self.seat.user().clone();
        let payer = Payer::new(principal, self.handler.payer.peer).speaking_for(Some(user.clone()));
        let allowance = Arc::new(self.handler.services.allowances.of(&payer));
        // It stays one stream of its user and of its address.
        allowance.go_on(&mut self.held.open)?;
        self.held.allowance = allowance;
        self.pass.accept(Arc::clone(principal));
        self.handler.shows(principal);
        let (audit, namespace) = (&self.handler.services.audit, self.handler.namespace.clone());
        self.held._signed_in = Some(audit.goes_on(namespace, user, self.handler.origin()));
        Ok(())
    }
}
