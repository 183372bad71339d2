//! The access log: one line per finished request, in Envoy's default format or JSON.
//!
//! Owns formatting into a bounded queue and the writer thread behind it. It must never block a worker: when the
//! queue is full the line is dropped and counted. Next: `format.rs`.

mod format;
pub mod timestamp;
mod writer;

use crate::response_flags::ResponseFlags;
use crate::stats::cells::Shard;
use crate::stats::registry::Registry;
use gateway_config::model::{self, AccessLogFilter, AccessLogFormat};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};
use writer::{QUEUE_BYTES, Queue};

/// Longest that `flush` waits: a reader of standard output that has stopped reading must not hold up an exit.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);

/// What is known of a finished request.
#[derive(Debug)]
pub struct Entry<'a> {
    /// When its head had arrived.
    pub start: SystemTime,
    /// `-` when the head could not be read.
    pub method: &'a str,
    /// As received, before rewriting; `-` when the head could not be read.
    pub path: &'a str,
    /// `HTTP/1.1`, `HTTP/2` ...
    pub protocol: &'static str,
    /// 0 when the client left before an answer.
    pub status: u16,
    /// Why it ended so.
    pub flags: ResponseFlags,
    /// Body bytes from the client.
    pub bytes_received: u64,
    /// Body bytes to the client.
    pub bytes_sent: u64,
    /// From the head to the last byte.
    pub duration: Duration,
    /// x-envoy-upstream-service-time.
    pub upstream_service_time: Option<Duration>,
    /// x-forwarded-for as sent on.
    pub forwarded_for: Option<&'a [u8]>,
    /// user-agent.
    pub user_agent: Option<&'a [u8]>,
    /// x-request-id as sent on.
    pub request_id: Option<&'a [u8]>,
    /// Host or :authority.
    pub authority: Option<&'a [u8]>,
    /// The endpoint that answered or was tried last.
    pub upstream_host: Option<SocketAddr>,
    /// Name of the route; empty when unnamed or none.
    pub route_name: &'a str,
    /// Cluster (target) that the request was given to; empty when none.
    pub upstream_cluster: &'a str,
    /// version_info of the weights in force for it; empty when not from control.
    pub route_version: &'a str,
    /// The route has a stable target and this request was given to another.
    pub canary: bool,
    /// The client's address.
    pub downstream_remote_address: SocketAddr,
}

/// Writers by path; a reload finds the one that is open.
#[derive(Debug)]
pub struct AccessLogs {
    registry: Arc<Registry>,
    writers: Mutex<BTreeMap<String, Weak<Writer>>>,
}

/// Handle of one configured access log.
#[derive(Clone, Debug)]
pub struct AccessLog {
    format: AccessLogFormat,
    filter: AccessLogFilter,
    writer: Arc<Writer>,
}

/// One open file. When its last handle goes, its thread writes what waits and ends by itself: a worker that drops
/// an old snapshot must not wait for a disk.
#[derive(Debug)]
struct Writer {
    queue: Arc<Queue>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.stop();
    }
}

impl AccessLogs {
    /// No writer yet.
    pub fn new(registry: Arc<Registry>) -> Self {
        Self { registry, writers: Mutex::default() }
    }

    /// The handle for a configuration; opens the file and starts its writer thread when it is the first.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn open(&self, config: &model::AccessLog) -> std::io::Result<AccessLog> {
        let mut writers = self.lock();
        writers.retain(|_, writer| writer.strong_count() > 0);
        let writer = match writers.get(&config.path).and_then(Weak::upgrade) {
            Some(writer) => writer,
            None => {
                let writer = self.start(&config.path)?;
                writers.insert(config.path.clone(), Arc::downgrade(&writer));
                writer
            }
        };
        Ok(AccessLog { format: config.format, filter: config.filter, writer })
    }

    fn start(&self, path: &str) -> std::io::Result<Arc<Writer>> {
        let file = writer::open(path)?;
        let queue = Arc::new(Queue::new(path, Arc::clone(&self.registry), QUEUE_BYTES));
        let run = {
            let queue = Arc::clone(&queue);
            move || queue.run(file)
        };
        std::thread::Builder::new().name("access-log".to_owned()).spawn(run)?;
        Ok(Arc::new(Writer { queue }))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Weak<Writer>>> {
        // Only whole entries are put in or taken out.
        self.writers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queues(&self) -> Vec<Arc<Queue>> {
        self.lock().values().filter_map(Weak::upgrade).map(|writer| Arc::clone(&writer.queue)).collect()
    }

    /// Writes everything out and waits for it, 2 s at most; at exit.
    pub fn flush(&self) {
        let deadline = Instant::now() + FLUSH_LIMIT;
        for queue in self.queues() {
            queue.flush(deadline);
        }
    }

    /// Has every file opened anew by its name, after a rotation (Envoy: `POST /reopen_logs`). Does not wait.
    pub fn reopen(&self) {
        for queue in self.queues() {
            queue.reopen();
        }
    }
}

impl AccessLog {
    /// Queues the line of a finished request if the filter wants it. Never blocks.
    pub fn log(&self, shard: Shard, entry: &Entry<'_>) {
        if !self.wants(entry) {
            return;
        }
        let format = match self.format {
            AccessLogFormat::Text => format::text,
            AccessLogFormat::Json => format::json,
        };
        self.writer.queue.push(shard, format::estimate(entry), |out| format(out, entry));
    }

    fn wants(&self, entry: &Entry<'_>) -> bool {
        match self.filter {
            AccessLogFilter::All | AccessLogFilter::Unsaid => true,
            AccessLogFilter::ErrorsAndCanary => {
                entry.status >= 500 || !entry.flags.is_empty() || entry.canary
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::names::ServerStat;

    /// A request as most are.
    pub fn entry() -> Entry<'static> {
        Entry {
            start: SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_401_429_430),
            method: "GET",
            path: "/api?x=1",
            protocol: "HTTP/1.1",
            status: 200,
            flags: ResponseFlags::NONE,
            bytes_received: 3,
            bytes_sent: 25,
            duration: Duration::from_micros(12_900),
            upstream_service_time: Some(Duration::from_millis(11)),
            forwarded_for: Some(b"192.0.2.2"),
            user_agent: Some(b"curl/8"),
            request_id: Some(b"0acdfd81"),
            authority: Some(b"svc1.local"),
            upstream_host: Some(SocketAddr::from(([10, 0, 0, 7], 8080))),
            route_name: "svc1",
            upstream_cluster: "v2",
            route_version: "1.42-c1",
            canary: false,
            downstream_remote_address: SocketAddr::from(([127, 0, 0, 1], 40_000)),
        }
    }

    fn config(path: &std::path::Path, filter: AccessLogFilter) -> model::AccessLog {
        let path = path.to_str().expect("a path of text").to_owned();
        model::AccessLog { path, format: AccessLogFormat::Text, filter }
    }

    #[test]
    fn every_line_is_on_disk_after_a_flush() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let registry = Arc::new(Registry::new(2));
        let logs = AccessLogs::new(Arc::clone(&registry));
        let log = logs.open(&config(&path, AccessLogFilter::All)).expect("opened");
        for shard in [Shard::worker(0), Shard::worker(1), Shard::SHARED] {
            log.log(shard, &entry());
        }
        logs.flush();
        assert_eq!(std::fs::read_to_string(&path).expect("a log").lines().count(), 3);
        assert_eq!(registry.server.total(ServerStat::AccessLogWritten), 3);
    }

    #[test]
    fn the_filter_keeps_errors_and_the_canary_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let logs = AccessLogs::new(Arc::new(Registry::new(1)));
        let log = logs.open(&config(&path, AccessLogFilter::ErrorsAndCanary)).expect("opened");
        log.log(Shard::SHARED, &entry());
        log.log(Shard::SHARED, &Entry { status: 500, ..entry() });
        log.log(Shard::SHARED, &Entry { flags: ResponseFlags::NO_ROUTE, status: 404, ..entry() });
        log.log(Shard::SHARED, &Entry { canary: true, ..entry() });
        logs.flush();
        assert_eq!(std::fs::read_to_string(&path).expect("a log").lines().count(), 3);
    }

    #[test]
    fn a_rotated_file_is_opened_anew_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, rotated) = (folder.path().join("access.log"), folder.path().join("access.log.1"));
        let logs = AccessLogs::new(Arc::new(Registry::new(1)));
        let log = logs.open(&config(&path, AccessLogFilter::All)).expect("opened");
        log.log(Shard::SHARED, &entry());
        logs.flush();
        std::fs::rename(&path, &rotated).expect("renamed");
        logs.reopen();
        // The writer takes the wish to reopen and the wish to flush at once or in this order.
        logs.flush();
        log.log(Shard::SHARED, &Entry { status: 503, ..entry() });
        logs.flush();
        assert!(std::fs::read_to_string(&path).expect("new log").contains(" 503 "));
        assert_eq!(std::fs::read_to_string(&rotated).expect("old log").lines().count(), 1);
    }

    #[test]
    fn two_configurations_of_one_path_share_one_writer() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("access.log");
        let logs = AccessLogs::new(Arc::new(Registry::new(1)));
        let first = logs.open(&config(&path, AccessLogFilter::All)).expect("opened");
        let second = logs.open(&config(&path, AccessLogFilter::ErrorsAndCanary)).expect("opened");
        assert!(Arc::ptr_eq(&first.writer, &second.writer));
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_an_error() {
        let logs = AccessLogs::new(Arc::new(Registry::new(1)));
        let nowhere = config(std::path::Path::new("/nonexistent/folder/log"), AccessLogFilter::All);
        assert!(logs.open(&nowhere).is_err());
    }
}
