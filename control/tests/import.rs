//! `control import` on files shaped like those that people have: what comes out, what is said, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    missing_docs
)]

use control::import::{FileKind, Imported, Input, NoteKind, Options, import};
use gateway_config::control_config::{ControlConfig, parse_control};
use gateway_config::model::{Discovery, PathMatch, RouteTarget};
use std::path::PathBuf;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import")
}

fn file(name: &str) -> Input {
    Input { name: name.to_owned(), text: std::fs::read(folder().join(name)).unwrap() }
}

fn text(name: &str, text: &str) -> Input {
    Input { name: name.to_owned(), text: text.as_bytes().to_vec() }
}

fn files(names: &[&str]) -> Imported {
    let inputs: Vec<Input> = names.iter().map(|name| file(name)).collect();
    import(&inputs, &Options::default())
}

fn said(imported: &Imported) -> String {
    imported.notes.iter().map(|note| format!("{note}\n")).collect()
}

fn config(imported: &Imported) -> ControlConfig {
    let text = imported.config.as_ref().unwrap_or_else(|| panic!("{}", said(imported)));
    parse_control("imported", text.as_bytes()).unwrap()
}

/// Fails with everything that was said unless each of these is part of one error.
fn refused(imported: &Imported, parts: &[&str]) {
    assert_eq!(imported.config, None, "{}", said(imported));
    let errors: Vec<String> = imported
        .notes
        .iter()
        .filter(|note| matches!(note.kind, NoteKind::Error | NoteKind::Wrong))
        .map(ToString::to_string)
        .collect();
    for part in parts {
        assert!(
            errors.iter().any(|error| error.contains(part)),
            "no error with `{part}`:\n{}",
            said(imported)
        );
    }
}

/// The seed's shapes: two add-ons and the pipeline's properties.
const SEED: [&str; 3] = ["mesh-and-nodes.yml", "route.yml", "app.properties.json"];

const SETS: [(&str, &[&str]); 4] = [
    ("seed", &SEED),
    ("describe", &["describe.json"]),
    ("terraform", &["terraform.json"]),
    ("config_dump", &["config_dump.json"]),
];

#[test]
fn every_fixture_imports_as_written_down_and_validates() {
    for (name, inputs) in SETS {
        let imported = files(inputs);
        config(&imported);
        for (suffix, now) in [("yaml", imported.config.clone().unwrap()), ("notes.txt", said(&imported))] {
            let path = folder().join("golden").join(format!("{name}.{suffix}"));
            if std::env::var_os("UPDATE").is_some() {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(&path, &now).unwrap();
            }
            let before = std::fs::read_to_string(&path).unwrap_or_default();
            assert_eq!(now, before, "{}: UPDATE=1 writes it anew", path.display());
        }
    }
}

#[test]
fn the_seeds_files_become_what_app_mesh_served_from_them() {
    let imported = files(&SEED);
    let config = config(&imported);
    let route = &config.routes["the-shop-route"];
    let (one, two) = (
        "cds_egress_the-shop_the-shop-virtual-node-1_http_3000".to_owned(),
        "cds_egress_the-shop_the-shop-virtual-node-2_http_3000".to_owned(),
    );
    assert_eq!(route.targets, [one.clone(), two.clone()]);
    assert_eq!(route.stable, one);
    assert_eq!(
        route.weights,
        Some([(one, 9_900), (two, 100)].into()),
        "the pipeline's 99 and 1 are newer than the template"
    );
    let gateway = config.gateway.unwrap();
    assert_eq!(gateway.listeners[0].address.to_string(), "0.0.0.0:9080", "not the router's 8080");
    let manager = &gateway.listeners[0].http_connection_manager;
    assert_eq!(manager.stat_prefix, "ingress");
    assert_eq!(manager.access_log, None);
    let served = &manager.route_config.virtual_hosts[0].routes[0];
    assert_eq!(served.matches.path, PathMatch::Prefix("/".to_owned()));
    assert_eq!(served.action.host_rewrite_literal.as_deref(), Some("service1-v1.dev-shop.local"));
    assert_eq!(served.action.timeout.as_secs(), 15);
    let retry = served.action.retry_policy.as_ref().unwrap();
    assert_eq!((retry.num_retries, retry.retriable_status_codes.as_slice()), (2, &[503][..]));
    for (cluster, version) in gateway.clusters.iter().zip(["v1", "v2"]) {
        let Discovery::Dns(dns) = &cluster.discovery else { panic!("{cluster:?}") };
        assert_eq!(
            (dns.hostname.as_str(), dns.port),
            (format!("service1-{version}.dev.shop.local").as_str(), 3000)
        );
        assert_eq!(cluster.circuit_breakers.max_requests, 2_147_483_647);
    }
}

#[test]
fn weights_of_properties_go_by_name_when_the_names_are_crossed() {
    let mut inputs: Vec<Input> = SEED.iter().map(|name| file(name)).collect();
    let crossed = String::from_utf8(inputs[2].text.clone()).unwrap();
    let crossed = crossed
        .replace("service1-v1", "x")
        .replace("service1-v2", "service1-v1")
        .replace("\"x\"", "\"service1-v2\"");
    inputs[2].text = crossed.into_bytes();
    let options = Options { parameters: vec![("Name".to_owned(), "any".to_owned())], ..Options::default() };
    let config = config(&import(&inputs, &options));
    let weights = config.routes["the-shop-route"].weights.clone().unwrap();
    assert_eq!(weights.values().copied().collect::<Vec<_>>(), [100, 9_900]);
}

#[test]
fn what_the_files_do_not_say_is_named_and_given_by_a_parameter() {
    let inputs = [file("mesh-and-nodes.yml"), file("route.yml")];
    let imported = import(&inputs, &Options::default());
    refused(
        &imported,
        &[
            "mesh-and-nodes.yml:37: NodeOne.Spec.ServiceDiscovery.DNS.Hostname: the parameter Env has no default and was not given: add `--parameter Env=VALUE`; the parameter App has no default",
            "Service.VirtualServiceName",
        ],
    );
    let given = ["App=shop", "Env=dev"].map(|pair| pair.split_once('=').unwrap());
    let options = Options {
        parameters: given.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        ..Options::default()
    };
    let config = config(&import(&inputs, &options));
    assert_eq!(
        config.routes["the-shop-route"].weights.as_ref().unwrap().values().copied().collect::<Vec<_>>(),
        [7_000, 3_000]
    );
}

/// A mesh in one template; the pieces of a test replace parts of it.
const SMALL: &str = r"
Resources:
  G:
    Type: AWS::AppMesh::VirtualGateway
    Properties: {MeshName: m, VirtualGatewayName: g, Spec: {Listeners: [{PortMapping: {Port: 9080, Protocol: http}}]}}
  GR:
    Type: AWS::AppMesh::GatewayRoute
    Properties:
      MeshName: m
      VirtualGatewayName: g
      GatewayRouteName: gr
      Spec: {HttpRoute: {Match: {Prefix: /p}, Action: {Target: {VirtualService: {VirtualServiceName: s.local}}}}}
  S:
    Type: AWS::AppMesh::VirtualService
    Properties: {MeshName: m, VirtualServiceName: s.local, Spec: {Provider: {VirtualRouter: {VirtualRouterName: r}}}}
  R:
    Type: AWS::AppMesh::Route
    Properties:
      MeshName: m
      VirtualRouterName: r
      RouteName: all
      Spec:
        HttpRoute:
          Match: {Prefix: /}
          Action: {WeightedTargets: [{VirtualNode: n, Weight: 1}]}
  N:
    Type: AWS::AppMesh::VirtualNode
    Properties:
      MeshName: m
      VirtualNodeName: n
      Spec: {Listeners: [{PortMapping: {Port: 3000, Protocol: http}}], ServiceDiscovery: {DNS: {Hostname: n.local}}}
";

fn small(changes: &[(&str, &str)], more: &str) -> Imported {
    let mut template = SMALL.to_owned();
    for (from, to) in changes {
        assert!(template.contains(from), "{from}");
        template = template.replace(from, to);
    }
    import(&[text("t.yml", &(template + more))], &Options::default())
}

#[test]
fn a_prefix_is_two_routes_as_in_app_meshs_envoy() {
    let config = config(&small(&[], ""));
    let gateway = config.gateway.unwrap();
    let routes = &gateway.listeners[0].http_connection_manager.route_config.virtual_hosts[0].routes;
    let seen: Vec<_> = routes
        .iter()
        .map(|route| (route.matches.path.clone(), route.action.prefix_rewrite.clone().unwrap()))
        .collect();
    let prefix = |text: &str| PathMatch::Prefix(text.to_owned());
    assert_eq!(seen, [(prefix("/p/"), "/".to_owned()), (prefix("/p"), "/".to_owned())]);
}

#[test]
fn functions_are_resolved_and_those_that_are_not_known_are_named_with_their_place() {
    let node = "Hostname: n.local";
    for (function, hostname) in [
        ("!Join ['.', [n, local]]", "n.local"),
        ("!Select [1, !Split [',', 'a.local,b.local']]", "b.local"),
        ("!If [Big, big.local, small.local]", "small.local"),
        ("!FindInMap [Hosts, dev, name]", "mapped.local"),
        ("!Sub ['${a}.local', {a: !Ref Stage}]", "dev.local"),
        ("{'Fn::Sub': '${Stage}.${G.VirtualGatewayName}.local'}", "dev.g.local"),
        ("!ImportValue shared-host", "exported.local"),
    ] {
        let more = "Parameters: {Stage: {Type: String, Default: dev}}\nMappings: {Hosts: {dev: {name: mapped.local}}}\n\
                    Conditions: {Big: !Not [!Equals [!Ref Stage, dev]]}\n\
                    Outputs: {O: {Value: exported.local, Export: {Name: shared-host}}}\n";
        let config = config(&small(&[(node, &format!("Hostname: {function}"))], more));
        let cluster = config.gateway.unwrap().clusters.remove(0);
        let Discovery::Dns(dns) = cluster.discovery else { panic!("{function}") };
        assert_eq!(dns.hostname, hostname, "{function}");
    }
    for (function, why) in [
        ("!GetAZs ''", "the function Fn::GetAZs is not known here"),
        ("!Transform {Name: x}", "the function Fn::Transform is not known here"),
        ("!GetAtt Zone.Name", "no resource Zone in these files"),
        (
            "!GetAtt N.Arn",
            "the attribute Arn of N (AWS::AppMesh::VirtualNode) is known to CloudFormation only",
        ),
        ("!Ref Nobody", "Nobody is neither a parameter nor a resource of these files"),
        ("!ImportValue elsewhere", "no file exports it"),
        ("!FindInMap [a, b, c]", "the Mappings do not have it"),
        ("!If [Unknown, a, b]", "no condition Unknown"),
    ] {
        let imported = small(&[(node, &format!("Hostname: {function}"))], "");
        refused(&imported, &[why, "t.yml:31: N.Spec.ServiceDiscovery.DNS.Hostname"]);
    }
}

#[test]
fn an_unknown_function_where_nothing_depends_on_it_is_left_out_and_named() {
    let imported = small(
        &[(
            "ServiceDiscovery:",
            "Backends: [{VirtualService: {VirtualServiceName: !Custom x}}], ServiceDiscovery:",
        )],
        "",
    );
    config(&imported);
    let line = said(&imported);
    assert!(line.contains("left out: t.yml:31: N.Spec.Backends[0].VirtualService.VirtualServiceName: the function Fn::Custom"), "{line}");
}

#[test]
fn names_that_cloudformation_made_are_asked_for() {
    let imported = small(
        &[("      VirtualNodeName: n\n", ""), ("VirtualNode: n", "VirtualNode: !GetAtt N.VirtualNodeName")],
        "",
    );
    refused(&imported, &["--parameter N.VirtualNodeName=VALUE"]);
    let template = SMALL
        .replace("      VirtualNodeName: n\n", "")
        .replace("VirtualNode: n,", "VirtualNode: !GetAtt N.VirtualNodeName,");
    let options = Options {
        parameters: vec![("N.VirtualNodeName".to_owned(), "made".to_owned())],
        ..Options::default()
    };
    let config = config(&import(&[text("t.yml", &template)], &options));
    assert_eq!(config.routes["all"].targets, ["cds_egress_m_made_http_3000"]);
}

#[test]
fn half_a_file_is_one_error_with_its_place_and_nothing_else() {
    for name in
        ["mesh-and-nodes.yml", "describe.json", "terraform.json", "config_dump.json", "app.properties.json"]
    {
        let whole = file(name);
        // Cut inside of a bracket, so that what is left is not a smaller whole.
        let cut = whole.text.iter().rposition(|byte| *byte == b'{').unwrap() + 1;
        let half = Input { text: whole.text[..cut].to_vec(), ..whole };
        let imported = import(&[half], &Options::default());
        let errors: Vec<_> = imported.notes.iter().filter(|note| note.kind == NoteKind::Error).collect();
        assert_eq!((errors.len(), imported.notes.len()), (1, 1), "{}", said(&imported));
        assert_eq!(errors[0].place.file, name);
        assert!(
            errors[0].place.line > 0 && errors[0].text.contains("is the file whole?"),
            "{}",
            said(&imported)
        );
        assert_eq!(imported.config, None);
    }
}

#[test]
fn what_would_send_requests_elsewhere_is_an_error_unless_a_partial_import_is_asked_for() {
    let second = "  R2:\n    Type: AWS::AppMesh::Route\n    Properties:\n      MeshName: m\n      VirtualRouterName: r\n      RouteName: special\n      Spec: {Priority: 1, HttpRoute: {Match: MATCH, Action: {WeightedTargets: [{VirtualNode: n, Weight: 1}]}}}\n";
    for (condition, words) in [
        ("{Path: {Regex: '^/v[0-9]'}}", "path by the regular expression ^/v[0-9]"),
        ("{Prefix: /, Method: GET}", "method GET"),
        ("{Prefix: /, QueryParameters: [{Name: debug, Match: {Exact: '1'}}]}", "query parameter `debug`"),
        ("{Prefix: /, Headers: [{Name: x, Match: {Regex: a+}}]}", "header `x` by the regular expression a+"),
    ] {
        let imported = small(&[], &second.replace("MATCH", condition));
        refused(&imported, &[words, "its requests would go to `all`"]);
        let options = Options { allow_partial: true, ..Options::default() };
        let template = SMALL.to_owned() + &second.replace("MATCH", condition);
        let partial = import(&[text("t.yml", &template)], &options);
        assert_eq!(config(&partial).routes.len(), 1);
        assert!(said(&partial).contains(words));
    }
    // Where nobody else would take the requests, nobody would answer them.
    let alone = small(
        &[("Match: {Prefix: /}", "Match: {Prefix: /only}")],
        &second.replace("MATCH", "{Prefix: /z, Method: GET}"),
    );
    refused(
        &alone,
        &["t.yml:33: R2: method GET: Weir cannot match that, and its requests would be answered 404"],
    );
    let pseudo = "{Prefix: /, Headers: [{Name: ':authority', Match: {Exact: a}}]}";
    refused(&small(&[], &second.replace("MATCH", pseudo)), &["pseudo-header `:authority`"]);
}

#[test]
fn a_gateway_of_which_nothing_is_left_says_so_and_one_empty_listener_is_left_out() {
    let listener = "Listeners: [{PortMapping: {Port: 9080, Protocol: http}}";
    let two = format!("{listener}, {{PortMapping: {{Port: 8080, Protocol: http}}}}");
    let by_port =
        ("Spec: {HttpRoute: {Match: {Prefix: /p}", "Spec: {HttpRoute: {Match: {Prefix: /p, Port: 8080}");
    let imported = small(&[(listener, &two), by_port], "");
    let listeners = config(&imported).gateway.unwrap().listeners;
    assert_eq!(listeners.iter().map(|listener| listener.address.port()).collect::<Vec<_>>(), [8080]);
    assert!(said(&imported).contains("the listener on 9080: no route is left for it"), "{}", said(&imported));
    let template = SMALL.replace("Match: {Prefix: /p}", "Match: {Prefix: /p, Method: GET}");
    let options = Options { allow_partial: true, ..Options::default() };
    refused(&import(&[text("t.yml", &template)], &options), &["no route is left that Weir can serve"]);
}

#[test]
fn names_that_weir_does_not_take_are_changed_and_stay_apart() {
    let more = "  N2:\n    Type: AWS::AppMesh::VirtualNode\n    Properties:\n      MeshName: m\n      VirtualNodeName: 'n-1'\n      Spec: {Listeners: [{PortMapping: {Port: 3000, Protocol: http}}], ServiceDiscovery: {DNS: {Hostname: n2.local}}}\n";
    let imported = small(
        &[
            ("RouteName: all", "RouteName: 'all of it'"),
            ("VirtualNodeName: n\n", "VirtualNodeName: 'n#1'\n"),
            (
                "{VirtualNode: n, Weight: 1}",
                "{VirtualNode: 'n#1', Weight: 3}, {VirtualNode: 'n-1', Weight: 1}",
            ),
        ],
        more,
    );
    let config = config(&imported);
    let weights = config.routes["all-of-it"].weights.clone().unwrap();
    assert_eq!(
        weights.into_iter().collect::<Vec<_>>(),
        [
            ("cds_egress_m_n-1_http_3000".to_owned(), 7_500),
            ("cds_egress_m_n-1_http_3000-2".to_owned(), 2_500)
        ]
    );
    for words in
        ["route `all of it`: it is called `all-of-it` here", "cluster `cds_egress_m_n#1_http_3000`: it"]
    {
        assert!(said(&imported).contains(words), "{}", said(&imported));
    }
}

/// Terraform's state has 0 where no port and no priority was given.
#[test]
fn a_zero_of_terraforms_state_is_no_port_and_no_priority() {
    let nulls = String::from_utf8(file("terraform.json").text).unwrap();
    let zeros =
        nulls.replace("\"port\": null", "\"port\": 0").replace("\"priority\": null", "\"priority\": 0");
    assert_ne!(nulls, zeros);
    let given = |text: &str| config(&import(&[self::text("terraform.json", text)], &Options::default()));
    assert_eq!(given(&nulls), given(&zeros));
    // A second route with a priority of its own comes before the one without.
    let route = |name: &str, priority: u32, prefix: &str| {
        format!(
            r#"{{"address": "{name}", "mode": "managed", "type": "aws_appmesh_route", "values": {{"name": "{name}", "mesh_name": "books", "virtual_router_name": "shop", "spec": [{{"priority": {priority}, "http_route": [{{"match": [{{"prefix": "{prefix}", "port": 0}}], "action": [{{"weighted_target": [{{"virtual_node": "shop-v1", "weight": 1, "port": 0}}]}}], "retry_policy": [], "timeout": []}}]}}]}}}},"#
        )
    };
    let mark = "{\"address\": \"module.shop.aws_appmesh_virtual_router.this\"";
    let second = zeros.replace(mark, &format!("{}{mark}", route("first", 5, "/")));
    let config = given(&second);
    let gateway = config.gateway.unwrap();
    let routes = &gateway.listeners[0].http_connection_manager.route_config.virtual_hosts[0].routes;
    assert_eq!(routes[0].name, "first");
}

#[test]
fn a_404_of_app_mesh_does_not_become_somebody_elses_answer() {
    let more = "  GR2:\n    Type: AWS::AppMesh::GatewayRoute\n    Properties:\n      MeshName: m\n      VirtualGatewayName: g\n      GatewayRouteName: rest\n      Spec: {HttpRoute: {Match: {Prefix: /}, Action: {Target: {VirtualService: {VirtualServiceName: other.local}}}}}\n  S2:\n    Type: AWS::AppMesh::VirtualService\n    Properties: {MeshName: m, VirtualServiceName: other.local, Spec: {Provider: {VirtualNode: {VirtualNodeName: n}}}}\n";
    config(&small(&[], more));
    let imported = small(&[("Match: {Prefix: /}", "Match: {Prefix: /q}")], more);
    refused(
        &imported,
        &["requests that no route of `s.local` matches were answered 404 and would go to `n`"],
    );
}

#[test]
fn doubtful_meshes_are_refused_with_the_place_and_a_cure() {
    let gateway = "  G2:\n    Type: AWS::AppMesh::VirtualGateway\n    Properties: {MeshName: m, VirtualGatewayName: h, Spec: {Listeners: [{PortMapping: {Port: 9081, Protocol: http}}]}}\n";
    refused(
        &small(&[], gateway),
        &["2 virtual gateways: `g` (t.yml:4: G), `h` (t.yml:", "choose with --gateway NAME"],
    );
    let chosen = Options { gateway: Some("g".to_owned()), ..Options::default() };
    let one = import(&[text("t.yml", &(SMALL.to_owned() + gateway))], &chosen);
    config(&one);
    assert!(said(&one).contains("virtual gateway `h`: another one was asked for"), "{}", said(&one));
    for (from, to, part) in [
        ("VirtualNode: n,", "VirtualNode: gone,", "the virtual node `gone`, which is in none of the files"),
        (
            "VirtualServiceName: s.local}}}}}",
            "VirtualServiceName: t.local}}}}}",
            "the virtual service `t.local`, which is in none",
        ),
        ("VirtualRouterName: r}", "VirtualRouterName: q}", "has no provider with a route"),
        ("Weight: 1", "Weight: 0", "no target has a weight above 0"),
        ("Weight: 1", "Weight: many", "expected a whole number"),
        ("Port: 3000", "Port: 70000", "70000 is no port"),
        ("Port: 3000, Protocol: http", "Port: 3000, Protocol: grpc", "it speaks grpc on port 3000"),
        (", ServiceDiscovery: {DNS: {Hostname: n.local}}", "", "it has no service discovery"),
        ("AWS::AppMesh::VirtualGateway", "AWS::AppMesh::Future", "is no type of App Mesh that is known here"),
        ("HttpRoute: {Match: {Prefix: /p}", "TcpRoute: {Match: {Prefix: /p}", "no gateway route"),
    ] {
        let imported = small(&[(from, to)], "");
        if part == "no gateway route" {
            assert!(said(&imported).contains("tcpRoute"), "{}", said(&imported));
            continue;
        }
        refused(&imported, &[part]);
    }
}

#[test]
fn one_logical_id_with_two_contents_is_an_error_and_the_same_twice_is_not() {
    let other = SMALL.replace("n.local", "other.local");
    refused(
        &import(&[text("a.yml", SMALL), text("b.yml", &other)], &Options::default()),
        &["b.yml:27: N: a second resource N; the first is in a.yml:27"],
    );
    config(&import(&[text("a.yml", SMALL), text("b.yml", SMALL)], &Options::default()));
    let described = r#"{"virtualNode": {"meshName": "m", "virtualNodeName": "n", "spec": {"listeners": [{"portMapping": {"port": 3000, "protocol": "http"}}], "serviceDiscovery": {"dns": {"hostname": "HOST"}}}}}"#;
    let both = |host: &str| {
        import(&[text("a.yml", SMALL), text("n.json", &described.replace("HOST", host))], &Options::default())
    };
    config(&both("n.local"));
    refused(&both("other.local"), &["another virtual node `m/n`"]);
}

#[test]
fn a_condition_leaves_a_resource_out() {
    let more = "Conditions: {Never: !Equals [a, b], Asked: !Equals [!Ref Stage, x]}\nParameters: {Stage: {Type: String}}\n";
    let doubled = "  G2:\n    Type: AWS::AppMesh::VirtualGateway\n    Condition: Never\n    Properties: {MeshName: m, VirtualGatewayName: h}\n";
    let imported = small(&[], &(doubled.to_owned() + more));
    config(&imported);
    assert!(said(&imported).contains("its condition Never does not hold"));
    refused(
        &small(&[], &(doubled.replace("Never", "Asked") + more)),
        &["whether it exists depends on Asked: the parameter Stage has no default"],
    );
}

#[test]
fn a_file_is_known_by_its_content_and_a_wrong_kind_is_refused() {
    refused(
        &import(&[text("x.json", "{\"a\": 1}")], &Options::default()),
        &["x.json: this is neither a template"],
    );
    refused(&import(&[text("x.yml", "a: 1")], &Options::default()), &["x.yml: this is neither a template"]);
    refused(&import(&[text("x", "\u{feff}  \n")], &Options::default()), &["the file is empty"]);
    refused(
        &import(&[Input { name: "x".to_owned(), text: vec![0xff, 0xfe] }], &Options::default()),
        &["not UTF-8"],
    );
    let wrong = Options { kind: FileKind::ConfigDump, ..Options::default() };
    refused(&import(&[file("describe.json")], &wrong), &["this is not what --kind config-dump says"]);
    refused(&files(&["app.properties.json"]), &["no virtual gateway: add the file that has it"]);
    let list = r#"{"routes": [{"meshName": "m", "routeName": "r", "virtualRouterName": "v", "arn": "x", "version": 1}]}"#;
    refused(&import(&[text("l.json", list)], &Options::default()), &["aws appmesh describe-"]);
}

#[test]
fn a_template_in_json_says_the_same_as_in_yaml() {
    let json = r#"{"Resources": {"N": {"Type": "AWS::AppMesh::VirtualNode", "Properties": {"MeshName": "m", "VirtualNodeName": "n",
        "Spec": {"Listeners": [{"PortMapping": {"Port": 3000, "Protocol": "http"}}], "ServiceDiscovery": {"DNS": {"Hostname": {"Fn::Join": [".", ["n", {"Ref": "Zone"}]]}}}}}}},
        "Parameters": {"Zone": {"Type": "String", "Default": "local"}}}"#;
    let without = SMALL.split("  N:\n").next().unwrap().to_owned();
    let both = import(&[text("t.yml", &without), text("n.json", json)], &Options::default());
    let whole = import(&[text("t.yml", SMALL)], &Options::default());
    let body = |imported: &Imported| {
        imported.config.clone().unwrap().lines().skip(2).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(body(&both), body(&whole));
}

#[test]
fn an_inverted_header_is_imported_as_it_is() {
    let header = |text: &str| ("Match: {Prefix: /}", format!("Match: {{Prefix: /, Headers: [{text}]}}"));
    for (given, wanted) in [
        (
            "{Name: x-a, Invert: true, Match: {Exact: b}}",
            "headers: [{name: x-a, string_match: {exact: b}, invert_match: true}]",
        ),
        ("{Name: x-a, Invert: true}", "headers: [{name: x-a, present_match: false}]"),
        ("{Name: x-a, Match: {Suffix: z}}", "headers: [{name: x-a, string_match: {suffix: z}}]"),
        ("{Name: x-a}", "headers: [{name: x-a, present_match: true}]"),
    ] {
        let (from, to) = header(given);
        let imported = small(&[(from, &to)], "");
        config(&imported);
        assert!(imported.config.as_ref().unwrap().contains(wanted), "{}", imported.config.unwrap());
    }
}

#[test]
fn the_dump_of_another_envoy_is_refused() {
    let dump = String::from_utf8(file("config_dump.json").text).unwrap();
    let of = |id: &str| text("d.json", &dump.replace("mesh/old_mesh/virtualGateway/front", id));
    refused(
        &import(&[of("mesh/old_mesh/virtualNode/cart")], &Options::default()),
        &["take the dump of the virtual gateway's task"],
    );
    refused(&import(&[of("edge-1")], &Options::default()), &["not the dump of an App Mesh gateway"]);
}

#[test]
fn routes_with_one_weight_each_are_under_control_too() {
    let config = config(&files(&["describe.json"]));
    let gateway = config.gateway.unwrap();
    let hosts = &gateway.listeners[0].http_connection_manager.route_config.virtual_hosts;
    assert_eq!(hosts[0].domains, ["www.bank.test", "www.bank.test:*"]);
    assert_eq!(hosts[0].routes.len(), 1, "what can never be reached is not written");
    let RouteTarget::Weighted(site) = &hosts[0].routes[0].action.target else { panic!() };
    assert_eq!(site.stable.as_deref(), Some("cds_egress_bank_site_http_80"));
    assert_eq!(hosts[0].routes[0].action.host_rewrite_literal, None, "its rewrite is disabled");
    let thirds = config.routes["api"].weights.as_ref().unwrap();
    assert_eq!(thirds.values().copied().collect::<Vec<_>>(), [6_667, 3_333], "weights are relative");
}

#[test]
fn names_made_of_names_end() {
    // Each level asks twice for the next: thirty levels are a thousand million questions.
    let level = |n: usize| {
        format!(
            "  L{n}:\n    Type: AWS::AppMesh::Mesh\n    Properties: {{MeshName: !Sub '${{L{m}.MeshName}}${{L{m}.MeshName}}'}}\n",
            m = n + 1
        )
    };
    let levels: String = (0..30).map(level).collect();
    let imported = small(&[("Hostname: n.local", "Hostname: !GetAtt L0.MeshName")], &levels);
    assert_eq!(imported.config, None);
    let turn = "  L0:\n    Type: AWS::AppMesh::Mesh\n    Properties: {MeshName: !GetAtt L0.MeshName}\n";
    refused(&small(&[], turn), &["a reference that leads back to itself"]);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_file_never_crashes_and_never_becomes_an_invalid_configuration(
        which in 0..5_usize, cut in 0.0..1.0_f64, changes in proptest::collection::vec((0.0..1.0_f64, proptest::prelude::any::<u8>()), 0..4), whole in proptest::bool::weighted(0.7)
    ) {
        let name = ["mesh-and-nodes.yml", "describe.json", "terraform.json", "config_dump.json", "route.yml"][which];
        let mut input = file(name);
        for (at, byte) in changes {
            let at = (at * input.text.len() as f64) as usize;
            input.text[at] = byte;
        }
        if !whole {
            input.text.truncate((cut * input.text.len() as f64) as usize);
        }
        let options = Options {
            parameters: vec![("App".to_owned(), "a".to_owned()), ("Env".to_owned(), "e".to_owned())],
            allow_partial: true,
            ..Options::default()
        };
        let both = [input, file("route.yml")];
        let inputs = if which == 0 { &both[..] } else { &both[..1] };
        let imported = import(inputs, &options);
        match imported.config {
            Some(text) => { parse_control("damaged", text.as_bytes()).unwrap(); }
            None => proptest::prop_assert!(imported.notes.iter().any(|note| note.kind == NoteKind::Error)),
        }
    }
}
