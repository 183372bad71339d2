//! The user's names: what `control init ecs` is told by flags and by app.properties.json.
//!
//! Owns which are needed, what each may look like, and every complaint at once. A name that passes cannot end a
//! quotation in YAML, JSON or a shell; nothing behind here escapes. Next: `mod.rs`.

use super::template::Values;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// A properties file is a handful of lines; more than this is another file.
const MAX_PROPERTIES_BYTES: usize = 64 * 1024;
/// Target groups are called PREFIX-weir, and ELB takes 32 characters.
const MAX_PREFIX: usize = 27;
/// ELB wants two Availability Zones.
const MIN_PUBLIC_SUBNETS: usize = 2;
/// ECS takes 16 subnets for a service.
const MAX_SUBNETS: usize = 16;
/// A label of a DNS name (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

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
        let service1_image = asked.needed(
            "--service1-image",
            flags.service1_image,
            "123456789012.dkr.ecr.REGION.amazonaws.com/my-app:1",
            is_image,
        );
        let names = Self {
            account: asked.needed("--account", flags.account, "123456789012", is_account),
            region: asked.needed(
                "--region",
                flags.region.or(text(&properties.aws_region)),
                "eu-west-1",
                is_region,
            ),
            prefix: asked.needed(
                "--prefix",
                flags.prefix.or(text(&properties.app_name)),
                "my-app",
                is_prefix,
            ),
            vpc: asked.needed("--vpc", flags.vpc, "vpc-0123456789abcdef0", |v| is_id(v, "vpc-")),
            public_subnets: asked.subnets("--public-subnet", flags.public_subnets, MIN_PUBLIC_SUBNETS),
            private_subnets: asked.subnets("--private-subnet", flags.private_subnets, 1),
            namespace: asked.needed(
                "--namespace",
                flags.namespace.or(properties.namespace()),
                "production.my-app.local",
                is_host,
            ),
            namespace_id: asked.optional(
                "--namespace-id",
                flags.namespace_id,
                "",
                "ns-0123456789abcdef",
                is_namespace_id,
            ),
            cluster: asked.optional("--cluster", flags.cluster, "", "my-cluster", is_cluster),
            service1: asked.needed(
                "--service1",
                flags.service1.or(text(&properties.service1_name)),
                "svc1-v1",
                is_service,
            ),
            service2: asked.needed(
                "--service2",
                flags.service2.or(text(&properties.service2_name)),
                "svc1-v2",
                is_service,
            ),
            port: asked.needed("--port", flags.port.or(text(&properties.service1_port)), "3000", is_port),
            image: asked.needed(
                "--image",
                flags.image,
                "123456789012.dkr.ecr.REGION.amazonaws.com/weir:1",
                is_image,
            ),
            service2_image: asked.optional(
                "--service2-image",
                flags.service2_image,
                &service1_image,
                "my-app:2",
                is_image,
            ),
            service1_image,
            route: asked.optional("--route", flags.route, "svc1", "svc1", is_label),
            canary_weight: asked.optional(
                "--canary-weight",
                flags.canary_weight.or(text(&properties.traffic_weight_route2)),
                "0",
                "1",
                is_percent,
            ),
            certificate: asked.optional(
                "--certificate",
                flags.certificate,
                "",
                "arn:aws:acm:eu-west-1:123456789012:certificate/..",
                is_certificate,
            ),
            health_path: asked.optional("--health-path", flags.health_path, "/", "/health", is_path),
        };
        if names.service1 == names.service2 && !names.service1.is_empty() {
            asked.complain(
                "--service1 and --service2 are both `".to_owned()
                    + &names.service1
                    + "`: the versions need two names",
            );
        }
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

/// Collects complaints.
#[derive(Default)]
struct Asked {
    missing: Vec<String>,
    complaints: Vec<String>,
}

impl Asked {
    fn complain(&mut self, complaint: String) {
        self.complaints.push(complaint);
    }

    fn checked(&mut self, flag: &str, value: String, example: &str, is_fit: impl Fn(&str) -> bool) -> String {
        if !is_fit(&value) {
            self.complain(format!("{flag}: `{}` does not fit; such as {example}", value.escape_debug()));
        }
        value
    }

    fn needed(
        &mut self,
        flag: &str,
        value: Option<String>,
        example: &str,
        is_fit: impl Fn(&str) -> bool,
    ) -> String {
        match value {
            Some(value) => self.checked(flag, value, example, is_fit),
            None => {
                self.missing.push(format!("{flag} {example}"));
                String::new()
            }
        }
    }

    fn optional(
        &mut self,
        flag: &str,
        value: Option<String>,
        default: &str,
        example: &str,
        is_fit: impl Fn(&str) -> bool,
    ) -> String {
        match value {
            Some(value) => self.checked(flag, value, example, is_fit),
            None => default.to_owned(),
        }
    }

    fn subnets(&mut self, flag: &str, values: Vec<String>, min: usize) -> Vec<String> {
        const EXAMPLE: &str = "subnet-0123456789abcdef0";
        if values.is_empty() {
            self.missing.push(format!("{flag} {}", vec![EXAMPLE; min].join(&format!(" {flag} "))));
            return values;
        }
        let mut seen = std::collections::BTreeSet::new();
        for value in &values {
            self.checked(flag, value.clone(), EXAMPLE, |v| is_id(v, "subnet-"));
            if !seen.insert(value) {
                self.complain(format!("{flag}: `{value}` is named twice"));
            }
        }
        if values.len() < min || values.len() > MAX_SUBNETS {
            self.complain(format!(
                "{flag}: {} given; between {min} and {MAX_SUBNETS} are needed",
                values.len()
            ));
        }
        values
    }

    fn done<T>(mut self, names: T) -> Result<T, NamesError> {
        if !self.missing.is_empty() {
            self.complaints
                .insert(0, format!("missing, each with an example:\n  {}", self.missing.join("\n  ")));
        }
        if self.complaints.is_empty() { Ok(names) } else { Err(NamesError { complaints: self.complaints }) }
    }
}

fn of(text: &str, longest: usize, also: &str) -> bool {
    (1..=longest).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || also.contains(c))
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_region(text: &str) -> bool {
    of(text, 32, "-") && text.split('-').count() >= 3 && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// A label of a DNS name.
fn is_label(text: &str) -> bool {
    of(text, MAX_LABEL, "-") && !text.starts_with('-') && !text.ends_with('-')
}

fn is_prefix(text: &str) -> bool {
    is_label(text) && text.len() <= MAX_PREFIX && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The two other names in the namespace are taken.
fn is_service(text: &str) -> bool {
    is_label(text) && !["control", "gateway", "service-gateway", "environments"].contains(&text)
}

fn is_id(text: &str, kind: &str) -> bool {
    text.strip_prefix(kind)
        .is_some_and(|id| id.len() >= 8 && id.len() <= 17 && id.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_namespace_id(text: &str) -> bool {
    text.strip_prefix("ns-").is_some_and(|id| of(id, MAX_LABEL, ""))
}

fn is_host(text: &str) -> bool {
    text.len() <= 253 && text.split('.').count() >= 2 && text.split('.').all(is_label)
}

fn is_cluster(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok_and(|port| port > 0) && !text.starts_with(['+', '0'])
}

fn is_image(text: &str) -> bool {
    (1..=512).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b))
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
}

/// Two decimals at most, as everywhere in control.
fn is_percent(text: &str) -> bool {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str, longest: usize| {
        (1..=longest).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
    };
    digits(whole, 3) && digits(decimals, 2) && text.parse::<f64>().is_ok_and(|percent| percent <= 100.0)
}

fn is_certificate(text: &str) -> bool {
    text.starts_with("arn:aws") && text.contains(":acm:") && of(text, 256, "-:/")
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && text.len() <= 256
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~/-".contains(&b))
}
