//! A changed file: taken whole, or refused with what ran going on.

use testkit::client;

use super::world::{Control, Spec, until, upstream, write_whole};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_file_keeps_what_ran_and_a_good_one_later_works_on_the_same_endpoints() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (upstream("v1"), upstream("v2"));
    let mut spec = Spec::new(folder.path(), "gateway", &[("v1", 100), ("v2", 0)])
        .fixed("v1", &[one.addr()])
        .fixed("v2", &[two.addr()]);
    spec.concurrency = 1;
    let gateway = spec.live().await;
    for _ in 0..5 {
        assert_eq!(gateway.ask().await.header("x-v"), Some("v1"));
    }
    assert_eq!(one.seen().connections, 1, "one worker, one kept connection");

    let broken = spec.yaml().replace("weight: 100", "wieght: 100").replace("prefix: /", "prefix: 7");
    write_whole(&spec.file(), &broken);
    until("the refusal is counted", || async {
        (gateway.stat("gateway.config_reload_rejected").await == 1).then_some(())
    })
    .await;
    let said = gateway.process.line("did you mean `weight`").await.unwrap();
    let lines = gateway.process.stderr();
    assert!(lines.contains("configuration refused, the one before goes on"), "{lines}");
    assert!(lines.contains(&format!("{}:", spec.file().display())), "file, line and column: {lines}");
    assert!(lines.contains("prefix"), "all errors at once: {said}\n{lines}");
    assert_eq!(gateway.ask().await.header("x-v"), Some("v1"));
    let refused = || async {
        let dump = client::get(gateway.admin, "/config_dump").await.unwrap().json().unwrap();
        dump["configs"][0]["error_state"]["details"].as_str().unwrap_or_default().to_owned()
    };
    assert!(refused().await.contains("did you mean `weight`"), "admin shows why: {}", refused().await);

    let mut good = spec.clone();
    good.targets = vec![("v1".to_owned(), 1), ("v2".to_owned(), 1)];
    good.write();
    gateway.until_weights(&[1, 1]).await;
    assert_eq!(gateway.stat("gateway.config_reload_success").await, 1);
    assert_eq!(refused().await, "");
    until("both answer", || async { (gateway.ask().await.header("x-v") == Some("v2")).then_some(()) }).await;
    until("both answer", || async { (gateway.ask().await.header("x-v") == Some("v1")).then_some(()) }).await;
    assert_eq!(one.seen().connections, 1, "the endpoint and its pool outlived the reload");
    let shown = client::get(gateway.admin, "/clusters").await.unwrap().text();
    let requests = format!("v1::{}::rq_total::", one.addr());
    let count: u64 = shown.lines().find_map(|line| line.strip_prefix(&requests)).unwrap().parse().unwrap();
    assert!(count > 5, "its counts too: {shown}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_changes_no_managed_weight_and_a_new_route_asks_control_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two) = (upstream("v1"), upstream("v2"));
    let routes = "{svc1: {targets: [v1, v2], stable: v1, weights: {v1: 90, v2: 10}}, \
                   svc2: {targets: [v1, v2], stable: v1, weights: {v1: 20, v2: 80}}}";
    let control = Control::start(folder.path(), "control", 0, routes, &[]).await;
    let spec = Spec::new(folder.path(), "gateway", &[("v1", 50), ("v2", 50)])
        .fixed("v1", &[one.addr()])
        .fixed("v2", &[two.addr()])
        .control(control.url());
    let gateway = spec.live().await;
    control.until_agreed(1).await;
    let before = gateway.weights().await;
    assert_eq!((before.0.as_slice(), before.1.as_str()), (&[9000, 1000][..], "control"));

    let svc2 = "          - name: svc2\n            match: {prefix: /two}\n            route: {weighted_clusters: \
                {clusters: [{name: v1, weight: 0}, {name: v2, weight: 1}], stable: v1}}\n  clusters:";
    let text = spec.yaml().replace("weight: 50", "weight: 7").replace("  clusters:", svc2);
    write_whole(&spec.file(), &text);
    until("the reload", || async {
        (gateway.stat("gateway.config_reload_success").await == 1).then_some(())
    })
    .await;
    let now = gateway.weights().await;
    assert_eq!(
        (now.0, now.1),
        (before.0.clone(), before.1.clone()),
        "a file does not change what control said"
    );
    let view = until("control knows of svc2 at this gateway", || async {
        let view = control.get("/v1/routes/svc2").await;
        (view["routes"][0]["agree"] == 1).then_some(view)
    })
    .await;
    assert_eq!(view["routes"][0]["gateways"][0]["source"], "control", "{view:#}");
    // The file gives all to v2; before control had spoken it could only be the stable.
    let ran = control.cli(&["set-weight", "svc2", "v1=100", "v2=0"]).await;
    assert_eq!(ran.code, 0, "{ran:?}");

    // A target that has weight cannot be taken away by a file.
    let mut less = spec.clone();
    less.targets.pop();
    less.write();
    until("the refusal", || async {
        (gateway.stat("gateway.config_reload_rejected").await == 1).then_some(())
    })
    .await;
    assert!(gateway.process.stderr().contains("take the target to 0 first"), "{}", gateway.process.tail());
    let now = gateway.weights().await;
    assert_eq!((now.0, now.1), (before.0, before.1));
}
