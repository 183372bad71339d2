//! Two steps made one: a gateway route and the routes of the service behind it.
//!
//! App Mesh's gateway took a request twice: by its gateway routes, which rewrite the path, and then by the routes of
//! the virtual router, which see the rewritten path. Owns the one condition and rewrite that do the same, and where
//! that differs (`Hole`). It must never drop a route silently. Next: `translate.rs`.

use super::model::{GatewayRoute, HeaderRule, HostRule, PathRule, Rewrite, Route};
use super::notes::{Kind as Remark, Notes, Place};
use std::cmp::Reverse;

/// A path condition and what replaces what it matched.
pub(super) type Form = (PathRule, Option<String>);

/// In the order in which a request tries them.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Leads {
        gateway: usize,
        leg: usize,
        form: Form,
        headers: Vec<HeaderRule>,
    },
    /// Requests that were decided here and cannot be decided so any more.
    Hole {
        path: PathRule,
        place: Place,
        what: Hole,
    },
}

#[derive(Clone, Debug)]
pub(super) enum Hole {
    /// A route that Weir cannot express, in words.
    Foreign(String),
    /// App Mesh answered 404 to what no route of the service matched.
    NotFound(String),
}

/// A gateway route with the routes behind it, most preferred first.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub gateway: GatewayRoute,
    pub legs: Vec<Route>,
}

/// App Mesh's order: by priority, the exact before the prefix, the longer before the shorter.
pub(super) fn rank(priority: Option<u64>, path: &PathRule, headers: usize) -> impl Ord + use<> {
    let (kind, length) = match path {
        PathRule::Exact(path) => (0, path.len()),
        PathRule::Prefix(prefix) => (1, prefix.len()),
    };
    (priority.unwrap_or(u64::MAX), kind, Reverse(length), Reverse(headers))
}

/// The conditions that App Mesh's Envoy had for a gateway route: a prefix `/p` was `/p/` and then `/p`.
fn forms(route: &GatewayRoute) -> Vec<Form> {
    let rewrite = match &route.rewrite {
        Rewrite::Off => None,
        Rewrite::To(text) => Some(text.clone()),
    };
    match &route.matches.path {
        PathRule::Prefix(prefix) if rewrite.as_deref() == Some("/") && !prefix.ends_with('/') => {
            vec![
                (PathRule::Prefix(format!("{prefix}/")), rewrite.clone()),
                (PathRule::Prefix(prefix.clone()), rewrite),
            ]
        }
        path => vec![(path.clone(), rewrite)],
    }
}

/// The condition on the original path under which the rewritten one matches `leg`.
pub(super) fn combine((path, rewrite): &Form, leg: &PathRule) -> Option<Form> {
    let (PathRule::Prefix(given) | PathRule::Exact(given)) = path;
    let seen = rewrite.as_ref().unwrap_or(given);
    match (path, leg) {
        (_, PathRule::Prefix(wanted)) if seen.starts_with(wanted.as_str()) => {
            Some((path.clone(), rewrite.clone()))
        }
        (PathRule::Exact(_), PathRule::Exact(wanted)) if seen == wanted => {
            Some((path.clone(), rewrite.clone()))
        }
        (PathRule::Exact(_), _) => None,
        (PathRule::Prefix(_), PathRule::Prefix(wanted) | PathRule::Exact(wanted)) => {
            let rest = wanted.strip_prefix(seen.as_str())?;
            let longer = format!("{given}{rest}");
            let rewrite = rewrite.as_ref().map(|_| wanted.clone());
            Some(match leg {
                PathRule::Prefix(_) => (PathRule::Prefix(longer), rewrite),
                PathRule::Exact(_) => (PathRule::Exact(longer), rewrite),
            })
        }
    }
}

/// Whether requests of this host take part; none is every host without a rule of its own.
fn host_applies(route: &GatewayRoute, host: Option<&HostRule>) -> bool {
    match (route.matches.host.as_ref(), host) {
        (None, None) => true,
        (None, Some(_)) => !route.own_host_only,
        (Some(_), None) => false,
        (Some(HostRule::Suffix(suffix)), Some(HostRule::Exact(host) | HostRule::Suffix(host))) => {
            host.ends_with(suffix.trim_start_matches('*'))
                && (!route.own_host_only
                    || route.matches.host.as_ref() == Some(&HostRule::Suffix(host.clone())))
        }
        (Some(rule), Some(host)) => rule == host,
    }
}

/// All that a request to this host tries, in order.
pub(super) fn items(chains: &[Chain], host: Option<&HostRule>, port: u16) -> Vec<Item> {
    let mut order: Vec<(usize, &Chain)> = chains
        .iter()
        .enumerate()
        .filter(|(_, chain)| host_applies(&chain.gateway, host))
        .filter(|(_, chain)| chain.gateway.matches.port.is_none_or(|wanted| wanted == port))
        .collect();
    order.sort_by_key(|(_, chain)| {
        let matches = &chain.gateway.matches;
        let rank = rank(chain.gateway.priority, &matches.path, matches.headers.len());
        (chain.gateway.priority.unwrap_or(u64::MAX), matches.host.is_none(), rank)
    });
    let mut items = Vec::new();
    for (index, chain) in order {
        one_chain(index, chain, &mut items);
    }
    items
}

fn one_chain(index: usize, chain: &Chain, items: &mut Vec<Item>) {
    let gateway = &chain.gateway;
    let forms = forms(gateway);
    if !gateway.matches.foreign.is_empty() {
        let what = Hole::Foreign(gateway.matches.foreign.join(", "));
        items.extend(forms.into_iter().map(|(path, _)| Item::Hole {
            path,
            place: gateway.place.clone(),
            what: what.clone(),
        }));
        return;
    }
    let mut open = forms.clone();
    for (leg, route) in chain.legs.iter().enumerate() {
        for form in &forms {
            let Some(form) = combine(form, &route.matches.path) else { continue };
            if !route.matches.foreign.is_empty() {
                let what = Hole::Foreign(route.matches.foreign.join(", "));
                items.push(Item::Hole { path: form.0, place: route.place.clone(), what });
                continue;
            }
            if route.matches.headers.is_empty() {
                open.retain(|(path, _)| *path != form.0);
            }
            let headers = [gateway.matches.headers.clone(), route.matches.headers.clone()].concat();
            items.push(Item::Leads { gateway: index, leg, form, headers });
        }
    }
    for (path, _) in open {
        let what = Hole::NotFound(gateway.service.clone());
        items.push(Item::Hole { path, place: gateway.place.clone(), what });
    }
}

/// Without what can never be reached: an earlier one takes all its requests.
pub(super) fn reachable(items: Vec<Item>) -> Vec<Item> {
    let mut kept: Vec<Item> = Vec::new();
    for item in items {
        let (Item::Leads { form: (path, _), .. } | Item::Hole { path, .. }) = &item;
        let (PathRule::Prefix(text) | PathRule::Exact(text)) = path;
        let taken = kept.iter().any(|earlier| match earlier {
            Item::Leads { form: (PathRule::Prefix(prefix), _), headers, .. } => {
                headers.is_empty() && text.starts_with(prefix.as_str())
            }
            _ => false,
        });
        if !taken {
            kept.push(item);
        }
    }
    kept
}

/// Says what becomes of requests that cannot be decided as before: 404, or somebody else's.
pub(super) fn report_holes(items: &[Item], chains: &[Chain], notes: &mut Notes) {
    for (index, item) in items.iter().enumerate() {
        let Item::Hole { path, place, what } = item else { continue };
        let later = items.iter().skip(index + 1).find_map(|item| match item {
            Item::Leads { gateway, leg, form, .. } if overlap(path, &form.0) => {
                chains.get(*gateway).and_then(|chain| chain.legs.get(*leg)).map(|route| route.name.clone())
            }
            _ => None,
        });
        match (what, later) {
            (Hole::Foreign(what), Some(other)) => notes.add(
                Remark::Wrong,
                place,
                format!("{what}: Weir cannot match that, and its requests would go to `{other}`"),
            ),
            (Hole::Foreign(what), None) => notes.add(
                Remark::Wrong,
                place,
                format!("{what}: Weir cannot match that, and its requests would be answered 404"),
            ),
            (Hole::NotFound(service), Some(other)) => notes.add(
                Remark::Wrong,
                place,
                format!(
                    "requests that no route of `{service}` matches were answered 404 and would go to `{other}`: give the router a route of prefix / for them"
                ),
            ),
            (Hole::NotFound(_), None) => {}
        }
    }
}

fn overlap(a: &PathRule, b: &PathRule) -> bool {
    match (a, b) {
        (PathRule::Prefix(a), PathRule::Prefix(b)) => a.starts_with(b.as_str()) || b.starts_with(a.as_str()),
        (PathRule::Prefix(prefix), PathRule::Exact(path))
        | (PathRule::Exact(path), PathRule::Prefix(prefix)) => path.starts_with(prefix.as_str()),
        (PathRule::Exact(a), PathRule::Exact(b)) => a == b,
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{Match, Retry, ValueRule};
    use super::*;
    use proptest::prelude::*;

    fn prefix(text: &str) -> PathRule {
        PathRule::Prefix(text.to_owned())
    }

    fn exact(text: &str) -> PathRule {
        PathRule::Exact(text.to_owned())
    }

    #[test]
    fn two_conditions_with_a_rewrite_between_them_are_one() {
        let to = |text: &str| Some(text.to_owned());
        for (form, leg, wanted) in [
            ((prefix("/p/"), to("/")), prefix("/"), Some((prefix("/p/"), to("/")))),
            ((prefix("/p/"), to("/")), prefix("/q"), Some((prefix("/p/q"), to("/q")))),
            ((prefix("/p"), to("/")), prefix("/q"), Some((prefix("/pq"), to("/q")))),
            ((prefix("/p/"), to("/")), exact("/q"), Some((exact("/p/q"), to("/q")))),
            ((prefix("/p"), None), prefix("/p/q"), Some((prefix("/p/q"), None))),
            ((prefix("/p"), None), prefix("/"), Some((prefix("/p"), None))),
            ((prefix("/p"), None), prefix("/q"), None),
            ((prefix("/p"), to("/api/")), prefix("/api"), Some((prefix("/p"), to("/api/")))),
            ((exact("/p"), to("/q/r")), prefix("/q"), Some((exact("/p"), to("/q/r")))),
            ((exact("/p"), None), exact("/p"), Some((exact("/p"), None))),
            ((exact("/p"), None), exact("/p/q"), None),
        ] {
            assert_eq!(combine(&form, &leg), wanted, "{form:?} {leg:?}");
        }
    }

    #[test]
    fn the_order_is_priority_then_exact_then_length() {
        let mut rules = [
            (None, prefix("/a")),
            (None, prefix("/abc")),
            (None, exact("/a")),
            (Some(5), prefix("/")),
            (Some(0), prefix("/z")),
        ];
        rules.sort_by_key(|(priority, path)| rank(*priority, path, 0));
        let order: Vec<_> = rules.iter().map(|(_, path)| path.clone()).collect();
        assert_eq!(order, [prefix("/z"), prefix("/"), exact("/a"), prefix("/abc"), prefix("/a")]);
    }

    /// A gateway route or a route: path, whether the header is needed, priority.
    fn condition() -> impl Strategy<Value = (PathRule, bool, Option<u64>)> {
        let path = prop::sample::select(vec!["/", "/a", "/a/", "/a/b", "/ab", "/b", "/b/a"]);
        let rule = (path, prop::bool::weighted(0.2))
            .prop_map(|(text, is_exact)| if is_exact { exact(text) } else { prefix(text) });
        (rule, prop::bool::weighted(0.2), prop::option::weighted(0.2, 0..3_u64))
    }

    fn rules(path: PathRule, header: bool) -> Match {
        let headers = if header {
            vec![HeaderRule { name: "h".to_owned(), invert: false, value: ValueRule::Present }]
        } else {
            vec![]
        };
        Match { path, headers, host: None, port: None, foreign: vec![] }
    }

    fn mesh() -> impl Strategy<Value = Vec<Chain>> {
        let rewrite = prop::sample::select(vec![
            Rewrite::Off,
            Rewrite::To("/".to_owned()),
            Rewrite::To("/".to_owned()),
            Rewrite::To("/b/".to_owned()),
        ]);
        let chain = (condition(), rewrite, prop::collection::vec(condition(), 1..4));
        prop::collection::vec(chain, 1..4)
            .prop_map(|chains| chains.into_iter().enumerate().map(chain_of).collect())
    }

    type Condition = (PathRule, bool, Option<u64>);

    fn chain_of(
        (index, ((path, header, priority), rewrite, legs)): (usize, (Condition, Rewrite, Vec<Condition>)),
    ) -> Chain {
        let place = Place::file(&format!("g{index}"));
        let mut legs: Vec<Route> = legs
            .into_iter()
            .enumerate()
            .map(|(leg, (path, header, priority))| Route {
                place: place.clone(),
                mesh: String::new(),
                router: String::new(),
                name: format!("g{index}r{leg}"),
                priority,
                matches: rules(path, header),
                targets: vec![],
                timeout: None,
                idle: None,
                retry: Retry::Default,
            })
            .collect();
        legs.sort_by_key(|leg| rank(leg.priority, &leg.matches.path, leg.matches.headers.len()));
        let gateway = GatewayRoute {
            place,
            mesh: String::new(),
            gateway: String::new(),
            name: String::new(),
            priority,
            matches: rules(path, header),
            service: String::new(),
            host_rewrite: false,
            own_host_only: false,
            rewrite,
        };
        Chain { gateway, legs }
    }

    fn takes((path, rewrite): &Form, headers: &[HeaderRule], request: (&str, bool)) -> Option<String> {
        if !headers.is_empty() && !request.1 {
            return None;
        }
        match path {
            PathRule::Exact(path) if path == request.0 => {
                Some(rewrite.clone().unwrap_or_else(|| path.clone()))
            }
            PathRule::Exact(_) => None,
            PathRule::Prefix(prefix) => {
                let rest = request.0.strip_prefix(prefix.as_str())?;
                Some(format!("{}{rest}", rewrite.as_ref().unwrap_or(prefix)))
            }
        }
    }

    /// What App Mesh did: the gateway's routes, then the router's with the rewritten path.
    fn in_two_steps(chains: &[Chain], request: (&str, bool)) -> Option<(String, String)> {
        let mut order: Vec<&Chain> = chains.iter().collect();
        order.sort_by_key(|chain| {
            let matches = &chain.gateway.matches;
            rank(chain.gateway.priority, &matches.path, matches.headers.len())
        });
        let (chain, path) = order.into_iter().find_map(|chain| {
            let mut forms = forms(&chain.gateway).into_iter();
            forms.find_map(|form| Some((chain, takes(&form, &chain.gateway.matches.headers, request)?)))
        })?;
        chain.legs.iter().find_map(|leg| {
            let form = (leg.matches.path.clone(), None);
            takes(&form, &leg.matches.headers, (&path, request.1)).map(|_| (leg.name.clone(), path.clone()))
        })
    }

    fn in_one_step(items: &[Item], chains: &[Chain], request: (&str, bool)) -> Option<(String, String)> {
        items.iter().find_map(|item| match item {
            Item::Leads { gateway, leg, form, headers } => {
                let path = takes(form, headers, request)?;
                Some((chains[*gateway].legs[*leg].name.clone(), path))
            }
            Item::Hole { .. } => None,
        })
    }

    proptest! {
        #[test]
        fn one_step_answers_as_two_did_unless_it_says_so(chains in mesh()) {
            let items = reachable(items(&chains, None, 80));
            let mut notes = Notes::default();
            report_holes(&items, &chains, &mut notes);
            if notes.is_good(false) {
                for path in ["/", "/a", "/a/", "/a/b", "/ab", "/abc", "/b", "/b/", "/b/a", "/a/a/b", "/a/b/b", "/b/a/ab", "/c"] {
                    for header in [false, true] {
                        let request = (path, header);
                        prop_assert_eq!(in_one_step(&items, &chains, request), in_two_steps(&chains, request), "{:?}", request);
                    }
                }
            }
        }
    }
}
