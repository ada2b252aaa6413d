//! Small frames joined into one write, once for all who are sent the same.
//!
//! In a busy room the same frames wait in every queue. Whoever sends first on a thread copies them together; the next,
//! whose queue begins with the very same, takes a reference to that copy: nothing is copied and nothing is allocated for
//! each recipient. One copy is kept a thread, which is at most one write, and what it was made of is kept with it: so
//! the same address is the same frame.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};

thread_local! {
    static LAST: RefCell<Joined> = const { RefCell::new(Joined { parts: Vec::new(), whole: Bytes::new() }) };
}

/// Frames, and all of them in one piece.
struct Joined {
    parts: Vec<Bytes>,
    whole: Bytes,
}

impl Joined {
    fn is_of<'a>(&self, mut frames: impl Iterator<Item = &'a Bytes>) -> bool {
        let mut parts = self.parts.iter();
        let known = |frame: &'a Bytes| {
            parts.next().is_some_and(|part| (part.as_ptr(), part.len()) == (frame.as_ptr(), frame.len()))
        };
        frames.all(known) && parts.next().is_none()
    }
}

/// These frames in one piece, if they are what was joined last on this thread.
pub(super) fn again<'a>(frames: impl Iterator<Item = &'a Bytes>) -> Option<Bytes> {
    LAST.with_borrow(|last| last.is_of(frames).then(|| last.whole.clone()))
}

/// Joins frames of so many bytes, and remembers it.
pub(super) fn anew(frames: impl Iterator<Item = Bytes>, bytes: usize) -> Bytes {
    let mut whole = BytesMut::with_capacity(bytes);
    LAST.with_borrow_mut(|last| {
        last.parts.clear();
        for frame in frames {
            whole.extend_from_slice(&frame);
            last.parts.push(frame);
        }
        last.whole = whole.freeze();
        last.whole.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(words: &[&'static str]) -> Vec<Bytes> {
        words.iter().map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
    }

    #[test]
    fn only_the_very_same_frames_are_taken_again() {
        let these = frames(&["one", "two", "three"]);
        assert_eq!(again(these.iter()), None);
        let whole = anew(these.iter().cloned(), 11);
        assert_eq!(whole, "onetwothree");
        let second = again(these.iter()).unwrap();
        assert_eq!((second.as_ptr(), second.len()), (whole.as_ptr(), whole.len()));
        // Fewer, more, and the same words from elsewhere are others.
        assert_eq!(again(these[..2].iter()), None);
        assert_eq!(again(these.iter().chain(&these[..1])), None);
        assert_eq!(again(these.iter().rev()), None);
        assert_eq!(again(frames(&["one", "two", "three"]).iter()), None);
        let part = [these[0].clone(), these[1].slice(..2), these[2].clone()];
        assert_eq!(again(part.iter()), None);
        assert_eq!(again(these.iter()).as_ref(), Some(&whole));
        anew(frames(&["else"]).into_iter(), 4);
        assert_eq!(again(these.iter()), None);
    }
}
