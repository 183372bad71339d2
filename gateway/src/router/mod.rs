//! From a request head to a route.
//!
//! Owns matching: virtual host by authority, route by path and headers, in Envoy's order. It must never pick a
//! target (that is `weighted.rs`) nor know about connections. Next: `weighted.rs`.

pub mod weighted;

use crate::state::snapshot::{ClusterIndex, SplitIndex};
use gateway_config::model::{HeaderMatcher, PathMatch, RetryPolicy, RouteMatch, ValueMatch};
use http1::Fields;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Compiled virtual hosts of one HttpConnectionManager, searched as Envoy does: exact domain, longest suffix
/// wildcard, longest prefix wildcard, `*`.
#[derive(Debug, Default)]
pub struct VirtualHosts {
    hosts: Vec<Vec<Route>>,
    exact: HashMap<String, usize>,
    /// `*.example.test`, stored as `.example.test`; longest first.
    suffixes: Vec<(String, usize)>,
    /// `example.*`, stored as `example.`; longest first.
    prefixes: Vec<(String, usize)>,
    any: Option<usize>,
}

/// A compiled route.
#[derive(Debug)]
pub struct Route {
    /// Its name; may be empty.
    pub name: Arc<str>,
    matches: RouteMatch,
    /// One cluster or a split.
    pub target: RouteTarget,
    /// Over the whole response; `None` = no limit.
    pub timeout: Option<Duration>,
    /// When a request is tried again; `None` without `retry_on` or tries.
    pub retry: Option<RetryPolicy>,
    /// Replaces the matched prefix.
    pub prefix_rewrite: Option<String>,
    /// Replaces Host.
    pub host_rewrite: Option<String>,
    /// Request header that names a target.
    pub override_header: Option<String>,
    /// Response header that names the target which answered.
    pub target_header: Option<String>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// One cluster.
    Cluster(ClusterIndex),
    /// Weighted targets.
    Split(SplitIndex),
}

impl Route {
    /// A compiled route.
    pub fn new(name: Arc<str>, matches: RouteMatch, target: RouteTarget) -> Self {
        Self {
            name,
            matches,
            target,
            timeout: None,
            retry: None,
            prefix_rewrite: None,
            host_rewrite: None,
            override_header: None,
            target_header: None,
        }
    }

    /// Bytes of the path that its match covered, for `prefix_rewrite`.
    pub fn matched_len(&self) -> usize {
        match &self.matches.path {
            PathMatch::Prefix(p) | PathMatch::Path(p) => p.len(),
        }
    }

    fn applies(&self, path: &str, fields: &Fields) -> bool {
        let path_applies = match &self.matches.path {
            PathMatch::Prefix(prefix) => path.starts_with(prefix.as_str()),
            PathMatch::Path(exact) => path.split('?').next() == Some(exact.as_str()),
        };
        path_applies && self.matches.headers.iter().all(|m| header_applies(m, fields))
    }
}

/// As Envoy 1.40: an inverted condition on a value needs the header all the same, an inverted presence is absence.
fn header_applies(matcher: &HeaderMatcher, fields: &Fields) -> bool {
    if matcher.matches != ValueMatch::Present && !fields.contains(&matcher.name) {
        return false;
    }
    let any = fields.get_all(&matcher.name).any(|value| match &matcher.matches {
        ValueMatch::Present => true,
        ValueMatch::Exact(text) => value == text.as_bytes(),
        ValueMatch::Prefix(text) => value.starts_with(text.as_bytes()),
        ValueMatch::Suffix(text) => value.ends_with(text.as_bytes()),
        ValueMatch::Contains(text) => {
            text.is_empty() || value.windows(text.len()).any(|part| part == text.as_bytes())
        }
    });
    any != matcher.invert
}

impl VirtualHosts {
    /// Adds one virtual host; domains must be unique (validated before).
    pub fn add(&mut self, domains: &[String], routes: Vec<Route>) {
        let index = self.hosts.len();
        self.hosts.push(routes);
        for domain in domains {
            let domain = domain.to_ascii_lowercase();
            if domain == "*" {
                self.any = Some(index);
            } else if let Some(suffix) = domain.strip_prefix('*') {
                self.suffixes.push((suffix.to_owned(), index));
            } else if let Some(prefix) = domain.strip_suffix('*') {
                self.prefixes.push((prefix.to_owned(), index));
            } else {
                self.exact.insert(domain, index);
            }
        }
        self.suffixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        self.prefixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// The first route that applies, or `None` (404).
    /// `path` includes the query; matching ignores it where Envoy does.
    pub fn find(&self, authority: &str, path: &str, fields: &Fields) -> Option<&Route> {
        self.host(authority)?.iter().find(|route| route.applies(path, fields))
    }

    fn host(&self, authority: &str) -> Option<&Vec<Route>> {
        let only_any = self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty();
        let index = if only_any { self.any } else { self.search(authority) };
        self.hosts.get(index?)
    }

    fn search(&self, authority: &str) -> Option<usize> {
        let lower: std::borrow::Cow<'_, str> = if authority.bytes().any(|b| b.is_ascii_uppercase()) {
            authority.to_ascii_lowercase().into()
        } else {
            authority.into()
        };
        // A wildcard stands for at least one character.
        let suffix = || {
            let fits = |text: &str| lower.len() > text.len() && lower.ends_with(text);
            self.suffixes.iter().find(|(text, _)| fits(text)).map(|(_, i)| *i)
        };
        let prefix = || {
            let fits = |text: &str| lower.len() > text.len() && lower.starts_with(text);
            self.prefixes.iter().find(|(text, _)| fits(text)).map(|(_, i)| *i)
        };
        self.exact.get(&*lower).copied().or_else(suffix).or_else(prefix).or(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(path: PathMatch, headers: Vec<HeaderMatcher>, to: usize) -> Route {
        Route::new("".into(), RouteMatch { path, headers }, RouteTarget::Cluster(to))
    }

    fn prefix(text: &str, to: usize) -> Route {
        route(PathMatch::Prefix(text.into()), vec![], to)
    }

    fn to(found: Option<&Route>) -> Option<RouteTarget> {
        found.map(|route| route.target)
    }

    #[test]
    fn the_most_specific_domain_wins_whatever_the_order() {
        let mut hosts = VirtualHosts::default();
        for (index, domain) in ["*", "*.b.test", "a.b.test", "a.*", "*.x.b.test"].iter().enumerate() {
            hosts.add(&[(*domain).to_owned()], vec![prefix("/", index)]);
        }
        let find = |authority| to(hosts.find(authority, "/", &Fields::default()));
        assert_eq!(find("other"), Some(RouteTarget::Cluster(0)));
        assert_eq!(find("z.b.test"), Some(RouteTarget::Cluster(1)));
        assert_eq!(find("A.b.Test"), Some(RouteTarget::Cluster(2)));
        assert_eq!(find("a.other"), Some(RouteTarget::Cluster(3)));
        assert_eq!(find("1.x.b.test"), Some(RouteTarget::Cluster(4)));
        assert_eq!(find(".b.test"), Some(RouteTarget::Cluster(0)), "a wildcard is not empty");
    }

    #[test]
    fn the_first_route_that_applies_wins() {
        let mut hosts = VirtualHosts::default();
        let v2 = HeaderMatcher { name: "x-v".into(), matches: ValueMatch::Exact("2".into()), invert: false };
        hosts.add(
            &["*".to_owned()],
            vec![
                route(PathMatch::Prefix("/".into()), vec![v2], 1),
                route(PathMatch::Path("/exact".into()), vec![], 2),
                prefix("/pre", 3),
            ],
        );
        let mut fields = Fields::default();
        assert_eq!(to(hosts.find("a", "/exact?q=1", &fields)), Some(RouteTarget::Cluster(2)));
        assert_eq!(to(hosts.find("a", "/prefix", &fields)), Some(RouteTarget::Cluster(3)));
        assert_eq!(to(hosts.find("a", "/other", &fields)), None);
        fields.push("x-v", b"zz");
        fields.push("x-v", b"2");
        assert_eq!(
            to(hosts.find("a", "/exact", &fields)),
            Some(RouteTarget::Cluster(1)),
            "any line may match"
        );
    }

    #[test]
    fn an_inverted_condition_on_a_value_needs_the_header_as_in_envoy() {
        let other =
            HeaderMatcher { name: "x-v".into(), matches: ValueMatch::Exact("2".into()), invert: true };
        let mut hosts = VirtualHosts::default();
        hosts.add(&["*".to_owned()], vec![route(PathMatch::Prefix("/".into()), vec![other], 1)]);
        let mut fields = Fields::default();
        assert!(hosts.find("a", "/", &fields).is_none(), "an absent header has no other value");
        fields.push("x-v", b"3");
        assert!(hosts.find("a", "/", &fields).is_some());
        fields.push("x-v", b"2");
        assert!(hosts.find("a", "/", &fields).is_none());
    }

    #[test]
    fn an_inverted_presence_is_absence() {
        let mut hosts = VirtualHosts::default();
        let not = HeaderMatcher { name: "x-v".into(), matches: ValueMatch::Present, invert: true };
        hosts.add(&["*".to_owned()], vec![route(PathMatch::Prefix("/".into()), vec![not], 1)]);
        let mut fields = Fields::default();
        assert!(hosts.find("a", "/", &fields).is_some());
        fields.push("x-v", b"");
        assert!(hosts.find("a", "/", &fields).is_none());
    }
}
