//! The user's names: what `control init ecs` is told by flags and by app.properties.json.
//!
//! Owns which are needed and where each comes from; it must never take one that `rules.rs` has not passed. Next:
//! `rules.rs`.

use super::rules::{self, Asked};
use super::template::Values;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A properties file is a handful of lines; more than this is another file.
const MAX_PROPERTIES_BYTES: usize = 64 * 1024;
/// ELB wants two Availability Zones.
const MIN_PUBLIC_SUBNETS: usize = 2;

/// What the command line says; everything may be missing.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// AWS account.
    #[arg(long, value_name = "NUMBER")]
    pub account: Option<String>,
    /// AWS region.
    #[arg(long)]
    pub region: Option<String>,
    /// Begins every name that is made.
    #[arg(long)]
    pub prefix: Option<String>,
    /// The VPC.
    #[arg(long, value_name = "vpc-..")]
    pub vpc: Option<String>,
    /// A subnet for the load balancer; give two or more, in different Availability Zones.
    #[arg(long = "public-subnet", value_name = "subnet-..", value_delimiter = ',')]
    pub public_subnets: Vec<String>,
    /// A subnet for the tasks.
    #[arg(long = "private-subnet", value_name = "subnet-..", value_delimiter = ',')]
    pub private_subnets: Vec<String>,
    /// Private DNS namespace of Cloud Map, such as production.my-app.local.
    #[arg(long, value_name = "NAME")]
    pub namespace: Option<String>,
    /// Its id, when it exists already; else it is made.
    #[arg(long, value_name = "ns-..")]
    pub namespace_id: Option<String>,
    /// The ECS cluster, when it exists already; else it is made.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// Name of v1 in Cloud Map, such as svc1-v1.
    #[arg(long, value_name = "NAME")]
    pub service1: Option<String>,
    /// Name of v2 in Cloud Map.
    #[arg(long, value_name = "NAME")]
    pub service2: Option<String>,
    /// Port on which both versions listen.
    #[arg(long)]
    pub port: Option<String>,
    /// Weir's image.
    #[arg(long)]
    pub image: Option<String>,
    /// Image of v1.
    #[arg(long, value_name = "IMAGE")]
    pub service1_image: Option<String>,
    /// Image of v2; the same as of v1 when left out.
    #[arg(long, value_name = "IMAGE")]
    pub service2_image: Option<String>,
    /// Name of the route in control. Default: svc1.
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Percent of the requests for v2 at the very first start. Default: 0.
    #[arg(long, value_name = "PERCENT")]
    pub canary_weight: Option<String>,
    /// ACM certificate of the load balancer; HTTP when left out.
    #[arg(long, value_name = "ARN")]
    pub certificate: Option<String>,
    /// What the load balancer asks v1 and v2. Default: /.
    #[arg(long, value_name = "PATH")]
    pub health_path: Option<String>,
}

/// What an app.properties.json says that matters here; the rest of it is left alone.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Properties {
    app_name: Option<Value>,
    env_name: Option<Value>,
    aws_region: Option<Value>,
    service1_name: Option<Value>,
    service1_port: Option<Value>,
    service2_name: Option<Value>,
    traffic_weight_route1: Option<Value>,
    traffic_weight_route2: Option<Value>,
}

/// Why an app.properties.json cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PropertiesError {
    /// The disk says no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{path} has {bytes} bytes; an app.properties.json has at most {MAX_PROPERTIES_BYTES}")]
    TooLong {
        /// The file.
        path: String,
        /// Its length.
        bytes: usize,
    },
    /// Not JSON, or not an object.
    #[error("{path}:{}:{}: {source}", .source.line(), .source.column())]
    Json {
        /// The file.
        path: String,
        /// What is wrong.
        source: serde_json::Error,
    },
}

impl Properties {
    /// Reads the file.
    ///
    /// # Errors
    /// When it cannot be read, is over 64 KiB, or is no JSON object.
    pub fn read(path: &Path) -> Result<Self, PropertiesError> {
        let label = path.display().to_string();
        let bytes =
            std::fs::read(path).map_err(|source| PropertiesError::Io { path: label.clone(), source })?;
        if bytes.len() > MAX_PROPERTIES_BYTES {
            return Err(PropertiesError::TooLong { path: label, bytes: bytes.len() });
        }
        serde_json::from_slice(&bytes).map_err(|source| PropertiesError::Json { path: label, source })
    }

    /// The canary's percent, if the two weights are percentages: App Mesh took any sum, and a guess moves traffic.
    fn canary_weight(&self) -> Result<Option<String>, String> {
        let Some(canary) = text(&self.traffic_weight_route2) else {
            return Ok(None);
        };
        let stable = text(&self.traffic_weight_route1).unwrap_or_default();
        match (stable.parse::<f64>(), canary.parse::<f64>()) {
            (Ok(one), Ok(two)) if one + two == 100.0 => Ok(Some(canary)),
            _ => Err(format!(
                "traffic_weight_route1 and traffic_weight_route2 are `{}` and `{}`, not 100 together: give \
                 --canary-weight",
                stable.escape_debug(),
                canary.escape_debug()
            )),
        }
    }

    /// `ENV.APP.local`, as Copilot names it.
    fn namespace(&self) -> Option<String> {
        Some(format!("{}.{}.local", text(&self.env_name)?, text(&self.app_name)?))
    }
}

/// A text or a number, as text.
fn text(value: &Option<Value>) -> Option<String> {
    match value {
        Some(Value::String(text)) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
        Some(Value::Number(number)) => Some(number.to_string()),
        _ => None,
    }
}

/// Everything that is missing or wrong, each with the flag that gives it.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", .complaints.join("\n"))]
pub struct NamesError {
    /// One sentence each.
    pub complaints: Vec<String>,
}

/// Names that are complete and harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    account: String,
    region: String,
    prefix: String,
    vpc: String,
    public_subnets: Vec<String>,
    private_subnets: Vec<String>,
    namespace: String,
    namespace_id: String,
    cluster: String,
    service1: String,
    service2: String,
    port: String,
    pub(super) image: String,
    pub(super) service1_image: String,
    pub(super) service2_image: String,
    route: String,
    canary_weight: String,
    certificate: String,
    health_path: String,
}

impl Names {
    /// From flags, and where they say nothing from the properties.
    ///
    /// # Errors
    /// Everything missing or wrong at once.
    pub fn new(flags: Flags, properties: &Properties) -> Result<Self, NamesError> {
        let mut asked = Asked::default();
        let canary_weight = match flags.canary_weight {
            Some(weight) => Some(weight),
            None => asked.taken(properties.canary_weight()).flatten(),
        };
        let service1_image = asked.needed(&rules::SERVICE1_IMAGE, flags.service1_image);
        let names = Self {
            account: asked.needed(&rules::ACCOUNT, flags.account),
            region: asked.needed(&rules::REGION, flags.region.or(text(&properties.aws_region))),
            prefix: asked.needed(&rules::PREFIX, flags.prefix.or(text(&properties.app_name))),
            vpc: asked.needed(&rules::VPC, flags.vpc),
            public_subnets: asked.all(&rules::PUBLIC_SUBNET, flags.public_subnets, MIN_PUBLIC_SUBNETS),
            private_subnets: asked.all(&rules::PRIVATE_SUBNET, flags.private_subnets, 1),
            namespace: asked.needed(&rules::NAMESPACE, flags.namespace.or(properties.namespace())),
            namespace_id: asked.optional(&rules::NAMESPACE_ID, flags.namespace_id, ""),
            cluster: asked.optional(&rules::CLUSTER, flags.cluster, ""),
            service1: asked.needed(&rules::SERVICE1, flags.service1.or(text(&properties.service1_name))),
            service2: asked.needed(&rules::SERVICE2, flags.service2.or(text(&properties.service2_name))),
            port: asked.needed(&rules::PORT, flags.port.or(text(&properties.service1_port))),
            image: asked.needed(&rules::IMAGE, flags.image),
            service2_image: asked.optional(&rules::SERVICE2_IMAGE, flags.service2_image, &service1_image),
            service1_image,
            route: asked.optional(&rules::ROUTE, flags.route, "svc1"),
            canary_weight: asked.optional(&rules::CANARY_WEIGHT, canary_weight, "0"),
            certificate: asked.optional(&rules::CERTIFICATE, flags.certificate, ""),
            health_path: asked.optional(&rules::HEALTH_PATH, flags.health_path, "/"),
        };
        asked.different(&rules::SERVICE1, &names.service1, &rules::SERVICE2, &names.service2);
        asked.done(names)
    }

    /// `aws`, `aws-cn` or `aws-us-gov`.
    pub(super) fn partition(&self) -> &'static str {
        match self.region.split('-').next() {
            Some("cn") => "aws-cn",
            Some("us") if self.region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        }
    }

    /// By placeholder.
    pub(super) fn values(&self) -> Values {
        let cluster_name = if self.cluster.is_empty() { &self.prefix } else { &self.cluster };
        let make_cluster = if self.cluster.is_empty() {
            "aws ecs create-cluster --cluster-name \"$cluster\" >/dev/null"
        } else {
            ""
        };
        Values::from([
            ("account", self.account.clone()),
            ("region", self.region.clone()),
            ("partition", self.partition().to_owned()),
            ("prefix", self.prefix.clone()),
            ("table", format!("{}-weir-state", self.prefix)),
            ("vpc", self.vpc.clone()),
            ("public_subnets", self.public_subnets.join(",")),
            ("public_subnets_words", self.public_subnets.join(" ")),
            ("private_subnets", self.private_subnets.join(",")),
            ("namespace", self.namespace.clone()),
            ("namespace_id", self.namespace_id.clone()),
            ("cluster", self.cluster.clone()),
            ("cluster_name", cluster_name.clone()),
            ("make_cluster", make_cluster.to_owned()),
            ("service1", self.service1.clone()),
            ("service2", self.service2.clone()),
            ("port", self.port.clone()),
            ("image", self.image.clone()),
            ("service1_image", self.service1_image.clone()),
            ("service2_image", self.service2_image.clone()),
            ("route", self.route.clone()),
            ("canary_weight", self.canary_weight.clone()),
            ("certificate", self.certificate.clone()),
            ("health_path", self.health_path.clone()),
        ])
    }
}
