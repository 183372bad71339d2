//! Virtual hosts, routes and weights: from a checked document to the model.
//!
//! Owns the checks of routing: domains, known clusters, sums of weights, the stable target, routes that share a
//! name. It must never stop at an error. Next: `model.rs` for what comes out.

use std::collections::{BTreeSet, HashMap};

use crate::decode::Names;
use crate::diagnostic::{Collector, did_you_mean};
use crate::model::{
    ClusterWeight, HeaderMatcher, PathMatch, RETRY_ON_WORDS, RetryOn, RetryPolicy, Route, RouteAction,
    RouteConfiguration, RouteMatch, RouteTarget, ValueMatch, VirtualHost, WeightedClusters,
};
use crate::object::{Object, Spotted};
use crate::rules::is_reserved_header;

/// Reads route configurations of one file.
pub(crate) struct Decoder<'a> {
    clusters: &'a Names,
    /// Routes under control by name: they share their weights, so they must have the same targets.
    managed: HashMap<String, Managed>,
}

struct Managed {
    line: usize,
    targets: BTreeSet<String>,
    stable: String,
}

impl<'a> Decoder<'a> {
    pub(crate) fn new(clusters: &'a Names) -> Self {
        Self { clusters, managed: HashMap::new() }
    }

    pub(crate) fn route_configuration(
        &mut self,
        object: &Object<'_>,
        out: &mut Collector<'_>,
    ) -> RouteConfiguration {
        let mut names = Names::default();
        let mut domains = Names::default();
        let mut virtual_hosts = Vec::new();
        for object in object.objects("virtual_hosts") {
            if let Some(name) = object.spotted("name") {
                names.add("virtual host", &name, out);
            }
            virtual_hosts.push(self.virtual_host(&object, &mut domains, out));
        }
        RouteConfiguration { name: object.text("name"), virtual_hosts }
    }

    fn virtual_host(
        &mut self,
        object: &Object<'_>,
        seen: &mut Names,
        out: &mut Collector<'_>,
    ) -> VirtualHost {
        let mut domains = Vec::new();
        for mut domain in object.texts("domains") {
            domain.value.make_ascii_lowercase();
            seen.add("domain", &domain, out);
            domains.push(domain.value);
        }
        let routes = object.objects("routes").iter().map(|route| self.route(route, out)).collect();
        VirtualHost { name: object.text("name"), domains, routes }
    }

    fn route(&mut self, object: &Object<'_>, out: &mut Collector<'_>) -> Route {
        let action = self.action(&object.object("route"), out);
        if let (Some(name), RouteTarget::Weighted(weighted)) = (object.spotted("name"), &action.target) {
            self.same_targets(name, weighted, out);
        }
        Route { name: object.text("name"), matches: route_match(&object.object("match"), out), action }
    }

    /// All routes of one name take their weights together.
    fn same_targets(&mut self, name: Spotted<String>, weighted: &WeightedClusters, out: &mut Collector<'_>) {
        let Some(stable) = weighted.stable.clone() else { return };
        let targets: BTreeSet<String> =
            weighted.clusters.iter().map(|cluster| cluster.name.clone()).collect();
        let Some(first) = self.managed.get(&name.value) else {
            self.managed.insert(name.value, Managed { line: name.mark.line, targets, stable });
            return;
        };
        if first.targets != targets || first.stable != stable {
            out.report(
                &name.path,
                name.mark,
                format!("two routes `{}` with different targets or another stable one", name.value),
                format!(
                    "routes of one name share their weights: give this one the targets and the stable of line {}, or another name",
                    first.line
                ),
            );
        }
    }

    fn action(&self, object: &Object<'_>, out: &mut Collector<'_>) -> RouteAction {
        let target = if let Some(weighted) = object.object_opt("weighted_clusters") {
            RouteTarget::Weighted(self.weighted(&weighted, out))
        } else {
            if let Some(name) = object.spotted("cluster") {
                self.known_cluster(&name, out);
            }
            RouteTarget::Cluster(object.text("cluster"))
        };
        RouteAction {
            target,
            timeout: object.duration("timeout"),
            retry_policy: object.object_opt("retry_policy").map(|object| retry_policy(&object, out)),
            prefix_rewrite: object.text_opt("prefix_rewrite"),
            host_rewrite_literal: object.text_opt("host_rewrite_literal"),
        }
    }

    fn known_cluster(&self, name: &Spotted<String>, out: &mut Collector<'_>) {
        if self.clusters.contains(&name.value) {
            return;
        }
        if out.is_full() {
            out.report(&name.path, name.mark, "unknown cluster", "");
            return;
        }
        let cure = match did_you_mean(&name.value, self.clusters.iter()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!(
                "add a cluster of that name under static_resources.clusters; there are: {}",
                self.cluster_list()
            ),
        };
        out.report(&name.path, name.mark, format!("unknown cluster `{}`", name.value), cure);
    }

    fn cluster_list(&self) -> String {
        const MOST: usize = 10;
        let mut names: Vec<&str> = self.clusters.iter().collect();
        names.sort_unstable();
        let more = names.len().saturating_sub(MOST);
        names.truncate(MOST);
        match (names.is_empty(), more) {
            (true, _) => "none".to_owned(),
            (false, 0) => names.join(", "),
            (false, more) => format!("{} and {more} more", names.join(", ")),
        }
    }

    fn weighted(&self, object: &Object<'_>, out: &mut Collector<'_>) -> WeightedClusters {
        let mut names = Names::default();
        let mut clusters = Vec::new();
        let mut sum = Some(0_u64);
        for target in object.objects("clusters") {
            if let Some(name) = target.spotted("name") {
                names.add("target", &name, out);
                self.known_cluster(&name, out);
            }
            let weight: Option<u32> = target.whole_opt("weight");
            // A weight that was refused says nothing about the sum.
            sum = sum.zip(weight).map(|(sum, weight)| sum + u64::from(weight));
            clusters.push(ClusterWeight { name: target.text("name"), weight: weight.unwrap_or_default() });
        }
        check_sum(object, sum.filter(|_| !clusters.is_empty()), out);
        if let Some(stable) = object.spotted("stable")
            && !names.contains(&stable.value)
        {
            unknown_stable(&stable, names.iter(), out);
        }
        WeightedClusters {
            clusters,
            stable: object.text_opt("stable"),
            override_header: own_header(object, "override_header", out),
            target_header: own_header(object, "target_header", out),
            health_aware: object.flag("health_aware"),
        }
    }
}

fn retry_policy(object: &Object<'_>, out: &mut Collector<'_>) -> RetryPolicy {
    let mut retry_on = Vec::new();
    let words = object.spotted("retry_on");
    for word in words.iter().flat_map(|words| words.value.split(',')).map(str::trim) {
        match RETRY_ON_WORDS.iter().find(|(name, _)| *name == word) {
            Some((_, meaning)) if retry_on.contains(meaning) => {}
            Some((_, meaning)) => retry_on.push(*meaning),
            None => unknown_retry_word(object, word, out),
        }
    }
    let codes: Vec<u16> =
        object.texts("retriable_status_codes").iter().filter_map(|code| code.value.parse().ok()).collect();
    let asked = retry_on.contains(&RetryOn::RetriableStatusCodes);
    if asked != object.has("retriable_status_codes") {
        let at = if asked { "retry_on" } else { "retriable_status_codes" };
        out.report(
            &object.path_of(at),
            object.mark_of(at),
            "`retriable-status-codes` in retry_on and the list `retriable_status_codes` go together",
            "write both, or neither",
        );
    }
    RetryPolicy {
        retry_on,
        num_retries: object.whole("num_retries"),
        per_try_timeout: object.has("per_try_timeout").then(|| object.duration("per_try_timeout")),
        retriable_status_codes: codes,
    }
}

fn unknown_retry_word(object: &Object<'_>, word: &str, out: &mut Collector<'_>) {
    let known = || RETRY_ON_WORDS.iter().map(|(name, _)| *name);
    let cure = match did_you_mean(word, known()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("the words are: {}", known().collect::<Vec<_>>().join(", ")),
    };
    out.report(
        &object.path_of("retry_on"),
        object.mark_of("retry_on"),
        format!("unknown word `{word}` in retry_on"),
        cure,
    );
}

/// Reports a stable target that is not among the targets.
pub(crate) fn unknown_stable<'n>(
    stable: &Spotted<String>,
    targets: impl Iterator<Item = &'n str>,
    out: &mut Collector<'_>,
) {
    let mut targets: Vec<&str> = targets.collect();
    targets.sort_unstable();
    let cure = match did_you_mean(&stable.value, targets.iter().copied()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("name one of the targets: {}", targets.join(", ")),
    };
    out.report(
        &stable.path,
        stable.mark,
        format!("the stable `{}` is not among the targets", stable.value),
        cure,
    );
}

fn check_sum(object: &Object<'_>, sum: Option<u64>, out: &mut Collector<'_>) {
    let (path, mark) = (object.path_of("clusters"), object.mark);
    match sum {
        Some(0) => out.report(
            &path,
            mark,
            "all weights are zero",
            "give at least one target a weight above 0: nobody would serve the route",
        ),
        Some(sum) if sum > u64::from(u32::MAX) => out.report(
            &path,
            mark,
            format!("the weights sum up to {sum}, over {}", u32::MAX),
            "divide all of them by the same number",
        ),
        _ => {}
    }
}

/// A header that we read or set ourselves, in lower case.
fn own_header(object: &Object<'_>, field: &str, out: &mut Collector<'_>) -> Option<String> {
    let mut name = object.spotted(field)?;
    name.value.make_ascii_lowercase();
    if is_reserved_header(&name.value) {
        out.report(
            &name.path,
            name.mark,
            format!("`{}` frames or routes the message itself", name.value),
            "choose a header of your own, such as `x-canary`",
        );
    }
    Some(name.value)
}

fn route_match(object: &Object<'_>, out: &mut Collector<'_>) -> RouteMatch {
    let path = match object.text_opt("path") {
        Some(path) => PathMatch::Path(path),
        None => PathMatch::Prefix(object.text("prefix")),
    };
    let headers = object.objects("headers").iter().map(|header| header_matcher(header, out)).collect();
    RouteMatch { path, headers }
}

fn header_matcher(object: &Object<'_>, out: &mut Collector<'_>) -> HeaderMatcher {
    let mut invert = object.flag("invert_match");
    let matches = match object.object_opt("string_match") {
        Some(condition) => string_match(&condition, out),
        None => {
            // `present_match: false` asks for the absence.
            invert ^= object.has("present_match") && !object.flag("present_match");
            ValueMatch::Present
        }
    };
    HeaderMatcher { name: object.text("name").to_ascii_lowercase(), matches, invert }
}

type MakeMatch = fn(String) -> ValueMatch;

fn string_match(object: &Object<'_>, out: &mut Collector<'_>) -> ValueMatch {
    let kinds: [(&str, MakeMatch); 4] = [
        ("exact", ValueMatch::Exact),
        ("prefix", ValueMatch::Prefix),
        ("suffix", ValueMatch::Suffix),
        ("contains", ValueMatch::Contains),
    ];
    for (field, make) in kinds {
        let Some(text) = object.spotted(field) else { continue };
        if text.value.trim() != text.value {
            out.report(
                &text.path,
                text.mark,
                "a header value never starts or ends with a blank",
                "remove the blank: it can never match",
            );
        }
        return make(text.value);
    }
    ValueMatch::Present
}
