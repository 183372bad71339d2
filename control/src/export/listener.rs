//! Listeners, virtual hosts and routes in Envoy's words.
//!
//! Owns what Envoy does otherwise: an override header is a route of its own in front, a header that names the target
//! is added by the target's weight entry. Every field of the model is taken apart by name, so that a new one does not
//! compile until somebody says what it is in Envoy. Next: `mod.rs`.

use super::{Weights, address, duration};
use gateway_config::model::{
    AccessLog, AccessLogFilter, AccessLogFormat, HeaderMatcher, HttpConnectionManager, Listener, PathMatch,
    RETRY_ON_WORDS, RetryPolicy, Route, RouteAction, RouteTarget, ValueMatch, VirtualHost, WeightedClusters,
};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

const TYPE: &str = "type.googleapis.com/envoy.extensions";

/// What is known and said while listeners are written.
struct Writer<'a> {
    weights: &'a BTreeMap<String, Weights>,
    notices: &'a mut BTreeSet<String>,
}

/// Envoy: `config.listener.v3.Listener`.
pub(super) fn listener(
    listener: &Listener,
    weights: &BTreeMap<String, Weights>,
    notices: &mut BTreeSet<String>,
) -> Value {
    let Listener { name, address: at, http_connection_manager } = listener;
    let manager = Writer { weights, notices }.manager(http_connection_manager);
    json!({
        "name": name,
        "address": address(*at),
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": manager,
        }]}],
    })
}

impl Writer<'_> {
    fn say(&mut self, text: impl Into<String>) {
        self.notices.insert(text.into());
    }

    fn manager(&mut self, manager: &HttpConnectionManager) -> Value {
        let HttpConnectionManager {
            stat_prefix,
            use_remote_address,
            xff_num_trusted_hops,
            server_name,
            stream_idle_timeout,
            idle_timeout,
            request_headers_timeout,
            max_headers_count,
            max_request_headers_kb,
            max_concurrent_streams,
            enable_trailers,
            lenient,
            upgrade_types,
            access_log,
            route_config,
        } = manager;
        if !lenient {
            self.say("Envoy repairs some malformed requests that Weir refuses with 400");
        }
        let hosts: Vec<Value> = route_config.virtual_hosts.iter().map(|host| self.host(host)).collect();
        let upgrades: Vec<Value> = upgrade_types.iter().map(|kind| json!({"upgrade_type": kind})).collect();
        let log: Vec<Value> = access_log.iter().map(|log| self.access_log(log)).collect();
        json!({
            "@type": format!("{TYPE}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": stat_prefix,
            "use_remote_address": use_remote_address,
            "xff_num_trusted_hops": xff_num_trusted_hops,
            "server_name": server_name,
            "stream_idle_timeout": duration(*stream_idle_timeout),
            "request_headers_timeout": duration(*request_headers_timeout),
            "common_http_protocol_options": {
                "idle_timeout": duration(*idle_timeout),
                "max_headers_count": max_headers_count,
            },
            "max_request_headers_kb": max_request_headers_kb,
            "http_protocol_options": {"enable_trailers": enable_trailers},
            "http2_protocol_options": {"max_concurrent_streams": max_concurrent_streams},
            "upgrade_configs": upgrades,
            "access_log": log,
            "route_config": {"name": route_config.name, "virtual_hosts": hosts},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": format!("{TYPE}.filters.http.router.v3.Router")},
            }],
        })
    }

    fn access_log(&mut self, log: &AccessLog) -> Value {
        let AccessLog { path, format, filter } = log;
        let mut config = json!({
            "@type": format!("{TYPE}.access_loggers.file.v3.FileAccessLog"),
            "path": path,
        });
        if *format == AccessLogFormat::Json
            && let Some(config) = config.as_object_mut()
        {
            config.insert("log_format".to_owned(), json!({"json_format": json_format()}));
        }
        let mut out = json!({"name": "envoy.access_loggers.file", "typed_config": config});
        if *filter == AccessLogFilter::ErrorsAndCanary {
            self.say("access log: Envoy's filter knows errors, not the canary: requests that the canary answered well are not logged");
            if let Some(out) = out.as_object_mut() {
                let status = json!({"status_code_filter": {"comparison": {
                    "op": "GE", "value": {"default_value": 500, "runtime_key": "access_log.status"},
                }}});
                let filter = json!({"or_filter": {"filters": [status, {"response_flag_filter": {}}]}});
                out.insert("filter".to_owned(), filter);
            }
        }
        out
    }

    fn host(&mut self, host: &VirtualHost) -> Value {
        let VirtualHost { name, domains, routes } = host;
        let routes: Vec<Value> = routes.iter().flat_map(|route| self.route(route)).collect();
        json!({"name": name, "domains": domains, "routes": routes})
    }

    /// One route, and before it one for each target that a header can name.
    fn route(&mut self, route: &Route) -> Vec<Value> {
        let Route { name, matches, action } = route;
        let path = match &matches.path {
            PathMatch::Prefix(prefix) => ("prefix".to_owned(), json!(prefix)),
            PathMatch::Path(path) => ("path".to_owned(), json!(path)),
        };
        let condition = |extra: Option<Value>| {
            let headers: Vec<Value> = matches.headers.iter().map(header).chain(extra).collect();
            let mut condition = Map::from_iter([path.clone()]);
            if !headers.is_empty() {
                condition.insert("headers".to_owned(), json!(headers));
            }
            condition
        };
        let entry = |condition: Map<String, Value>, action: Value| {
            let mut entry = Map::new();
            if !name.is_empty() {
                entry.insert("name".to_owned(), json!(name));
            }
            entry.insert("match".to_owned(), Value::Object(condition));
            entry.insert("route".to_owned(), action);
            entry
        };
        let RouteTarget::Weighted(weighted) = &action.target else {
            return vec![Value::Object(entry(condition(None), self.action(name, action, None)))];
        };
        let mut entries = Vec::new();
        if let Some(named_by) = &weighted.override_header {
            for target in &weighted.clusters {
                let exact = json!({"name": named_by, "string_match": {"exact": target.name}});
                let mut forced = entry(condition(Some(exact)), self.action(name, action, Some(&target.name)));
                if let Some(header) = &weighted.target_header {
                    forced.insert("response_headers_to_add".to_owned(), json!([added(header, &target.name)]));
                }
                entries.push(Value::Object(forced));
            }
        }
        entries.push(Value::Object(entry(condition(None), self.action(name, action, None))));
        entries
    }

    /// `forced`: the one target that a header named.
    fn action(&mut self, name: &str, action: &RouteAction, forced: Option<&str>) -> Value {
        let RouteAction { target, timeout, retry_policy, prefix_rewrite, host_rewrite_literal } = action;
        let mut out = Map::new();
        match (forced, target) {
            (Some(cluster), _) => out.insert("cluster".to_owned(), json!(cluster)),
            (None, RouteTarget::Cluster(cluster)) => out.insert("cluster".to_owned(), json!(cluster)),
            (None, RouteTarget::Weighted(weighted)) => {
                out.insert("weighted_clusters".to_owned(), self.weighted(name, weighted))
            }
        };
        out.insert("timeout".to_owned(), json!(duration(*timeout)));
        if let Some(policy) = retry_policy {
            out.insert("retry_policy".to_owned(), retry(policy));
        }
        if let Some(prefix) = prefix_rewrite {
            out.insert("prefix_rewrite".to_owned(), json!(prefix));
        }
        if let Some(host) = host_rewrite_literal {
            out.insert("host_rewrite_literal".to_owned(), json!(host));
        }
        Value::Object(out)
    }

    fn weighted(&mut self, name: &str, weighted: &WeightedClusters) -> Value {
        let WeightedClusters { clusters, stable, override_header: _, target_header, health_aware } = weighted;
        if *health_aware && clusters.len() > 1 {
            self.say("Envoy goes on sending its share to a version that has no endpoints (503), where Weir sends it to the others");
        }
        let managed = if stable.is_some() { self.weights.get(name) } else { None };
        if stable.is_some() && managed.is_none() {
            self.say(format!(
                "route `{name}`: control does not know its weights yet, so those of the listener are written"
            ));
        }
        let target = |cluster: &gateway_config::model::ClusterWeight| {
            let weight = match managed {
                Some(weights) => weights.get(&cluster.name).copied().unwrap_or_default(),
                None => cluster.weight,
            };
            let mut entry = json!({"name": cluster.name, "weight": weight});
            if let (Some(header), Some(entry)) = (target_header, entry.as_object_mut()) {
                entry.insert("response_headers_to_add".to_owned(), json!([added(header, &cluster.name)]));
            }
            entry
        };
        json!({"clusters": clusters.iter().map(target).collect::<Vec<_>>()})
    }
}

fn added(header: &str, value: &str) -> Value {
    json!({
        "header": {"key": header, "value": value},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    })
}

fn retry(policy: &RetryPolicy) -> Value {
    let RetryPolicy { retry_on, num_retries, per_try_timeout, retriable_status_codes } = policy;
    let words = retry_on.iter().filter_map(|on| RETRY_ON_WORDS.iter().find(|(_, known)| known == on));
    let words: Vec<&str> = words.map(|(word, _)| *word).collect();
    let mut out = Map::new();
    out.insert("retry_on".to_owned(), json!(words.join(",")));
    out.insert("num_retries".to_owned(), json!(num_retries));
    if let Some(time) = per_try_timeout {
        out.insert("per_try_timeout".to_owned(), json!(duration(*time)));
    }
    if !retriable_status_codes.is_empty() {
        out.insert("retriable_status_codes".to_owned(), json!(retriable_status_codes));
    }
    Value::Object(out)
}

fn header(matcher: &HeaderMatcher) -> Value {
    let HeaderMatcher { name, matches, invert } = matcher;
    let (kind, condition) = match matches {
        ValueMatch::Present => ("present_match", json!(true)),
        ValueMatch::Exact(text) => ("string_match", json!({"exact": text})),
        ValueMatch::Prefix(text) => ("string_match", json!({"prefix": text})),
        ValueMatch::Suffix(text) => ("string_match", json!({"suffix": text})),
        ValueMatch::Contains(text) => ("string_match", json!({"contains": text})),
    };
    let mut out = Map::from_iter([("name".to_owned(), json!(name)), (kind.to_owned(), condition)]);
    if *invert {
        out.insert("invert_match".to_owned(), json!(true));
    }
    Value::Object(out)
}

/// The fields of Envoy's default text line.
fn json_format() -> Value {
    json!({
        "start_time": "%START_TIME%",
        "method": "%REQ(:METHOD)%",
        "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
        "protocol": "%PROTOCOL%",
        "response_code": "%RESPONSE_CODE%",
        "response_flags": "%RESPONSE_FLAGS%",
        "bytes_received": "%BYTES_RECEIVED%",
        "bytes_sent": "%BYTES_SENT%",
        "duration": "%DURATION%",
        "upstream_service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
        "x_forwarded_for": "%REQ(X-FORWARDED-FOR)%",
        "user_agent": "%REQ(USER-AGENT)%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "authority": "%REQ(:AUTHORITY)%",
        "upstream_host": "%UPSTREAM_HOST%",
    })
}
