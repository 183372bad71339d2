//! From the frozen set-up's files to traffic.

use crate::world::World;
use std::path::Path;
use testkit::account::kit_task;
use testkit::account::network::inside;

/// The import tests' fixtures: shaped like the files that such a team has.
fn fixture(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../control/tests/fixtures/import");
    folder.join(name).display().to_string()
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn what_is_left_of_app_mesh_becomes_a_configuration_that_serves_traffic_by_its_weights() {
    inside(
        "migration::what_is_left_of_app_mesh_becomes_a_configuration_that_serves_traffic_by_its_weights",
        async || {
            let mut world = World::prepare().await;
            let files = [fixture("mesh-and-nodes.yml"), fixture("route.yml"), fixture("app.properties.json")];
            let words: Vec<&str> = ["import"].into_iter().chain(files.iter().map(String::as_str)).collect();
            let imported = world.control_command(&words).await;
            println!("{}", String::from_utf8_lossy(&imported.stderr));
            assert!(imported.status.success(), "{imported:?}");
            let config = String::from_utf8(imported.stdout).unwrap();
            let control = kit_task("control").unwrap().with("CONTROL_CONFIG", &config);
            // The names that the old virtual nodes had.
            let versions = std::mem::take(&mut world.versions);
            for (task, service) in versions.iter().zip(["service1-v1", "service1-v2"]) {
                world.account.register("dev.shop.local", service, task);
            }
            world.start_control(&control, "10.77.3.1").await;
            for address in ["10.77.1.1", "10.77.1.2"] {
                world.start_gateway(&kit_task("gateway").unwrap(), address).await;
            }
            let customers = world.customers().await;
            let v1 = world.answers(200).await.iter().filter(|name| *name == "v1").count();
            assert!((185..=200).contains(&v1), "99 of 100 requests go to v1: {v1} of 200\n{}", world.tails());
            let node2 = "cds_egress_the-shop_the-shop-virtual-node-2_http_3000=50";
            let changed = world.control_command(&["set-weight", "the-shop-route", node2]).await;
            assert!(changed.status.success(), "{changed:?}");
            let v2 = world.answers(200).await.iter().filter(|name| *name == "v2").count();
            assert!((60..140).contains(&v2), "half of 200 are about 100: {v2}");
            customers.leave().await;
        },
    )
    .unwrap();
}

#[test]
#[ignore = "needs moto, root and network namespaces"]
fn half_an_import_file_is_refused_with_its_place_and_nothing_is_written() {
    inside("migration::half_an_import_file_is_refused_with_its_place_and_nothing_is_written", async || {
        let mut world = World::prepare().await;
        let whole = std::fs::read_to_string(fixture("terraform.json")).unwrap();
        let half = tempfile::NamedTempFile::with_suffix(".json").unwrap();
        std::fs::write(half.path(), &whole[..whole.len() / 2]).unwrap();
        let path = half.path().display().to_string();
        let out = half.path().with_extension("yaml");
        let words = ["import", &path, "-o", &out.display().to_string()];
        let refused = world.control_command(&words).await;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        println!("{said}");
        assert_eq!(refused.status.code(), Some(1));
        assert!(said.contains(&path), "{said}");
        assert!(!out.exists(), "nothing was written");
    })
    .unwrap();
}
