//! What arrives over a bus, which whoever reaches it can write to.

use bytes::Bytes;
use salon::wire::hint::codec::{decode, encode, sender};

/// The message is the input.
pub fn hint(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    let Ok((room, message)) = decode(&bytes) else { return };
    let node = sender(&bytes).expect("what is read has a sender");
    let again = encode(node, &room, &message);
    assert_eq!(sender(&again), Ok(node));
    assert_eq!(decode(&again), Ok((room, message)), "what was understood is told as it was understood");
}
