//! DynamoDB: one item of one table, read as a whole and replaced on condition.
//!
//! Owns GetItem, PutItem and the making of the table. It must never write without naming the revision that it
//! replaces, and never judge the document. Source: DynamoDB API reference. Next: `gateway_config::state_item`, which
//! names the attributes.

use crate::error::{Call, Error, Operation};
use crate::sdk::Source;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::create_table::CreateTableError;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
    ReturnValuesOnConditionCheckFailure, ScalarAttributeType, TableDescription, TableStatus,
};
use aws_types::endpoint_config::AccountIdEndpointMode;
use gateway_config::state_item::{DOCUMENT_ATTRIBUTE, KEY_ATTRIBUTE, REVISION_ATTRIBUTE, UPDATED_ATTRIBUTE};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::Instant;

/// An item has at most 400 KB, names and numbers included (DynamoDB: Service quotas); the rest of ours is far below
/// the difference, but for a key of 2,048 bytes.
pub const MAX_DOCUMENT_BYTES: usize = 400 * 1024 - 4 * 1024;
/// A table of ours is there within seconds; AWS says no more than that it takes a while.
const CREATE_PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at a table that is being made.
const CREATE_POLL: Duration = Duration::from_secs(1);

const READ: Operation = Operation {
    name: "GetItem",
    action: "dynamodb:GetItem",
    endpoint_variable: "AWS_ENDPOINT_URL_DYNAMODB",
    look_at: "the name of the table (`control init-store --table NAME` makes it)",
};
const WRITE: Operation = Operation { name: "PutItem", action: "dynamodb:PutItem", ..READ };
const DESCRIBE: Operation = Operation { name: "DescribeTable", action: "dynamodb:DescribeTable", ..READ };
const CREATE: Operation = Operation { name: "CreateTable", action: "dynamodb:CreateTable", ..READ };

/// One item. Cheap to clone; clones share connections and credentials.
#[derive(Clone, Debug)]
pub struct StateTable {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    source: Source,
    client: OnceCell<Client>,
    table: String,
    key: String,
}

/// The item as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// One higher with each write.
    pub revision: u64,
    /// A text of JSON.
    pub document: String,
}

/// Why a document was not written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WriteError {
    /// The item has another revision than the one that was to be replaced. Nothing was written by this call.
    #[error("the item has another revision than the one that was read")]
    Conflict {
        /// The item as it is; none when there is none.
        found: Option<Item>,
    },
    /// DynamoDB would refuse it.
    #[error("the document has {bytes} bytes, and an item holds {MAX_DOCUMENT_BYTES}: use a state file")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// No answer that says anything else: see [`Error::may_have_happened`] for whether it may have been written.
    #[error("{0}")]
    Aws(#[from] Error),
}

impl StateTable {
    /// The item `key` of `table`, with region, credentials and endpoint from the environment, as every AWS tool takes
    /// them. They are looked for at the first call, not now.
    pub fn from_env(table: impl Into<String>, key: impl Into<String>) -> Self {
        Self::with_source(Source::Environment, table.into(), key.into())
    }

    /// The same at one endpoint, for a stand-in: it signs with keys that are worth nothing.
    pub fn for_endpoint(url: impl Into<String>, table: impl Into<String>, key: impl Into<String>) -> Self {
        Self::with_source(Source::Endpoint(url.into()), table.into(), key.into())
    }

    fn with_source(source: Source, table: String, key: String) -> Self {
        Self { shared: Arc::new(Shared { source, client: OnceCell::new(), table, key }) }
    }

    /// Another item of the same table.
    pub fn beside(&self, key: impl Into<String>) -> Self {
        Self::with_source(self.shared.source.clone(), self.shared.table.clone(), key.into())
    }

    /// The key of the item.
    pub fn key(&self) -> &str {
        &self.shared.key
    }

    /// Which item, for people.
    pub fn place(&self) -> String {
        format!("item `{}` of table `{}`", self.shared.key, self.shared.table)
    }

    fn call(&self, operation: Operation) -> Call {
        Call { operation, asked: self.place() }
    }

    async fn client(&self, call: &Call) -> Result<&Client, Error> {
        let Shared { source, client, .. } = &*self.shared;
        let make = || async {
            let settings = source.load(call).await?;
            // The endpoint of an account is none of those that VPC endpoints answer for.
            let settings = aws_sdk_dynamodb::config::Builder::from(&settings)
                .account_id_endpoint_mode(AccountIdEndpointMode::Disabled)
                .build();
            Ok(Client::from_conf(settings))
        };
        client.get_or_try_init(make).await
    }

    /// GetItem, as it is after every write that was answered before (ConsistentRead).
    ///
    /// # Errors
    /// [`Error`]; [`Error::Other`] also for an item of another shape.
    pub async fn read(&self) -> Result<Option<Item>, Error> {
        let call = self.call(READ);
        let asked = self
            .client(&call)
            .await?
            .get_item()
            .table_name(&self.shared.table)
            .key(KEY_ATTRIBUTE, AttributeValue::S(self.shared.key.clone()))
            .consistent_read(true);
        // The SDK's futures are large, and ours are part of larger ones.
        let answer = Box::pin(asked.send()).await.map_err(|error| call.clone().failed(&error))?;
        let item = answer.item.as_ref();
        item.map(Item::from_attributes).transpose().map_err(|detail| call.other(detail, false))
    }

    /// PutItem on condition: the item has `expected`, or is not there when that is none. Answers the new revision.
    ///
    /// # Errors
    /// [`WriteError`].
    pub async fn write(&self, expected: Option<u64>, document: &str) -> Result<u64, WriteError> {
        if document.len() > MAX_DOCUMENT_BYTES {
            return Err(WriteError::TooLarge { bytes: document.len() });
        }
        let call = self.call(WRITE);
        let revision = expected.unwrap_or_default().saturating_add(1);
        let put = self
            .client(&call)
            .await?
            .put_item()
            .table_name(&self.shared.table)
            .item(KEY_ATTRIBUTE, AttributeValue::S(self.shared.key.clone()))
            .item(REVISION_ATTRIBUTE, AttributeValue::N(revision.to_string()))
            .item(DOCUMENT_ATTRIBUTE, AttributeValue::S(document.to_owned()))
            .item(UPDATED_ATTRIBUTE, AttributeValue::S(timestamp()))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let put = match expected {
            Some(expected) => put
                .condition_expression("#revision = :expected")
                .expression_attribute_names("#revision", REVISION_ATTRIBUTE)
                .expression_attribute_values(":expected", AttributeValue::N(expected.to_string())),
            None => put
                .condition_expression("attribute_not_exists(#key)")
                .expression_attribute_names("#key", KEY_ATTRIBUTE),
        };
        let Err(error) = Box::pin(put.send()).await else { return Ok(revision) };
        let refused = match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(refused)) => refused,
            _ => return Err(call.failed(&error).into()),
        };
        let found = match refused.item() {
            Some(item) => {
                Some(Item::from_attributes(item).map_err(|detail| call.clone().other(detail, false))?)
            }
            // An endpoint that does not answer the old item; or there is none.
            None => self.read().await?,
        };
        Err(WriteError::Conflict { found })
    }

    /// CreateTable, paid by request, when there is no such table; then waits until it can be used. True = it was made
    /// now.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Other`] also for a table with another key, and when it is not ready in two minutes.
    pub async fn create(&self) -> Result<bool, Error> {
        let made = match self.describe().await {
            Ok(_) => false,
            Err(Error::NotFound { .. }) => self.create_table().await?,
            Err(error) => return Err(error),
        };
        let deadline = Instant::now() + CREATE_PATIENCE;
        loop {
            match self.describe().await {
                Ok(table) if table.table_status() == Some(&TableStatus::Active) => return Ok(made),
                // What was made a moment ago need not be seen at once.
                Ok(_) | Err(Error::NotFound { .. }) => {}
                Err(error) if error.is_retriable() => {}
                Err(error) => return Err(error),
            }
            if Instant::now() >= deadline {
                let detail =
                    "the table is not ACTIVE after two minutes: look at it in the console, then try again";
                return Err(self.call(DESCRIBE).other(detail, true));
            }
            tokio::time::sleep(CREATE_POLL).await;
        }
    }

    async fn create_table(&self) -> Result<bool, Error> {
        let call = self.call(CREATE);
        let unbuildable =
            |error: aws_sdk_dynamodb::error::BuildError| call.clone().other(error.to_string(), false);
        let key = AttributeDefinition::builder()
            .attribute_name(KEY_ATTRIBUTE)
            .attribute_type(ScalarAttributeType::S)
            .build()
            .map_err(unbuildable)?;
        let schema = KeySchemaElement::builder()
            .attribute_name(KEY_ATTRIBUTE)
            .key_type(KeyType::Hash)
            .build()
            .map_err(unbuildable)?;
        let answer = self
            .client(&call)
            .await?
            .create_table()
            .table_name(&self.shared.table)
            .attribute_definitions(key)
            .key_schema(schema)
            .billing_mode(BillingMode::PayPerRequest)
            .send()
            .await;
        match answer {
            Ok(_) => Ok(true),
            // Somebody else was faster.
            Err(error)
                if matches!(error.as_service_error(), Some(CreateTableError::ResourceInUseException(_))) =>
            {
                Ok(false)
            }
            Err(error) => Err(call.failed(&error)),
        }
    }

    async fn describe(&self) -> Result<TableDescription, Error> {
        let call = self.call(DESCRIBE);
        let answer = self
            .client(&call)
            .await?
            .describe_table()
            .table_name(&self.shared.table)
            .send()
            .await
            .map_err(|error| call.clone().failed(&error))?;
        let Some(table) = answer.table else { return Err(call.other("the answer holds no table", true)) };
        let is_text = table.attribute_definitions().iter().any(|attribute| {
            attribute.attribute_name() == KEY_ATTRIBUTE
                && attribute.attribute_type() == &ScalarAttributeType::S
        });
        match table.key_schema() {
            [key] if key.attribute_name() == KEY_ATTRIBUTE && is_text => Ok(table),
            other => {
                let found: Vec<&str> = other.iter().map(KeySchemaElement::attribute_name).collect();
                let detail = format!(
                    "the table is there, but its key is {}, and must be the text `{KEY_ATTRIBUTE}` alone: name \
                     another table",
                    found.join(" and ")
                );
                Err(call.other(detail, false))
            }
        }
    }
}

impl Item {
    fn from_attributes(attributes: &HashMap<String, AttributeValue>) -> Result<Self, String> {
        let of = |name: &str| {
            attributes.get(name).ok_or_else(|| format!("the item has no `{name}`: it is none of Weir's"))
        };
        let revision = of(REVISION_ATTRIBUTE)?.as_n().ok().and_then(|number| number.parse().ok());
        let revision =
            revision.ok_or_else(|| format!("the item's `{REVISION_ATTRIBUTE}` is not a whole number"))?;
        let document = of(DOCUMENT_ATTRIBUTE)?.as_s().ok();
        let document = document.ok_or_else(|| format!("the item's `{DOCUMENT_ATTRIBUTE}` is not a text"))?;
        Ok(Self { revision, document: document.clone() })
    }
}

/// Now, as RFC 3339 in UTC.
fn timestamp() -> String {
    let now = aws_smithy_types::DateTime::from(std::time::SystemTime::now());
    now.fmt(aws_smithy_types::date_time::Format::DateTime).unwrap_or_default()
}
