//! Refusals as JSON: what is wrong and what to do.
//!
//! Owns the mapping from errors to status codes. Next: `handlers.rs`.

use crate::core::change::ChangeError;
use crate::core::fleet::Full as FleetFull;
use crate::rest::ErrorBody;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// What is wrong.
    pub error: String,
    /// What to do.
    pub cure: String,
}

impl ApiError {
    /// A refusal.
    pub fn new(status: StatusCode, error: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { status, error: error.into(), cure: cure.into() }
    }

    /// No such path.
    pub fn not_found(what: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, what, "GET /v1/routes and GET /v1/gateways name what there is")
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let body = ErrorBody { error: self.error, cure: self.cure };
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = super::plain_response(self.status, "application/json", bytes);
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        let status = match &error {
            ChangeError::UnknownRoute { .. } => StatusCode::NOT_FOUND,
            ChangeError::UnknownTarget { .. } | ChangeError::Weights { .. } | ChangeError::Nothing => {
                StatusCode::BAD_REQUEST
            }
            ChangeError::NoEndpoints { .. }
            | ChangeError::NotAdopted { .. }
            | ChangeError::Fenced(_)
            | ChangeError::CannotAdopt(_) => StatusCode::CONFLICT,
            ChangeError::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            ChangeError::State(_) => StatusCode::INSUFFICIENT_STORAGE,
        };
        Self::new(status, error.to_string(), error.cure())
    }
}

impl From<FleetFull> for ApiError {
    fn from(error: FleetFull) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            error.to_string(),
            "look at `control gateways`: something gives each request a new instance id",
        )
    }
}
