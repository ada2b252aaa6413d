//! Appends: a plan is made on what is believed of the room and written; where the belief was wrong it is read anew.
//!
//! Each round ends in a transaction that was carried out, or in knowledge that the last one lacked. That another
//! process was faster means that the room went on, and is tried again until `store.timeout` is over.

use aws_sdk_dynamodb::types::{
    CancellationReason, Delete, Put, ReturnValuesOnConditionCheckFailure as Return, TransactWriteItem,
};
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    ids::RoomId,
    store::{
        Append, Error, ErrorKind, Outcome,
        dynamodb::{
            DynamoStore,
            client::Failure,
            failure::{error, incomplete},
            hints::Belief,
            items::{self, Item, Key, get_bytes, item, text},
            log, lookups,
            plan::{Action, Known, Missing, RequestKey, Write, plan},
        },
    },
};

const NOT_THERE: &str = "attribute_not_exists(pk)";

/// What came of a write.
enum Written {
    /// It is there.
    Yes,
    /// Nothing of it is there: the belief was wrong, and these keys were used before.
    No(Vec<(RequestKey, Item)>),
}

/// [`crate::store::Store::append`].
pub(super) async fn append(
    store: &DynamoStore,
    room: &RoomId,
    appends: &[Append],
) -> Result<Vec<Outcome>, Error> {
    store.table.check_open()?;
    let hint = store.hints.of(room);
    let mut belief = hint.turn.lock().await;
    // Whoever gives up on the way leaves no belief behind.
    let Belief { end, facts } = std::mem::take(&mut *belief);
    let mut call = Call::new(store, room, Known { end, facts, ..Known::default() });
    let carried_out = call.carry_out(appends).await;
    store.tally.pass_on(&store.table, &room.namespace()).await;
    let outcomes = carried_out?;
    let Known { end, facts, .. } = call.known;
    if end.is_some() {
        hint.found();
    }
    *belief = Belief { end, facts };
    Ok(outcomes)
}

/// One call of append.
struct Call<'a> {
    store: &'a DynamoStore,
    room: &'a RoomId,
    known: Known,
    /// Where the log ends was read, or written, within this call.
    is_fresh: bool,
}

impl<'a> Call<'a> {
    fn new(store: &'a DynamoStore, room: &'a RoomId, known: Known) -> Self {
        Self { store, room, known, is_fresh: false }
    }

    async fn carry_out(&mut self, appends: &[Append]) -> Result<Vec<Outcome>, Error> {
        let mut outcomes = Vec::with_capacity(appends.len());
        let mut deadline = Instant::now() + self.store.table.patience();
        // A room that is begun is most likely not there: that shows at the write.
        if self.known.end.is_none()
            && appends.first().is_some_and(|first| first.fence != Some(crate::ids::Seq::ZERO))
        {
            self.read_end().await?;
        }
        while let Some(rest) = appends.get(outcomes.len()..).filter(|rest| !rest.is_empty()) {
            if Instant::now() > deadline {
                let what = "could not append: others write to the room all the time";
                return Err(error(ErrorKind::Unavailable, what));
            }
            let plan = match plan(self.room, &self.known, rest)? {
                Ok(plan) => plan,
                Err(missing) => {
                    self.find(missing).await?;
                    continue;
                }
            };
            let Some(write) = plan.write else {
                if plan.refuses && !self.is_fresh {
                    self.read_end().await?;
                } else {
                    outcomes.extend(plan.outcomes);
                }
                continue;
            };
            match self.write(&write).await? {
                Written::Yes => {
                    self.store.tally.add(&self.room.namespace(), write.taken);
                    self.known.end = Some(write.end);
                    self.known.facts = write.facts;
                    self.is_fresh = true;
                    outcomes.extend(plan.outcomes);
                    deadline = Instant::now() + self.store.table.patience();
                }
                Written::No(used) => {
                    self.known.requests.retain(|_, found| found.is_some());
                    for (key, item) in used {
                        self.known.requests.insert(key, Some(lookups::request_of(&item)?));
                    }
                    self.known.facts = None;
                    self.read_end().await?;
                }
            }
        }
        Ok(outcomes)
    }

    async fn read_end(&mut self) -> Result<(), Error> {
        self.known.end = log::end(&self.store.table, self.room).await?;
        self.is_fresh = true;
        Ok(())
    }

    async fn find(&mut self, missing: Missing) -> Result<(), Error> {
        match missing {
            Missing::Facts => self.known.facts = Some(lookups::facts(&self.store.table, self.room).await?),
            Missing::Number => self.known.number = Some(lookups::next_number(&self.store.table).await?),
            Missing::Request(key) => {
                let found = lookups::request(&self.store.table, self.room, &key.0, &key.1).await?;
                self.known.requests.insert(key, found);
            }
        }
        Ok(())
    }

    async fn write(&self, write: &Write) -> Result<Written, Error> {
        let key = items::batch(self.room, write.first);
        let mut batch = key.item();
        batch.extend(write.batch.clone());
        if write.requests.is_empty() && write.others.is_empty() && write.creator.is_none() {
            return self.put(write, &key, batch).await;
        }
        let (actions, requests_at) = self.actions(write, batch)?;
        // The service knows a repeat by it for ten minutes.
        let token = Uuid::new_v4().as_hyphenated().to_string();
        let table = &self.store.table;
        let sent = table.send("append", || {
            table
                .client()
                .transact_write_items()
                .client_request_token(&token)
                .set_transact_items(Some(actions.clone()))
                .send()
        });
        match sent.await {
            Ok(_) => Ok(Written::Yes),
            Err(Failure::Cancelled { reasons, doubted }) => {
                if self
                    .is_ours(write, &key, reasons.first().and_then(CancellationReason::item), doubted)
                    .await?
                {
                    return Ok(Written::Yes);
                }
                let failed = reasons.iter().skip(requests_at).zip(&write.requests);
                let used = failed.filter_map(|(reason, (key, _))| Some((key.clone(), reason.item.clone()?)));
                Ok(Written::No(used.collect()))
            }
            Err(failure) => Err(self.doubtful(write, failure)),
        }
    }

    /// A batch that brings nothing else needs no transaction, and costs half of one.
    async fn put(&self, write: &Write, key: &Key, batch: Item) -> Result<Written, Error> {
        let table = &self.store.table;
        let sent = table.send("append", || {
            table
                .client()
                .put_item()
                .table_name(table.name())
                .set_item(Some(batch.clone()))
                .condition_expression(NOT_THERE)
                .return_values_on_condition_check_failure(Return::AllOld)
                .send()
        });
        match sent.await {
            Ok(_) => Ok(Written::Yes),
            Err(Failure::Condition { found, doubted }) => {
                let ours = self.is_ours(write, key, found.as_ref(), doubted).await?;
                Ok(if ours { Written::Yes } else { Written::No(Vec::new()) })
            }
            Err(failure) => Err(self.doubtful(write, failure)),
        }
    }

    /// Whether the batch that is there is the one that was to be written: an attempt whose answer was lost.
    async fn is_ours(
        &self,
        write: &Write,
        key: &Key,
        found: Option<&Item>,
        doubted: bool,
    ) -> Result<bool, Error> {
        if !doubted {
            return Ok(false);
        }
        let ours = |found: &Item| Ok(get_bytes(found, "w")? == get_bytes(&write.batch, "w")?);
        match found {
            Some(found) => ours(found),
            // Another condition was named alone, perhaps.
            None => lookups::get(&self.store.table, "append", key).await?.as_ref().map_or(Ok(false), ours),
        }
    }

    fn doubtful(&self, write: &Write, failure: Failure) -> Error {
        let failed = failure.into_error();
        let what = format!(
            "{}; whether event {} of the room was appended shows when it is read",
            failed.what, write.first.0
        );
        Error { what, ..failed }
    }

    /// The actions of a transaction, and which of them is the first idempotency key.
    fn actions(&self, write: &Write, batch: Item) -> Result<(Vec<TransactWriteItem>, usize), Error> {
        let mut actions = vec![self.put_action(batch, Some((NOT_THERE, Item::new())))?];
        if let Some((before, meta)) = &write.creator {
            let mut room = items::meta(self.room).item();
            room.extend(meta.clone());
            let condition = match before {
                Some(before) => ("c = :before", item([(":before", text(before.as_str()))])),
                None => ("attribute_not_exists(c)", Item::new()),
            };
            actions.push(self.put_action(room, Some(condition))?);
        }
        let requests_at = actions.len();
        for ((sender, request_id), values) in &write.requests {
            let mut request = items::request(self.room, sender, request_id).item();
            request.extend(values.clone());
            actions.push(self.put_action(request, Some((NOT_THERE, Item::new())))?);
        }
        for (key, action) in &write.others {
            actions.push(match action {
                Action::Put(values) => {
                    let mut whole = key.item();
                    whole.extend(values.clone());
                    self.put_action(whole, None)?
                }
                Action::Delete => {
                    let delete =
                        Delete::builder().table_name(self.store.table.name()).set_key(Some(key.item()));
                    let delete = delete.build().map_err(incomplete)?;
                    TransactWriteItem::builder().delete(delete).build()
                }
            });
        }
        Ok((actions, requests_at))
    }

    fn put_action(&self, item: Item, condition: Option<(&str, Item)>) -> Result<TransactWriteItem, Error> {
        let mut put = Put::builder().table_name(self.store.table.name()).set_item(Some(item));
        if let Some((condition, values)) = condition {
            put = put
                .condition_expression(condition)
                .set_expression_attribute_values(Some(values).filter(|values| !values.is_empty()))
                .return_values_on_condition_check_failure(Return::AllOld);
        }
        Ok(TransactWriteItem::builder().put(put.build().map_err(incomplete)?).build())
    }
}
