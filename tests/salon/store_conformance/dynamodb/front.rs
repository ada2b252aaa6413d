//! A service in front of the server, which answers in its place when it is told to.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
};
use tokio::{net::TcpListener, sync::Notify, task::AbortHandle};

/// What is to be done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// Passed on.
    Pass,
    /// Answered with this error, and not passed on.
    Refuse(&'static str),
    /// Passed on, and answered as if something had gone wrong.
    Lose,
    /// Answered with nothing of what was asked for, as a throttled table does.
    Nothing,
    /// Never answered, and not passed on.
    Hold,
    /// Passed on when it is told to, also if nobody waits for the answer any more.
    Late,
}

#[derive(Debug, Default)]
struct Orders {
    /// For the requests that come next.
    next: VecDeque<Deed>,
    /// For all behind them.
    always: Option<Deed>,
    /// What the requests were.
    seen: Vec<String>,
}

/// The service.
#[derive(Debug)]
pub struct Front {
    pub url: String,
    orders: Arc<Mutex<Orders>>,
    late: Arc<Notify>,
    serving: AbortHandle,
}

impl Drop for Front {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Front {
    pub async fn start(server: &str) -> Self {
        // Of which this is the only user without TLS.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let orders = Arc::<Mutex<Orders>>::default();
        let late = Arc::<Notify>::default();
        let state = (Arc::clone(&orders), Arc::clone(&late), reqwest::Client::new(), server.to_owned());
        let app = Router::new().fallback(answer).with_state(state);
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, orders, late, serving: serving.abort_handle() }
    }

    /// What happens to the requests that come next; those behind them are passed on.
    pub fn next(&self, deeds: impl IntoIterator<Item = Deed>) {
        let mut orders = self.orders.lock().unwrap();
        orders.next = deeds.into_iter().collect();
        orders.always = None;
    }

    /// What happens to all requests from now on.
    pub fn always(&self, deed: Deed) {
        let mut orders = self.orders.lock().unwrap();
        orders.next.clear();
        orders.always = Some(deed);
    }

    /// Whether every order was carried out.
    pub fn is_done(&self) -> bool {
        self.orders.lock().unwrap().next.is_empty()
    }

    /// Lets the one that is late go on.
    pub fn go_on(&self) {
        self.late.notify_one();
    }

    /// What was asked for since the last time.
    pub fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.orders.lock().unwrap().seen)
    }
}

/// What answering needs.
type Served = (Arc<Mutex<Orders>>, Arc<Notify>, reqwest::Client, String);

async fn answer(
    State((orders, late, client, server)): State<Served>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let deed = {
        let mut orders = orders.lock().unwrap();
        let asked = headers["x-amz-target"].to_str().unwrap().split('.').next_back().unwrap().to_owned();
        orders.seen.push(asked);
        orders.next.pop_front().or(orders.always).unwrap_or(Deed::Pass)
    };
    match deed {
        Deed::Refuse(code) => return refusal(code),
        Deed::Nothing => {
            let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let nothing = serde_json::json!({ "Responses": {}, "UnprocessedKeys": asked["RequestItems"] });
            return ([("content-type", "application/x-amz-json-1.0")], nothing.to_string()).into_response();
        }
        Deed::Hold => return std::future::pending().await,
        // The server ends this when its client hangs up; the request is on its way nevertheless.
        Deed::Late => {
            let passing = tokio::spawn(async move {
                late.notified().await;
                pass(&client, server, headers, body).await
            });
            return passing.await.unwrap();
        }
        Deed::Pass | Deed::Lose => {}
    }
    let answered = pass(&client, server, headers, body).await;
    if deed == Deed::Lose { refusal("InternalServerError") } else { answered }
}

async fn pass(client: &reqwest::Client, server: String, headers: HeaderMap, body: Bytes) -> Response {
    let answer = client.post(server).headers(headers).body(body).send().await.unwrap();
    let (status, content) = (answer.status(), answer.bytes().await.unwrap());
    (
        StatusCode::from_u16(status.as_u16()).unwrap(),
        [("content-type", "application/x-amz-json-1.0")],
        content,
    )
        .into_response()
}

/// An error as the service writes it. That of a transaction that met another says so in its reasons.
fn refusal(code: &str) -> Response {
    let status = if code == "InternalServerError" {
        StatusCode::INTERNAL_SERVER_ERROR
    } else {
        StatusCode::BAD_REQUEST
    };
    let reasons = if code == "TransactionCanceledException" {
        r#","CancellationReasons":[{"Code":"None"},{"Code":"TransactionConflict"}]"#
    } else {
        ""
    };
    let body = format!(
        r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{code}","message":"so it was told"{reasons}}}"#
    );
    (status, [("content-type", "application/x-amz-json-1.0")], body).into_response()
}
