//! The item in DynamoDB: what is sent, what is read, and what each refusal becomes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod support;

use aws::Error;
use aws::dynamodb::{Item, MAX_DOCUMENT_BYTES, StateTable, WriteError};
use serde_json::{Value, json};
use support::{Answer, Asked, Server};
use testkit::process::Moto;

fn item(revision: u64, document: &str) -> Value {
    json!({"key": {"S": "k"}, "revision": {"N": revision.to_string()}, "document": {"S": document},
        "updated_at": {"S": "2026-01-01T00:00:00Z"}})
}

fn ok(body: &Value) -> Answer {
    (200, "", body.to_string())
}

fn refused(code: &'static str, more: Value) -> Answer {
    let mut body = json!({"__type": format!("com.amazonaws.dynamodb.v20120810#{code}"), "message": "no"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    (400, "", body.to_string())
}

async fn server(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> (Server, StateTable) {
    let server = Server::start(answer).await;
    let table = StateTable::for_endpoint(&server.url, "weir-state", "k");
    (server, table)
}

#[tokio::test]
async fn a_read_is_consistent_and_asks_for_the_key() {
    let (server, table) = server(|_| ok(&json!({"Item": item(7, "{}")}))).await;
    assert_eq!(table.read().await.unwrap(), Some(Item { revision: 7, document: "{}".to_owned() }));
    let asked = &server.asked()[0];
    assert_eq!(asked.amz_target, "DynamoDB_20120810.GetItem");
    assert_eq!(asked.body["ConsistentRead"], true);
    assert_eq!(asked.body["Key"], json!({"key": {"S": "k"}}));
    assert_eq!(asked.body["TableName"], "weir-state");
}

#[tokio::test]
async fn no_item_is_no_error_and_a_foreign_one_is() {
    let (_server, table) = server(|_| ok(&json!({}))).await;
    assert_eq!(table.read().await.unwrap(), None);
    for (item, why) in [
        (json!({"key": {"S": "k"}}), "no `revision`"),
        (json!({"revision": {"N": "1.5"}, "document": {"S": ""}}), "not a whole number"),
        (json!({"revision": {"N": "1"}, "document": {"N": "1"}}), "not a text"),
    ] {
        let (_server, table) = server(move |_| ok(&json!({"Item": item}))).await;
        let error = table.read().await.unwrap_err().to_string();
        assert!(error.contains(why) && error.contains("item `k` of table `weir-state`"), "{error}");
    }
}

#[tokio::test]
async fn a_write_names_the_revision_that_it_replaces() {
    let (server, table) = server(|_| ok(&json!({}))).await;
    assert_eq!(table.write(None, "one").await.unwrap(), 1);
    assert_eq!(table.write(Some(41), "two").await.unwrap(), 42);
    let asked = server.asked();
    assert_eq!(asked[0].amz_target, "DynamoDB_20120810.PutItem");
    assert_eq!(asked[0].body["ConditionExpression"], "attribute_not_exists(#key)");
    assert_eq!(asked[0].body["Item"]["revision"], json!({"N": "1"}));
    assert_eq!(asked[1].body["ConditionExpression"], "#revision = :expected");
    assert_eq!(asked[1].body["ExpressionAttributeValues"], json!({":expected": {"N": "41"}}));
    assert_eq!(asked[1].body["Item"]["document"], json!({"S": "two"}));
    assert!(asked[1].body["Item"]["updated_at"]["S"].as_str().unwrap().starts_with("20"));
}

#[tokio::test]
async fn a_conflict_shows_the_item_that_is_there() {
    let (server, table) =
        server(|_| refused("ConditionalCheckFailedException", json!({"Item": item(9, "theirs")}))).await;
    let error = table.write(Some(8), "ours").await.unwrap_err();
    let WriteError::Conflict { found: Some(found) } = error else { panic!("{error:?}") };
    assert_eq!(found, Item { revision: 9, document: "theirs".to_owned() });
    assert_eq!(server.asked().len(), 1, "never repeated by itself");
}

#[tokio::test]
async fn a_conflict_without_the_item_is_read_for_it() {
    let (server, table) = server(|asked| match asked.amz_target.as_str() {
        "DynamoDB_20120810.GetItem" => ok(&json!({})),
        _ => refused("ConditionalCheckFailedException", json!({})),
    })
    .await;
    let error = table.write(Some(8), "ours").await.unwrap_err();
    assert!(matches!(error, WriteError::Conflict { found: None }), "{error:?}");
    assert_eq!(server.asked().len(), 2);
}

#[tokio::test]
async fn what_no_item_holds_is_not_sent() {
    let (server, table) = server(|_| ok(&json!({}))).await;
    let error = table.write(None, &"x".repeat(MAX_DOCUMENT_BYTES + 1)).await.unwrap_err();
    assert!(matches!(error, WriteError::TooLarge { bytes } if bytes == MAX_DOCUMENT_BYTES + 1), "{error}");
    assert!(server.asked().is_empty());
    table.write(None, &"x".repeat(MAX_DOCUMENT_BYTES)).await.unwrap();
}

#[tokio::test]
async fn refusals_name_the_permission_or_the_table() {
    let (_server, table) = server(|_| refused("AccessDeniedException", json!({}))).await;
    let read = table.read().await.unwrap_err();
    assert!(matches!(&read, Error::AccessDenied { action: "dynamodb:GetItem", .. }), "{read:?}");
    let WriteError::Aws(error) = table.write(None, "").await.unwrap_err() else { panic!("no conflict") };
    assert!(error.to_string().contains("dynamodb:PutItem") && !error.may_have_happened(), "{error}");
    let (_server, table) = server(|_| refused("ResourceNotFoundException", json!({}))).await;
    let error = table.read().await.unwrap_err();
    assert!(matches!(&error, Error::NotFound { .. }) && error.to_string().contains("init-store"), "{error}");
}

#[tokio::test]
async fn throttles_and_failures_may_be_tried_again_and_only_the_latter_may_have_written() {
    for (code, may_have_written) in
        [("ProvisionedThroughputExceededException", false), ("ThrottlingException", false)]
    {
        let (_server, table) = server(move |_| refused(code, json!({}))).await;
        let WriteError::Aws(error) = table.write(None, "").await.unwrap_err() else { panic!("no conflict") };
        assert!(matches!(error, Error::Throttled { .. }), "{error:?}");
        assert_eq!(error.may_have_happened(), may_have_written, "{code}");
    }
    let (_server, table) = server(|_| (500, "InternalServerError", "{}".to_owned())).await;
    let WriteError::Aws(error) = table.write(None, "").await.unwrap_err() else { panic!("no conflict") };
    assert!(error.is_retriable() && error.may_have_happened(), "{error:?}");
}

#[tokio::test]
async fn silence_and_a_closed_port_may_have_written() {
    let table = StateTable::for_endpoint(support::nobody().await, "t", "k");
    let WriteError::Aws(error) = table.write(None, "").await.unwrap_err() else { panic!("no conflict") };
    assert!(matches!(error, Error::Unreachable { .. }) && error.may_have_happened(), "{error:?}");
    let table = StateTable::for_endpoint(support::silence().await, "t", "k");
    let WriteError::Aws(error) = table.write(None, "").await.unwrap_err() else { panic!("no conflict") };
    assert!(matches!(error, Error::Timeout { .. }) && error.may_have_happened(), "{error:?}");
    assert!(error.to_string().contains("AWS_ENDPOINT_URL_DYNAMODB"), "{error}");
}

fn table(key: &str, kind: &str, status: &str) -> Value {
    json!({"Table": {"TableName": "weir-state", "TableStatus": status,
        "AttributeDefinitions": [{"AttributeName": key, "AttributeType": kind}],
        "KeySchema": [{"AttributeName": key, "KeyType": "HASH"}]}})
}

#[tokio::test]
async fn a_table_with_another_key_is_refused_and_left_alone() {
    for (key, kind) in [("id", "S"), ("key", "N")] {
        let (server, state) = server(move |_| ok(&table(key, kind, "ACTIVE"))).await;
        let error = state.create().await.unwrap_err().to_string();
        assert!(error.contains("must be the text `key` alone") && error.contains("another table"), "{error}");
        assert_eq!(server.asked().len(), 1);
    }
}

#[tokio::test]
async fn a_table_is_made_once_and_awaited() {
    let looks = std::sync::atomic::AtomicUsize::new(0);
    let (server, state) = server(move |asked| match asked.amz_target.as_str() {
        "DynamoDB_20120810.CreateTable" => ok(&json!({})),
        _ => match looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst) {
            0 => refused("ResourceNotFoundException", json!({})),
            1 => ok(&table("key", "S", "CREATING")),
            _ => ok(&table("key", "S", "ACTIVE")),
        },
    })
    .await;
    assert!(state.create().await.unwrap());
    assert!(!state.create().await.unwrap(), "the second time there is nothing to do");
    let asked = server.asked();
    let made: Vec<&Asked> = asked.iter().filter(|asked| asked.amz_target.ends_with("CreateTable")).collect();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].body["BillingMode"], "PAY_PER_REQUEST");
    assert_eq!(made[0].body["KeySchema"], json!([{"AttributeName": "key", "KeyType": "HASH"}]));
}

#[tokio::test]
#[ignore = "needs moto"]
async fn a_table_in_moto_is_made_written_and_guarded_by_its_revision() {
    let moto = Moto::start().await.unwrap();
    let table = StateTable::for_endpoint(moto.url(), "weir-state", "default");
    assert!(matches!(table.read().await, Err(Error::NotFound { .. })));
    assert!(table.create().await.unwrap());
    assert!(!table.create().await.unwrap());
    assert_eq!(table.read().await.unwrap(), None);
    assert_eq!(table.write(None, "a").await.unwrap(), 1);
    assert_eq!(table.write(Some(1), "b").await.unwrap(), 2);
    for stale in [None, Some(1), Some(3)] {
        let error = table.write(stale, "c").await.unwrap_err();
        let WriteError::Conflict { found: Some(found) } = error else { panic!("{error:?}") };
        assert_eq!(found, Item { revision: 2, document: "b".to_owned() });
    }
    assert_eq!(table.beside("other").read().await.unwrap(), None);
    assert_eq!(table.beside("other").write(None, "d").await.unwrap(), 1);
    assert_eq!(table.read().await.unwrap().unwrap().document, "b");
}
