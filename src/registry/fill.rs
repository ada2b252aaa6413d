//! What a feed is missing, read from the store: one reading at a time.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};

use crate::{
    bus::{LogBatch, Note},
    registry::{feed::Feed, outbound::Expelled},
    store::{Page, Record, Store},
    wire::{decode, frame},
};

/// How much is read at once to fill a hole.
const FILL_PAGE: Page = Page { events: 512, bytes: 1024 * 1024 };
/// How often the store is asked for what the bus has told of and the store does not show.
const FILL_TRIES: u32 = 5;
/// How long to wait before reading again after the store failed.
const FILL_RETRY: Duration = Duration::from_millis(200);

impl Feed {
    /// Whether the caller is the one who reads what is missing.
    pub(super) fn begin_fill(&self) -> bool {
        !std::mem::replace(&mut self.lock().filling, true)
    }

    /// Reads from the store until nothing is missing.
    pub(super) async fn fill(self: Arc<Self>, store: &dyn Store) {
        let mut nothing = 0;
        loop {
            let after = self.delivered();
            match store.read(self.room(), after, FILL_PAGE).await {
                Ok(records) if records.is_empty() => {
                    nothing += 1;
                    let pause = {
                        let mut state = self.lock();
                        // Only if nothing came in between is this the end; else what came must be looked at. What
                        // the bus tells of and the store does not show is waited for a while, and then not believed.
                        let expects = !state.early.is_empty() || state.told > after;
                        if state.delivered == after && (!expects || nothing >= FILL_TRIES) {
                            state.early.clear();
                            state.told = after;
                            state.filling = false;
                            return;
                        }
                        state.delivered == after
                    };
                    if pause {
                        tokio::time::sleep(FILL_RETRY).await;
                    }
                }
                Ok(records) => match batch_of(&records) {
                    Some(batch) => self.deliver_missed(batch),
                    None => {
                        tracing::error!(room = %self.room(), %after, "the log cannot be read: delivery stops");
                        self.expel_all(Expelled::Internal);
                        self.lock().filling = false;
                        return;
                    }
                },
                Err(error) => {
                    tracing::warn!(room = %self.room(), %error, "cannot read what the bus has lost");
                    tokio::time::sleep(FILL_RETRY).await;
                }
            }
        }
    }
}

/// Stored events as a batch; `None`: they cannot be read.
fn batch_of(records: &[Record]) -> Option<LogBatch> {
    let (first, last) = (records.first()?.seq, records.last()?.seq);
    let mut notes = Vec::new();
    for record in records {
        let recorded = decode::event(record.seq, &record.public, &record.private).ok()?;
        notes.extend(Note::of(record.seq, &recorded));
    }
    Some(LogBatch { first, last, frames: frames_of(records), notes: notes.into() })
}

/// The frames of stored events, one behind the other.
pub fn frames_of(records: &[Record]) -> Bytes {
    let len = records.iter().map(|record| frame::stored_len(&record.public, record.seq)).sum();
    let mut frames = BytesMut::with_capacity(len);
    for record in records {
        frame::put_stored(&mut frames, &record.public, record.seq);
    }
    frames.freeze()
}
