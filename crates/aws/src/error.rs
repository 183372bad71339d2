//! What can go wrong in a call to AWS, in the words of the operator who has to put it right.
//!
//! Owns the one error type of the crate and how an SDK error becomes it. It must never report "not found" unless
//! the service itself said so: that answer lets a gateway give up endpoints. Next: `sdk.rs`.

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::error::metadata::ProvideErrorMetadata;
use std::error::Error as StdError;

/// The longest text of somebody else that goes into one of our messages, in characters.
const MAX_DETAIL: usize = 400;

/// One operation of the AWS API, as error texts need it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operation {
    /// As in the API reference.
    pub(crate) name: &'static str,
    /// The IAM action.
    pub(crate) action: &'static str,
    /// The variable that redirects the service.
    pub(crate) endpoint_variable: &'static str,
    /// What to look at when the thing asked for does not exist.
    pub(crate) look_at: &'static str,
}

/// Why a call to AWS gave no answer that can be used. Texts name the operation, what was asked, the probable
/// cause and the cure.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The service answered that it does not know what was asked for.
    #[error("{operation} of {asked}: not found ({detail}): check {look_at}, the region and the account")]
    NotFound {
        /// As in the API reference.
        operation: &'static str,
        /// What was asked for.
        asked: String,
        /// The service's own words.
        detail: String,
        /// Which settings to check.
        look_at: &'static str,
    },
    /// The account or the service is asked more than it allows.
    #[error(
        "{operation} of {asked}: throttled ({detail}): the quota is shared by the whole account and region; it is asked again later and later, poll less often or raise the quota if this lasts"
    )]
    Throttled {
        /// As in the API reference.
        operation: &'static str,
        /// What was asked for.
        asked: String,
        /// The service's own words.
        detail: String,
    },
    /// No answer in time. An update may have been carried out all the same.
    #[error(
        "{operation} of {asked}: no answer in time ({detail}): check security groups, the route to the internet or the VPC endpoint of this service, and {endpoint_variable} if it is set"
    )]
    Timeout {
        /// As in the API reference.
        operation: &'static str,
        /// What was asked for.
        asked: String,
        /// What did not come in time.
        detail: String,
        /// The variable that redirects the service.
        endpoint_variable: &'static str,
    },
    /// No credentials, wrong ones, or a role that lacks the permission.
    #[error(
        "{operation} of {asked}: access denied ({detail}): give the task role (or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) the permission {action}"
    )]
    AccessDenied {
        /// As in the API reference.
        operation: &'static str,
        /// What was asked for.
        asked: String,
        /// The service's own words, or why there are no credentials.
        detail: String,
        /// The IAM action that is needed.
        action: &'static str,
    },
    /// The connection failed before an answer came. An update may have been carried out all the same.
    #[error(
        "{operation} of {asked}: cannot reach the service ({detail}): check DNS, the route to the internet or the VPC endpoint of this service, and {endpoint_variable} if it is set"
    )]
    Unreachable {
        /// As in the API reference.
        operation: &'static str,
        /// What was asked for.
        asked: String,
        /// What the network said.
        detail: String,
        /// The variable that redirects the service.
        endpoint_variable: &'static str,
    },
    /// Anything else: a refusal, a failure inside the service, an answer that cannot be read.
    #[error("{operation} of {asked}: {detail}")]
    Other {
        /// As in the API reference.
        operation: &'static str,
        /// What was asked for.
        asked: String,
        /// What happened and what can be done.
        detail: String,
        /// Whether the same call may succeed later though nobody changes anything.
        retriable: bool,
    },
}

impl Error {
    /// Whether the same call may succeed soon though nobody changes anything. The others stay until somebody
    /// acts, so they are worth asking again only now and then.
    pub fn is_retriable(&self) -> bool {
        match self {
            Self::Throttled { .. } | Self::Timeout { .. } | Self::Unreachable { .. } => true,
            Self::NotFound { .. } | Self::AccessDenied { .. } => false,
            Self::Other { retriable, .. } => *retriable,
        }
    }

    /// Whether a call that changes something may have been carried out, or will be, though this is its answer.
    pub fn may_have_happened(&self) -> bool {
        match self {
            Self::Timeout { .. } | Self::Unreachable { .. } => true,
            Self::NotFound { .. } | Self::AccessDenied { .. } | Self::Throttled { .. } => false,
            // A failure inside the service, or an answer that cannot be read.
            Self::Other { retriable, .. } => *retriable,
        }
    }

    /// Whether the service cannot be asked from here at all: no permission, or no way to it. Another source is then
    /// worth asking; after a throttle or a failure of the service it is not, for the last answer is still good.
    pub fn is_shut_out(&self) -> bool {
        matches!(self, Self::AccessDenied { .. } | Self::Timeout { .. } | Self::Unreachable { .. })
    }
}

/// One call: which operation, and what it asks for. Makes every error of it.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) operation: Operation,
    pub(crate) asked: String,
}

impl Call {
    pub(crate) fn other(self, detail: impl Into<String>, retriable: bool) -> Error {
        let Self { operation, asked } = self;
        Error::Other { operation: operation.name, asked, detail: detail.into(), retriable }
    }

    fn not_found(self, detail: String) -> Error {
        let Self { operation: Operation { name, look_at, .. }, asked } = self;
        Error::NotFound { operation: name, asked, detail, look_at }
    }

    fn throttled(self, detail: String) -> Error {
        Error::Throttled { operation: self.operation.name, asked: self.asked, detail }
    }

    fn timeout(self, detail: String) -> Error {
        let Self { operation: Operation { name, endpoint_variable, .. }, asked } = self;
        Error::Timeout { operation: name, asked, detail, endpoint_variable }
    }

    fn denied(self, detail: String) -> Error {
        let Self { operation: Operation { name, action, .. }, asked } = self;
        Error::AccessDenied { operation: name, asked, detail, action }
    }

    fn unreachable(self, detail: String) -> Error {
        let Self { operation: Operation { name, endpoint_variable, .. }, asked } = self;
        Error::Unreachable { operation: name, asked, detail, endpoint_variable }
    }

    /// The SDK's error in our words.
    pub(crate) fn failed<E>(self, error: &SdkError<E, HttpResponse>) -> Error
    where
        E: ProvideErrorMetadata + StdError + 'static,
    {
        if let Some(credentials) = credentials_error(error) {
            return self.without_credentials(credentials);
        }
        match error {
            SdkError::TimeoutError(_) => self.timeout(chain(error)),
            SdkError::DispatchFailure(failure) if failure.is_timeout() => self.timeout(chain(error)),
            SdkError::DispatchFailure(failure) if failure.is_user() => self.other(chain(error), false),
            SdkError::DispatchFailure(_) => self.unreachable(chain(error)),
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                self.refused(status, answer.err().code(), answer.err().message())
            }
            SdkError::ResponseError(answer) => {
                let status = answer.raw().status().as_u16();
                let variable = self.operation.endpoint_variable;
                let detail = format!(
                    "the answer (status {status}) cannot be read: {}; is {variable} an AWS endpoint?",
                    chain(error)
                );
                self.other(detail, true)
            }
            _ => self.other(chain(error), false),
        }
    }

    fn without_credentials(self, error: &CredentialsError) -> Error {
        let detail = format!("no credentials: {}", chain(error));
        match error {
            CredentialsError::ProviderTimedOut(_) => self.timeout(detail),
            CredentialsError::ProviderError(_) => self.unreachable(detail),
            _ => self.denied(detail),
        }
    }

    fn refused(self, status: u16, code: Option<&str>, message: Option<&str>) -> Error {
        let code = code.unwrap_or_default();
        let detail = match (code, message) {
            ("", None) => format!("status {status}"),
            ("", Some(message)) => shorten(&format!("status {status}: {message}")),
            (code, None) => code.to_owned(),
            (code, Some(message)) => shorten(&format!("{code}: {message}")),
        };
        match Refusal::of(status, code) {
            Refusal::NotFound => self.not_found(detail),
            Refusal::Throttled => self.throttled(detail),
            Refusal::Denied => self.denied(detail),
            Refusal::Failed => self.other(format!("the service failed ({detail}); it is asked again"), true),
            Refusal::Refused => {
                let variable = self.operation.endpoint_variable;
                self.other(format!("refused ({detail}); is the request right, and {variable} if set?"), false)
            }
        }
    }
}

/// What kind of refusal a service's answer is.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    NotFound,
    Throttled,
    Denied,
    Failed,
    Refused,
}

impl Refusal {
    fn of(status: u16, code: &str) -> Self {
        const THROTTLED: &[&str] = &[
            "LimitExceededException",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "SlowDown",
        ];
        const DENIED: &[&str] = &[
            "ExpiredToken",
            "ExpiredTokenException",
            "ForbiddenException",
            "IncompleteSignature",
            "IncompleteSignatureException",
            "InvalidClientTokenId",
            "InvalidSignatureException",
            "MissingAuthenticationToken",
            "MissingAuthenticationTokenException",
            "SignatureDoesNotMatch",
            "UnrecognizedClientException",
        ];
        // A bare 404 may come from anything that listens at the address, so it proves no absence.
        if code.ends_with("NotFound") || code.ends_with("NotFoundException") {
            Self::NotFound
        } else if status == 429
            || THROTTLED.contains(&code)
            || code.starts_with("Throttl")
            || code.starts_with("TooManyRequests")
        {
            Self::Throttled
        } else if matches!(status, 401 | 403) || DENIED.contains(&code) || code.starts_with("AccessDenied") {
            Self::Denied
        } else if status >= 500 {
            Self::Failed
        } else {
            Self::Refused
        }
    }
}

fn credentials_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a CredentialsError> {
    std::iter::successors(Some(error), |error| (*error).source())
        .find_map(|error| error.downcast_ref::<CredentialsError>())
}

/// An error and its causes on one line, repetitions left out.
fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for cause in std::iter::successors(Some(error), |error| (*error).source()) {
        let words = cause.to_string();
        if text.contains(&words) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&words);
    }
    shorten(&text)
}

/// A service's words, made fit for one line of a log.
fn shorten(text: &str) -> String {
    let mut line: String =
        text.chars().take(MAX_DETAIL).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() < text.len() {
        line.push_str("...");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_told_by_its_code_before_its_status() {
        // The stand-ins answer 400 where AWS answers 404; the code is the same.
        assert_eq!(Refusal::of(400, "ServiceNotFound"), Refusal::NotFound);
        assert_eq!(Refusal::of(404, "NotFoundException"), Refusal::NotFound);
        assert_eq!(Refusal::of(400, "ThrottlingException"), Refusal::Throttled);
        assert_eq!(Refusal::of(429, ""), Refusal::Throttled);
        assert_eq!(Refusal::of(400, "AccessDeniedException"), Refusal::Denied);
        assert_eq!(Refusal::of(403, ""), Refusal::Denied);
        assert_eq!(Refusal::of(503, "ServiceUnavailableException"), Refusal::Failed);
        assert_eq!(Refusal::of(400, "InvalidInput"), Refusal::Refused);
    }

    #[test]
    fn a_404_without_the_services_word_is_no_proof_of_absence() {
        assert_eq!(Refusal::of(404, ""), Refusal::Refused);
        assert_eq!(Refusal::of(404, "UnknownOperationException"), Refusal::Refused);
    }

    #[test]
    fn a_services_words_are_bounded_and_on_one_line() {
        let line = shorten(&"a\nb".repeat(10_000));
        assert!(line.len() <= MAX_DETAIL + 3, "{}", line.len());
        assert!(!line.contains('\n'));
    }
}
