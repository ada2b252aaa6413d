//! A file that holds one secret alone: a key, or a URL with a password. What is wrong with it is said without a word of
//! it.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use secrecy::SecretString;

/// More than any key has; whoever names a large file by mistake is told so at once.
const KEY_BYTES_MAX: u16 = 16 * 1024;

/// The key that a file holds. What is wrong with the file is said without a word of it.
pub(super) fn key_in(path: &Path) -> Result<SecretString, String> {
    let mut text = String::new();
    let read = fs::File::open(path)
        .and_then(|file| file.take(u64::from(KEY_BYTES_MAX) + 1).read_to_string(&mut text));
    let key = text.trim();
    match read {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err("names a file that is no text".into())
        }
        Err(error) => Err(format!("names a file that cannot be read ({})", error.kind())),
        Ok(_) if key.is_empty() => Err("names a file that is empty".into()),
        Ok(size) if size > usize::from(KEY_BYTES_MAX) || !key.bytes().all(|b| b.is_ascii_graphic()) => {
            Err("names a file that holds more than one line of printable ASCII without spaces".into())
        }
        Ok(_) => Ok(SecretString::from(key)),
    }
}
