//! The command: what it asks for, what it refuses, and that it overwrites nothing unasked.

use super::{EXAMPLE, example, yaml};
use control::kit::{Flags, Names, NamesError, Properties, files};
use proptest::prelude::*;
use std::path::Path;
use std::process::Command;

fn control(folder: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_control"))
        .current_dir(folder)
        .args(["init", "ecs"])
        .args(args)
        .env_remove("CONTROL_TOKEN")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn everything_missing_is_named_at_once_with_its_flag() {
    let folder = tempfile::tempdir().unwrap();
    let (code, _, errors) = control(folder.path(), &[]);
    assert_eq!(code, 2, "{errors}");
    for flag in EXAMPLE.iter().step_by(2).filter(|flag| **flag != "--service2-image") {
        assert!(errors.contains(&format!("\n  {flag} ")), "{flag}: {errors}");
    }
    assert!(!folder.path().join("weir-ecs").exists());
}

#[test]
fn the_properties_of_the_old_pipeline_fill_in_what_flags_do_not_say() {
    let folder = tempfile::tempdir().unwrap();
    let properties = r#"{"app_name": "super-app", "env_name": "dev", "aws_region": "ap-south-1", "service1_name": "service1-v1",
        "service1_port": 3000, "service1_docker_image_path": "./Dockerfile", "service2_name": "service1-v2", "app_mesh_name": "m",
        "traffic_weight_route1": 70, "traffic_weight_route2": 30, "setLatestStableOnce": false, "setLatestStable": false}"#;
    std::fs::write(folder.path().join("app.properties.json"), properties).unwrap();
    let from = ["--from", "app.properties.json"];
    let (_, _, errors) = control(folder.path(), &from);
    for flag in ["--prefix", "--region", "--namespace", "--service1 ", "--service2 ", "--port"] {
        assert!(!errors.contains(flag), "{flag}: {errors}");
    }
    let mut args = from.to_vec();
    for pair in EXAMPLE.chunks(2) {
        if ["--account", "--vpc", "--public-subnet", "--private-subnet", "--image", "--service1-image"]
            .contains(&pair[0])
        {
            args.extend(pair);
        }
    }
    let (code, written, errors) = control(folder.path(), &args);
    assert_eq!(code, 0, "{errors}");
    assert!(written.contains("weir-ecs/copilot/service1-v2/manifest.yml"), "{written}");
    let config = yaml::read(&std::fs::read_to_string(folder.path().join("weir-ecs/control.yaml")).unwrap());
    assert_eq!(config["routes"]["svc1"]["weights"]["v2"], "30%");
    let cloud_map = &config["gateway"]["clusters"][1]["discovery"]["cloud_map"];
    assert_eq!(
        (&cloud_map["namespace_name"], &cloud_map["service_name"]),
        (&"dev.super-app.local".into(), &"service1-v2".into())
    );
}

#[test]
fn old_weights_that_are_no_percentages_are_named_and_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.properties.json");
    let names = |weights: &str, flags: Flags| {
        std::fs::write(&path, format!("{{{weights}}}")).unwrap();
        Names::new(flags, &Properties::read(&path).unwrap())
    };
    let seven_three = r#""traffic_weight_route1": 7, "traffic_weight_route2": 3"#;
    for wrong in [
        seven_three,
        r#""traffic_weight_route2": 30"#,
        r#""traffic_weight_route1": 100, "traffic_weight_route2": "x""#,
    ] {
        let complaints = names(wrong, example()).unwrap_err().complaints;
        assert!(complaints.len() == 1 && complaints[0].contains("--canary-weight"), "{complaints:?}");
    }
    assert!(names(seven_three, Flags { canary_weight: Some("30".into()), ..example() }).is_ok());
    assert!(names(r#""traffic_weight_route1": "70", "traffic_weight_route2": "30""#, example()).is_ok());
}

#[test]
fn what_is_no_properties_file_is_refused_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("half.json"), "{\"app_name\": \"a\",\n  \"env_name\": ").unwrap();
    std::fs::write(folder.path().join("list.json"), "[]").unwrap();
    for (file, words) in
        [("half.json", "half.json:2:"), ("list.json", "list.json:1:"), ("none.json", "none.json: ")]
    {
        let (code, _, errors) = control(folder.path(), &["--from", file]);
        assert!(code == 2 && errors.contains(words), "{code} {errors}");
    }
}

#[test]
fn a_changed_file_is_overwritten_only_with_force() {
    let folder = tempfile::tempdir().unwrap();
    let mut args = EXAMPLE.to_vec();
    args.extend(["-o", "kit"]);
    assert_eq!(control(folder.path(), &args).0, 0);
    let (code, written, _) = control(folder.path(), &args);
    assert_eq!((code, written.as_str()), (0, ""), "the same again changes nothing");

    let mine = folder.path().join("kit/create.sh");
    std::fs::write(&mine, "# mine\n").unwrap();
    std::fs::remove_file(folder.path().join("kit/README.md")).unwrap();
    let (code, _, errors) = control(folder.path(), &args);
    assert_eq!(code, 1, "{errors}");
    assert!(errors.contains("kit/create.sh") && errors.contains("--force"), "{errors}");
    assert_eq!(std::fs::read_to_string(&mine).unwrap(), "# mine\n");
    assert!(
        !folder.path().join("kit/README.md").exists(),
        "nothing is written when something stands in the way"
    );

    args.push("--force");
    let (code, written, errors) = control(folder.path(), &args);
    assert_eq!((code, written.as_str()), (0, "kit/README.md\nkit/create.sh\n"), "{errors}");
}

#[test]
fn every_wrong_value_is_named_at_once() {
    let flags = Flags {
        account: Some("12345".into()),
        region: Some("Europe".into()),
        vpc: Some("vpc-\"; rm".into()),
        public_subnets: vec!["subnet-0a123456".into(), "subnet-0a123456".into()],
        private_subnets: vec!["eni-1".into()],
        service1: Some("control".into()),
        port: Some("70000".into()),
        canary_weight: Some("100.5".into()),
        ..example()
    };
    let Err(NamesError { complaints }) = Names::new(flags, &Properties::default()) else { panic!("taken") };
    let flags = [
        "--account",
        "--region",
        "--vpc",
        "--public-subnet",
        "--private-subnet",
        "--service1",
        "--port",
        "--canary-weight",
    ];
    for flag in flags {
        assert!(
            complaints.iter().any(|complaint| complaint.starts_with(&format!("{flag}: "))),
            "{flag}: {complaints:?}"
        );
    }
    assert_eq!(complaints.len(), flags.len(), "{complaints:?}");
    // Names a load balancer and target groups, which take less.
    for prefix in ["internal-shop", "a-prefix-of-twenty-eight-abc", "1-app", "app-"] {
        let named = Flags { prefix: Some(prefix.into()), ..example() };
        assert!(Names::new(named, &Properties::default()).is_err(), "{prefix}");
    }
    let same = Flags { service2: Some("svc1-v1".into()), ..example() };
    assert!(Names::new(same, &Properties::default()).is_err());
}

/// Texts that end quotations, begin others, or are numbers and words to YAML.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z0-9.:/@~_-]{1,20}",
        "[a-z\"'`$\\\\{}\\[\\]#&*!|>%@, \n\t:-]{1,12}",
        Just("{{prefix}}".to_owned()),
        Just("${AWS::AccountId}".to_owned()),
        Just("$(id)".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever is taken stands in the files as it was given, and the files are what they were: same keys, same lists.
    #[test]
    fn no_value_breaks_out_of_its_place(field in 0_usize..12, value in hostile()) {
        let mut flags = example();
        let slot = [
            &mut flags.account, &mut flags.region, &mut flags.prefix, &mut flags.vpc, &mut flags.namespace,
            &mut flags.service1, &mut flags.image, &mut flags.service1_image, &mut flags.route, &mut flags.cluster,
            &mut flags.certificate, &mut flags.health_path,
        ];
        *slot.into_iter().nth(field).unwrap() = Some(value.clone());
        let Ok(names) = Names::new(flags, &Properties::default()) else { return Ok(()) };
        let kit = files(&names).unwrap();
        let usual = super::kit(example());
        prop_assert!(kit.iter().any(|file| file.text.contains(&value)));
        let shape = |kit: &[control::kit::File]| {
            let template = yaml::read(super::file(kit, "weir.yaml"));
            let keys = |part: &str| template[part].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
            (keys("Parameters"), keys("Conditions"), keys("Resources"), keys("Outputs"))
        };
        prop_assert_eq!(shape(&kit), shape(&usual));
        for file in kit.iter().filter(|file| file.path.ends_with(".json")) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&file.text).is_ok());
        }
        let control = super::file(&kit, "control.yaml");
        prop_assert!(gateway_config::control_config::parse_control("control.yaml", control.as_bytes()).is_ok());
    }
}
