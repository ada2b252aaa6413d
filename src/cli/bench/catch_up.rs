//! Sessions that are back, and have not yet heard all that they missed.

use std::{collections::HashMap, rc::Rc};

use tokio::sync::Notify;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct CatchUp {
    /// Up to where each has to hear.
    ends: HashMap<usize, u64>,
    over: Rc<Notify>,
}

impl CatchUp {
    /// This session misses everything up to `end`.
    pub(super) fn begin(&mut self, session: usize, end: u64) {
        self.ends.insert(session, end);
    }

    /// This session has heard everything up to `seq`.
    pub(super) fn heard(&mut self, session: usize, seq: u64) {
        if self.ends.get(&session).is_some_and(|end| seq >= *end) {
            self.end(session);
        }
    }

    /// Of this session nothing more is to be expected.
    pub(super) fn end(&mut self, session: usize) {
        if self.ends.remove(&session).is_some() && self.ends.is_empty() {
            self.over.notify_one();
        }
    }

    /// What wakes who waits for all of them; none: there is nothing to wait for.
    pub(super) fn waits(&self) -> Option<Rc<Notify>> {
        (!self.ends.is_empty()).then(|| Rc::clone(&self.over))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_over_when_the_last_session_has_heard_the_last_event() {
        let mut catch_up = CatchUp::default();
        assert!(catch_up.waits().is_none());
        catch_up.begin(1, 7);
        catch_up.begin(2, 9);
        catch_up.heard(1, 6);
        catch_up.heard(3, 100);
        catch_up.heard(2, 9);
        assert!(catch_up.waits().is_some(), "one event is missing");
        catch_up.heard(1, 8);
        assert!(catch_up.waits().is_none());
        catch_up.begin(1, 9);
        catch_up.end(1);
        assert!(catch_up.waits().is_none(), "a session that is over waits for nothing");
    }
}
