//! Every field reaches the member of the model that bears its name, and what is left out takes its default.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gateway_config::control_config::{
    AppMesh, ControlConfig, EventKind, ManagedRoute, MetricsLog, OnDrift, StateConfig, Tls, Token,
    TokenSource, Tokens, Webhook, WebhookFormat, WebhookUrl, parse_control,
};
use gateway_config::discovered::GatewayResources;
use gateway_config::model::{
    AccessLog, AccessLogFilter, AccessLogFormat, Admin, Bootstrap, CircuitBreakers, CloudMapDiscovery,
    Cluster, ClusterWeight, Control, Discovery, DnsDiscovery, HeaderMatcher, HttpConnectionManager, LbPolicy,
    Limits, Listener, Node, PathMatch, RetryOn, RetryPolicy, Route, RouteAction, RouteConfiguration,
    RouteMatch, RouteTarget, Secret, StateItem, ValueMatch, VirtualHost, WeightedClusters,
};
use gateway_config::state_item::StateView;
use gateway_config::{Diagnostics, parse_bootstrap, parse_partial_bootstrap};

fn good<T>(parsed: Result<T, Diagnostics>) -> T {
    parsed.unwrap_or_else(|errors| panic!("{errors}"))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const FULL: &str = r#"
node: {id: n, cluster: c}
admin: {address: {socket_address: {address: "::1", port_value: 1}}, token_file: /t}
static_resources:
  listeners:
  - name: l
    address: {socket_address: {address: 127.0.0.2, port_value: 2}}
    http_connection_manager:
      stat_prefix: p
      use_remote_address: false
      xff_num_trusted_hops: 3
      server_name: weir
      stream_idle_timeout: 4s
      request_headers_timeout: 0.3s
      common_http_protocol_options: {idle_timeout: 5m, max_headers_count: 6}
      max_request_headers_kb: 7
      http_protocol_options: {enable_trailers: true}
      http2_protocol_options: {max_concurrent_streams: 8}
      upgrade_configs: [{upgrade_type: WebSocket}, {upgrade_type: spdy/3}]
      lenient: true
      access_log: {path: /dev/stderr, format: json, filter: errors_and_canary}
      route_config:
        name: rc
        virtual_hosts:
        - name: vh
          domains: ["*.A.test", b.test]
          routes:
          - name: r
            match:
              prefix: /
              headers:
              - {name: X-A, string_match: {exact: e}}
              - {name: x-b, string_match: {prefix: p}, invert_match: true}
              - {name: x-c, string_match: {suffix: s}}
              - {name: x-d, string_match: {contains: c}}
              - {name: x-e, present_match: true}
              - {name: x-f, present_match: false}
              - {name: x-g}
            route:
              weighted_clusters:
                clusters: [{name: a, weight: 9}, {name: b, weight: 10}]
                stable: b
                override_header: X-Canary
                target_header: X-Served-By
                health_aware: false
              timeout: 250ms
              retry_policy: {retry_on: "reset,retriable-status-codes, unavailable,reset", num_retries: 2, per_try_timeout: 3s, retriable_status_codes: [503]}
              prefix_rewrite: /y
              host_rewrite_literal: b.test:11
          - match: {path: /p}
            route: {cluster: a, timeout: 0s}
  clusters:
  - name: a
    connect_timeout: 12s
    lb_policy: LEAST_REQUEST
    circuit_breakers: {thresholds: [{max_connections: 13, max_pending_requests: 14, max_requests: 15, max_retries: 16}]}
    discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: 16}}]}}
  - name: b
    discovery:
      dns: {hostname: h.test, port_value: 17, min_refresh: 18s, max_refresh: 19s, resolvers: ["127.0.0.1:20"], allow_loopback: true}
  - name: c
    discovery:
      cloud_map: {namespace_name: ns, service_name: sn, attributes: {K: V}, port_value: 21, full_poll: 1h, revision_poll: 22s, allow_loopback: true, dns_fallback: {hostname: f.test, resolvers: ["127.0.0.1:53"]}}
control: {url: "http://control:18000/", token_file: /g, ca_file: /ca, dynamodb: {table: t, key: k}, state_dir: /s}
limits: {max_downstream_connections: 23, leftover_budget: 2097152}
"#;

fn header(name: &str, matches: ValueMatch, invert: bool) -> HeaderMatcher {
    HeaderMatcher { name: name.to_owned(), matches, invert }
}

fn full_routes() -> Vec<Route> {
    let text = |text: &str| text.to_owned();
    vec![
        Route {
            name: text("r"),
            matches: RouteMatch {
                path: PathMatch::Prefix(text("/")),
                headers: vec![
                    header("x-a", ValueMatch::Exact(text("e")), false),
                    header("x-b", ValueMatch::Prefix(text("p")), true),
                    header("x-c", ValueMatch::Suffix(text("s")), false),
                    header("x-d", ValueMatch::Contains(text("c")), false),
                    header("x-e", ValueMatch::Present, false),
                    header("x-f", ValueMatch::Present, true),
                    header("x-g", ValueMatch::Present, false),
                ],
            },
            action: RouteAction {
                target: RouteTarget::Weighted(WeightedClusters {
                    clusters: vec![
                        ClusterWeight { name: text("a"), weight: 9 },
                        ClusterWeight { name: text("b"), weight: 10 },
                    ],
                    stable: Some(text("b")),
                    override_header: Some(text("x-canary")),
                    target_header: Some(text("x-served-by")),
                    health_aware: false,
                }),
                timeout: Duration::from_millis(250),
                retry_policy: Some(RetryPolicy {
                    retry_on: vec![RetryOn::Reset, RetryOn::RetriableStatusCodes, RetryOn::Grpc(14)],
                    num_retries: 2,
                    per_try_timeout: Some(seconds(3)),
                    retriable_status_codes: vec![503],
                }),
                prefix_rewrite: Some(text("/y")),
                host_rewrite_literal: Some(text("b.test:11")),
            },
        },
        Route {
            name: String::new(),
            matches: RouteMatch { path: PathMatch::Path(text("/p")), headers: vec![] },
            action: RouteAction {
                target: RouteTarget::Cluster(text("a")),
                timeout: Duration::ZERO,
                retry_policy: None,
                prefix_rewrite: None,
                host_rewrite_literal: None,
            },
        },
    ]
}

fn default_breakers() -> CircuitBreakers {
    CircuitBreakers { max_connections: 1024, max_pending_requests: 1024, max_requests: 1024, max_retries: 3 }
}

fn full_clusters() -> Vec<Cluster> {
    vec![
        Cluster {
            name: "a".to_owned(),
            discovery: Discovery::Static(vec!["127.0.0.1:16".parse().unwrap()]),
            connect_timeout: seconds(12),
            lb_policy: LbPolicy::LeastRequest,
            circuit_breakers: CircuitBreakers {
                max_connections: 13,
                max_pending_requests: 14,
                max_requests: 15,
                max_retries: 16,
            },
        },
        Cluster {
            name: "b".to_owned(),
            discovery: Discovery::Dns(DnsDiscovery {
                hostname: "h.test".to_owned(),
                port: 17,
                min_refresh: seconds(18),
                max_refresh: seconds(19),
                resolvers: vec!["127.0.0.1:20".parse().unwrap()],
                allow_loopback: true,
            }),
            connect_timeout: seconds(1),
            lb_policy: LbPolicy::RoundRobin,
            circuit_breakers: default_breakers(),
        },
        Cluster {
            name: "c".to_owned(),
            discovery: Discovery::CloudMap(CloudMapDiscovery {
                namespace_name: "ns".to_owned(),
                service_name: "sn".to_owned(),
                attributes: BTreeMap::from([("K".to_owned(), "V".to_owned())]),
                port: Some(21),
                full_poll: seconds(3_600),
                revision_poll: seconds(22),
                allow_loopback: true,
                dns_fallback: Some(DnsDiscovery {
                    hostname: "f.test".to_owned(),
                    port: 21,
                    min_refresh: seconds(1),
                    max_refresh: seconds(30),
                    resolvers: vec!["127.0.0.1:53".parse().unwrap()],
                    allow_loopback: true,
                }),
            }),
            connect_timeout: seconds(1),
            lb_policy: LbPolicy::RoundRobin,
            circuit_breakers: default_breakers(),
        },
    ]
}

#[test]
fn every_field_of_a_gateway_file_reaches_the_model() {
    let wanted = Bootstrap {
        node: Node { id: "n".to_owned(), cluster: "c".to_owned() },
        admin: Admin { address: "[::1]:1".parse().unwrap(), token_file: Some("/t".to_owned()) },
        listeners: vec![Listener {
            name: "l".to_owned(),
            address: "127.0.0.2:2".parse().unwrap(),
            http_connection_manager: HttpConnectionManager {
                stat_prefix: "p".to_owned(),
                use_remote_address: false,
                xff_num_trusted_hops: 3,
                server_name: "weir".to_owned(),
                stream_idle_timeout: seconds(4),
                idle_timeout: seconds(300),
                request_headers_timeout: Duration::from_millis(300),
                max_headers_count: 6,
                max_request_headers_kb: 7,
                max_concurrent_streams: 8,
                enable_trailers: true,
                lenient: true,
                upgrade_types: vec!["websocket".to_owned(), "spdy/3".to_owned()],
                access_log: Some(AccessLog {
                    path: "/dev/stderr".to_owned(),
                    format: AccessLogFormat::Json,
                    filter: AccessLogFilter::ErrorsAndCanary,
                }),
                route_config: RouteConfiguration {
                    name: "rc".to_owned(),
                    virtual_hosts: vec![VirtualHost {
                        name: "vh".to_owned(),
                        domains: vec!["*.a.test".to_owned(), "b.test".to_owned()],
                        routes: full_routes(),
                    }],
                },
            },
        }],
        clusters: full_clusters(),
        control: Some(Control {
            url: "http://control:18000".to_owned(),
            token_file: Some("/g".to_owned()),
            token: None,
            ca_file: Some("/ca".to_owned()),
            ca: None,
            state_dir: Some("/s".to_owned()),
            state_item: Some(StateItem { table: "t".to_owned(), key: "k".to_owned() }),
        }),
        limits: Limits { max_downstream_connections: 23, leftover_budget: 2 << 20 },
    };
    assert_eq!(good(parse_bootstrap("f", FULL.as_bytes())), wanted);
}

#[test]
fn what_is_left_out_of_a_gateway_file_takes_its_default() {
    let text = "static_resources: {listeners: [{name: l, address: {socket_address: {address: 0.0.0.0, port_value: 0}}, \
                http_connection_manager: {access_log: {}, route_config: {virtual_hosts: [{name: v, domains: ['*'], \
                routes: [{match: {prefix: /}, route: {weighted_clusters: {clusters: [{name: a, weight: 1}]}}}]}]}}}], \
                clusters: [{name: a, discovery: {cloud_map: {namespace_name: n, service_name: s}}}, \
                {name: b, circuit_breakers: {thresholds: [{max_requests: 5}]}, discovery: {dns: {hostname: h, port_value: 1}}}]}";
    let config = good(parse_bootstrap("f", text.as_bytes()));
    assert_eq!(config.node, Node { id: "gateway".to_owned(), cluster: "gateway".to_owned() });
    assert_eq!(config.admin, Admin { address: "0.0.0.0:9901".parse().unwrap(), token_file: None });
    assert_eq!(config.control, None);
    assert_eq!(config.limits, Limits { max_downstream_connections: 20_000, leftover_budget: 16 << 20 });
    let manager = &config.listeners[0].http_connection_manager;
    let route = &manager.route_config.virtual_hosts[0].routes[0];
    assert_eq!(
        *manager,
        HttpConnectionManager {
            stat_prefix: "ingress".to_owned(),
            use_remote_address: true,
            xff_num_trusted_hops: 1,
            server_name: "envoy".to_owned(),
            stream_idle_timeout: seconds(300),
            idle_timeout: seconds(3_600),
            request_headers_timeout: seconds(60),
            max_headers_count: 100,
            max_request_headers_kb: 60,
            max_concurrent_streams: 100,
            enable_trailers: false,
            lenient: false,
            upgrade_types: vec!["websocket".to_owned()],
            access_log: Some(AccessLog {
                path: "/dev/stdout".to_owned(),
                format: AccessLogFormat::Text,
                filter: AccessLogFilter::Unsaid,
            }),
            route_config: manager.route_config.clone(),
        }
    );
    assert_eq!(route.action.timeout, seconds(15));
    let RouteTarget::Weighted(weighted) = &route.action.target else { panic!("not weighted") };
    assert!(weighted.health_aware);
    assert_eq!((&weighted.stable, &weighted.override_header, &weighted.target_header), (&None, &None, &None));
    let Discovery::CloudMap(cloud_map) = &config.clusters[0].discovery else { panic!("not Cloud Map") };
    assert_eq!((cloud_map.full_poll, cloud_map.revision_poll), (seconds(30), seconds(2)));
    assert!(cloud_map.port.is_none() && !cloud_map.allow_loopback && cloud_map.attributes.is_empty());
    let Discovery::Dns(dns) = &config.clusters[1].discovery else { panic!("not DNS") };
    assert_eq!((dns.min_refresh, dns.max_refresh), (seconds(1), seconds(30)));
    assert!(dns.resolvers.is_empty() && !dns.allow_loopback);
    assert_eq!(
        (config.clusters[0].connect_timeout, config.clusters[0].lb_policy),
        (seconds(1), LbPolicy::RoundRobin)
    );
    assert_eq!(config.clusters[0].circuit_breakers, default_breakers());
    assert_eq!(
        config.clusters[1].circuit_breakers,
        CircuitBreakers { max_requests: 5, ..default_breakers() }
    );
}

#[test]
fn an_empty_list_of_upgrades_switches_websocket_off() {
    let text = FULL.replace("[{upgrade_type: WebSocket}, {upgrade_type: spdy/3}]", "[]");
    assert!(
        good(parse_bootstrap("f", text.as_bytes())).listeners[0]
            .http_connection_manager
            .upgrade_types
            .is_empty()
    );
}

#[test]
fn every_field_of_a_control_file_reaches_the_model() {
    let text = "
listen: 0.0.0.0:1
state: {file: /s}
tokens: {gateway: [{name: g, file: /g}], operator: [{name: o, file: /o}], viewer: [{name: v, env: V}]}
tls: {certificate_file: /c, private_key_file: /k}
webhooks: [{name: w, url: https://hooks.test/x?y, format: slack, events: [drift, weights_changed]}]
metrics_log: {emf: true, namespace: N}
routes:
  r:
    targets: [b, a]
    stable: b
    weights: {a: 0.25%}
    app_mesh: {mesh: m, mesh_owner: \"1\", virtual_router: vr, route: x, targets: {a: na, b: nb}, on_drift: enforce}
";
    let token = |name: &str| {
        vec![Token { name: name.to_owned(), source: TokenSource::File(format!("/{name}").into()) }]
    };
    let map = |pairs: [(&str, &str); 2]| pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let route = ManagedRoute {
        targets: vec!["b".to_owned(), "a".to_owned()],
        stable: "b".to_owned(),
        weights: Some(BTreeMap::from([("a".to_owned(), 25), ("b".to_owned(), 9_975)])),
        app_mesh: Some(AppMesh {
            mesh: "m".to_owned(),
            mesh_owner: Some("1".to_owned()),
            virtual_router: "vr".to_owned(),
            route: "x".to_owned(),
            targets: map([("a", "na"), ("b", "nb")]),
            on_drift: OnDrift::Enforce,
        }),
    };
    let wanted = ControlConfig {
        listen: "0.0.0.0:1".parse().unwrap(),
        state: StateConfig::File("/s".into()),
        tokens: Tokens {
            gateway: token("g"),
            operator: token("o"),
            viewer: vec![Token { name: "v".to_owned(), source: TokenSource::Env("V".to_owned()) }],
        },
        tls: Some(Tls { certificate_file: "/c".into(), private_key_file: "/k".into() }),
        webhooks: vec![Webhook {
            name: "w".to_owned(),
            url: WebhookUrl::Given(Secret("https://hooks.test/x?y".to_owned())),
            format: WebhookFormat::Slack,
            events: BTreeSet::from([EventKind::WeightsChanged, EventKind::Drift]),
        }],
        metrics_log: MetricsLog { emf: true, namespace: "N".to_owned() },
        gateway: None,
        routes: BTreeMap::from([("r".to_owned(), route)]),
    };
    assert_eq!(good(parse_control("f", text.as_bytes())), wanted);
}

#[test]
fn what_is_left_out_of_a_control_file_takes_its_default() {
    let config = good(parse_control("f", b"routes: {r: {targets: [a], stable: a}}"));
    assert_eq!(config.listen, "127.0.0.1:18000".parse().unwrap());
    assert_eq!(config.state, StateConfig::File("weir-state.json".into()));
    assert_eq!((&config.tls, config.webhooks.len(), &config.gateway), (&None, 0, &None));
    assert_eq!(config.metrics_log, MetricsLog { emf: false, namespace: "Weir".to_owned() });
    assert_eq!(config.tokens, Tokens::default());
    assert_eq!((&config.routes["r"].weights, &config.routes["r"].app_mesh), (&None, &None));
}

const SECTION: &str = "{listeners: [{name: l, address: {socket_address: {address: 0.0.0.0, port_value: 9080}}, \
    http_connection_manager: {route_config: {virtual_hosts: [{name: v, domains: ['*'], routes: [{name: r, match: \
    {prefix: /}, route: {weighted_clusters: {stable: a, clusters: [{name: a, weight: 1}, {name: b, weight: 0}]}}}]}]}}}], \
    clusters: [{name: a, discovery: {cloud_map: {namespace_name: n, service_name: s}}}, \
    {name: b, discovery: {dns: {hostname: h, port_value: 1}}}]}";

#[test]
fn what_control_gives_to_gateways_completes_a_configuration_without_listeners() {
    let text = format!("{{routes: {{r: {{targets: [a, b], stable: a}}}}, gateway: {SECTION}}}");
    let section = good(parse_control("f", text.as_bytes())).gateway.unwrap();
    let base = good(parse_bootstrap("f", b"{control: {url: 'http://c:1'}, admin: {address: {socket_address: {address: 127.0.0.1, port_value: 1}}}}"));
    assert_eq!(base.listeners, []);
    let mut resources = section.resources();
    resources.listeners[0]["@type"] = serde_json::Value::from("t");
    let whole = resources.complete(&base).unwrap();
    assert_eq!((whole.listeners, whole.clusters), (section.listeners, section.clusters));
    assert_eq!((whole.admin, whole.control), (base.admin.clone(), base.control.clone()));
    let errors = GatewayResources::default().complete(&base).unwrap_err().to_string();
    assert!(errors.contains("static_resources.listeners"), "{errors}");
}

#[test]
fn a_route_under_control_must_be_in_the_gateway_section_with_the_same_targets() {
    for (routes, wanted) in [
        ("{r: {targets: [a], stable: a}}", "the targets are a, and in the section `gateway` a, b"),
        ("{r: {targets: [a, b], stable: a}, q: {targets: [a], stable: a}}", "has no route `q`"),
        ("{q: {targets: [a], stable: a}}", "the route `r` has a stable target, and is not among `routes`"),
    ] {
        let errors = parse_control("f", format!("{{routes: {routes}, gateway: {SECTION}}}").as_bytes());
        let errors = errors.unwrap_err().to_string();
        assert!(errors.contains(wanted), "{errors}");
    }
}

#[test]
fn a_file_without_listeners_needs_control() {
    let errors = parse_bootstrap("f", b"admin: {}").unwrap_err().to_string();
    assert!(errors.contains("no control to get them from"), "{errors}");
    assert_eq!(good(parse_partial_bootstrap("f", b"admin: {}")).control, None);
}

#[test]
fn a_state_item_from_a_newer_build_is_refused_and_one_of_ours_is_read() {
    let text = r#"{"format": {"major": 1, "minor": 7}, "control": {"id": "x", "epoch": 2, "seq": 3}, "new": 1,
        "routes": {"r": {"weights": {"a": 9000, "b": 1000}, "stable": "a", "version": "2.3-x", "history": []}}}"#;
    let view = StateView::parse(text).unwrap();
    assert_eq!(view.control.version().to_string(), "2.3-x");
    assert_eq!(view.routes["r"].weights["b"], 1000);
    let newer = StateView::parse(&text.replace("\"major\": 1", "\"major\": 2")).unwrap_err().to_string();
    assert!(newer.contains("format 2"), "{newer}");
    let broken = StateView::parse(&text.replace("9000", "8000")).unwrap_err().to_string();
    assert!(broken.contains("sum up to 9000"), "{broken}");
}
