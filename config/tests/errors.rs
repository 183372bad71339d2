//! What bad input gets: each fault with its place, its text and its cure, and all faults of a file at once.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use gateway_config::control_config::parse_control;
use gateway_config::{Diagnostic, Diagnostics, parse_bootstrap};

const GATEWAY: &str = "\
node: {id: a, cluster: b}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}
static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 0.0.0.0, port_value: 9080}}
    http_connection_manager:
      stream_idle_timeout: 300s
      route_config:
        virtual_hosts:
        - name: shop
          domains: [a.test]
          routes:
          - name: svc1
            match: {prefix: /x, headers: [{name: x-a, string_match: {exact: b}}]}
            route:
              weighted_clusters:
                clusters: [{name: east, weight: 99}, {name: west, weight: 1}]
                stable: east
                override_header: x-canary
          - name: svc2
            match: {path: /y}
            route: {cluster: east}
  clusters:
  - name: east
    discovery: {static: {endpoints: [{socket_address: {address: 127.0.0.1, port_value: 9001}}]}}
  - name: west
    connect_timeout: 2s
    discovery: {dns: {hostname: west.test, port_value: 3000}}
";

const CONTROL: &str = "\
listen: 127.0.0.1:18000
tokens: {gateway: [{name: a, file: /a}], operator: [{name: b, file: /b}]}
routes:
  svc1:
    targets: [east, west]
    stable: east
    weights: {east: 99.5, west: 0.5}
    app_mesh: {mesh: m, virtual_router: r, route: s, targets: {east: n1, west: n2}}
";

type Errors = fn(&[u8]) -> Option<Diagnostics>;

const OF_GATEWAY: Errors = |text| parse_bootstrap("f.yaml", text).err();
const OF_CONTROL: Errors = |text| parse_control("f.yaml", text).err();

/// The text that an error points at, up to the end of its carets.
fn pointed_at(text: &str, item: &Diagnostic) -> String {
    let line = text.lines().nth(item.line - 1).unwrap_or_default();
    let carets = item.snippet.lines().last().unwrap().matches('^').count();
    line.chars().skip(item.column - 1).take(carets).collect()
}

/// One change to a good file, and the one error that it must give: where it points, what it says, what to do.
struct Case {
    change: (&'static str, &'static str),
    at: &'static str,
    says: &'static str,
    cure: &'static str,
}

const fn case(
    old: &'static str,
    new: &'static str,
    at: &'static str,
    says: &'static str,
    cure: &'static str,
) -> Case {
    Case { change: (old, new), at, says, cure }
}

fn check_cases(base: &str, errors: Errors, cases: &[Case]) {
    assert!(errors(base.as_bytes()).is_none(), "the base must be good: {}", errors(base.as_bytes()).unwrap());
    let mut failures = String::new();
    for Case { change: (old, new), at, says, cure } in cases {
        assert!(base.contains(old), "the base does not contain {old}");
        let text = base.replacen(old, new, 1);
        let Some(found) = errors(text.as_bytes()) else {
            failures.push_str(&format!("`{new}` was accepted\n"));
            continue;
        };
        let item = &found.items[0];
        let place = pointed_at(&text, item);
        if found.items.len() != 1 || !item.message.contains(says) || !item.cure.contains(cure) || place != *at
        {
            failures.push_str(&format!("`{new}` points at `{place}`:\n{found}\n"));
        }
    }
    assert!(failures.is_empty(), "{failures}");
}

#[test]
fn each_fault_of_a_gateway_file_has_its_place_text_and_cure() {
    let cases = [
        // Fields and types.
        case("node: {id", "nodes: {id", "nodes", "unknown field `nodes`", "did you mean `node`?"),
        case(
            "stream_idle_timeout",
            "streamIdleTimeout",
            "streamIdleTimeout",
            "unknown field",
            "`stream_idle_timeout`",
        ),
        case(
            "stream_idle_timeout: 300s",
            "lenient: 1",
            "1",
            "expected true or false, found the number 1",
            "write true",
        ),
        case(
            "stream_idle_timeout: 300s",
            "lenient: yes",
            "yes",
            "expected true or false",
            "write true or false",
        ),
        case("300s", "300", "300", "without a unit", "write `300s`"),
        case("300s", "-3s", "-3s", "cannot be negative", "15s"),
        case("300s", "5 parsecs", "5 parsecs", "not a duration", "250ms"),
        case("300s", "9000h", "9000h", "more than 8760h", "at most 8760h"),
        case("connect_timeout: 2s", "connect_timeout: 0s", "0s", "zero", "1s"),
        case("{id: a, cluster: b}", "[a]", "[", "expected a mapping", "{..}"),
        case("{id: a, cluster: b}", "a", "a", "found the text `a`", "{..}"),
        case("{id: a,", "{id: 7,", "7", "found the number 7", "\"7\""),
        case("domains: [a.test]", "domains: a.test", "a.test", "expected a list", "[..]"),
        case("domains: [a.test]", "domains: []", "domains", "0 entries", "add"),
        case("- name: ingress", "- name:", "name", "no value is given", "write a name"),
        case("- name: ingress", "- name: in gress", "in gress", "not a name", "no blanks"),
        case("- name: ingress", "- name: \"\"", "\"\"", "an empty text", "a name"),
        case("- name: ingress\n    address", "- address", "a", "`name` is missing", "add `name:`"),
        case(
            "stream_idle_timeout: 300s",
            "filter_chains: []",
            "filter_chains",
            "unknown field",
            "http_connection_manager",
        ),
        // Addresses.
        case("port_value: 9080", "port_value: 65536", "65536", "too large", "from 0 to 65535"),
        case("port_value: 9080", "port_value: -1", "-1", "negative", "from 0 to 65535"),
        case(
            "port_value: 9080",
            "port_value: \"9080\"",
            "\"9080\"",
            "expected a whole number",
            "remove the quotation",
        ),
        case("port_value: 9080", "port_value: 9e3", "9e3", "expected a whole number", "in digits"),
        case("port_value: 9080", "port_value: 0x50", "0x50", "not a decimal number", "from 0"),
        case("port_value: 9001", "port_value: 0", "0", "too small", "from 1"),
        case(
            "port_value: 9080",
            "port_value: 9901",
            "9901",
            "already taken by the admin listener",
            "own port",
        ),
        case("address: 0.0.0.0", "address: example.test", "example.test", "not an IP address", "dns"),
        // Routing.
        case("prefix: /x", "prefix: x", "x", "starts with `/`", "write `/x`"),
        case("prefix: /x", "prefix: /x?a", "/x?a", "not a path", "query"),
        case("prefix: /x,", "prefix: /x, path: /y,", "path", "exclude each other", "exactly one"),
        case("{path: /y}", "{}", "match", "one of `prefix`, `path` is missing", "exactly one"),
        case("name: x-a", "name: x a", "x a", "not a header name", "x-canary"),
        case("name: x-a", "name: \":path\"", "\":path\"", "not a header name", "pseudo-headers"),
        case("exact: b", "exact: true", "true", "expected a text", "\"true\""),
        case("exact: b", "exact: b, prefix: c", "prefix", "exclude each other", "exactly one"),
        case("exact: b", "exact: \" b\"", "\" b\"", "never starts or ends with a blank", "remove"),
        case("exact: b", "exakt: b", "exakt", "unknown field", "`exact`"),
        case(
            "stream_idle_timeout: 300s",
            "codec_type: AUTO",
            "codec_type",
            "unknown field",
            "known here: stat_prefix",
        ),
        case("override_header: x-canary", "override_header: Host", "Host", "frames or routes", "of your own"),
        case("a.test", "a.*.test", "a.*.test", "not a domain", "only at one end"),
        case("cluster: east}", "cluster: easr}", "easr", "unknown cluster `easr`", "did you mean `east`?"),
        case("cluster: east}", "cluster: moon}", "moon", "unknown cluster `moon`", "there are: east, west"),
        case(
            "cluster: east}",
            "timeout: 1s}",
            "route",
            "one of `cluster`, `weighted_clusters` is missing",
            "exactly one",
        ),
        // Weights.
        case("weight: 99", "weight: -99", "-99", "negative", "from 0"),
        case("weight: 99", "weight: 9.9", "9.9", "whole number", "digits"),
        case("weight: 99", "weight: 4294967296", "4294967296", "too large", "4294967295"),
        case(
            "weight: 99",
            "weight: 99999999999999999999999",
            "99999999999999999999999",
            "too large",
            "4294967295",
        ),
        case("weight: 99", "weight: 4294967295", "weighted_clusters", "over 4294967295", "divide"),
        case(
            "weight: 99}, {name: west, weight: 1",
            "weight: 0}, {name: west, weight: 0",
            "weighted_clusters",
            "all weights are zero",
            "above 0",
        ),
        case("{name: east, weight: 99}", "{name: east}", "{", "`weight` is missing", "add `weight:`"),
        case("stable: east", "stable: north", "north", "not among the targets", "east, west"),
        // Uniqueness.
        case("- name: west\n", "- name: west\n    name: west\n", "name", "given twice", "line 27"),
        case(
            "  clusters:\n",
            "  clusters:\n  - {name: east, discovery: {dns: {hostname: a, port_value: 1}}}\n",
            "east",
            "a second cluster `east`",
            "first is in line 25",
        ),
        case("[a.test]", "[a.test, A.test]", "A.test", "a second domain `a.test`", "rename or remove"),
        case(
            "{name: west, weight: 1}",
            "{name: east, weight: 1}",
            "east",
            "a second target",
            "rename or remove",
        ),
        // Discovery.
        case(
            "dns: {",
            "static: {endpoints: [{socket_address: {address: 10.0.0.1, port_value: 1}}]}, dns: {",
            "dns",
            "exclude each other",
            "exactly one",
        ),
        case("hostname: west.test", "hostname: west_.-test", "west_.-test", "not a DNS name", "labels"),
        case(
            "hostname: west.test",
            "hostname: west.test, min_refresh: 1m",
            "1m",
            "longer than max_refresh",
            "raise `max_refresh`",
        ),
        case(
            "hostname: west.test",
            "hostname: west.test, resolvers: [\"127.0.0.1\"]",
            "\"127.0.0.1\"",
            "with a port",
            "[::1]:18000",
        ),
        // YAML itself.
        case("node: {id: a,", "node: !b {id: a,", "{", "tags", "remove the tag"),
        case("stream_idle_timeout: 300s", "<<: *x", "*", "not YAML", "define the anchor"),
        case("node: {id: a", "node: {id: {a: b}: c", ":", "not YAML", "brackets"),
        case(
            "  clusters:
",
            "  ? [a]
  : b
  clusters:
",
            "[",
            "cannot be a key",
            "a name",
        ),
    ];
    check_cases(GATEWAY, OF_GATEWAY, &cases);
}

#[test]
fn each_fault_of_a_control_file_has_its_place_text_and_cure() {
    let cases = [
        case(
            "listen: 127.0.0.1:18000",
            "listen: 18000",
            "18000",
            "expected an IP address with a port",
            "quotation",
        ),
        case(
            "listen: 127.0.0.1:18000",
            "listen: localhost:18000",
            "localhost:18000",
            "with a port",
            "127.0.0.1:18000",
        ),
        case("stable: east", "stable: eats", "eats", "not among the targets", "did you mean `east`?"),
        case("east: 99.5", "east: 99", "{", "sum up to 99.5 %", "correct one"),
        case("east: 99.5", "east: 99.555", "99.555", "more than two decimals", "0.01"),
        case("east: 99.5", "east: -1", "-1", "below 0 %", "nothing"),
        case("east: 99.5", "east: 101", "101", "over 100 %", "sum up to 100"),
        case(
            "east: 99.5, west: 0.5",
            "north: 100",
            "north",
            "`north` is not among the targets",
            "east, west",
        ),
        case("east: 99.5, west: 0.5", "east: 100", "{", "no weight is given for west", "may be left out"),
        case("[east, west]", "[east, west, east]", "east", "a second target `east`", "rename or remove"),
        case("{name: b, file: /b}", "{name: b}", "{", "one of `file`, `env` is missing", "exactly one"),
        case("{name: b, file: /b}", "{name: b, env: 1B}", "1B", "not the name of a variable", "WEIR_"),
        case(
            "{name: b, file: /b}",
            "{name: b, file: /b}, {name: b, file: /c}",
            "b",
            "a second operator token `b`",
            "rename",
        ),
        case("east: n1, west: n2", "east: n1", "{", "no virtual node is named for west", "every target"),
        case(
            "east: n1, west: n2",
            "east: n1, west: n1",
            "west",
            "a second target with the virtual node `n1`",
            "rename",
        ),
        case("route: s,", "route: s, on_drift: panic,", "panic", "expected one of pause, enforce", "pause"),
        case(
            "listen: 127.0.0.1:18000",
            "listen: 127.0.0.1:18000\nallow: true",
            "allow",
            "unknown field",
            "known here",
        ),
        case("  svc1:", "  svc/1:", "svc/1", "not a name", "no blanks"),
    ];
    check_cases(CONTROL, OF_CONTROL, &cases);
}

#[test]
fn control_that_can_be_reached_from_outside_needs_both_kinds_of_token() {
    let open = CONTROL.replace("127.0.0.1:18000", "0.0.0.0:18000");
    assert!(parse_control("f", open.as_bytes()).is_ok(), "with both kinds it may listen anywhere");
    for (tokens, missing) in [
        ("tokens: {}", "`gateway` and `operator` tokens"),
        ("tokens: {gateway: [{name: a, file: /a}]}", "an `operator` token"),
        ("tokens: {gateway: [], operator: [{name: a, file: /a}]}", "a `gateway` token"),
    ] {
        let text: String = open
            .lines()
            .map(|l| if l.starts_with("tokens") { tokens } else { l }.to_owned() + "\n")
            .collect();
        let errors = OF_CONTROL(text.as_bytes()).expect("refused");
        assert_eq!(errors.items.len(), 1, "{errors}");
        assert_eq!(errors.items[0].path, "listen");
        assert!(errors.items[0].message.contains(missing), "{errors}");
        assert!(errors.items[0].cure.contains("127.0.0.1"), "{errors}");
        let loopback = text.replace("0.0.0.0", "127.0.0.1");
        assert!(parse_control("f", loopback.as_bytes()).is_ok(), "on loopback none is needed");
    }
}

#[test]
fn two_routes_that_write_one_app_mesh_route_are_refused() {
    let second = CONTROL.split_once("  svc1:").unwrap().1;
    let text = format!("{CONTROL}  svc2:{second}");
    let errors = OF_CONTROL(text.as_bytes()).unwrap();
    assert_eq!(errors.items.len(), 1, "{errors}");
    assert!(errors.items[0].message.contains("`svc1` already writes"), "{errors}");
}

#[test]
fn routes_of_one_name_must_have_the_same_targets_and_stable() {
    let second = "          - name: svc1
            match: {prefix: /z}
            route: {weighted_clusters: {clusters: [{name: west, weight: 1}, {name: east, weight: 5}], stable: east}}
  clusters:
";
    let same = GATEWAY.replacen("  clusters:\n", second, 1);
    assert!(OF_GATEWAY(same.as_bytes()).is_none(), "the order and the weights may differ");
    for other in [
        same.replacen("stable: east}", "stable: west}", 1),
        same.replacen(", {name: east, weight: 5}]", "]", 1),
    ] {
        let errors = OF_GATEWAY(other.as_bytes()).expect("refused");
        assert!(errors.items.iter().any(|item| item.message.contains("two routes `svc1`")), "{errors}");
    }
}

#[test]
fn all_errors_of_a_file_come_at_once_in_the_order_of_their_places() {
    let text = GATEWAY
        .replace("node:", "nod:")
        .replace("300s", "300")
        .replace("weight: 99", "weight: -1")
        .replace("stable: east", "stable: north")
        .replace("cluster: east}", "cluster: moon}")
        .replace("connect_timeout", "connect_timout")
        .replace("port_value: 3000", "port_value: 300000");
    let errors = OF_GATEWAY(text.as_bytes()).unwrap();
    let lines: Vec<usize> = errors.items.iter().map(|item| item.line).collect();
    assert_eq!(lines, [1, 8, 18, 19, 23, 28, 29], "{errors}");
    let printed = errors.to_string();
    assert!(printed.contains("f.yaml:18:49"), "{printed}");
    assert!(printed.ends_with("f.yaml: 7 errors"), "{printed}");
}

#[test]
fn an_error_prints_as_file_line_column_text_caret_and_cure() {
    let text = GATEWAY.replace("300s", "300");
    let printed = OF_GATEWAY(text.as_bytes()).unwrap().to_string();
    let wanted = "\
error: a duration without a unit: `300`
 --> f.yaml:8:28
  |
8 |       stream_idle_timeout: 300
  |                            ^^^
  = at: static_resources.listeners[0].http_connection_manager.stream_idle_timeout
  = help: write `300s`

f.yaml: 1 error";
    assert_eq!(printed, wanted);
}

#[test]
fn json_is_read_too_and_its_one_long_line_is_cut_around_the_error() {
    let mut out = gateway_config::diagnostic::Collector::new("f", GATEWAY);
    let json = gateway_config::tree::read(GATEWAY, &mut out).unwrap().to_json().to_string();
    assert_eq!(
        parse_bootstrap("f", json.as_bytes()).unwrap(),
        parse_bootstrap("f", GATEWAY.as_bytes()).unwrap()
    );
    let bad = json.replace("\"weight\":99", "\"weight\":\"99\"");
    let errors = OF_GATEWAY(bad.as_bytes()).unwrap();
    let item = &errors.items[0];
    assert_eq!((errors.items.len(), item.line), (1, 1));
    assert_eq!(item.column, bad.find("\"99\"").unwrap() + 1);
    assert!(item.snippet.lines().all(|line| line.chars().count() < 125), "{errors}");
    let (source, carets) = item.snippet.split_once('\n').unwrap();
    let from = carets.find('^').unwrap();
    assert_eq!(source.chars().skip(from).take(4).collect::<String>(), "\"99\"");
}

#[test]
fn columns_count_characters_and_control_characters_do_not_reach_the_terminal() {
    let text = GATEWAY.replace("{id: a, cluster: b}", "{id: \"é\u{1b}[31m\", clstr: b}");
    let errors = OF_GATEWAY(text.as_bytes()).unwrap();
    assert!(!errors.to_string().contains('\u{1b}'));
    let text = GATEWAY.replace("{id: a, cluster: b}", "{id: éüß, clstr: b}");
    let errors = OF_GATEWAY(text.as_bytes()).unwrap();
    assert_eq!((errors.items[0].line, errors.items[0].column), (1, 17));
    assert!(errors.items[0].snippet.ends_with("\n                ^^^^^"), "{errors}");
}
