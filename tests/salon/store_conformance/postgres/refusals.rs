//! Starts that must fail: each says what to do, and nothing of the password.

use salon::store::{
    self, Error, ErrorKind,
    config::{StoreConfig, StoreUrl},
};
use tokio::{task::JoinSet, time::Instant};

use super::{Parts, Schema, sql, value};
use crate::store_conformance::support::created;

async fn refusal(config: &StoreConfig) -> Error {
    store::open::open(config).await.map(|_| ()).unwrap_err()
}

/// Opens with another URL, which must be refused with all of `words`.
async fn refused(schema: &Schema, url: &str, words: &[&str]) {
    let config = StoreConfig { url: Some(StoreUrl::new(url)), ..schema.config() };
    let error = refusal(&config).await;
    assert_eq!(error.kind, ErrorKind::Unusable, "{error:?}");
    for word in words {
        assert!(error.what.contains(word), "{word:?} is not in: {error}");
    }
    assert!(!format!("{error} {error:?} {config:?}").contains("s3cret"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_refuses_us_is_told_from_a_wrong_database_and_from_missing_tls() {
    let Some(schema) = Schema::new().await else { return };
    let parts = || Parts::of(&schema.url);
    let wrong = Parts { password: "s3cret".into(), ..parts() };
    refused(&schema, &wrong.url(), &["password of store.url"]).await;
    let nobody = Parts { user: "nobody".into(), password: "s3cret".into(), ..parts() };
    refused(&schema, &nobody.url(), &["user or the password"]).await;
    let none = Parts { password: String::new(), ..parts() };
    refused(&schema, &none.url(), &["password"]).await;
    let gone = Parts { database: "gone".into(), ..parts() };
    refused(&schema, &gone.url(), &["no such database", "store.url"]).await;
    let tls = Parts { sslmode: "require".into(), ..parts() };
    refused(&schema, &tls.url(), &["TLS", "sslmode"]).await;
    schema.drop().await;
}

#[tokio::test]
async fn a_user_without_rights_is_told_what_is_missing() {
    let Some(schema) = Schema::new().await else { return };
    let role = format!("{}_role", schema.name);
    sql(&schema.url, &format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 's3cret'"))
        .await;
    let parts = Parts { user: role.clone(), password: "s3cret".into(), ..Parts::of(&schema.url) };
    refused(&schema, &parts.url(), &["could not create its schema", "lacks a right"]).await;

    let owner = store::open::open(&schema.config()).await.unwrap();
    created(&owner, "r").await;
    owner.close().await.unwrap();
    refused(&schema, &parts.url(), &["lacks a right", "store.schema"]).await;
    let (name, all) = (&schema.name, "ALL ON ALL TABLES IN SCHEMA");
    sql(&schema.url, &format!("GRANT USAGE ON SCHEMA {name} TO {role}; GRANT {all} {name} TO {role}")).await;
    sql(&schema.url, &format!("REVOKE INSERT ON {name}.cursors FROM {role}")).await;
    refused(&schema, &parts.url(), &["cursors", "grant"]).await;
    sql(&schema.url, &format!("GRANT {all} {name} TO {role}")).await;
    let granted = StoreConfig { url: Some(StoreUrl::new(parts.url())), ..schema.config() };
    let store = store::open::open(&granted).await.unwrap();
    created(&store, "theirs").await;
    store.close().await.unwrap();
    sql(&schema.url, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    schema.drop().await;
}

#[tokio::test]
async fn another_programs_schema_is_refused_and_left_alone() {
    let Some(schema) = Schema::new().await else { return };
    let name = &schema.name;
    sql(&schema.url, &format!("CREATE SCHEMA {name}; CREATE TABLE {name}.theirs (x integer)")).await;
    refused(&schema, &schema.url, &["another program", name, "store.schema"]).await;
    let count = format!("SELECT count(*) FROM pg_tables WHERE schemaname = '{name}'");
    assert_eq!(value(&schema.url, &count).await.as_deref(), Some("1"));
    schema.drop().await;
}

#[tokio::test]
async fn a_newer_schema_and_one_with_a_table_missing_are_refused() {
    let Some(schema) = Schema::new().await else { return };
    let name = &schema.name;
    store::open::open(&schema.config()).await.unwrap().close().await.unwrap();
    sql(&schema.url, &format!("DROP TABLE {name}.snapshots")).await;
    refused(&schema, &schema.url, &["misses the table snapshots", "backup"]).await;
    sql(&schema.url, &format!("INSERT INTO {name}.salon_versions (version) VALUES (4321)")).await;
    refused(&schema, &schema.url, &["version 4321", "up to 4", "newer build"]).await;
    schema.drop().await;
}

#[tokio::test]
async fn a_database_of_another_encoding_is_refused() {
    let Some(schema) = Schema::new().await else { return };
    let database = format!("{}_latin", schema.name);
    let create = "ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    sql(&schema.url, &format!("DROP DATABASE IF EXISTS {database}")).await;
    sql(&schema.url, &format!("CREATE DATABASE {database} {create}")).await;
    let parts = Parts { database: database.clone(), ..Parts::of(&schema.url) };
    refused(&schema, &parts.url(), &["UTF8", "LATIN1"]).await;
    // The server may not have noticed yet that nobody is in it any more.
    sql(&schema.url, &format!("DROP DATABASE {database} WITH (FORCE)")).await;
    schema.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_that_start_at_once_make_one_schema() {
    let Some(schema) = Schema::new().await else { return };
    let mut starts = JoinSet::new();
    for _ in 0..8 {
        let config = schema.config();
        starts.spawn(async move { store::open::open(&config).await.unwrap() });
    }
    let stores = starts.join_all().await;
    created(&stores[0], "r").await;
    for store in stores {
        assert_eq!(
            store
                .list_rooms(store::RoomFilter::Public(salon::ids::Namespace::default()), u64::MAX, 9)
                .await
                .unwrap()
                .len(),
            1
        );
        store.close().await.unwrap();
    }
    let count = format!("SELECT count(*) FROM {}.salon_versions", schema.name);
    assert_eq!(value(&schema.url, &count).await.as_deref(), Some("4"));
    schema.drop().await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_is_waited_for_and_then_named() {
    // A port that somebody had, and nobody has.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = StoreUrl::new(format!("postgres://me:s3cret@127.0.0.1:{port}/salon?sslmode=disable"));
    let config =
        StoreConfig { kind: store::config::StoreKind::Postgres, url: Some(url), ..StoreConfig::default() };
    let began = Instant::now();
    let error = refusal(&config).await;
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
    assert!(error.what.contains("store.url"), "{error}");
    assert!(!format!("{error:?}").contains("s3cret"), "{error:?}");
    let waited = began.elapsed();
    assert!((55..65).contains(&waited.as_secs()), "{waited:?}");
}
