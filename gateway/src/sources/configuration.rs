//! Listeners and clusters from control, for a gateway that has none of its own.
//!
//! Owns the talk about them, which configuration is the first of a start, and what a refused one means: the last good
//! one goes on. It must never apply listeners without the clusters of the same version, and never change weights.
//! Next: `memory.rs`, what is used while control is away.

use super::backoff::Backoff;
use super::control::{self, FIRST_WAIT, HELD, INVALID_ARGUMENT, LONGEST_WAIT, REFUSED_WAIT};
use super::link::Link;
use super::memory::Memory;
use super::saved::Saver;
use super::{endpoints, report};
use crate::process::{Origin, Process};
use crate::state::change::Change;
use crate::stats::cells::Shard;
use crate::stats::names::ServerStat;
use gateway_config::discovered::GatewayResources;
use gateway_config::model::Bootstrap;
use gateway_config::wire::{
    CLUSTER_TYPE_URL, ConfigDiscoveryResponse, DiscoveryRequest, ErrorDetail, LISTENER_TYPE_URL, Version,
};
use http::StatusCode;
use lifecycle::readiness::TaskGuard;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use tokio::time::Instant;

/// How long control has for the first answer before what is remembered is used: several attempts, and well below the
/// 15 s after which a gateway goes LIVE with what it has.
const PATIENCE: Duration = Duration::from_secs(5);
/// While there is nothing to serve, so often somebody is told why.
const REMIND: Duration = Duration::from_secs(30);
/// After an answer without news that was not held, and after a control without listeners: they change with releases.
const UNHELD_WAIT: Duration = Duration::from_secs(5);
/// Between two attempts with what was refused: each ends the question that is held.
const RETRY: Duration = Duration::from_secs(10);
/// Clusters are asked for so often until they are of the listeners' version.
const SAME_VERSION: usize = 3;
/// Of a refusal, for control's memory and logs.
const MAX_REASON: usize = 4_000;

/// Binds the listeners of a first configuration, applies it and starts the workers; or says why not, and nothing is
/// different.
pub type Open = Box<dyn Fn(Bootstrap) -> Result<(), String>>;

/// What control, or the memory of it, has to say.
#[derive(Clone, Debug)]
struct Offer {
    origin: Origin,
    /// As it was written; empty when it is not known.
    version: String,
    since: SystemTime,
    resources: GatewayResources,
}

/// One of the two resource types in the talk.
#[derive(Debug)]
struct Half {
    path: &'static str,
    type_url: &'static str,
    nonce: String,
}

/// The conversation.
pub struct Configuration {
    process: Arc<Process>,
    link: Link,
    saver: Option<Saver>,
    open: Open,
    /// The process's own part, without listeners.
    base: Arc<Bootstrap>,
    listeners: Half,
    clusters: Half,
    /// The version in force; none with listeners in force: their version is not known.
    in_force: Option<Version>,
    /// What is in force; none before the first configuration.
    serving: Option<GatewayResources>,
    /// Control has spoken since the start.
    confirmed: bool,
    /// Tried again when something else changes: what it did not fit may be gone.
    refused: Option<Offer>,
    refusal: Option<ErrorDetail>,
    last_error: String,
}

/// What one question came to.
enum Heard {
    /// Nothing changed while the question was held, or something new was taken.
    Good,
    /// Nothing new, and at once.
    Unheld,
    /// Refused.
    Refused,
    /// Control said no, or nothing.
    Failed(String),
    /// Control answers, and has no listeners for anybody.
    Without(String),
}

/// An answer about one half.
enum Answer {
    Same,
    News(ConfigDiscoveryResponse),
}

impl Configuration {
    /// Nothing is asked yet.
    pub fn new(process: Arc<Process>, link: Link, saver: Option<Saver>, open: Open) -> Self {
        let half = |path, type_url| Half { path, type_url, nonce: String::new() };
        Self {
            base: Arc::clone(&process.store.snapshot().routes.bootstrap),
            process,
            link,
            saver,
            open,
            listeners: half("/v3/discovery:listeners", LISTENER_TYPE_URL),
            clusters: half("/v3/discovery:clusters", CLUSTER_TYPE_URL),
            in_force: None,
            serving: None,
            confirmed: false,
            refused: None,
            refusal: None,
            last_error: String::new(),
        }
    }

    /// Asks until the process drains. LIVE waits for `guard`, which ends with the first configuration.
    pub async fn run(mut self, guard: TaskGuard, memory: Memory) {
        let mut first = Some((guard, memory));
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        let drain = self.process.drain.watch();
        let mut changes = self.process.store.watch();
        let patience = Instant::now() + PATIENCE;
        let mut due = patience;
        let (mut ask_at, mut retry_at) = (Instant::now(), Instant::now());
        loop {
            let retries = self.refused.is_some() && self.serving.is_some();
            if !retries {
                // Only what changes after a refusal can end it.
                changes.borrow_and_update();
            }
            tokio::select! {
                heard = self.ask_from(ask_at) => ask_at = Instant::now() + self.rhythm(heard, &mut backoff),
                () = drain.draining() => return,
                () = more(&mut first) => {
                    if let Some((_, memory)) = first.as_ref().filter(|_| Instant::now() >= patience) {
                        self.fall_back(memory);
                    }
                }
                () = tokio::time::sleep_until(due), if first.is_some() => {
                    due = Instant::now() + REMIND;
                    if let Some((_, memory)) = &first {
                        self.fall_back(memory);
                    }
                }
                () = changed(&mut changes, retry_at), if retries => {
                    retry_at = Instant::now() + RETRY;
                    self.try_again();
                }
            }
            if self.serving.is_some()
                && let Some((guard, memory)) = first.take()
            {
                endpoints::start(&self.process);
                control::start(&self.process, &self.link, self.saver.clone(), memory);
                drop(guard);
            }
        }
    }

    async fn ask_from(&mut self, moment: Instant) -> Heard {
        tokio::time::sleep_until(moment).await;
        if self.serving.is_none() {
            // An address that was in use may be free by now.
            self.try_again();
            if self.serving.is_some() {
                // The rest of the start must not wait for the next answer.
                return Heard::Good;
            }
        }
        self.ask().await
    }

    /// How long to wait after an answer.
    fn rhythm(&mut self, heard: Heard, backoff: &mut Backoff) -> Duration {
        let error = match &heard {
            Heard::Failed(error) | Heard::Without(error) => error.clone(),
            Heard::Good | Heard::Unheld | Heard::Refused => String::new(),
        };
        if self.serving.is_none() {
            let refused = self.refusal.as_ref().map(|refusal| format!("refused: {}", refusal.message));
            let text = if error.is_empty() { refused.unwrap_or_default() } else { error.clone() };
            self.process.note_provenance(|p| drop(p.waiting.insert("control", text)));
        }
        if !error.is_empty() && error != self.last_error {
            let then = if self.serving.is_some() { "those in force stay" } else { "it is asked again" };
            tracing::warn!(%error, "no listeners and clusters from control: {then}");
        }
        self.last_error = error;
        if !matches!(heard, Heard::Failed(_)) {
            backoff.reset();
        }
        match heard {
            Heard::Good => Duration::ZERO,
            Heard::Unheld | Heard::Without(_) => UNHELD_WAIT,
            Heard::Refused => REFUSED_WAIT,
            Heard::Failed(_) => backoff.next(&mut rand::rng()),
        }
    }

    async fn ask(&mut self) -> Heard {
        let begun = Instant::now();
        // Who has nothing, or what control confirmed, waits for news; who has what is remembered asks for an answer now.
        let hold = self.confirmed || self.in_force.is_none();
        let news = match self.fetch(false, hold).await {
            Ok(Answer::News(news)) => news,
            Ok(Answer::Same) => return self.same(hold, begun),
            Err(heard) => return heard,
        };
        self.listeners.nonce.clone_from(&news.nonce);
        let Some(version) = Version::parse(&news.version_info) else {
            let text = format!("version_info `{}` is not <epoch>.<seq>-<control id>", news.version_info);
            return self.refuse(text);
        };
        if let Some(mine) = self.in_force.as_ref().filter(|mine| !mine.may_become(&version)) {
            let text = format!("version {version} must not follow {mine}, which this gateway serves");
            return self.refuse(text);
        }
        if self.confirmed && self.in_force.as_ref() == Some(&version) {
            self.forget_refused();
            return self.same(hold, begun);
        }
        let refused_before = self.refused.as_ref().is_some_and(|offer| offer.version == news.version_info);
        if refused_before && self.refusal.is_some() {
            return Heard::Refused;
        }
        for _ in 0..SAME_VERSION {
            match self.fetch(true, false).await {
                Ok(Answer::News(clusters)) if clusters.version_info == news.version_info => {
                    self.clusters.nonce = clusters.nonce;
                    let resources =
                        GatewayResources { listeners: news.resources, clusters: clusters.resources };
                    return self.offered(news.version_info, resources);
                }
                Ok(_) => {}
                Err(heard) => return heard,
            }
        }
        Heard::Failed(format!("control's clusters are not of version {version}, as its listeners are"))
    }

    /// One question about one half.
    async fn fetch(&self, clusters: bool, hold: bool) -> Result<Answer, Heard> {
        let half = if clusters { &self.clusters } else { &self.listeners };
        let request = DiscoveryRequest {
            version_info: self.in_force.as_ref().map(ToString::to_string).unwrap_or_default(),
            resource_names: Vec::new(),
            node: report::node(&self.process, false),
            type_url: half.type_url.to_owned(),
            response_nonce: half.nonce.clone(),
            error_detail: self.refusal.clone(),
        };
        let body = serde_json::to_vec(&request).map_err(|error| Heard::Failed(error.to_string()))?;
        self.count(ServerStat::DiscoveryUpdateAttempt);
        let failed = |text: String| {
            self.count(ServerStat::DiscoveryUpdateFailure);
            Heard::Failed(text)
        };
        match self.link.post(half.path, hold, body).await {
            Err(error) => Err(failed(error.to_string())),
            Ok((StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT, _)) => Ok(Answer::Same),
            Ok((StatusCode::OK, body)) => serde_json::from_slice(&body)
                .map(Answer::News)
                .map_err(|error| failed(format!("the answer is no discovery: {error}"))),
            Ok((status @ StatusCode::NOT_FOUND, body)) => {
                let said = self.link.refusal(status, &body);
                Err(Heard::Without(format!(
                    "{said}; add a section `gateway` to control's configuration, or give this gateway listeners of its \
                     own"
                )))
            }
            Ok((status, body)) => Err(failed(self.link.refusal(status, &body))),
        }
    }

    fn same(&mut self, hold: bool, begun: Instant) -> Heard {
        if self.in_force.is_some() {
            self.confirmed = true;
            self.keep();
        }
        if hold && begun.elapsed() >= HELD { Heard::Good } else { Heard::Unheld }
    }

    /// Control's offer, whole.
    fn offered(&mut self, version: String, resources: GatewayResources) -> Heard {
        let offer = Offer { origin: Origin::Control, version, since: SystemTime::now(), resources };
        match self.take(&offer) {
            Ok(()) => {
                self.confirmed = true;
                self.keep();
                self.count(ServerStat::DiscoveryUpdateSuccess);
                Heard::Good
            }
            Err(text) => {
                self.refused = Some(offer);
                self.refuse(text)
            }
        }
    }

    /// Applies an offer whole, or nothing of it.
    fn take(&mut self, offer: &Offer) -> Result<(), String> {
        if self.serving.as_ref() != Some(&offer.resources) {
            if offer.resources.is_empty() {
                return Err(
                    "there are no listeners in it; a gateway without listeners serves nobody".to_owned()
                );
            }
            let bootstrap = offer.resources.complete(&self.base).map_err(|errors| errors.to_string())?;
            if self.serving.is_none() {
                (self.open)(bootstrap)?;
            } else {
                let applied = self.process.store.apply(Change::Config(Arc::new(bootstrap)));
                applied.map_err(|rejected| rejected.to_string())?;
                self.count(ServerStat::ConfigReloadSuccess);
            }
            let source = offer.origin.as_str();
            tracing::info!(version = offer.version, source, "listeners and clusters taken");
        }
        self.serving = Some(offer.resources.clone());
        self.in_force = Version::parse(&offer.version);
        self.forget_refused();
        self.process.note_provenance(|provenance| {
            provenance.origin = offer.origin;
            provenance.version.clone_from(&offer.version);
            provenance.since = offer.since;
            provenance.waiting.clear();
        });
        Ok(())
    }

    fn forget_refused(&mut self) {
        self.refused = None;
        self.refusal = None;
        self.note_refusal(String::new());
    }

    fn refuse(&mut self, text: String) -> Heard {
        let text: String = text.chars().take(MAX_REASON).collect();
        self.count(ServerStat::DiscoveryUpdateRejected);
        self.count(ServerStat::ConfigReloadRejected);
        self.note_refusal(text.clone());
        self.refusal = Some(ErrorDetail { code: INVALID_ARGUMENT, message: text });
        Heard::Refused
    }

    /// Shows a refusal, and says each one once.
    fn note_refusal(&self, text: String) {
        let mut shown = self.process.last_reload_error.lock().unwrap_or_else(PoisonError::into_inner);
        if !text.is_empty() && *shown != text {
            tracing::error!(
                "control's listeners and clusters are refused, what is in force goes on:\n{text}"
            );
        }
        *shown = text;
    }

    /// What was refused may fit by now: a target has lost its weight, an address is free.
    fn try_again(&mut self) {
        let Some(offer) = self.refused.clone() else { return };
        match self.take(&offer) {
            Ok(()) => self.confirmed |= offer.origin == Origin::Control,
            Err(text) => {
                self.note_refusal(text.chars().take(MAX_REASON).collect());
            }
        }
    }

    /// What control offered and this gateway refused is refused as before, now that an older word is in force: control does
    /// not send it again.
    fn still_refused(&mut self, (refused, refusal): (Option<Offer>, Option<ErrorDetail>)) {
        let newer = |offer: &Offer| {
            let version = Version::parse(&offer.version);
            version.is_some_and(|next| self.in_force.as_ref().is_none_or(|mine| mine.may_become(&next)))
        };
        let (Some(offer), Some(detail)) = (refused.filter(newer), refusal) else { return };
        self.note_refusal(detail.message.clone());
        (self.refused, self.refusal) = (Some(offer), Some(detail));
    }

    /// Uses what is remembered, or says what is missing.
    fn fall_back(&mut self, memory: &Memory) {
        let standing = (self.refused.take(), self.refusal.take());
        let mut why = Vec::new();
        for (origin, known) in memory.configurations() {
            let (version, since) = (known.version.clone(), known.since);
            let offer = Offer { origin, version, since, resources: known.resources.clone() };
            match self.take(&offer) {
                Ok(()) => {
                    tracing::warn!(source = origin.as_str(), "what is remembered of control is served");
                    return self.still_refused(standing);
                }
                Err(text) => why.push(format!("{}: {text}", origin.as_str())),
            }
        }
        (self.refused, self.refusal) = standing;
        if !why.is_empty() {
            self.note_refusal(why.join("\n"));
        }
        let refused = self.process.last_reload_error.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let waiting = self.process.provenance().waiting;
        let reasons: Vec<String> = waiting
            .iter()
            .filter(|(_, why)| !why.is_empty())
            .map(|(who, why)| format!("{who}: {why}"))
            .collect();
        tracing::error!(
            refused,
            "nothing to serve yet, /server_info answers 503: {}; control is asked again and again",
            reasons.join("; ")
        );
    }

    fn keep(&self) {
        if let (Some(saver), Some(version), Some(resources)) = (&self.saver, &self.in_force, &self.serving) {
            saver.keep_configuration(&version.to_string(), resources);
        }
    }

    fn count(&self, stat: ServerStat) {
        self.process.registry.server.inc(Shard::SHARED, stat);
    }
}

/// Ready when a state item has come that nobody waits for in vain.
async fn more(first: &mut Option<(TaskGuard, Memory)>) {
    match first {
        Some((_, memory)) => memory.more().await,
        None => std::future::pending().await,
    }
}

/// Ready when the store has changed and the moment has come.
async fn changed(changes: &mut watch::Receiver<u64>, moment: Instant) {
    tokio::time::sleep_until(moment).await;
    if changes.changed().await.is_err() {
        std::future::pending().await
    }
}
