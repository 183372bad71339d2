//! What each name may look like, and the collecting of complaints.
//!
//! Owns the promise that a name which passes cannot end a quotation in YAML, JSON or a shell. It must never repair: what
//! does not fit is named with its flag. Next: `template.rs`.

use super::names::NamesError;
use std::collections::BTreeSet;

/// Target groups are called PREFIX-weir, and ELB takes 32 characters.
const MAX_PREFIX: usize = 27;
/// ECS takes 16 subnets for a service.
const MAX_SUBNETS: usize = 16;
/// A label of a DNS name (RFC 1035, section 2.3.4).
const MAX_LABEL: usize = 63;

/// One flag: how its value may look.
pub(super) struct Rule {
    flag: &'static str,
    example: &'static str,
    is_fit: fn(&str) -> bool,
}

const fn rule(flag: &'static str, example: &'static str, is_fit: fn(&str) -> bool) -> Rule {
    Rule { flag, example, is_fit }
}

const A_SUBNET: &str = "subnet-0123456789abcdef0";
const A_CERTIFICATE: &str = "arn:aws:acm:eu-west-1:123456789012:certificate/..";

pub(super) const ACCOUNT: Rule = rule("--account", "123456789012", is_account);
pub(super) const REGION: Rule = rule("--region", "eu-west-1", is_region);
pub(super) const PREFIX: Rule = rule("--prefix", "my-app", is_prefix);
pub(super) const VPC: Rule = rule("--vpc", "vpc-0123456789abcdef0", |text| is_id(text, "vpc-"));
pub(super) const PUBLIC_SUBNET: Rule = rule("--public-subnet", A_SUBNET, |text| is_id(text, "subnet-"));
pub(super) const PRIVATE_SUBNET: Rule = rule("--private-subnet", A_SUBNET, |text| is_id(text, "subnet-"));
pub(super) const NAMESPACE: Rule = rule("--namespace", "production.my-app.local", is_host);
pub(super) const NAMESPACE_ID: Rule = rule("--namespace-id", "ns-0123456789abcdef", is_namespace_id);
pub(super) const CLUSTER: Rule = rule("--cluster", "my-cluster", is_cluster);
pub(super) const SERVICE1: Rule = rule("--service1", "svc1-v1", is_service);
pub(super) const SERVICE2: Rule = rule("--service2", "svc1-v2", is_service);
pub(super) const PORT: Rule = rule("--port", "3000", is_port);
pub(super) const IMAGE: Rule =
    rule("--image", "123456789012.dkr.ecr.REGION.amazonaws.com/weir:0.1.0", is_image);
pub(super) const SERVICE1_IMAGE: Rule =
    rule("--service1-image", "123456789012.dkr.ecr.REGION.amazonaws.com/my-app:1", is_image);
pub(super) const SERVICE2_IMAGE: Rule =
    rule("--service2-image", "123456789012.dkr.ecr.REGION.amazonaws.com/my-app:2", is_image);
pub(super) const ROUTE: Rule = rule("--route", "svc1", is_label);
pub(super) const CANARY_WEIGHT: Rule = rule("--canary-weight", "1", is_percent);
pub(super) const CERTIFICATE: Rule = rule("--certificate", A_CERTIFICATE, is_certificate);
pub(super) const HEALTH_PATH: Rule = rule("--health-path", "/health", is_path);

/// Collects what is missing and what does not fit.
#[derive(Default)]
pub(super) struct Asked {
    missing: Vec<String>,
    complaints: Vec<String>,
}

impl Asked {
    fn check(&mut self, rule: &Rule, value: &str) {
        if !(rule.is_fit)(value) {
            let Rule { flag, example, .. } = rule;
            self.complaints
                .push(format!("{flag}: `{}` does not fit; such as {example}", value.escape_debug()));
        }
    }

    /// A value that must be given.
    pub(super) fn needed(&mut self, rule: &Rule, value: Option<String>) -> String {
        let Some(value) = value else {
            self.missing.push(format!("{} {}", rule.flag, rule.example));
            return String::new();
        };
        self.check(rule, &value);
        value
    }

    /// A value that has a default.
    pub(super) fn optional(&mut self, rule: &Rule, value: Option<String>, default: &str) -> String {
        let Some(value) = value else {
            return default.to_owned();
        };
        self.check(rule, &value);
        value
    }

    /// Values of which some must be given, and none twice.
    pub(super) fn all(&mut self, rule: &Rule, values: Vec<String>, min: usize) -> Vec<String> {
        let Rule { flag, example, .. } = rule;
        if values.is_empty() {
            self.missing.push(vec![format!("{flag} {example}"); min].join(" "));
            return values;
        }
        let mut seen = BTreeSet::new();
        for value in &values {
            self.check(rule, value);
            if !seen.insert(value) {
                self.complaints.push(format!("{flag}: `{}` is named twice", value.escape_debug()));
            }
        }
        if values.len() < min || values.len() > MAX_SUBNETS {
            let given = values.len();
            self.complaints
                .push(format!("{flag}: {given} given; between {min} and {MAX_SUBNETS} are needed"));
        }
        values
    }

    /// What could be made of something else, or the complaint about that.
    pub(super) fn taken<T>(&mut self, found: Result<T, String>) -> Option<T> {
        found.map_err(|complaint| self.complaints.push(complaint)).ok()
    }

    /// Two values that must not be the same.
    pub(super) fn different(&mut self, one: &Rule, value: &str, other: &Rule, other_value: &str) {
        if value == other_value && !value.is_empty() {
            let value = value.escape_debug();
            self.complaints
                .push(format!("{} and {} are both `{value}`: write two names", one.flag, other.flag));
        }
    }

    /// What was made of the values, if all were good.
    pub(super) fn done<T>(mut self, names: T) -> Result<T, NamesError> {
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

/// It names the load balancer too, which must not begin with `internal-` (ELB API, CreateLoadBalancer: Name).
fn is_prefix(text: &str) -> bool {
    is_label(text)
        && !text.starts_with("internal-")
        && text.len() <= MAX_PREFIX
        && text.starts_with(|c: char| c.is_ascii_lowercase())
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
