//! `salon setup`, and what a start says of a table that is not as it should be: by the real binary, and by the store.

use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType, ScalarAttributeType,
};
use salon::store::{self, ErrorKind, config::StoreConfig};
use tokio::task::JoinSet;

use super::{REGION, Table, server};
use crate::{
    process::Place,
    store_conformance::support::{appended, created, fact, log, plain},
};

/// A place whose servers keep their rooms in this table.
fn place(table: &Table) -> Place {
    Place::new()
        .env("SALON__STORE__KIND", "dynamodb")
        .env("STORE_URL", &table.url)
        .env("SALON__STORE__TABLE", &table.name)
        .env("SALON__STORE__REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
}

/// What it printed and its code.
async fn set_up(place: &Place) -> (Option<i32>, String, String) {
    let output = place.run(&["setup"]).await;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_asks_for_the_table_which_setup_makes_once() {
    let Some(table) = Table::absent() else { return };
    let place = place(&table);
    let refused = place.run(&["serve"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("`salon setup`") && told.contains(&table.name), "{told}");

    let (code, out, errors) = set_up(&place).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(out.contains(&format!("created the table {}", table.name)) && out.contains("expired"), "{out}");
    assert!(out.contains("point-in-time"), "{out}");
    let (code, again, errors) = set_up(&place).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(again.contains("is there") && !again.contains("created"), "{again}");

    let described = table.client().describe_table().table_name(&table.name).send().await.unwrap();
    let billing = described.table.unwrap().billing_mode_summary.unwrap().billing_mode;
    assert_eq!(billing, Some(BillingMode::PayPerRequest));

    // What one process has said is there for the next.
    let running = place.start().await;
    running.room("tea", &[]).await;
    running.join("tea", "ann").await.talk("hello").await;
    let before = running.log_of("tea").await;
    running.stop().await;
    let running = place.start().await;
    assert!(running.log_of("tea").await.starts_with(&before));
    running.stop().await;
    table.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_other_stores_need_no_setup_and_say_so() {
    for kind in ["sqlite", "memory"] {
        let (code, out, errors) = set_up(&Place::new().env("SALON__STORE__KIND", kind)).await;
        assert_eq!(code, Some(0), "{errors}");
        assert!(out.contains(kind) && out.contains("needs nothing"), "{out}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_without_credentials_says_how_to_give_some() {
    // Nothing is asked of it.
    let table = Table { url: "http://127.0.0.1:9".into(), name: "salon".into() };
    let place = place(&table)
        .env("AWS_ACCESS_KEY_ID", "")
        .env("AWS_SECRET_ACCESS_KEY", "")
        .env("AWS_EC2_METADATA_DISABLED", "true");
    let refused = place.run(&["serve"]).await;
    let told = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(told.contains("credentials") && told.contains("AWS_ACCESS_KEY_ID"), "{told}");
}

/// Why it is not opened, and not set up either.
async fn refusals(config: &StoreConfig) -> [store::Error; 2] {
    [store::open::open(config).await.unwrap_err(), store::open::set_up(config).await.unwrap_err()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_another_program_is_left_alone() {
    let Some(table) = Table::absent() else { return };
    let client = table.client();
    let key = KeySchemaElement::builder().attribute_name("id").key_type(KeyType::Hash).build().unwrap();
    let id = AttributeDefinition::builder().attribute_name("id").attribute_type(ScalarAttributeType::S);
    let create = client.create_table().table_name(&table.name).billing_mode(BillingMode::PayPerRequest);
    create.key_schema(key).attribute_definitions(id.build().unwrap()).send().await.unwrap();
    for refused in refusals(&table.config()).await {
        assert_eq!(refused.kind, ErrorKind::Unusable, "{refused}");
    }
    let [_, set_up] = refusals(&table.config()).await;
    assert!(set_up.what.contains("another program") && set_up.what.contains("store.table"), "{set_up}");
    table.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_that_others_write_to_or_of_a_newer_build_is_left_alone() {
    let Some(table) = Table::new().await else { return };
    let client = table.client();
    let put = |pk: &str, sk: &str, version: &str| {
        client
            .put_item()
            .table_name(&table.name)
            .item("pk", AttributeValue::S(pk.into()))
            .item("sk", AttributeValue::S(sk.into()))
            .item("v", AttributeValue::N(version.into()))
            .send()
    };
    put("salon", "schema", "99").await.unwrap();
    for refused in refusals(&table.config()).await {
        assert_eq!(refused.kind, ErrorKind::Unusable, "{refused}");
        assert!(refused.what.contains("99") && refused.what.contains("newer"), "{refused}");
    }
    put("theirs", "1", "1").await.unwrap();
    let delete = client.delete_item().table_name(&table.name);
    let delete = delete.key("pk", AttributeValue::S("salon".into()));
    delete.key("sk", AttributeValue::S("schema".into())).send().await.unwrap();
    let [open, set_up] = refusals(&table.config()).await;
    assert!(open.what.contains("not Salon's"), "{open}");
    assert!(set_up.what.contains("others have written"), "{set_up}");
    table.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_that_set_up_at_once_make_one_table_and_touch_nothing_in_it() {
    let Some(table) = Table::absent() else { return };
    let mut all = JoinSet::new();
    for _ in 0..8 {
        let config = table.config();
        all.spawn(async move { store::open::set_up(&config).await.unwrap() });
    }
    let done = all.join_all().await;
    let created_by = done.iter().flatten().filter(|line| line.contains("created")).count();
    assert_eq!(created_by, 1, "{done:?}");

    let store = store::open::open(&table.config()).await.unwrap();
    let here = created(&store, "r").await;
    appended(&store, &here, plain(vec![fact("kept")])).await;
    store::open::set_up(&table.config()).await.unwrap();
    assert_eq!(log(&store, &here).await.len(), 2);
    store.close().await.unwrap();
    assert!(server().is_some());
    table.drop().await;
}
