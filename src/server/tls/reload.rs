//! Taking new files without a restart.
//!
//! Files are looked at every few seconds by what they say, so that it does not matter how they were replaced (written
//! over, renamed, a link that was turned), and at once on SIGHUP. What cannot be used is refused with the reason, once
//! for each change, and what was in force stays; a certificate and a key that are replaced one after the other may be
//! refused in between, and are taken with the next look.

use std::{sync::Arc, time::Duration};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    server::tls::{
        Tls,
        files::{Contents, Error, Made, TlsFiles},
    },
};

/// Between looks at the files: three small reads.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// From how long before its end on a certificate is warned of at each look that finds it new.
const ENDS_SOON: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// What keeps TLS as its files are.
#[derive(Debug)]
pub(in crate::server) struct Reloader {
    tls: Tls,
    files: TlsFiles,
    clock: Arc<dyn Clock>,
    /// What was found last, whether it could be used or not.
    last: Result<Contents, String>,
}

impl Reloader {
    /// Reads the files for the first time: here, what cannot be used is an error.
    pub(in crate::server) async fn start(
        files: TlsFiles,
        clock: Arc<dyn Clock>,
    ) -> Result<(Tls, Self), Error> {
        let contents = files.read().await?;
        let made = files.make(&contents)?;
        tell_validity(&files, &made, clock.as_ref());
        let tls = Tls::new(made.config);
        Ok((tls.clone(), Self { tls, files, clock, last: Ok(contents) }))
    }

    /// Looks until `stop`.
    pub(in crate::server) async fn run(mut self, stop: CancellationToken) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP cannot be waited for; the files of TLS are looked at all the same");
                None
            }
        };
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = hung_up(&mut hangup) => true,
                _ = tick.tick() => false,
            };
            self.look(asked).await;
        }
    }

    /// Looks once; whoever has asked for it is told, too, when nothing is new.
    async fn look(&mut self, asked: bool) {
        let found = self.files.read().await;
        let is_new = match (&found, &self.last) {
            (Ok(found), Ok(last)) => found != last,
            (Err(found), Err(last)) => text(found) != *last,
            _ => true,
        };
        if !is_new && !asked {
            return;
        }
        let made =
            found.as_ref().map_err(text).and_then(|found| self.files.make(found).map_err(|e| text(&e)));
        match made {
            Ok(made) => {
                tracing::info!(certificate = %self.files.certificate.display(), "the files of TLS were read again");
                tell_validity(&self.files, &made, self.clock.as_ref());
                self.tls.replace(made.config);
            }
            Err(error) => {
                tracing::error!(error, "the files of TLS were refused; what was in force stays");
            }
        }
        self.last = found.map_err(|error| text(&error));
    }
}

async fn hung_up(hangup: &mut Option<Signal>) {
    let heard = match hangup {
        Some(hangup) => hangup.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending().await
    }
}

/// An error with its causes: what is compared, and what is told.
fn text(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Clients refuse a certificate that is not valid: that is not found out by them first.
fn tell_validity(files: &TlsFiles, made: &Made, clock: &dyn Clock) {
    let (Some(validity), now) = (made.validity, clock.now()) else { return };
    let certificate = files.certificate.display();
    let days = |duration: Duration| duration.as_secs() / (24 * 60 * 60);
    if validity.not_after < now {
        let days = days(now.since(validity.not_after));
        tracing::warn!(%certificate, days, "the certificate has ended: clients refuse it; replace the file");
    } else if now < validity.not_before {
        tracing::warn!(%certificate, "the certificate is not valid yet: clients refuse it; is the clock right?");
    } else if validity.not_after < now.plus(ENDS_SOON) {
        let days = days(validity.not_after.since(now));
        tracing::warn!(%certificate, days, "the certificate ends soon; replace the file");
    }
}
