//! What namespaces have taken of the store, held against their quotas.
//!
//! The store counts; here is what it said last, about [`FRESH`] ago, and what was let through since on this server. What
//! others let through meanwhile is not known: a quota may be overshot by what comes in that time. A namespace without
//! such a quota costs no look. A store that does not answer refuses nobody by that: it will refuse the write itself.
//!
//! Who creates a room waits for a look where the last is old. Who joins is many at once: they wait for the first look at
//! their namespace only, all for the same one and not for long, and are then held against what [`Usages::refresh`] has
//! found and who has joined since. Who has left since is not counted, nor whose join came to nothing: so whoever is
//! refused by that makes the store be asked once more, once in a second at most ([`Allowance::learn_anew`]).

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt as _, stream};
use tokio::time::{Instant, timeout};

use crate::{
    allowance::{Allowance, Allowances, payer::Payer, purse::Purse, quotas::over},
    auth::{directory::Directory, quotas::Quotas},
    domain::rejection::Rejection,
    ids::Namespace,
    store::{NamespaceUsage, Store},
};

/// How long what the store has said is held to be true, and how often [`Usages::refresh`] should be called.
pub const FRESH: Duration = Duration::from_secs(5);

/// How old a look must be for another by who was refused.
const OLD: Duration = Duration::from_secs(1);
/// How long whoever joins waits for a look.
const PATIENCE: Duration = Duration::from_secs(1);

/// How many namespaces are asked about by themselves; of more the whole folder is read, in pages: it has ten thousand
/// entries at most.
const FEW: usize = 100;
/// Documents that are read in one call, and stores of how many namespaces are asked at the same time.
const PAGE: usize = 500;
const AT_ONCE: usize = 8;

/// What is known of a namespace.
#[derive(Debug, Default)]
pub(super) struct Known {
    said: Mutex<Option<(NamespaceUsage, Instant)>>,
    /// When somebody who joins has asked; held by whoever does.
    asked: tokio::sync::Mutex<Option<Instant>>,
    /// Rooms that were let through since.
    rooms_since: AtomicU64,
    /// Who has become a member since.
    members_since: AtomicU64,
    /// It has stored as much as it may.
    is_full: AtomicBool,
}

impl Known {
    fn said(&self) -> MutexGuard<'_, Option<(NamespaceUsage, Instant)>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What namespaces have taken of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Usages {
    store: Arc<dyn Store>,
    allowances: Allowances,
    /// Where namespaces' own quotas are written down; none: nobody has any.
    directory: Option<Directory>,
}

impl Usages {
    /// What is taken of this store.
    pub fn new(store: Arc<dyn Store>, allowances: Allowances) -> Self {
        Self { store, allowances, directory: None }
    }

    /// The same, with the quotas that this directory has for namespaces.
    #[must_use]
    pub fn with_quotas_of(self, directory: Directory) -> Self {
        Self { directory: Some(directory), ..self }
    }

    /// What everybody may take.
    pub fn allowances(&self) -> &Allowances {
        &self.allowances
    }

    /// Whether one more room may be created by whoever has this allowance; it counts from now on.
    pub async fn check_room(&self, allowance: &Allowance) -> Result<(), Rejection> {
        let quotas = self.allowances.quotas(&allowance.namespace);
        let Some(purse) = allowance.shared().filter(|_| quotas.rooms.or(quotas.stored_bytes).is_some())
        else {
            return Ok(());
        };
        let Some(usage) = allowance.look_up(self.store.as_ref(), purse).await else {
            return Ok(());
        };
        allowance.check_space()?;
        let Some(most) = quotas.rooms else {
            return Ok(());
        };
        one_more(&purse.known().rooms_since, usage.rooms, most).map_err(|rooms| {
            let now = format!("this namespace has {rooms} rooms, those that have ended included");
            over("rooms", &now, most, "use a room that is there, or ask the operator for more")
        })
    }

    /// Reads the quotas of all namespaces of which somebody is here, and asks the store again about those that have a
    /// quota of bytes or members.
    pub async fn refresh(&self) {
        let here: HashSet<Namespace> = self.allowances.0.namespaces.keys().into_iter().collect();
        if let Some(directory) = &self.directory {
            if here.len() <= FEW {
                self.read_each(directory, &here).await;
            } else if let Err(rejection) = self.read_pages(directory, &here).await {
                // What was read last holds on.
                tracing::debug!(%rejection, "quotas could not be read");
            }
        }
        let counted = here.iter().filter(|namespace| is_looked_at(self.allowances.quotas(namespace)));
        let look = async |namespace: &Namespace| {
            let allowance = self.allowances.of(&Payer::user(namespace.clone(), None));
            if let Some(purse) = allowance.shared() {
                allowance.look_anew(self.store.as_ref(), purse).await;
            }
        };
        stream::iter(counted).for_each_concurrent(AT_ONCE, look).await;
    }

    async fn read_each(&self, directory: &Directory, here: &HashSet<Namespace>) {
        let read = async |namespace: &Namespace| match directory.get_namespace(namespace).await {
            Ok(found) => self.allowances.set_quotas(namespace, Some(found.quotas)),
            // What was read last holds on.
            Err(rejection) => tracing::debug!(%namespace, %rejection, "quotas could not be read"),
        };
        stream::iter(here).for_each_concurrent(AT_ONCE, read).await;
    }

    async fn read_pages(&self, directory: &Directory, here: &HashSet<Namespace>) -> Result<(), Rejection> {
        let mut after = None;
        loop {
            let page = directory.list_namespaces(after.as_ref(), PAGE).await?;
            for (namespace, record) in page.iter().filter(|(namespace, _)| here.contains(namespace)) {
                self.allowances.set_quotas(namespace, Some(record.quotas));
            }
            after = page.last().map(|(namespace, _)| namespace.clone());
            if page.len() < PAGE {
                return Ok(());
            }
        }
    }
}

/// Whether what the store says is held against them all the time.
fn is_looked_at(quotas: Quotas) -> bool {
    quotas.stored_bytes.or(quotas.members).is_some()
}

/// Counts one more on top of what the store has said; with as many as there may be already: how many there are.
fn one_more(since: &AtomicU64, said: u64, most: u64) -> Result<(), u64> {
    let left = most.saturating_sub(said);
    let one_more = |since: u64| (since < left).then(|| since.saturating_add(1));
    let counted = since.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
    counted.map(|_| ()).map_err(|since| said.saturating_add(since))
}

impl Allowance {
    /// What the store has said just now, or says; `None`: it does not answer.
    async fn look_up(&self, store: &dyn Store, purse: &Purse) -> Option<NamespaceUsage> {
        let said = purse.known().said().filter(|(_, at)| at.elapsed() < FRESH);
        match said {
            Some((usage, _)) => Some(usage),
            None => self.look_anew(store, purse).await,
        }
    }

    /// What the store says; `None`: it does not answer.
    async fn look_anew(&self, store: &dyn Store, purse: &Purse) -> Option<NamespaceUsage> {
        let (known, namespace) = (purse.known(), &self.namespace);
        match store.namespace_usage(namespace).await {
            Ok(usage) => {
                *known.said() = Some((usage, Instant::now()));
                known.rooms_since.store(0, Ordering::Relaxed);
                known.members_since.store(0, Ordering::Relaxed);
                let most = self.of.quotas(namespace).stored_bytes;
                known.is_full.store(most.is_some_and(|most| usage.bytes >= most), Ordering::Relaxed);
                Some(usage)
            }
            Err(error) => {
                tracing::warn!(%namespace, %error, "what a namespace has taken of the store is not known");
                None
            }
        }
    }

    /// Asks the store what the namespace has taken, if it was never asked: before [`Allowance::check_member`]. One that
    /// does not answer within a second is left to [`Usages::refresh`].
    pub async fn learn(&self, store: &dyn Store) {
        if let Some(purse) = self.shared().filter(|_| is_looked_at(self.of.quotas(&self.namespace)))
            && purse.known().said().is_none()
        {
            self.ask(store, purse, FRESH, |known| known.said().is_none()).await;
        }
    }

    /// Asks the store again where [`Allowance::check_member`] has refused somebody by what was counted since the last
    /// look: whether something is known that was not at `begun`. No more often than once in a second for all.
    pub async fn learn_anew(&self, store: &dyn Store, begun: Instant) -> bool {
        let counted = |known: &Known| known.members_since.load(Ordering::Relaxed) > 0;
        let Some(purse) = self.shared().filter(|purse| counted(purse.known())) else { return false };
        let is_old = |known: &Known| known.said().is_some_and(|(_, at)| at.elapsed() >= OLD);
        let has_looked = self.ask(store, purse, OLD, is_old).await;
        has_looked || purse.known().said().is_some_and(|(_, at)| at > begun)
    }

    /// Looks if this is still wanted when those are done who are asking, and if nobody has asked so recently. A store that
    /// does not answer holds nobody up for long, and not one after the other. Whether it has answered.
    async fn ask(
        &self,
        store: &dyn Store,
        purse: &Purse,
        recently: Duration,
        is_wanted: impl Fn(&Known) -> bool,
    ) -> bool {
        let mut asked = purse.known().asked.lock().await;
        if is_wanted(purse.known()) && asked.is_none_or(|at| at.elapsed() >= recently) {
            // Said before as well: whoever gives up has asked.
            *asked = Some(Instant::now());
            let looked = timeout(PATIENCE, self.look_anew(store, purse)).await;
            *asked = Some(Instant::now());
            return matches!(looked, Ok(Some(_)));
        }
        false
    }

    /// Whether somebody may become a member of a room of the namespace, as far as is known; they count from now on. Who is
    /// a member already is never held against it.
    pub fn check_member(&self) -> Result<(), Rejection> {
        self.check_space()?;
        let said = |purse: &Purse| purse.known().said().map(|(usage, _)| usage.members);
        let found = self.shared().and_then(|purse| Some((&purse.known().members_since, said(purse)?)));
        let (Some(most), Some((since, said))) = (self.of.quotas(&self.namespace).members, found) else {
            return Ok(());
        };
        one_more(since, said, most).map_err(|members| {
            let now = format!("this namespace has {members} members, each counted in every room of theirs");
            over("members", &now, most, "somebody must leave a room first, or ask the operator for more")
        })
    }

    /// Whether the namespace may store more: as far as was known a few seconds ago.
    pub fn check_space(&self) -> Result<(), Rejection> {
        match (self.shared(), self.of.quotas(&self.namespace).stored_bytes) {
            (Some(purse), Some(most)) if purse.known().is_full.load(Ordering::Relaxed) => {
                let now = "this namespace has stored as many bytes as it may";
                Err(over("stored_bytes", now, most, "ask the operator for more"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::{
        allowance::{quotas::Given, rate::RateTable, streams::StreamLimits},
        auth::directory::{DirectorySettings, NewNamespace},
        domain::rejection::Code,
        ids::UserId,
        store::memory::MemoryStore,
    };

    fn usages(quotas: Quotas) -> (Usages, Allowance) {
        let given = Given::new(quotas, Quotas::default());
        let allowances = Allowances::new(RateTable::default(), StreamLimits::NINE, given);
        let ann = Payer::user(Namespace::parse("acme").unwrap(), UserId::parse("ann").ok());
        let allowance = allowances.of(&ann);
        (Usages::new(Arc::new(MemoryStore::new()), allowances), allowance)
    }

    fn say(allowance: &Allowance, usage: NamespaceUsage) {
        *allowance.shared().unwrap().known().said() = Some((usage, Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_are_counted_between_two_looks() {
        let (usages, ann) = usages(Quotas { rooms: Some(5), ..Quotas::default() });
        say(&ann, NamespaceUsage { rooms: 3, ..NamespaceUsage::default() });
        usages.check_room(&ann).await.unwrap();
        usages.check_room(&ann).await.unwrap();
        let refused = usages.check_room(&ann).await.unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        for part in ["has 5 rooms", "`rooms`", "allows 5", "ask the operator"] {
            assert!(refused.message.contains(part), "{}", refused.message);
        }
        // The store knows of none: what was let through has come to nothing.
        tokio::time::advance(FRESH).await;
        let let_in = AtomicUsize::new(0);
        while usages.check_room(&ann).await.is_ok() {
            let_in.fetch_add(1, Ordering::Relaxed);
        }
        assert_eq!(let_in.into_inner(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn members_are_counted_between_two_looks() {
        let (usages, ann) = usages(Quotas { members: Some(5), ..Quotas::default() });
        ann.check_member().unwrap();
        say(&ann, NamespaceUsage { members: 3, ..NamespaceUsage::default() });
        ann.check_member().unwrap();
        ann.check_member().unwrap();
        let refused = ann.check_member().unwrap_err();
        assert_eq!(refused.code, Code::ResourceExhausted);
        for part in ["has 5 members", "`members`", "allows 5", "must leave", "ask the operator"] {
            assert!(refused.message.contains(part), "{}", refused.message);
        }
        // What was said once holds on until somebody looks again: nobody who joins does.
        tokio::time::advance(3 * FRESH).await;
        ann.learn(usages.store.as_ref()).await;
        assert!(ann.check_member().is_err());
        usages.refresh().await;
        assert_eq!((0..9).filter(|_| ann.check_member().is_ok()).count(), 5, "the store knows of none");
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_namespace_takes_no_member() {
        let (usages, ann) = usages(Quotas { stored_bytes: Some(0), members: Some(5), ..Quotas::default() });
        ann.check_member().unwrap();
        ann.learn(usages.store.as_ref()).await;
        let refused = ann.check_member().unwrap_err();
        assert!(refused.message.contains("`stored_bytes`"), "{}", refused.message);
    }

    #[tokio::test(start_paused = true)]
    async fn a_namespace_that_is_full_stores_nothing_more_until_it_may() {
        let (usages, ann) = usages(Quotas { stored_bytes: Some(1), ..Quotas::default() });
        ann.check_space().unwrap();
        usages.refresh().await;
        ann.check_space().unwrap();
        // Nothing is stored, and nothing may be.
        let none = Quotas { stored_bytes: Some(0), ..Quotas::default() };
        usages.allowances().set_quotas(&ann.namespace, Some(none));
        tokio::time::advance(FRESH).await;
        usages.refresh().await;
        let refused = ann.check_space().unwrap_err();
        assert!(refused.message.contains("`stored_bytes`"), "{}", refused.message);
        assert!(usages.check_room(&ann).await.is_err());
        usages.allowances().set_quotas(&ann.namespace, None);
        tokio::time::advance(FRESH).await;
        usages.refresh().await;
        ann.check_space().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_no_quota_any_more_stores_again_though_nobody_looks() {
        let (usages, ann) = usages(Quotas::default());
        let none = Quotas { stored_bytes: Some(0), ..Quotas::default() };
        usages.allowances().set_quotas(&ann.namespace, Some(none));
        usages.refresh().await;
        ann.check_space().unwrap_err();
        usages.allowances().set_quotas(&ann.namespace, None);
        ann.check_space().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_left_is_held_against_nobody_for_long() {
        let (usages, ann) = usages(Quotas { members: Some(2), ..Quotas::default() });
        let store = usages.store.as_ref();
        ann.learn(store).await;
        let begun = Instant::now();
        assert!(!ann.learn_anew(store, begun).await, "nobody has joined since");
        // All of them leave again, or their joins come to nothing.
        (0..2).for_each(|_| ann.check_member().unwrap());
        assert!(ann.check_member().is_err());
        assert!(!ann.learn_anew(store, begun).await, "somebody has just asked");
        tokio::time::advance(PATIENCE).await;
        assert!(ann.learn_anew(store, begun).await);
        ann.check_member().unwrap();
        // Who was refused before that has something new to go by as well.
        assert!(ann.learn_anew(store, begun).await);
    }

    #[tokio::test(start_paused = true)]
    async fn each_refresh_is_a_look_however_long_the_last_took() {
        let (usages, ann) = usages(Quotas { members: Some(2), ..Quotas::default() });
        usages.refresh().await;
        (0..2).for_each(|_| ann.check_member().unwrap());
        tokio::time::advance(FRESH - Duration::from_millis(10)).await;
        usages.refresh().await;
        ann.check_member().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn quotas_of_many_namespaces_are_read_in_pages() {
        let (usages, _) = usages(Quotas::default());
        let clock = Arc::new(crate::clock::SystemClock);
        let directory = Directory::new(Arc::clone(&usages.store), clock, DirectorySettings::default());
        let mut names = Vec::new();
        for n in 0..PAGE + FEW {
            let name = Namespace::parse(&format!("n{n:04}")).unwrap();
            let quotas = Quotas { rooms: Some(n as u64), ..Quotas::default() };
            let new = NewNamespace { name: name.clone(), display_name: String::new(), quotas };
            directory.create_namespace(new).await.unwrap();
            names.push(name);
        }
        let usages = usages.with_quotas_of(directory);
        // Of those of whom somebody is here, few or many, and of nobody else.
        for here in [FEW, names.len() - 1] {
            for name in &names[..here] {
                usages.allowances().of(&Payer::user(name.clone(), None));
            }
            usages.refresh().await;
            for (n, name) in names.iter().enumerate() {
                let rooms = usages.allowances().quotas(name).rooms;
                assert_eq!(rooms, (n < here).then_some(n as u64), "{name} of {here}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_quota_nothing_is_asked() {
        let (usages, ann) = usages(Quotas::default());
        say(&ann, NamespaceUsage { rooms: 1_000_000, bytes: u64::MAX, members: u64::MAX });
        usages.check_room(&ann).await.unwrap();
        ann.check_space().unwrap();
        ann.check_member().unwrap();
    }
}
