//! What a session keeps for as long as it lives, by the size of what is polled.

use futures_util::stream::Empty;

use super::*;

/// The size of the future that a call of this returns.
fn size_of_future<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
    size_of::<F>()
}

/// There are tens of thousands of them, and nearly all are silent: what a join needs must not stay with them, and nothing
/// twice.
#[test]
fn a_session_keeps_no_more_than_it_needs_while_it_waits() {
    let size = size_of_future(StreamHandler::run::<Empty<Result<Bytes, InboundError>>>);
    assert!(size <= 2000, "{size} bytes");
}
