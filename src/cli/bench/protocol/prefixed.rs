//! Messages with the five bytes of gRPC before each: a flag and the length.
//!
//! Takes bytes as they come, cut anywhere, and gives whole messages. What is incomplete is kept, and nothing else is
//! copied. A message that is compressed, or longer than any server of rooms sends, is a fault.

use super::Fault;

/// The flag and the length.
pub(in crate::cli::bench) const PREFIX: usize = 5;

/// The longest message that is believed: a `room_state` has a few megabytes at most.
pub(super) const MESSAGE_BYTES: usize = 64 << 20;

/// What is kept of the memory that an incomplete message took; ten thousand streams keep as much.
const KEPT_BYTES: usize = 4 << 10;

/// Puts `message` behind its prefix.
pub(in crate::cli::bench) fn push(out: &mut Vec<u8>, message: &[u8]) {
    out.push(0);
    out.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(message);
}

/// One direction of one stream.
#[derive(Debug, Default)]
pub(in crate::cli::bench) struct Assembly {
    /// The beginning of a message whose end has not come; with its prefix.
    partial: Vec<u8>,
}

impl Assembly {
    /// Takes the next bytes; `hear` gets each message that is whole with them.
    pub(in crate::cli::bench) fn feed(
        &mut self,
        mut data: &[u8],
        hear: &mut impl FnMut(&[u8]),
    ) -> Result<(), Fault> {
        while !self.partial.is_empty() {
            let wanted = wanted(&self.partial)?;
            let missing = wanted.saturating_sub(self.partial.len());
            let (now, later) = data.split_at_checked(missing).unwrap_or((data, &[]));
            self.partial.extend_from_slice(now);
            data = later;
            if self.partial.len() < wanted {
                return Ok(());
            }
            // The prefix may have come just now, and asks for more.
            if let Some((message, _)) = split(&self.partial)? {
                hear(message);
                self.partial.clear();
                self.partial.shrink_to(KEPT_BYTES);
            }
        }
        while let Some((message, later)) = split(data)? {
            hear(message);
            data = later;
        }
        self.partial.extend_from_slice(data);
        Ok(())
    }
}

/// How many bytes there must be before it is known what follows.
fn wanted(partial: &[u8]) -> Result<usize, Fault> {
    match partial.first_chunk::<PREFIX>() {
        None => Ok(PREFIX),
        Some(prefix) => Ok(PREFIX + length(*prefix)?),
    }
}

/// A part, and what is behind it.
type Pair<'a> = (&'a [u8], &'a [u8]);

/// The first message, and what is behind it.
fn split(data: &[u8]) -> Result<Option<Pair<'_>>, Fault> {
    let Some((prefix, rest)) = data.split_first_chunk::<PREFIX>() else {
        return Ok(None);
    };
    Ok(rest.split_at_checked(length(*prefix)?))
}

fn length([flag, a, b, c, d]: [u8; PREFIX]) -> Result<usize, Fault> {
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match flag {
        0 if length <= MESSAGE_BYTES => Ok(length),
        0 => Err(Fault::Spoken(format!("a message of {length} bytes"))),
        flag => Err(Fault::Spoken(format!("a message with the flag {flag}: compressed, or no gRPC"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(chunks: &[&[u8]]) -> Result<Vec<Vec<u8>>, Fault> {
        let (mut assembly, mut heard) = (Assembly::default(), Vec::new());
        for chunk in chunks {
            assembly.feed(chunk, &mut |message| heard.push(message.to_vec()))?;
        }
        Ok(heard)
    }

    #[test]
    fn messages_are_whole_wherever_they_are_cut() {
        let messages = [b"first".to_vec(), Vec::new(), vec![7; 300], b"l".to_vec()];
        let mut bytes = Vec::new();
        for message in &messages {
            push(&mut bytes, message);
        }
        for a in 0..=bytes.len() {
            for b in a..=bytes.len().min(a + 12) {
                let cut = [&bytes[..a], &bytes[a..b], &bytes[b..]];
                assert_eq!(heard(&cut).unwrap(), messages, "cut at {a} and {b}");
            }
        }
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(heard(&single).unwrap(), messages);
    }

    #[test]
    fn what_is_no_message_is_a_fault() {
        assert!(heard(&[&[1, 0, 0, 0, 0]]).is_err());
        assert!(heard(&[&[0, 255, 255], &[255, 255]]).is_err());
        assert_eq!(heard(&[&[0, 0, 0, 0]]).unwrap(), Vec::<Vec<u8>>::new());
    }
}
