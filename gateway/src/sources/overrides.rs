//! The end of overrides.
//!
//! Owns the clock of break glass: an override ends by itself, and what control says then is in force at once. It must
//! never end one before its time. Next: `../admin/overrides.rs`, where they begin.

use crate::state::change::Change;
use crate::state::store::Store;
use std::sync::Arc;
use std::time::Instant;

/// Ends each override when its time is over.
pub async fn end(store: Arc<Store>) {
    let mut changes = store.watch();
    loop {
        changes.borrow_and_update();
        let next = store.snapshot().splits.iter().filter_map(|split| split.until).min();
        let over = async {
            match next {
                Some(until) => tokio::time::sleep_until(until.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = over => end_those_due(&store),
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
            }
        }
    }
}

fn end_those_due(store: &Store) {
    // The runtime's clock, so that a test may move it.
    let now: Instant = tokio::time::Instant::now().into_std();
    let before = store.snapshot();
    let after = match store.apply(Change::EndOverrides(now)) {
        Ok(after) => after,
        Err(error) => return tracing::error!(%error, "an override did not end"),
    };
    for (old, new) in before.splits.iter().zip(after.splits.iter()) {
        if old.until.is_some() && new.until.is_none() {
            let source = new.source;
            tracing::warn!(route = &*old.route, ?source, "the override is over");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::AccessLogs;
    use crate::state::change::Override;
    use crate::stats::registry::Registry;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn an_override_ends_by_itself_and_an_earlier_one_that_comes_later_ends_earlier() {
        let store = store();
        let start: Instant = tokio::time::Instant::now().into_std();
        let source = || store.snapshot().splits.iter().map(|split| split.until.is_some()).collect::<Vec<_>>();
        let begin = |route: &str, seconds| {
            let until = start + Duration::from_secs(seconds);
            let wanted = Override { route: route.to_owned(), target: "v1".to_owned(), until };
            store.apply(Change::Override(wanted)).unwrap();
        };
        let until = |seconds| tokio::time::sleep_until((start + Duration::from_secs(seconds)).into());
        let ending = end(Arc::clone(&store));
        let acting = async {
            begin("a", 3600);
            until(5).await;
            begin("b", 10);
            until(9).await;
            assert_eq!(source(), [true, true]);
            until(11).await;
            assert_eq!(source(), [true, false]);
            until(3599).await;
            assert_eq!(source(), [true, false]);
            until(3601).await;
            assert_eq!(source(), [false, false]);
        };
        tokio::select! {
            () = ending => panic!("nobody ends overrides any more"),
            () = acting => {}
        }
    }

    fn store() -> Arc<Store> {
        let route = |name: &str| {
            format!(
                "{{name: {name}, match: {{path: /{name}}}, route: {{weighted_clusters: {{clusters: [{{name: v1, \
                 weight: 1}}]}}}}}}"
            )
        };
        let text = format!(
            "static_resources: {{listeners: [{{name: l, address: {{socket_address: {{address: 127.0.0.1, port_value: \
             0}}}}, http_connection_manager: {{route_config: {{virtual_hosts: [{{name: v, domains: ['*'], routes: \
             [{}, {}]}}]}}}}}}], clusters: [{{name: v1, discovery: {{dns: {{hostname: v1.test, port_value: 1}}}}}}]}}",
            route("a"),
            route("b")
        );
        let bootstrap = gateway_config::parse_bootstrap("test", text.as_bytes());
        let bootstrap = bootstrap.unwrap_or_else(|errors| panic!("{errors}"));
        let registry = Arc::new(Registry::new(1));
        let logs = Arc::new(AccessLogs::new(Arc::clone(&registry)));
        Arc::new(Store::new(Arc::new(bootstrap), registry, logs).unwrap())
    }
}
