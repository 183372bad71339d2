//! `control init-store`.
//!
//! Owns the one command that speaks to AWS and not to a control; it must never change an item. Next: `aws::dynamodb`.

use super::{EXIT_DONE, Failure};
use aws::dynamodb::StateTable;

/// Makes the table, or finds it, and says what is in the item.
pub(super) async fn init(table: &str, key: &str) -> Result<u8, Failure> {
    let item = StateTable::from_env(table, key);
    let failed = |error: aws::Error| Failure::error(error.to_string(), String::new());
    let word = if item.create().await.map_err(failed)? { "made" } else { "there already" };
    let holds = match item.read().await.map_err(failed)? {
        Some(found) => format!("is at revision {}", found.revision),
        None => "is not there yet: the first control writes it".to_owned(),
    };
    println!("table `{table}` is {word} and ready; item `{key}` {holds}");
    println!("in control's configuration: `state: {{dynamodb: {{table: {table}, key: {key}}}}}`");
    Ok(EXIT_DONE)
}
