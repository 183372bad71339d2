//! Metrics as lines on stdout, in CloudWatch's embedded metric format: no agent, no API call, no permission.
//!
//! Owns the minute, the differences between two minutes and the shape of a line. A line goes out whole, and nothing
//! else of control but its first line is on stdout (the log is on stderr). It must never hold control up: a reader
//! that does not read costs lines. Next: `../core/counters.rs`.

use crate::core::counters::{Key, Totals};
use crate::core::{Core, Now};
use crate::shared::Shared;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

/// CloudWatch's finest period without an extra charge.
pub const PERIOD: Duration = Duration::from_secs(60);

/// What was told so far.
#[derive(Debug)]
pub struct Emf {
    namespace: String,
    /// By gateway; what it had counted at the last line.
    told: BTreeMap<String, Told>,
    /// Unix milliseconds: when what is counted now began.
    begun_ms: Option<i64>,
}

#[derive(Clone, Debug, Default)]
struct Told {
    totals: BTreeMap<Key, Totals>,
    /// Lines since it was last among the gateways.
    away: u32,
}

/// A gateway that was forgotten may come back, with all that it has counted. For so many lines, a day, it is known what
/// of that was told.
const REMEMBERED: u32 = 1_440;
/// Gateways away that are remembered.
const MAX_AWAY: usize = 1_000;

/// Prints the lines of each minute until control ends, then those of the minute that has begun.
pub async fn run(shared: Arc<Shared>, namespace: String) {
    let mut emf = Emf::new(&namespace);
    // Whoever is heard already has its counts from before.
    let _ = emf.lines(&shared);
    loop {
        let stopping = tokio::select! {
            () = tokio::time::sleep(to_next_minute(shared.now())) => false,
            () = shared.stopping() => true,
        };
        let lines = emf.lines(&shared);
        // A full pipe blocks its writer, and that must not be a thread that serves.
        if let Err(error) = tokio::task::spawn_blocking(move || print(&lines)).await {
            tracing::error!(%error, "metrics could not be printed");
        }
        if stopping {
            return;
        }
    }
}

/// Minutes of the clock, so that the lines of a control that is started again fall into the same periods.
fn to_next_minute(now: Now) -> Duration {
    let period = i64::try_from(PERIOD.as_millis()).unwrap_or(i64::MAX);
    let left = period - now.unix_ms.rem_euclid(period);
    Duration::from_millis(u64::try_from(left).unwrap_or_default())
}

fn print(lines: &[String]) {
    let mut out = std::io::stdout().lock();
    for line in lines {
        // One write per line; a closed stdout is no reason not to serve.
        if out.write_all(format!("{line}\n").as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

impl Emf {
    /// Nothing was told yet.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), told: BTreeMap::new(), begun_ms: None }
    }

    /// One line per route and version for the time since the last call.
    pub fn lines(&mut self, shared: &Shared) -> Vec<String> {
        let now = shared.now();
        shared.with_core(|core| self.look(now, core))
    }

    fn look(&mut self, now: Now, core: &Core) -> Vec<String> {
        let keys = core.routes().iter().flat_map(|(route, settings)| {
            settings.targets.iter().map(|target| (route.clone(), target.clone()))
        });
        let keys: Vec<Key> = keys.collect();
        let mut minute: BTreeMap<&Key, Totals> = BTreeMap::new();
        let mut told = BTreeMap::new();
        for (id, gateway) in core.fleet().iter() {
            let mut totals = BTreeMap::new();
            for key in &keys {
                let mut total = Totals::default();
                gateway.counters.add_to(key, &mut total);
                totals.insert(key.clone(), total);
            }
            let before = self.told.remove(id);
            // A process that is older than this control has counts that another control has told.
            let younger = gateway.reported_ms.is_some_and(|at| gateway.counters.uptime_ms() <= at);
            if before.is_some() || younger {
                for key in &keys {
                    let last = before.as_ref().and_then(|before| before.totals.get(key));
                    let news = totals.get(key).map(|total| since(total, last)).unwrap_or_default();
                    add(minute.entry(key).or_default(), &news);
                }
            }
            // A gateway that has not reported yet has told nothing that could be compared with, except what it had told
            // before it was forgotten.
            if gateway.reported_ms.is_some() {
                told.insert(id.clone(), Told { totals, away: 0 });
            } else if let Some(before) = before {
                told.insert(id.clone(), before);
            }
        }
        self.remember_away(&mut told);
        let begun = self.begun_ms.replace(now.unix_ms).unwrap_or(now.unix_ms);
        let line = |key: &Key| {
            let counted = minute.get(key).cloned().unwrap_or_default();
            self.line((now, begun), core, key, &counted)
        };
        keys.iter().map(line).collect()
    }

    fn remember_away(&mut self, told: &mut BTreeMap<String, Told>) {
        let away = std::mem::take(&mut self.told).into_iter();
        let away = away.map(|(id, before)| (id, Told { away: before.away + 1, ..before }));
        told.extend(away.filter(|(_, before)| before.away <= REMEMBERED).take(MAX_AWAY));
        self.told = std::mem::take(told);
    }

    /// The line stands in the minute in which its counts began: CloudWatch would take it for the next one.
    /// Embedded metric format specification: the root node, `_aws` and its MetricDirective.
    fn line(
        &self,
        (now, begun_ms): (Now, i64),
        core: &Core,
        (route, target): &Key,
        counted: &Totals,
    ) -> String {
        let asks = |gateway: &crate::core::gateway::Gateway| {
            gateway.asks_for(route) && gateway.is_connected(now.mono_ms)
        };
        let gateways = core.fleet().iter().filter(|(_, gateway)| asks(gateway)).count();
        let mut values: Vec<(&str, &str, Value)> = vec![
            ("Requests", "Count", json!(counted.requests)),
            ("Errors", "Count", json!(counted.errors)),
            ("Gateways", "Count", json!(gateways)),
        ];
        for (name, per_mille) in [("P50", 500), ("P99", 990)] {
            // Without a request there is no latency, and 0 would be the best of all.
            if let Some(us) = counted.quantile(per_mille) {
                values.push((name, "Milliseconds", milliseconds(us)));
            }
        }
        if let Some(weight) = core.weights(route).and_then(|weights| weights.get(target)) {
            values.push(("Weight", "Percent", json!(f64::from(*weight) / 100.0)));
        }
        let metrics: Vec<Value> =
            values.iter().map(|(name, unit, _)| json!({"Name": name, "Unit": unit})).collect();
        let directive =
            json!({"Namespace": self.namespace, "Dimensions": [["Route", "Version"]], "Metrics": metrics});
        let mut line = Map::new();
        line.insert("_aws".to_owned(), json!({"Timestamp": begun_ms, "CloudWatchMetrics": [directive]}));
        line.insert("Route".to_owned(), json!(route));
        line.insert("Version".to_owned(), json!(target));
        line.extend(values.into_iter().map(|(name, _, value)| (name.to_owned(), value)));
        Value::Object(line).to_string()
    }
}

fn milliseconds(us: u64) -> Value {
    // Exact up to 2^53 us, which is 285 years.
    #[expect(clippy::cast_precision_loss, reason = "a latency")]
    let ms = us as f64 / 1_000.0;
    json!(ms)
}

/// What was counted since `last`. Totals of one gateway only rise.
fn since(total: &Totals, last: Option<&Totals>) -> Totals {
    let Some(last) = last else { return total.clone() };
    let latency = total.latency.iter().filter_map(|(bound, count)| {
        let news = count.saturating_sub(last.latency.get(bound).copied().unwrap_or_default());
        (news > 0).then_some((*bound, news))
    });
    Totals {
        requests: total.requests.saturating_sub(last.requests),
        errors: total.errors.saturating_sub(last.errors),
        overridden: total.overridden.saturating_sub(last.overridden),
        latency: latency.collect(),
    }
}

fn add(into: &mut Totals, news: &Totals) {
    into.requests = into.requests.saturating_add(news.requests);
    into.errors = into.errors.saturating_add(news.errors);
    for (bound, count) in &news.latency {
        let bucket = into.latency.entry(*bound).or_default();
        *bucket = bucket.saturating_add(*count);
    }
}
