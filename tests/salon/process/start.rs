//! Starts that must fail: each says what to do, and changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::Place;

/// Every file below a directory, with what is in it; locks and what readers share in memory hold nothing.
fn files(below: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(below).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_none_or(|extension| extension != "lock" && extension != "db-shm") {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Starts a server that must end with `code`, leave every file as it was, and say all of `words`.
async fn refused(place: &Place, code: i32, words: &[&str]) {
    // What `run` itself needs is there before and after.
    fs::write(place.path("input.txt"), "").unwrap();
    let before = files(&place.path(""));
    let output = place.run(&["serve"]).await;
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(code), 0), "{errors}");
    for word in words {
        assert!(errors.contains(word), "{word:?} is not in: {errors}");
    }
    let after = files(&place.path(""));
    let all: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let changed: Vec<_> = all.into_iter().filter(|path| before.get(*path) != after.get(*path)).collect();
    assert!(changed.is_empty(), "{changed:?} changed: {errors}");
}

/// A place in which a server has been, and has left a database.
async fn used() -> Place {
    let place = Place::new();
    let server = place.start().await;
    server.room("r", &[]).await;
    server.stop().await;
    place
}

#[tokio::test]
async fn a_key_that_does_not_exist_is_named_with_the_one_that_was_meant() {
    let place = Place::new();
    fs::write(place.path("config.yaml"), "store:\n  pth: elsewhere.db\n").unwrap();
    refused(&place, 78, &["store.pth", "config.yaml", "path"]).await;
    let place = Place::new().env("SALON__GRPC__PROT", "1");
    refused(&place, 78, &["SALON__GRPC__PROT", "port"]).await;
}

#[tokio::test]
async fn a_value_out_of_its_bounds_is_named_with_its_bounds() {
    let place = Place::new();
    fs::write(place.path("config.yaml"), "limits:\n  drain: 2h\n").unwrap();
    refused(&place, 78, &["limits.drain", "2h", "10m"]).await;
    let place = Place::new().env("GRPC_PORT", "seventy");
    refused(&place, 78, &["grpc.port", "GRPC_PORT", "seventy", "whole number"]).await;
    // Two problems are told at once.
    let place = Place::new().env("SALON__LOG__LEVEL", "loud").env("SALON__STORE__KIND", "paper");
    refused(&place, 78, &["log.level", "loud", "store.kind", "paper"]).await;
}

#[tokio::test]
async fn a_model_that_leads_nowhere_ends_the_start() {
    let place = Place::new();
    fs::write(place.path("config.yaml"), "llm:\n  aliases: { a: b, b: a }\n").unwrap();
    refused(&place, 78, &["llm.aliases.a", "leads back to itself", "a -> b -> a"]).await;
    let place = Place::new().env("SALON__LLM__FALLBACKS", "groq:llama");
    refused(&place, 78, &["llm.fallbacks[0]", "groq", "offline:groq:llama"]).await;
}

#[tokio::test]
async fn a_config_file_that_is_not_there_is_named() {
    let place = Place::new();
    let output = place.run(&["--config", "gone.yaml"]).await;
    assert_eq!(output.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&output.stderr).contains("gone.yaml"));
}

#[tokio::test]
async fn a_file_that_is_no_database_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path("data")).unwrap();
    fs::write(place.database(), "These are my notes.\n".repeat(1000)).unwrap();
    refused(&place, 1, &["no SQLite database", "salon.db"]).await;
}

#[tokio::test]
async fn another_programs_database_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path("data")).unwrap();
    Connection::open(place.database()).unwrap().execute_batch("CREATE TABLE theirs (x)").unwrap();
    refused(&place, 1, &["another program", "store.path", "salon.db"]).await;
}

#[tokio::test]
async fn a_file_that_may_not_be_written_is_left_alone() {
    let place = used().await;
    let mut permissions = fs::metadata(place.database()).unwrap().permissions();
    permissions.set_readonly(true);
    fs::set_permissions(place.database(), permissions).unwrap();
    refused(&place, 1, &["read-only", "salon.db", "make it writable", "store.path"]).await;
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_left_alone() {
    let place = used().await;
    let connection = Connection::open(place.database()).unwrap();
    connection.pragma_update(None, "user_version", 4096).unwrap();
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(connection);
    refused(&place, 1, &["4096", "newer build", "store.path", "salon.db"]).await;
}

#[tokio::test]
async fn a_directory_is_no_file() {
    let place = Place::new();
    fs::create_dir_all(place.database()).unwrap();
    refused(&place, 1, &["is a directory", "store.path", "salon.db"]).await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_file() {
    let place = Place::new();
    let server = place.start().await;
    server.room("r", &[]).await;
    refused(&place, 1, &["another server", "salon.db", "store.path"]).await;
    // The first one does not notice.
    let mut ann = server.join("r", "ann").await;
    ann.talk("still here").await;
    server.stop().await;
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn the_url_of_a_server_is_refused_without_its_password() {
    let postgres = || Place::new().env("SALON__STORE__KIND", "postgres");
    refused(&postgres(), 78, &["store.url", "STORE_URL"]).await;
    let url = "postgres://me:s3cret@nobody:x/db";
    let place = postgres().env("STORE_URL", url);
    refused(&place, 1, &["cannot open the store", "postgres", "does not understand store.url"]).await;
    let output = place.run(&["serve"]).await;
    assert!(!String::from_utf8(output.stderr).unwrap().contains("s3cret"));
    assert!(!place.path("data").exists());
}

#[cfg(feature = "postgres")]
#[tokio::test]
async fn a_start_that_waits_for_its_store_can_be_ended() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("postgres://me:s3cret@127.0.0.1:{port}/db?sslmode=disable");
    let place = Place::new().env("SALON__STORE__KIND", "postgres").env("STORE_URL", &url);
    let server = place.start_without_listening();
    crate::harness::until("the start does not wait", || place.log().contains("waited for")).await;
    assert!(!place.log().contains("s3cret"), "{}", place.log());
    server.stop().await;
}

#[tokio::test]
async fn two_servers_do_not_share_a_port() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let place = Place::new().env("GRPC_PORT", &port);
    refused(&place, 1, &[&format!("127.0.0.1:{port}"), "GRPC_PORT", "another server"]).await;
    assert!(!place.path("data").exists(), "a database was made for nothing");
}
