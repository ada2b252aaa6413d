//! What a room keeps while nothing happens in it, by the size of what is polled.

use super::*;

fn size_of_future<A, B, F: Future>(_: impl FnOnce(A, B) -> F) -> usize {
    size_of::<F>()
}

/// A room of two is half of this for each session; what its work needs is there while it works.
#[test]
fn a_room_keeps_nothing_of_its_work() {
    let waiting = size_of_future::<&mut Worker, &mut CloseFeed, _>(Worker::serve);
    let task = size_of_future(Worker::run);
    assert!(waiting + task <= 1300, "{waiting} + {task} bytes");
}
