//! The store under every order of changes: layers, refusals, reloads.

use super::*;
use gateway_config::parse_bootstrap;
use proptest::prelude::*;
use std::time::Duration;

/// Two virtual hosts that share the route `svc1`, and a route `other`; `targets` are those of `svc1`.
fn config(targets: &[(&str, u32)], addresses: &str) -> Arc<Bootstrap> {
    let clusters: Vec<String> = targets.iter().map(|(n, w)| format!("{{name: {n}, weight: {w}}}")).collect();
    let route = format!(
        "{{name: svc1, match: {{prefix: /}}, route: {{weighted_clusters: {{clusters: [{}], stable: v1}}}}}}",
        clusters.join(", ")
    );
    let text = format!(
        "
static_resources:
  listeners:
  - name: ingress
    address: {{socket_address: {{address: 127.0.0.1, port_value: 9080}}}}
    http_connection_manager:
      route_config:
        virtual_hosts:
        - {{name: a, domains: [a.test], routes: [{route}]}}
        - name: b
          domains: ['*']
          routes:
          - {{name: other, match: {{prefix: /other}}, route: {{weighted_clusters: {{clusters: [{{name: v1, weight: 1}}, {{name: v2, weight: 3}}], stable: v2}}}}}}
          - {{match: {{prefix: /plain}}, route: {{weighted_clusters: {{clusters: [{{name: v1, weight: 5}}]}}}}}}
          - {route}
  clusters:
  - {{name: v1, discovery: {{static: {{endpoints: [{addresses}]}}}}}}
  - {{name: v2, discovery: {{dns: {{hostname: v2.test, port_value: 80}}}}}}
  - {{name: v3, discovery: {{dns: {{hostname: v3.test, port_value: 80}}}}}}
control: {{url: 'http://127.0.0.1:18000'}}
"
    );
    Arc::new(parse_bootstrap("test", text.as_bytes()).unwrap_or_else(|errors| panic!("{errors}")))
}

const ADDRESSES: &str = "{socket_address: {address: 127.0.0.1, port_value: 1}}, \
                         {socket_address: {address: 127.0.0.1, port_value: 2}}";
const TWO: &[(&str, u32)] = &[("v1", 90), ("v2", 10)];
const THREE: &[(&str, u32)] = &[("v1", 1), ("v2", 1), ("v3", 1)];

fn store(targets: &[(&str, u32)]) -> Store {
    let registry = Arc::new(Registry::new(1));
    let logs = Arc::new(AccessLogs::new(Arc::clone(&registry)));
    Store::new(config(targets, ADDRESSES), registry, logs).unwrap()
}

fn word(route: &str, source: WeightSource, weights: &[(&str, u32)]) -> RouteWeights {
    RouteWeights {
        route: route.to_owned(),
        weights: weights.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect(),
        stable: None,
        source,
        version: if source == WeightSource::Control { "1.1-c".to_owned() } else { String::new() },
        since: SystemTime::UNIX_EPOCH,
    }
}

fn say(store: &Store, route: &str, source: WeightSource, weights: &[(&str, u32)]) -> Result<(), Rejected> {
    store.apply(Change::Weights(vec![word(route, source, weights)])).map(drop)
}

fn release(store: &Store, route: &str, source: WeightSource) {
    store.apply(Change::ReleaseWeights { route: route.to_owned(), source }).unwrap();
}

/// Weights and their source, of every route of that name.
fn of(store: &Store, route: &str) -> Vec<(Vec<u32>, WeightSource)> {
    let snapshot = store.snapshot();
    let splits = snapshot.splits.iter().filter(|split| &*split.route == route);
    splits.map(|split| (split.weights.to_vec(), split.source)).collect()
}

fn one(store: &Store, route: &str) -> (Vec<u32>, WeightSource) {
    let all = of(store, route);
    assert!(all.windows(2).all(|pair| pair[0] == pair[1]), "{all:?}");
    all.first().cloned().unwrap()
}

#[test]
fn the_strongest_word_is_in_force_whatever_the_order_of_speaking() {
    use WeightSource::{Control, File, Override, Runtime, Saved, Stable, Tripwire};
    let store = store(TWO);
    let words = [Runtime, Control, Stable, Tripwire, Saved, Override];
    for (n, source) in words.into_iter().enumerate() {
        say(&store, "svc1", source, &[("v1", 100 + n as u32), ("v2", 1)]).unwrap();
    }
    for (source, v1) in
        [(Tripwire, 103), (Override, 105), (Control, 101), (Saved, 104), (Runtime, 100), (Stable, 102)]
    {
        assert_eq!(one(&store, "svc1"), (vec![v1, 1], source));
        release(&store, "svc1", source);
    }
    assert_eq!(one(&store, "svc1"), (vec![90, 10], File));
    assert_eq!(one(&store, "other"), (vec![1, 3], File), "another route");
}

fn break_glass(store: &Store, route: &str, target: &str, until: Instant) -> Result<(), Rejected> {
    let wanted = Override { route: route.to_owned(), target: target.to_owned(), until };
    store.apply(Change::Override(wanted)).map(drop)
}

#[test]
fn an_override_takes_everything_until_it_ends_and_then_what_control_says_now_is_in_force() {
    let store = store(TWO);
    let start = Instant::now();
    let (soon, late) = (start + Duration::from_secs(60), start + Duration::from_secs(3600));
    say(&store, "svc1", WeightSource::Control, &[("v1", 90), ("v2", 10)]).unwrap();
    break_glass(&store, "svc1", "v2", soon).unwrap();
    break_glass(&store, "other", "v1", late).unwrap();
    assert_eq!(one(&store, "svc1"), (vec![0, 1], WeightSource::Override));
    let mut wanted = word("svc1", WeightSource::Control, &[("v1", 70), ("v2", 30)]);
    wanted.stable = Some("v2".to_owned());
    store.apply(Change::Weights(vec![wanted])).unwrap();
    assert_eq!(one(&store, "svc1"), (vec![0, 1], WeightSource::Override), "control does not win over it");
    let split = |store: &Store| store.snapshot().splits.iter().find(|s| &*s.route == "svc1").unwrap().clone();
    assert_eq!(split(&store).stable, Some(1), "the stable target is still control's to name");
    assert_eq!(split(&store).ends_in(start), Some(Duration::from_secs(60)));
    store.apply(Change::EndOverrides(soon - Duration::from_millis(1))).unwrap();
    assert_eq!(one(&store, "svc1").1, WeightSource::Override, "not before its time");
    store.apply(Change::EndOverrides(soon)).unwrap();
    assert_eq!(one(&store, "svc1"), (vec![70, 30], WeightSource::Control));
    assert_eq!(split(&store).ends_in(start), None);
    assert_eq!(one(&store, "other"), (vec![1, 0], WeightSource::Override), "another override goes on");
    release(&store, "other", WeightSource::Override);
    assert_eq!(one(&store, "other").1, WeightSource::File);
}

#[test]
fn an_override_can_be_renewed_and_survives_a_reload() {
    let store = store(TWO);
    let start = Instant::now();
    break_glass(&store, "svc1", "v2", start + Duration::from_secs(1)).unwrap();
    break_glass(&store, "svc1", "v1", start + Duration::from_secs(9)).unwrap();
    store.apply(Change::EndOverrides(start + Duration::from_secs(5))).unwrap();
    store.apply(Change::Config(config(THREE, ADDRESSES))).unwrap();
    assert_eq!(one(&store, "svc1"), (vec![1, 0, 0], WeightSource::Override));
    assert!(store.snapshot().splits.iter().any(|s| s.until == Some(start + Duration::from_secs(9))));
    break_glass(&store, "svc1", "v3", start + Duration::from_secs(9)).unwrap();
    let refused = store.apply(Change::Config(config(TWO, ADDRESSES))).unwrap_err().to_string();
    assert!(refused.contains("release the override"), "{refused}");
}

#[test]
fn under_an_override_a_file_may_not_take_the_target_that_control_gives_weight() {
    let store = store(THREE);
    say(&store, "svc1", WeightSource::Control, &[("v1", 1), ("v3", 1)]).unwrap();
    break_glass(&store, "svc1", "v1", Instant::now() + Duration::from_secs(9)).unwrap();
    let refused = store.apply(Change::Config(config(TWO, ADDRESSES))).unwrap_err();
    assert!(matches!(refused, Rejected::WeightsInForce { .. }), "{refused}");
}

#[test]
fn an_override_of_an_unknown_route_or_target_is_refused_and_changes_nothing() {
    let store = store(TWO);
    let before = store.snapshot();
    let until = Instant::now() + Duration::from_secs(9);
    assert!(matches!(break_glass(&store, "svc9", "v1", until), Err(Rejected::UnknownRoute { .. })));
    assert!(matches!(break_glass(&store, "svc1", "v3", until), Err(Rejected::UnknownTarget { .. })));
    assert!(Arc::ptr_eq(&before, &store.snapshot()));
}

#[test]
fn a_target_that_is_not_named_has_no_weight_and_the_stable_may_change() {
    let store = store(THREE);
    let mut wanted = word("svc1", WeightSource::Control, &[("v2", 7)]);
    wanted.stable = Some("v3".to_owned());
    store.apply(Change::Weights(vec![wanted])).unwrap();
    assert_eq!(one(&store, "svc1").0, [0, 7, 0]);
    let snapshot = store.snapshot();
    let split = snapshot.splits.iter().find(|split| &*split.route == "svc1").unwrap();
    assert_eq!((split.total, split.stable, &*split.version), (7, Some(2), "1.1-c"));
}

#[test]
fn several_routes_change_in_one_snapshot_or_not_at_all() {
    let store = store(TWO);
    let before = store.snapshot();
    let good = word("svc1", WeightSource::Control, &[("v1", 1), ("v2", 1)]);
    let bad = word("other", WeightSource::Control, &[("v1", 0), ("v2", 0)]);
    let rejected = store.apply(Change::Weights(vec![good.clone(), bad])).unwrap_err();
    assert_eq!(rejected, Rejected::WeightSum { route: "other".to_owned(), sum: 0 });
    assert!(Arc::ptr_eq(&before, &store.snapshot()), "nothing was published");
    assert_eq!(store.layer("svc1", WeightSource::Control), None, "nothing is remembered");
    let both = vec![good, word("other", WeightSource::Control, &[("v1", 9)])];
    let after = store.apply(Change::Weights(both)).unwrap();
    assert_eq!(after.generation, before.generation + 1);
    assert_eq!((one(&store, "svc1").0, one(&store, "other").0), (vec![1, 1], vec![9, 0]));
}

#[test]
fn a_refused_change_names_what_would_fit() {
    let store = store(TWO);
    let error = |route, weights: &[(&str, u32)]| {
        say(&store, route, WeightSource::Control, weights).unwrap_err().to_string()
    };
    assert_eq!(
        error("svc2", &[("v1", 1)]),
        "route `svc2` is not in this gateway's configuration; it has: other, svc1"
    );
    assert_eq!(error("svc1", &[("v9", 1)]), "route `svc1` has no target `v9`; its targets are: v1, v2");
    assert!(error("svc1", &[("v1", u32::MAX), ("v2", 1)]).contains("4294967296"));
    assert!(error("", &[("v1", 1)]).contains("it has: other, svc1"), "unnamed routes cannot be told apart");
}

#[test]
fn a_target_that_the_file_does_not_have_yet_may_be_named_without_weight() {
    let store = store(TWO);
    say(&store, "svc1", WeightSource::Control, &[("v1", 5), ("v2", 5), ("v3", 0)]).unwrap();
    assert_eq!(one(&store, "svc1").0, [5, 5]);
}

#[test]
fn a_reload_keeps_the_weights_that_control_set_and_the_endpoints_that_stay() {
    let store = store(TWO);
    say(&store, "svc1", WeightSource::Control, &[("v1", 3), ("v2", 7)]).unwrap();
    let before = store.snapshot();
    let kept = Arc::clone(&before.cluster("v1").unwrap().endpoints[1]);
    let discovered = store.new_endpoint(([10, 0, 0, 1], 80).into(), String::new());
    let change = Change::Endpoints { cluster: "v2".to_owned(), endpoints: vec![Arc::clone(&discovered)] };
    store.apply(change).unwrap();
    let only_second = "{socket_address: {address: 127.0.0.1, port_value: 2}}";
    let after = store.apply(Change::Config(config(THREE, only_second))).unwrap();
    assert_eq!(one(&store, "svc1"), (vec![3, 7, 0], WeightSource::Control));
    let [endpoint] = &*after.cluster("v1").unwrap().endpoints else { panic!("one endpoint stays") };
    assert!(Arc::ptr_eq(endpoint, &kept));
    assert!(!kept.gone.load(Relaxed));
    assert!(before.cluster("v1").unwrap().endpoints[0].gone.load(Relaxed));
    assert!(Arc::ptr_eq(&after.cluster("v2").unwrap().endpoints[0], &discovered));
    assert!(Arc::ptr_eq(&after.cluster("v1").unwrap().shared, &before.cluster("v1").unwrap().shared));
}

#[test]
fn a_reload_may_not_take_a_target_that_has_weight() {
    let store = store(THREE);
    say(&store, "svc1", WeightSource::Control, &[("v1", 1), ("v3", 1)]).unwrap();
    let before = store.snapshot();
    let rejected = store.apply(Change::Config(config(TWO, ADDRESSES))).unwrap_err().to_string();
    assert!(rejected.contains("`v3`") && rejected.contains("to 0 first"), "{rejected}");
    assert!(Arc::ptr_eq(&before, &store.snapshot()));
    say(&store, "svc1", WeightSource::Control, &[("v1", 1), ("v3", 0)]).unwrap();
    store.apply(Change::Config(config(TWO, ADDRESSES))).unwrap();
    assert_eq!(one(&store, "svc1"), (vec![1, 0], WeightSource::Control));
}

#[test]
fn a_managed_route_that_a_reload_brings_starts_on_its_stable() {
    let store = store(TWO);
    // The very first weights are the business of whoever speaks with control.
    assert_eq!(one(&store, "svc1").1, WeightSource::File);
    store.apply(Change::Config(config(THREE, ADDRESSES))).unwrap();
    assert_eq!(one(&store, "svc1"), (vec![1, 0, 0], WeightSource::Stable));
    assert_eq!(one(&store, "").1, WeightSource::File, "nobody manages an unnamed route");
}

#[test]
fn listeners_admin_and_control_need_a_restart() {
    let store = store(TWO);
    let mut moved = Bootstrap::clone(&config(TWO, ADDRESSES));
    moved.listeners[0].address.set_port(9081);
    let mut admin = Bootstrap::clone(&config(TWO, ADDRESSES));
    admin.admin.address.set_port(1);
    for bootstrap in [moved, admin] {
        let rejected = store.apply(Change::Config(Arc::new(bootstrap))).unwrap_err();
        assert!(matches!(&rejected, Rejected::NeedsRestart(text) if text.contains("new gateway task")));
    }
}

#[test]
fn endpoints_of_an_unknown_cluster_are_refused() {
    let change = Change::Endpoints { cluster: "v7".to_owned(), endpoints: Vec::new() };
    assert_eq!(store(TWO).apply(change).unwrap_err(), Rejected::UnknownCluster("v7".to_owned()));
}

fn sources() -> impl Strategy<Value = WeightSource> {
    use WeightSource::{Control, Override, Runtime, Saved, Stable, Tripwire};
    prop::sample::select(vec![Tripwire, Override, Control, Saved, Runtime, Stable])
}

#[derive(Clone, Debug)]
enum Step {
    Say(&'static str, WeightSource, [u32; 3]),
    Release(&'static str, WeightSource),
    Reload(bool),
    Endpoints(u16),
}

fn steps() -> impl Strategy<Value = Step> {
    let route = || prop::sample::select(vec!["svc1", "other", "nobody"]);
    let weight = || prop_oneof![3 => 0u32..3, 1 => Just(u32::MAX)];
    prop_oneof![
        4 => (route(), sources(), [weight(), weight(), weight()]).prop_map(|(r, s, w)| Step::Say(r, s, w)),
        1 => (route(), sources()).prop_map(|(r, s)| Step::Release(r, s)),
        1 => any::<bool>().prop_map(Step::Reload),
        1 => (1u16..4).prop_map(Step::Endpoints),
    ]
}

fn change(store: &Store, step: &Step) -> Change {
    match step {
        Step::Say(route, source, [a, b, c]) => {
            Change::Weights(vec![word(route, *source, &[("v1", *a), ("v2", *b), ("v3", *c)])])
        }
        Step::Release(route, source) => {
            Change::ReleaseWeights { route: (*route).to_owned(), source: *source }
        }
        Step::Reload(three) => Change::Config(config(if *three { THREE } else { TWO }, ADDRESSES)),
        Step::Endpoints(count) => {
            let endpoint = |n| store.new_endpoint(([10, 0, 0, 1], n).into(), String::new());
            Change::Endpoints { cluster: "v2".to_owned(), endpoints: (0..*count).map(endpoint).collect() }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_sequence_of_changes_leaves_an_impossible_snapshot(steps in prop::collection::vec(steps(), 1..40)) {
        let store = store(TWO);
        for step in &steps {
            let before = store.snapshot();
            let managed = one(&store, "svc1");
            let result = store.apply(change(&store, step));
            let after = store.snapshot();
            if result.is_err() {
                prop_assert!(Arc::ptr_eq(&before, &after), "a refusal changed something: {step:?}");
            } else {
                prop_assert_eq!(after.generation, before.generation + 1);
            }
            for split in after.splits.iter() {
                let sum: u64 = split.weights.iter().map(|weight| u64::from(*weight)).sum();
                prop_assert!(sum > 0 && sum == u64::from(split.total), "{step:?} {split:?}");
                prop_assert_eq!(split.weights.len(), split.targets.len());
                prop_assert!(split.targets.iter().all(|target| target.cluster < after.clusters.len()));
                prop_assert!(split.stable.is_none_or(|stable| stable < split.targets.len()));
            }
            let now = one(&store, "svc1");
            if let (Step::Reload(_), false) = (step, matches!(managed.1, WeightSource::File | WeightSource::Stable)) {
                prop_assert_eq!(now.1, managed.1);
                let (old, new): (Vec<_>, Vec<_>) = (managed.0, now.0);
                let longest = old.len().max(new.len());
                let padded = |mut w: Vec<u32>| { w.resize(longest, 0); w };
                prop_assert_eq!(padded(old), padded(new), "a reload changed managed weights");
            }
        }
    }
}
