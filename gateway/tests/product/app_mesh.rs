//! What the variables of App Mesh's image still mean.

use super::world::{Spec, upstream};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_app_meshs_variables_an_access_log_without_a_filter_has_errors_and_canary_only() {
    let folder = tempfile::tempdir().unwrap();
    let (stable, canary) = (upstream("v1"), upstream("v2"));
    let variable = ("APPMESH_VIRTUAL_NODE_NAME".to_owned(), "mesh/m/virtualGateway/g".to_owned());
    for (name, variables, all) in [("mesh", vec![variable], false), ("plain", Vec::new(), true)] {
        let gateway = Spec::new(folder.path(), name, &[("v1", 50), ("v2", 50)])
            .fixed("v1", &[stable.addr()])
            .fixed("v2", &[canary.addr()])
            .envs(&variables)
            .live()
            .await;
        let mut by_canary = 0;
        for _ in 0..40 {
            by_canary += usize::from(gateway.ask().await.header("x-served-by") == Some("v2"));
        }
        assert!((1..40).contains(&by_canary), "{by_canary} of 40");
        gateway.process.terminate().unwrap();
        gateway.process.exit().await.unwrap();
        let lines = gateway.log_lines(by_canary).await;
        assert_eq!(lines.len(), if all { 40 } else { by_canary }, "{name}");
    }
}
