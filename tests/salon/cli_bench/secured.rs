//! The same over TLS, on a server that asks everybody who they are.

use salon::auth::scope::Scope;

use super::*;
use crate::{
    harness::{Shown, Tenants},
    tls::Place,
};

#[tokio::test]
async fn a_load_shows_its_credential_on_every_stream_over_tls() {
    let (place, tenants) = (Place::new(), Tenants::new().await);
    tenants.tenant("acme").await;
    let (_, Shown::Bearer(key)) = tenants.key("acme", &[Scope::RoomsRead, Scope::RoomsWrite], None).await
    else {
        panic!()
    };
    let server = tenants.setup().config(|config| place.configure(config)).start().await;
    let url = server.url.replace("http://", "https://");
    place.write("key", &key);
    let path = |name: &str| place.path(name).to_str().unwrap().to_owned();
    let load = "--rooms 2 --members 3 --streams-per-connection 2 --rate 100 --warm-up 0 --duration 0.5";
    let way = format!("--ca {} --token-file {}", path("ca.pem"), path("key"));
    let (exit, figures) = figures(&url, &format!("{load} {way}")).await;
    assert_whole(exit, &figures);

    let unknown = bench(&url, &format!("{load} --ca {}", path("ca.pem"))).await.unwrap_err().to_string();
    assert!(unknown.contains("SALON_TOKEN"), "{unknown}");
    place.write("other.pem", &crate::tls::Authority::new("other").server(|_| {}).0);
    let distrusted = bench(&url, &format!("{load} --ca {} --token x", path("other.pem"))).await.unwrap_err();
    assert!(distrusted.to_string().contains("UnknownIssuer"), "{distrusted}");
    server.shutdown().await;
}
