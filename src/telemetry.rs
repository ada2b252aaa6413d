//! Where logs go: to stderr, as text for people or as JSON for machines, and every panic with them.
//!
//! Owns the process's one subscriber and its panic hook; never decides what is worth a line. One event is one record:
//! a line break in a value, which a client may have chosen, cannot begin a record of its own. If a line cannot be
//! written it is lost, and the server goes on.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    fmt,
    io::{self, IsTerminal as _},
    panic::PanicHookInfo,
};

use thiserror::Error;
use tracing::{Dispatch, error};
use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt::{
        FormatFields, MakeWriter,
        format::{DefaultFields, Writer},
    },
};

use crate::{
    config::{Log, LogFormat},
    ids::{harmless_json, is_disturbing},
};

/// Why there are no logs.
#[derive(Debug, Error)]
pub enum Error {
    /// The level cannot be understood.
    #[error("`log.level` = {level:?} is no filter of levels")]
    Level {
        /// The level.
        level: String,
        /// Why.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// The process has a subscriber already.
    #[error("logging was started twice")]
    Started(#[source] tracing::dispatcher::SetGlobalDefaultError),
}

/// Sends the process's logs and panics to stderr. Colours are used only where somebody looks at them.
pub fn init(log: &Log) -> Result<(), Error> {
    let colours = io::stderr().is_terminal();
    tracing::dispatcher::set_global_default(subscriber(log, colours, io::stderr)?).map_err(Error::Started)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

fn subscriber<W>(log: &Log, colours: bool, writer: W) -> Result<Dispatch, Error>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    // What `mcp` has to say about its servers it says itself. The SDK below it would write a line for whatever a
    // foreign server sends, in that server's words; HTTP/2 would warn of every connection that an attacker opens. Who
    // names them in `log.level` gets that.
    let filter = EnvFilter::try_new(format!("rmcp=off,h2=error,{}", log.level))
        .map_err(|source| Error::Level { level: log.level.clone(), source })?;
    // When stderr is gone, complaining on stderr would panic, within the panic hook even abort.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).log_internal_errors(false);
    Ok(match log.format {
        LogFormat::Text => {
            builder.with_ansi(colours).fmt_fields(SafeFields).with_writer(writer).finish().into()
        }
        LogFormat::Json => {
            builder.json().flatten_event(true).with_ansi(false).with_writer(SafeJson(writer)).finish().into()
        }
    })
}

/// Logs a panic instead of printing it, so that it has a time, a thread and the configured format.
fn log_panic(info: &PanicHookInfo<'_>) {
    let payload = info.payload();
    let text =
        payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
    let message = text.unwrap_or("(not a text)");
    let location = info.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        error!(%location, thread, panic = message, %backtrace, "panicked");
    } else {
        error!(%location, thread, panic = message, "panicked; RUST_BACKTRACE=1 shows from where");
    }
}

/// Writes fields as the default does, without what could drive a terminal or begin a record of its own: the default
/// lets the control characters of a `%` value through. Lines but the first are set off, so that a backtrace stays
/// readable.
#[derive(Debug)]
struct SafeFields;

impl<'w> FormatFields<'w> for SafeFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        for c in text.chars() {
            match c {
                '\n' => writer.write_str("\n    | ")?,
                c if is_disturbing(c) => write!(writer, "{}", c.escape_default())?,
                c => writer.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// Writes lines of JSON so that whoever looks at them in a terminal sees what is there: JSON escapes no more than the
/// first control characters.
#[derive(Debug)]
struct SafeJson<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for SafeJson<W> {
    type Writer = SafeLine<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        SafeLine(self.0.make_writer())
    }
}

/// One record: it is handed over whole.
#[derive(Debug)]
struct SafeLine<W>(W);

impl<W: io::Write> io::Write for SafeLine<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // A record is formatted as a text: anything else is passed on as it is.
        match std::str::from_utf8(bytes) {
            Ok(line) => self.0.write_all(harmless_json(line).as_bytes())?,
            Err(_) => self.0.write_all(bytes)?,
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: &Log, colours: bool, work: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let dispatch = subscriber(log, colours, move || writer.clone()).unwrap();
        tracing::dispatcher::with_default(&dispatch, work);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    fn log(format: LogFormat, level: &str) -> Log {
        Log { format, level: level.into() }
    }

    #[test]
    fn text_has_level_fields_and_no_colours_for_a_file() {
        let text = logged(&log(LogFormat::Text, "info"), false, || {
            tracing::info!(room_id = "lobby", "room opened");
            tracing::debug!("not at this level");
        });
        assert!(
            text.contains(" INFO ") && text.contains("room opened") && text.contains("room_id=\"lobby\"")
        );
        assert!(!text.contains('\u{1b}') && !text.contains("not at this level"), "{text}");
        let coloured = logged(&log(LogFormat::Text, "info"), true, || tracing::info!("room opened"));
        assert!(coloured.contains('\u{1b}'));
    }

    #[test]
    fn what_foreign_servers_of_tools_send_is_no_line_of_ours() {
        let line = || tracing::error!(target: "rmcp::service", "received notification");
        assert_eq!(logged(&log(LogFormat::Text, "trace"), false, line), "");
        assert!(
            logged(&log(LogFormat::Text, "info,rmcp=info"), false, line).contains("received notification")
        );
    }

    #[test]
    fn an_attack_on_http2_fills_no_log() {
        let line = || tracing::warn!(target: "h2::proto::streams::recv", "streams reached limit");
        assert_eq!(logged(&log(LogFormat::Text, "trace"), false, line), "");
        assert!(logged(&log(LogFormat::Text, "info,h2=warn"), false, line).contains("reached limit"));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged(&log(LogFormat::Json, "warn"), true, || {
            tracing::warn!(queue = 3, name = %"a\nb\u{1b}[2J\u{9b}2J\u{202e}\u{2028}\u{7f}", "slow consumer");
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["message"], "slow consumer");
        assert_eq!(line["queue"], 3);
        assert_eq!(line["name"], "a\nb\u{1b}[2J\u{9b}2J\u{202e}\u{2028}\u{7f}");
        assert!(!text.trim_end().chars().any(is_disturbing), "{text}");
    }

    #[test]
    fn a_value_cannot_forge_a_record_or_drive_the_terminal() {
        let text = logged(&log(LogFormat::Text, "info"), false, || {
            tracing::info!(name = %"mallory\n2026-01-01T00:00:00Z  INFO salon: all is well\r\u{1b}[2J", "joined");
        });
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 2, "{text}");
        assert!(lines[1].starts_with("    | 2026-"), "{text}");
        assert!(!text.contains('\u{1b}') && !text.contains('\r'), "{text}");
        assert!(text.ends_with('\n'));
        let message =
            logged(&log(LogFormat::Text, "info"), true, || tracing::info!("{}", "a\r\u{9b}2J\u{202e}b"));
        assert!(message.contains("a\\r\\u{9b}2J\\u{202e}b"), "{message}");
        let span = logged(&log(LogFormat::Text, "info"), false, || {
            let span = tracing::info_span!("session", user = %"a\u{1b}[2J\nb");
            span.in_scope(|| tracing::info!("joined"));
        });
        assert!(span.contains("user=a\\u{1b}[2J\n    | b"), "{span}");
    }

    #[test]
    fn a_writer_that_fails_costs_the_line_and_no_more() {
        struct Gone;
        impl Write for Gone {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        for format in [LogFormat::Text, LogFormat::Json] {
            let dispatch = subscriber(&log(format, "info"), false, || Gone).unwrap();
            tracing::dispatcher::with_default(&dispatch, || tracing::info!("lost"));
        }
    }

    #[test]
    fn an_error_is_logged_with_its_causes() {
        let cause = io::Error::other("disk full");
        let error = Error::Level { level: "x".into(), source: EnvFilter::try_new("a=b").unwrap_err() };
        let text = logged(&log(LogFormat::Text, "info"), false, || {
            tracing::error!(error = &error as &dyn std::error::Error, %cause, "failed");
        });
        assert!(text.contains("cause=disk full") && text.contains("error.sources=["), "{text}");
    }

    #[test]
    fn a_level_can_differ_by_module() {
        let text = logged(&log(LogFormat::Text, "warn,salon::telemetry=debug"), false, || {
            tracing::debug!("from here");
            tracing::debug!(target: "elsewhere", "from there");
        });
        assert!(text.contains("from here") && !text.contains("from there"), "{text}");
    }

    #[test]
    fn a_level_that_is_none_is_an_error() {
        let error = subscriber(&log(LogFormat::Text, "salon=loud"), false, io::sink).unwrap_err();
        assert_eq!(error.to_string(), "`log.level` = \"salon=loud\" is no filter of levels");
    }

    #[test]
    fn a_panic_is_logged_with_its_place() {
        // The hook is the whole process's: the panics of other tests go where they went before.
        let before = Arc::new(std::panic::take_hook());
        let (here, others) = (std::thread::current().id(), Arc::clone(&before));
        std::panic::set_hook(Box::new(move |info| match std::thread::current().id() == here {
            true => log_panic(info),
            false => others(info),
        }));
        let text = logged(&log(LogFormat::Text, "error"), false, || {
            let result = std::panic::catch_unwind(|| panic!("room {} fell over", 7));
            assert!(result.is_err());
        });
        std::panic::set_hook(Box::new(move |info| before(info)));
        assert!(text.contains("ERROR") && text.contains("panicked"), "{text}");
        assert!(text.contains("panic=\"room 7 fell over\"") && text.contains("telemetry.rs:"), "{text}");
    }
}
