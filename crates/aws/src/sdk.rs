//! What every client of ours has in common: where region, credentials and endpoint come from, and the limits.
//!
//! Owns the loading of the SDK's configuration. It must never run before the first call, nor stop a call for
//! longer than the limits here. Next: `cloud_map.rs`.

use crate::error::{Call, Error};
use aws_config::environment::region::EnvironmentVariableRegionProvider;
use aws_config::imds::region::ImdsRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::stalled_stream_protection::StalledStreamProtectionConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use std::time::Duration;

/// A connection that takes longer is better tried again: answers come in milliseconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// One attempt, credentials included.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(2);
/// One call as our caller sees it.
const OPERATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Asking the EC2 instance for its region; there is no answer outside EC2, and silence on some networks.
const INSTANCE_REGION_TIMEOUT: Duration = Duration::from_secs(2);
/// The variables that redirect a service that we use.
const ENDPOINT_VARIABLES: &[&str] = &[
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_SERVICEDISCOVERY",
    "AWS_ENDPOINT_URL_APP_MESH",
    "AWS_ENDPOINT_URL_DYNAMODB",
];

/// Where a client's settings come from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The environment, profile files, the container's or the instance's metadata.
    Environment,
    /// This endpoint, with credentials that are worth nothing elsewhere.
    Endpoint(String),
}

impl Source {
    /// The SDK's configuration.
    pub(crate) async fn load(&self, call: &Call) -> Result<SdkConfig, Error> {
        let timeouts = TimeoutConfig::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .operation_attempt_timeout(ATTEMPT_TIMEOUT)
            .operation_timeout(OPERATION_TIMEOUT)
            .build();
        let loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            // Every call is bounded in whole, so its streams need no watch of their own.
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled());
        let loader = match self {
            Self::Environment => {
                let region = region().await.ok_or_else(|| {
                    call.clone().other(
                        "no AWS region is known: set AWS_REGION, or a region in the profile that AWS_PROFILE names",
                        false,
                    )
                })?;
                loader.region(region)
            }
            Self::Endpoint(url) => loader
                .region(Region::from_static("us-east-1"))
                .credentials_provider(Credentials::for_tests())
                .endpoint_url(url),
        };
        Ok(loader.load().await)
    }
}

/// The region to sign for, from the nearest source to the farthest.
async fn region() -> Option<Region> {
    let near = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new());
    if let Some(region) = near.region().await {
        return Some(region);
    }
    if ENDPOINT_VARIABLES.iter().any(|name| std::env::var_os(name).is_some()) {
        // The address is known already; a region is needed only because the signature names one.
        return Some(Region::from_static("us-east-1"));
    }
    let instance = ImdsRegionProvider::builder().build();
    tokio::time::timeout(INSTANCE_REGION_TIMEOUT, instance.region()).await.ok().flatten()
}
