//! What `salon admin` prints: tables for people, one JSON object a line for programs.

use std::io::{self, BufWriter, Write};

use prost::Message;

use crate::{
    cli::{client::Error, json::Printer, text},
    wire::pb::room::v1::{ApiKey, AuditEntry, Identity, NamespaceInfo, Quotas},
};

/// Longer names are cut in tables; JSON has them whole.
const NAME_CHARS: usize = 40;

/// Where answers go.
pub(super) struct Output<W: Write> {
    out: BufWriter<W>,
    /// Lines of JSON instead of text.
    pub(super) is_json: bool,
}

impl<W: Write> Output<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out: BufWriter::new(out), is_json: false }
    }

    pub(super) fn flush(&mut self) -> Result<(), Error> {
        Ok(self.out.flush()?)
    }

    /// Something was made that is shown this once: the secret is the answer.
    pub(super) fn made(
        &mut self,
        message: &str,
        answer: &impl Message,
        what: &str,
        secret: &str,
    ) -> Result<(), Error> {
        match self.is_json {
            true => writeln!(self.out, "{}", Printer::new(message)?.line(answer)?)?,
            false => {
                let (what, secret) = (text::line(what), text::line(secret));
                // What it is goes beside it, so that the answer alone can be kept in a file.
                writeln!(io::stderr(), "{what}; it is shown only now:")?;
                writeln!(self.out, "{secret}")?;
            }
        }
        Ok(())
    }

    /// Something was done that has no answer.
    pub(super) fn done(&mut self, what: &str) -> Result<(), Error> {
        match self.is_json {
            true => writeln!(self.out, "{{}}")?,
            false => writeln!(self.out, "{what}")?,
        }
        Ok(())
    }

    pub(super) fn namespaces(&mut self, all: &[NamespaceInfo]) -> Result<(), Error> {
        let header = ["NAMESPACE", "NAME", "STATUS", "QUOTAS", "CREATED"].map(str::to_owned);
        let row = |one: &NamespaceInfo| {
            let status = if one.archived_at.is_some() { "archived" } else { "active" };
            let name = text::excerpt(&one.display_name, NAME_CHARS);
            let quotas = one.quotas.as_ref().map(quotas).unwrap_or_default();
            [text::line(&one.namespace), name, status.to_owned(), quotas, moment(one.created_at.as_ref())]
        };
        self.list("room.v1.NamespaceInfo", all, header, row)
    }

    pub(super) fn identities(&mut self, all: &[Identity]) -> Result<(), Error> {
        let header = ["IDENTITY", "USER", "NAME", "STATUS", "SECRETS", "CREATED"].map(str::to_owned);
        let row = |one: &Identity| {
            let status = if one.revoked_at.is_some() { "revoked" } else { "active" };
            [
                text::line(&one.identity_id),
                text::excerpt(&one.user_id, NAME_CHARS),
                text::excerpt(&one.display_name, NAME_CHARS),
                status.to_owned(),
                one.secrets.len().to_string(),
                moment(one.created_at.as_ref()),
            ]
        };
        self.list("room.v1.Identity", all, header, row)
    }

    pub(super) fn keys(&mut self, all: &[ApiKey]) -> Result<(), Error> {
        let header = ["KEY", "LABEL", "SCOPES", "STATUS", "EXPIRES", "CREATED"].map(str::to_owned);
        let row = |one: &ApiKey| {
            let status = if one.revoked_at.is_some() { "revoked" } else { "active" };
            [
                text::line(&one.key_id),
                text::excerpt(&one.label, NAME_CHARS),
                text::line(&one.scopes.join(",")),
                status.to_owned(),
                one.expires_at.as_ref().map_or_else(|| "never".to_owned(), |at| moment(Some(at))),
                moment(one.created_at.as_ref()),
            ]
        };
        self.list("room.v1.ApiKey", all, header, row)
    }

    /// A page of the audit, one line an entry: the next page may be long in coming, and its widths are not known.
    pub(super) fn audit(&mut self, entries: &[AuditEntry]) -> Result<(), Error> {
        if self.is_json {
            return self.list("room.v1.AuditEntry", entries, [], |_| []);
        }
        for entry in entries {
            writeln!(self.out, "{}", audit_line(entry))?;
        }
        Ok(self.out.flush()?)
    }

    fn list<T: Message, const N: usize>(
        &mut self,
        message: &str,
        all: &[T],
        header: [String; N],
        row: impl Fn(&T) -> [String; N],
    ) -> Result<(), Error> {
        if self.is_json {
            let printer = Printer::new(message)?;
            return all.iter().try_for_each(|one| Ok(writeln!(self.out, "{}", printer.line(one)?)?));
        }
        let rows: Vec<[String; N]> = std::iter::once(header).chain(all.iter().map(row)).collect();
        Ok(text::columns(&rows, &mut self.out)?)
    }
}

/// What a namespace was given of its own.
fn quotas(quotas: &Quotas) -> String {
    let Quotas { rooms, members, stored_bytes, runs, streams } = quotas;
    let all = [
        ("rooms", rooms),
        ("members", members),
        ("stored-bytes", stored_bytes),
        ("runs", runs),
        ("streams", streams),
    ];
    let own = all.iter().filter_map(|(name, most)| Some(format!("{name}={}", most.as_ref()?)));
    own.collect::<Vec<_>>().join(",")
}

/// Each word with its name, and those that are empty not at all.
fn audit_line(entry: &AuditEntry) -> String {
    let AuditEntry { act, outcome, actor, room_id, subject, detail, origins, count, .. } = entry;
    let mut line = format!("{} {} {}", moment(entry.at.as_ref()), text::line(act), text::line(outcome));
    for (name, word) in [("actor", actor), ("room", room_id), ("subject", subject), ("detail", detail)] {
        if !word.is_empty() {
            line.push_str(&format!(" {name}={:?}", text::line(word)));
        }
    }
    for origin in origins {
        let (credential, peer) = (text::line(&origin.credential), text::line(&origin.peer));
        line.push_str(&format!(" by={credential:?} from={peer:?}"));
    }
    if *count > 1 {
        line.push_str(&format!(" count={count}"));
    }
    line
}

/// A moment without its fractions; nothing where there is none.
fn moment(at: Option<&prost_types::Timestamp>) -> String {
    at.map(|at| prost_types::Timestamp { nanos: 0, ..*at }.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::pb::room::v1::AuditOrigin;

    fn printed(is_json: bool, print: impl FnOnce(&mut Output<&mut Vec<u8>>) -> Result<(), Error>) -> String {
        let mut out = Vec::new();
        let mut output = Output { is_json, ..Output::new(&mut out) };
        print(&mut output).unwrap();
        output.flush().unwrap();
        drop(output);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn keys_are_a_table_or_lines_of_json() {
        let key = ApiKey {
            key_id: "ab12".into(),
            label: "\u{1b}[31mweb".into(),
            scopes: vec!["tokens".into(), "audit".into()],
            created_at: Some(prost_types::Timestamp { seconds: 0, nanos: 1 }),
            ..ApiKey::default()
        };
        let expected = "KEY   LABEL  SCOPES        STATUS  EXPIRES  CREATED\n\
                        ab12  web    tokens,audit  active  never    1970-01-01T00:00:00Z\n";
        assert_eq!(printed(false, |output| output.keys(std::slice::from_ref(&key))), expected);
        let line = printed(true, |output| output.keys(&[key]));
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(value["keyId"], "ab12");
    }

    #[test]
    fn an_entry_of_the_audit_is_one_harmless_line() {
        let entry = AuditEntry {
            at: Some(prost_types::Timestamp { seconds: 0, nanos: 1 }),
            act: "kick".into(),
            outcome: "done".into(),
            actor: "ann".into(),
            subject: "b\u{1b}[2J\nob\u{202e}".into(),
            origins: vec![AuditOrigin { credential: "key ab".into(), peer: String::new() }],
            count: 3,
            ..AuditEntry::default()
        };
        let text = printed(false, |output| output.audit(std::slice::from_ref(&entry)));
        let expected = "1970-01-01T00:00:00Z kick done actor=\"ann\" subject=\"b ob<U+202E>\" \
                        by=\"key ab\" from=\"\" count=3\n";
        assert_eq!(text, expected);
        let line = printed(true, |output| output.audit(&[entry]));
        assert!(!line.trim_end().chars().any(crate::ids::is_disturbing), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&value["act"], &value["count"]), (&"kick".into(), &"3".into()));
    }

    #[test]
    fn a_namespace_is_shown_with_what_it_was_given() {
        let quotas = Some(Quotas { rooms: Some(5), streams: Some(0), ..Quotas::default() });
        let one = NamespaceInfo { namespace: "acme".into(), quotas, ..NamespaceInfo::default() };
        let table = printed(false, |output| output.namespaces(&[one]));
        assert!(table.contains("acme") && table.contains("rooms=5,streams=0"), "{table}");
    }

    #[test]
    fn a_secret_stands_on_a_line_of_its_own() {
        let text = printed(false, |output| output.made("room.v1.ApiKey", &ApiKey::default(), "key ab", "s3"));
        assert_eq!(text, "s3\n");
    }
}
