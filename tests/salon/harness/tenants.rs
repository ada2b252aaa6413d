//! Tenants with their users, keys and tokens, and clients that show them to a server that asks everybody.
//!
//! Everything is made beside the server, in its store: as another node would make it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use salon::{
    auth::{
        directory::{Directory, DirectorySettings, NewIdentity, NewKey, NewNamespace},
        grants::Grants,
        jwt::sign::{JoinToken, Signed, Signer},
        quotas::Quotas,
        scope::Scope,
    },
    clock::{Clock, SystemClock, Timestamp},
    config::{AuthMode, NamespaceRates, RateWord, Tokens, load},
    ids::{Namespace, RoomId, UserId},
    ops::bootstrap,
    server::tokens::build,
    store::{
        Store,
        inventory::{Inventory, Item},
        memory::MemoryStore,
    },
};
use tonic::{Code, Request};

use super::{RuntimeClock, Setup, held::HeldStore};

/// What the server's tokens are signed with.
const KEY: &str = "a-signing-key-of-at-least-thirty-two-bytes";

/// What a call shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shown {
    /// No credential.
    Nothing,
    /// In `authorization`.
    Bearer(String),
    /// In `x-identity-secret`.
    Identity(String),
}

impl Shown {
    /// The header it is shown in.
    pub fn header(&self) -> Option<(&'static str, String)> {
        match self {
            Self::Nothing => None,
            Self::Bearer(secret) => Some(("authorization", format!("Bearer {secret}"))),
            Self::Identity(secret) => Some(("x-identity-secret", secret.clone())),
        }
    }

    /// A call that shows it.
    pub fn on<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some((name, value)) = self.header() {
            request.metadata_mut().insert(name, value.parse().unwrap());
        }
        request
    }

    /// What `authenticate` says.
    pub fn text(&self) -> String {
        match self {
            Self::Nothing => String::new(),
            Self::Bearer(secret) | Self::Identity(secret) => secret.clone(),
        }
    }
}

/// The tokens of a server that signs with these keys, the first of which signs.
pub fn signing(keys: &[&str]) -> Tokens {
    let directory = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..keys.len()).map(|n| format!("KEY{n}")).collect();
    let file = format!("auth:\n  tokens:\n    signing_key_env: [{}]\n", names.join(", "));
    std::fs::write(directory.path().join("config.yaml"), file).unwrap();
    let environment = names.iter().map(String::as_str).zip(keys.iter().copied());
    load(None, directory.path(), environment).unwrap().config.auth.tokens
}

/// What signs with these keys.
pub fn signer(keys: &[&str]) -> Signer {
    build(&signing(keys)).unwrap().signer.unwrap()
}

pub fn namespace(name: &str) -> Namespace {
    Namespace::parse(name).unwrap()
}

pub fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

/// A store with tenants.
pub struct Tenants {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    /// Another node's view of it.
    pub directory: Directory,
    pub signer: Signer,
    /// A key of the server, for everything.
    pub root: Shown,
}

impl Tenants {
    /// In real time.
    pub async fn new() -> Self {
        Self::at(Arc::new(SystemClock)).await
    }

    /// In the time of the runtime.
    pub async fn in_virtual_time() -> Self {
        Self::at(Arc::new(RuntimeClock::default())).await
    }

    async fn at(clock: Arc<dyn Clock>) -> Self {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::shared());
        let made = bootstrap::run(Arc::clone(&store), Arc::clone(&clock), false).await.unwrap();
        let root = Shown::Bearer(made.secret.expose().to_owned());
        let settings = DirectorySettings::default();
        let directory = Directory::new(Arc::clone(&store), Arc::clone(&clock), settings);
        Self { store, clock, directory, signer: signer(&[KEY]), root }
    }

    /// A server that asks everybody who they are.
    pub fn setup(&self) -> Setup {
        // Its end must not be that of the store, which others use.
        let store = HeldStore::new(Arc::clone(&self.store));
        let mut setup = Setup::default().store(store).config(|config| {
            config.auth.mode = AuthMode::Required;
            config.auth.tokens = signing(&[KEY]);
            config.limits.rates.credential.admin = RateWord::NONE;
            // Tests call in a loop; what is limited is tested where the limit is.
            config.limits.rates.namespace = NamespaceRates::default();
        });
        setup.clock = Arc::clone(&self.clock);
        setup
    }

    /// Creates a tenant; returns what its owner shows.
    pub async fn tenant(&self, name: &str) -> Shown {
        let new =
            NewNamespace { name: namespace(name), display_name: String::new(), quotas: Quotas::default() };
        let (_, secret) = self.directory.create_namespace(new).await.unwrap();
        Shown::Bearer(secret.expose().to_owned())
    }

    /// Creates an identity of a user; returns its id and what it shows.
    pub async fn identity(&self, of: &str, id: &str) -> (String, Shown) {
        let new = NewIdentity { user: Some(user(id)), name: None, metadata: BTreeMap::new() };
        let (id, _, secret) = self.directory.create_identity(&namespace(of), new).await.unwrap();
        (id, Shown::Identity(secret.expose().to_owned()))
    }

    /// Creates an API key of a tenant; returns its id and what it shows.
    pub async fn key(&self, of: &str, scopes: &[Scope], ends: Option<Duration>) -> (String, Shown) {
        let expires_at = ends.map(|after| self.clock.now().plus(after));
        let new = NewKey { label: "key".into(), scopes: scopes.iter().copied().collect(), expires_at };
        let (id, _, secret) = self.directory.create_key(Some(&namespace(of)), new).await.unwrap();
        (id, Shown::Bearer(secret.expose().to_owned()))
    }

    /// What a token for a user says that is valid for a minute and grants everything.
    pub fn claims(&self, of: &str, id: &str) -> JoinToken {
        JoinToken {
            namespace: namespace(of),
            user: user(id),
            name: None,
            room: None,
            grants: Grants::default(),
            lifetime: Duration::from_secs(60),
            minted_by: None,
        }
    }

    /// Signs a token that is valid from now on.
    pub fn sign(&self, claims: &JoinToken) -> (Signed, Shown) {
        self.sign_at(claims, self.clock.now())
    }

    /// Signs a token as it would have been signed then.
    pub fn sign_at(&self, claims: &JoinToken, at: Timestamp) -> (Signed, Shown) {
        let signed = self.signer.sign(claims, at).unwrap();
        let shown = Shown::Bearer(signed.token.clone());
        (signed, shown)
    }

    /// How far a room's log reaches, and everything that the store keeps of its administration. What is recorded of
    /// calls is not among it: whoever is refused is recorded.
    pub async fn kept(&self, of: &str, room: &str) -> (u64, Vec<String>) {
        let room = RoomId::parse(room).unwrap().within(&namespace(of));
        let head = self.store.head(&room).await.unwrap().map_or(0, |head| head.seq.0);
        let all = self.store.inventory(&Inventory::Documents, None, 100_000).await.unwrap();
        let rooms = self.store.inventory(&Inventory::Rooms, None, 100_000).await.unwrap();
        let kept = all.into_iter().chain(rooms).filter(|item| match item {
            Item::Document { folder, .. } => !folder.to_string().starts_with("audit"),
            _ => true,
        });
        (head, kept.map(|item| format!("{item:?}")).collect())
    }
}

/// The status of a code as tests name it.
pub fn code_of<T>(result: &Result<T, tonic::Status>) -> Code {
    result.as_ref().map_or_else(tonic::Status::code, |_| Code::Ok)
}
