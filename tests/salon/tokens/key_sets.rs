//! Key sets behind a real HTTP server, and in files that change.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::get,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use salon::{
    auth::jwt::{
        Verifier,
        claims::{ClaimNames, Claims},
        error::TokenError,
        issuer::{Issuer, KeySource, Tenant},
        key::Algorithm,
        refresh::RefreshSettings,
    },
    clock::Timestamp,
    ids::Namespace,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, task::JoinSet};

/// More than a slow machine needs.
const PATIENCE: Duration = Duration::from_secs(60);
const NOW: Timestamp = Timestamp(1_800_000_000_000);

/// Keys of an issuer, by their names.
struct Keys(BTreeMap<&'static str, Ed25519KeyPair>);

impl Keys {
    fn new(names: &[&'static str]) -> Self {
        Self(names.iter().map(|name| (*name, Ed25519KeyPair::generate().unwrap())).collect())
    }

    fn set(&self, names: &[&str]) -> String {
        let keys = names.iter().map(|name| {
            let x = URL_SAFE_NO_PAD.encode(self.0[name].public_key());
            json!({"kty": "OKP", "crv": "Ed25519", "kid": name, "x": x})
        });
        json!({"keys": keys.collect::<Vec<_>>()}).to_string()
    }

    fn sign(&self, name: &str, kid: Option<&str>) -> String {
        let mut header = json!({"alg": "EdDSA"});
        if let Some(kid) = kid {
            header["kid"] = kid.into();
        }
        let payload = json!({"sub": "zoe", "exp": NOW.0 / 1000 + 60});
        let encode = |part: &Value| URL_SAFE_NO_PAD.encode(part.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&payload));
        let signature = self.0[name].sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// What an endpoint does when it is asked.
#[derive(Clone)]
enum Answer {
    Set(String),
    Status(StatusCode),
    Redirect,
    Endless,
    Silent,
}

/// A server of one key set.
struct Endpoint {
    address: SocketAddr,
    answer: Mutex<Answer>,
    asked: AtomicUsize,
}

impl Endpoint {
    /// Serves until `tasks` are gone.
    async fn start(answer: Answer, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Arc::new(Self { address, answer: Mutex::new(answer), asked: AtomicUsize::new(0) });
        let set = |State(endpoint): State<Arc<Self>>| async move { endpoint.respond().await };
        let followed = |State(endpoint): State<Arc<Self>>| async move {
            *endpoint.answer.lock().unwrap() = Answer::Status(StatusCode::IM_A_TEAPOT);
        };
        let router = Router::new().route("/keys", get(set)).route("/other", get(followed));
        let router = router.with_state(Arc::clone(&endpoint));
        tasks.spawn(async move { axum::serve(listener, router).await.unwrap() });
        endpoint
    }

    async fn respond(&self) -> Response {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let answer = self.answer.lock().unwrap().clone();
        match answer {
            Answer::Set(text) => text.into_response(),
            Answer::Status(status) => status.into_response(),
            Answer::Redirect => (StatusCode::FOUND, [(header::LOCATION, "/other")]).into_response(),
            Answer::Endless => {
                let chunks =
                    futures_util::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![b' '; 1 << 16]));
                axum::body::Body::from_stream(chunks).into_response()
            }
            Answer::Silent => std::future::pending().await,
        }
    }

    fn publish(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    fn url(&self) -> KeySource {
        KeySource::Url(format!("http://{}/keys", self.address))
    }
}

/// With this much time for a reading.
fn verifier(key: KeySource, timeout: Duration) -> Verifier {
    let issuer = Issuer {
        name: "test".into(),
        iss: None,
        audiences: Vec::new(),
        algorithms: vec![Algorithm::EdDsa],
        keys: vec![key],
        tenant: Tenant::Only(Namespace::default()),
        claims: ClaimNames::default(),
        leeway: Duration::ZERO,
        max_lifetime: Duration::from_secs(3600),
        refresh: RefreshSettings { timeout, ..RefreshSettings::default() },
    };
    Verifier::new(vec![issuer]).unwrap()
}

async fn verify(verifier: &Verifier, token: &str) -> Result<Claims, TokenError> {
    verifier.verify(token, NOW).await
}

#[tokio::test]
async fn keys_are_changed_without_one_refused_token() {
    let keys = Keys::new(&["a", "b", "c"]);
    let mut tasks = JoinSet::new();
    let endpoint = Endpoint::start(Answer::Set(keys.set(&["a"])), &mut tasks).await;
    let verifier = verifier(endpoint.url(), PATIENCE);
    verifier.warm().await;
    // While one signs with the key of the moment, another shows invented ones.
    let inventor = async {
        loop {
            assert_eq!(verify(&verifier, &keys.sign("c", Some("x"))).await, Err(TokenError::UnknownKey));
        }
    };
    let issuer = async {
        for (published, signing) in
            [(vec!["a", "b"], "a"), (vec!["a", "b"], "b"), (vec!["b", "c"], "b"), (vec!["c"], "c")]
        {
            endpoint.publish(Answer::Set(keys.set(&published)));
            let token = keys.sign(signing, Some(signing));
            let all = futures_util::future::join_all((0..50).map(|_| verify(&verifier, &token))).await;
            assert!(all.iter().all(Result::is_ok), "{signing}: {:?}", all.iter().find(|one| one.is_err()));
        }
    };
    let began = Instant::now();
    tokio::select! {
        () = issuer => {}
        () = inventor => {}
    }
    // Once at the start, and then at most once a second.
    let asked = endpoint.asked.load(Ordering::SeqCst);
    let most = usize::try_from(began.elapsed().as_secs()).unwrap() + 2;
    assert!(asked <= most, "asked {asked} times, at most {most}");
}

#[tokio::test]
async fn keys_without_names_are_changed_as_well() {
    let keys = Keys::new(&["a", "b"]);
    let nameless = |name: &str| keys.set(&[name]).replace(&format!("\"kid\":\"{name}\","), "");
    let mut tasks = JoinSet::new();
    let endpoint = Endpoint::start(Answer::Set(nameless("a")), &mut tasks).await;
    let verifier = verifier(endpoint.url(), PATIENCE);
    assert!(verify(&verifier, &keys.sign("a", None)).await.is_ok());
    endpoint.publish(Answer::Set(nameless("b")));
    assert!(verify(&verifier, &keys.sign("b", None)).await.is_ok());
    assert_eq!(verify(&verifier, &keys.sign("a", None)).await, Err(TokenError::Signature));
}

#[tokio::test]
async fn an_endpoint_that_fails_keeps_nobody_out_who_was_known() {
    let keys = Keys::new(&["a", "b"]);
    let mut tasks = JoinSet::new();
    let endpoint = Endpoint::start(Answer::Set(keys.set(&["a"])), &mut tasks).await;
    let verifier = verifier(endpoint.url(), Duration::from_secs(2));
    verifier.warm().await;
    let secret = json!({"keys": [{"kty": "oct", "kid": "b", "k": URL_SAFE_NO_PAD.encode([7; 32])}]});
    for answer in [
        Answer::Status(StatusCode::INTERNAL_SERVER_ERROR),
        Answer::Status(StatusCode::NO_CONTENT),
        Answer::Redirect,
        Answer::Endless,
        Answer::Silent,
        Answer::Set("<html>".into()),
        Answer::Set(json!({"keys": []}).to_string()),
        Answer::Set(secret.to_string()),
        // All right but for its size.
        Answer::Set(format!("{}{}", keys.set(&["b"]), " ".repeat(256 << 10))),
    ] {
        endpoint.publish(answer);
        assert_eq!(verify(&verifier, &keys.sign("b", Some("b"))).await, Err(TokenError::Unavailable));
        assert!(verify(&verifier, &keys.sign("a", Some("a"))).await.is_ok());
        assert!(
            !matches!(*endpoint.answer.lock().unwrap(), Answer::Status(StatusCode::IM_A_TEAPOT)),
            "followed"
        );
    }
    endpoint.publish(Answer::Set(keys.set(&["b"])));
    assert!(verify(&verifier, &keys.sign("b", Some("b"))).await.is_ok());
}

#[tokio::test]
async fn a_file_is_read_again_when_it_lacks_a_key() {
    let keys = Keys::new(&["a", "b"]);
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("keys.json");
    let verifier = verifier(KeySource::File(path.clone()), PATIENCE);
    assert_eq!(verify(&verifier, &keys.sign("a", Some("a"))).await, Err(TokenError::Unavailable));
    for name in ["a", "b"] {
        std::fs::write(&path, keys.set(&[name])).unwrap();
        assert!(verify(&verifier, &keys.sign(name, Some(name))).await.is_ok());
    }
    assert_eq!(verify(&verifier, &keys.sign("a", Some("a"))).await, Err(TokenError::UnknownKey));
}
