//! Cursors of lists, as clients hand them back.

use salon::grpc::cursor::{decode, decode_number, encode};

/// Pieces: the list, the cursor.
pub fn cursor(data: &[u8]) {
    let pieces: Vec<_> = super::pieces(data).into_iter().map(String::from_utf8_lossy).collect();
    let list = &pieces[0];
    let text = pieces.get(1).map_or("", |text| text.as_ref());
    let number = decode_number(list, text);
    match decode(list, text) {
        Err(_) => assert!(number.is_err()),
        Ok(position) => {
            assert_eq!(encode(list, &position), text, "one position has one cursor");
            assert_eq!(number.ok(), position.try_into().ok().map(u64::from_be_bytes));
        }
    }
    // Whatever the position is, its cursor leads to it, and leads nowhere in another list.
    let made = encode(list, text.as_bytes());
    assert_eq!(decode(list, &made).as_deref(), Ok(text.as_bytes()));
    assert!(decode(&format!("{list}x"), &made).is_err());
}
