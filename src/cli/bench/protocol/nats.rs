//! The text protocol of a NATS server, as much of it as plain subjects need.
//!
//! A room is a subject, a member is a subscription. NATS acknowledges nothing and has no members, so what is said of
//! these is found by the messages alone. What the server refuses (`-ERR`) is a fault.

use super::{Fault, Heard, prefixed::MESSAGE_BYTES};

/// The longest line that is believed: INFO has a few kilobytes.
const LINE_BYTES: usize = 64 << 10;

/// One connection.
#[derive(Debug)]
pub(in crate::cli::bench) struct Nats {
    /// The subject of each subscription.
    subjects: Vec<String>,
    is_subscribed: bool,
}

impl Nats {
    /// Begins a connection of this user, if there is one, that hears these subjects.
    pub(in crate::cli::bench) fn open(
        subjects: Vec<String>,
        user: Option<&(String, String)>,
        out: &mut Vec<u8>,
    ) -> Self {
        let mut connect = serde_json::json!({
            "verbose": false, "pedantic": false, "echo": true, "protocol": 1,
            "lang": "salon-bench", "version": env!("CARGO_PKG_VERSION"),
        });
        if let (Some((user, password)), Some(connect)) = (user, connect.as_object_mut()) {
            connect.insert("user".to_owned(), user.as_str().into());
            connect.insert("pass".to_owned(), password.as_str().into());
        }
        out.extend_from_slice(format!("CONNECT {connect}\r\n").as_bytes());
        for (index, subject) in subjects.iter().enumerate() {
            out.extend_from_slice(format!("SUB {subject} {}\r\n", index + 1).as_bytes());
        }
        // Its answer says that all before it was done.
        out.extend_from_slice(b"PING\r\n");
        Self { subjects, is_subscribed: false }
    }

    /// Says `text` on the subject of the subscription.
    pub(in crate::cli::bench) fn send(&mut self, index: usize, text: &[u8], out: &mut Vec<u8>) {
        if let Some(subject) = self.subjects.get(index) {
            out.extend_from_slice(b"PUB ");
            out.extend_from_slice(subject.as_bytes());
            out.push(b' ');
            out.extend_from_slice(text.len().to_string().as_bytes());
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
    }

    /// Takes what has come, and says how much of it was whole.
    pub(in crate::cli::bench) fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<usize, Fault> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, after) = rest.split_at_checked(end + 1).unwrap_or((rest, &[]));
            let line = line.trim_ascii_end();
            if let Some(head) = line.strip_prefix(b"MSG ") {
                let (index, length) = message_head(head, self.subjects.len())?;
                let Some((text, later)) = after.split_at_checked(length + 2) else {
                    break;
                };
                hear(Heard::Message(index, text.get(..length).unwrap_or_default()));
                rest = later;
                continue;
            }
            self.line(line, out, hear)?;
            rest = after;
        }
        if rest.len() > LINE_BYTES && !rest.starts_with(b"MSG ") {
            return Err(Fault::Spoken("a line without an end: this is no NATS server".into()));
        }
        Ok(bytes.len() - rest.len())
    }

    fn line(
        &mut self,
        line: &[u8],
        out: &mut Vec<u8>,
        hear: &mut impl FnMut(Heard<'_>),
    ) -> Result<(), Fault> {
        match line {
            b"PING" => out.extend_from_slice(b"PONG\r\n"),
            b"PONG" if !self.is_subscribed => {
                self.is_subscribed = true;
                for index in 0..self.subjects.len() {
                    hear(Heard::Joined(index));
                }
            }
            b"PONG" | b"+OK" | b"" => {}
            line if line.starts_with(b"INFO") => {}
            line => {
                let said = String::from_utf8_lossy(line.get(..200).unwrap_or(line)).into_owned();
                return Err(Fault::Spoken(said));
            }
        }
        Ok(())
    }
}

/// Of `subject sid [reply] length`: which of so many subscriptions, and how long.
fn message_head(head: &[u8], subscriptions: usize) -> Result<(usize, usize), Fault> {
    let text = std::str::from_utf8(head).ok();
    let read = text.and_then(|text| {
        let mut words = text.split_ascii_whitespace();
        let sid: usize = words.nth(1)?.parse().ok()?;
        let length: usize = words.next_back()?.parse().ok()?;
        Some((sid.checked_sub(1).filter(|index| *index < subscriptions)?, length))
    });
    let read = read.filter(|(_, length)| *length <= MESSAGE_BYTES);
    read.ok_or_else(|| Fault::Spoken("a message whose head cannot be read: this is no NATS server".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_whole_wherever_they_are_cut() {
        let said = b"INFO {\"a\":1}\r\nPONG\r\nMSG r.0 1 5\r\nhello\r\nPING\r\nMSG r.0 2 reply 3\r\na\nb\r\nMSG r.0 1 0\r\n\r\n";
        for cut in 0..=said.len() {
            let mut out = Vec::new();
            let mut nats = Nats::open(vec!["r.0".into(), "r.0".into()], None, &mut out);
            out.clear();
            let mut heard = Vec::new();
            let mut hear = |what: Heard<'_>| {
                heard.push(match what {
                    Heard::Message(index, text) => (index, Some(text.to_vec())),
                    Heard::Joined(index) => (index, None),
                    Heard::Ended(..) => panic!(),
                });
            };
            let whole = nats.receive(&said[..cut], &mut out, &mut hear).unwrap();
            let rest = nats.receive(&said[whole..], &mut out, &mut hear).unwrap();
            assert_eq!(whole + rest, said.len(), "cut at {cut}");
            let text = |index, text: &str| (index, Some(text.as_bytes().to_vec()));
            assert_eq!(
                heard,
                [(0, None), (1, None), text(0, "hello"), text(1, "a\nb"), text(0, "")],
                "cut at {cut}"
            );
            assert_eq!(out, b"PONG\r\n");
        }
    }

    #[test]
    fn what_is_said_has_its_length_and_a_refusal_is_a_fault() {
        let mut out = Vec::new();
        let user = ("ada".to_owned(), "\"quoted\"".to_owned());
        let mut nats = Nats::open(vec!["r.0".into()], Some(&user), &mut out);
        let begun = String::from_utf8(out.clone()).unwrap();
        assert!(begun.ends_with("SUB r.0 1\r\nPING\r\n"));
        let connect: serde_json::Value =
            serde_json::from_str(begun.lines().next().unwrap().strip_prefix("CONNECT ").unwrap()).unwrap();
        assert_eq!((&connect["user"], &connect["pass"]), (&"ada".into(), &"\"quoted\"".into()));
        out.clear();
        nats.send(0, b"a b", &mut out);
        assert_eq!(out, b"PUB r.0 3\r\na b\r\n");
        for wrong in [
            "-ERR 'Authorization Violation'",
            "MSG x",
            "HTTP/1.1 400",
            "MSG r.0 0 5",
            "MSG r.0 2 5",
            "MSG r.0 18446744073709551615 5",
            "MSG r.0 1 67108865",
            "MSG r.0 1 18446744073709551615",
        ] {
            let line = format!("{wrong}\r\n");
            assert!(nats.receive(line.as_bytes(), &mut out, &mut |_| {}).is_err(), "{wrong}");
        }
        // A large message is waited for.
        assert_eq!(nats.receive(b"MSG r.0 1 67108864\r\n", &mut out, &mut |_| {}).unwrap(), 0);
    }
}
