//! What a plain request costs the worker's thread: heap blocks, and bytes of a connection's task.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use gateway::access_log::AccessLogs;
use gateway::io::Stream;
use gateway::listener::{self, Crew};
use gateway::process::{CommandLine, Process};
use gateway::request::h1::Client;
use gateway::state::store::Store;
use gateway::stats::registry::Registry;
use gateway::worker::Worker;
use lifecycle::drain::Drain;
use lifecycle::logging::LogHandle;
use lifecycle::readiness::Ready;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Instant, SystemTime};
use testkit::upstream::Upstream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;

/// Requests of one measurement; enough that one block in a thousand would be seen.
const REQUESTS: usize = 2_000;
/// Requests before it: buffers find their size, connections are opened.
const WARM_UP: usize = 200;

fn log() -> LogHandle {
    static LOG: OnceLock<LogHandle> = OnceLock::new();
    LOG.get_or_init(|| lifecycle::logging::init("error", false).unwrap()).clone()
}

fn process(upstreams: &[(&Upstream, u32)], route: &str) -> Arc<Process> {
    let targets: Vec<_> =
        upstreams.iter().map(|(u, weight)| format!("{{name: {}, weight: {weight}}}", u.name())).collect();
    let clusters: Vec<_> = upstreams
        .iter()
        .map(|(u, _)| {
            format!(
                "  - name: {}\n    discovery: {{static: {{endpoints: [{{socket_address: {{address: 127.0.0.1, \
                 port_value: {}}}}}]}}}}\n",
                u.name(),
                u.port()
            )
        })
        .collect();
    let config = format!(
        "admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}}}\n\
         static_resources:\n\
         \x20 listeners:\n\
         \x20 - name: ingress\n\
         \x20   address: {{socket_address: {{address: 127.0.0.1, port_value: 0}}}}\n\
         \x20   http_connection_manager:\n\
         \x20     route_config:\n\
         \x20       virtual_hosts:\n\
         \x20       - name: all\n\
         \x20         domains: [\"*\"]\n\
         \x20         routes:\n\
         \x20         - name: svc1\n\
         \x20           match: {{prefix: /}}\n\
         \x20           route: {{weighted_clusters: {{clusters: [{}], stable: v1}}{route}}}\n\
         \x20 clusters:\n{}",
        targets.join(", "),
        clusters.concat()
    );
    let bootstrap = gateway_config::parse_bootstrap("test.yaml", config.as_bytes());
    let bootstrap = Arc::new(bootstrap.unwrap_or_else(|errors| panic!("{errors}")));
    let registry = Arc::new(Registry::new(1));
    let logs = Arc::new(AccessLogs::new(Arc::clone(&registry)));
    let store = Arc::new(Store::new(bootstrap, Arc::clone(&registry), logs).unwrap());
    Arc::new(Process {
        started: Instant::now(),
        started_at: SystemTime::now(),
        instance_id: "task-1".to_owned(),
        boot_id: "boot-1".to_owned(),
        zone: String::new(),
        command_line: CommandLine { concurrency: 1, ..CommandLine::default() },
        store,
        registry,
        ready: Ready::new(),
        drain: Drain::new(),
        log: log(),
        health_failed: AtomicBool::new(false),
        live: AtomicBool::new(true),
        listeners: Mutex::default(),
        live_signal: watch::Sender::new(true),
        stop_accepting: watch::Sender::new(false),
        advise_close: AtomicBool::new(false),
        workers_done: AtomicUsize::new(0),
        last_reload_error: Mutex::default(),
        provenance: Mutex::default(),
    })
}

/// One worker with its listener on the calling thread; it works while [`Bench::until`] waits.
struct Bench {
    runtime: Runtime,
    tasks: LocalSet,
    address: SocketAddr,
}

impl Bench {
    fn start(process: Arc<Process>) -> Self {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().unwrap();
        let tasks = LocalSet::new();
        let address = tasks.block_on(&runtime, async {
            let crew = Arc::new(Crew::new(1, 1000));
            let worker = Rc::new(Worker::new(0, process, Arc::clone(&crew.connections[0])));
            let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = socket.local_addr().unwrap();
            let watcher = Rc::clone(&worker);
            tokio::task::spawn_local(async move { watcher.pools.watch().await });
            tokio::task::spawn_local(listener::run(worker, 0, socket, crew));
            address
        });
        Self { runtime, tasks, address }
    }

    /// Works until somebody says so.
    fn until(&self, done: &Notify) {
        self.tasks.block_on(&self.runtime, done.notified());
    }
}

/// Sends `text` again and again on one connection, and reads answers of the length that the first one had.
fn client(address: SocketAddr, text: Vec<u8>, done: Arc<Notify>, rounds: mpsc::Receiver<usize>) {
    let mut socket = std::net::TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut space = vec![0; 64 * 1024];
    for count in rounds {
        for _ in 0..count {
            socket.write_all(&text).unwrap();
            let mut got = 0;
            // Every answer of the demo's service ends with a brace.
            while got == 0 || !space[..got].ends_with(b"}") {
                got += socket.read(&mut space[got..]).unwrap();
            }
            assert!(space.starts_with(b"HTTP/1.1 200 OK"));
        }
        done.notify_one();
    }
}

/// Heap blocks per request, once everything is warm.
fn blocks(upstreams: &[(&Upstream, u32)], route: &str, request: &str) -> f64 {
    let bench = Bench::start(process(upstreams, route));
    let done = Arc::new(Notify::new());
    let (start, rounds) = mpsc::channel();
    let (address, text, told) = (bench.address, request.as_bytes().to_vec(), Arc::clone(&done));
    let thread = std::thread::spawn(move || client(address, text, told, rounds));
    start.send(WARM_UP).unwrap();
    bench.until(&done);
    let measured = allocation_counter::measure(|| {
        start.send(REQUESTS).unwrap();
        bench.until(&done);
    });
    drop(start);
    thread.join().unwrap();
    measured.count_total as f64 / REQUESTS as f64
}

fn plain(name: &str, upstreams: &[(&Upstream, u32)], route: &str, request: &str) {
    let blocks = blocks(upstreams, route, request);
    println!("{name}: {blocks} heap blocks a request");
    // Starting and ending a measurement costs a handful.
    assert!(blocks < 0.01, "{name}: {blocks} heap blocks a request");
}

#[test]
fn a_plain_keep_alive_get_costs_no_heap_block() {
    let (v1, v2) = (Upstream::start("v1").unwrap(), Upstream::start("v2").unwrap());
    let curl = "GET /path?q=1 HTTP/1.1\r\nHost: a.test\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n";
    plain("GET over one target", &[(&v1, 100)], "", curl);
    plain("GET over two targets", &[(&v1, 90), (&v2, 10)], "", curl);
}

#[test]
fn a_get_as_an_alb_sends_it_costs_no_heap_block() {
    let v1 = Upstream::start("v1").unwrap();
    let browser = format!(
        "GET /index.html HTTP/1.1\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\
         X-Forwarded-Port: 443\r\nHost: www.example.test\r\nX-Amzn-Trace-Id: Root=1-67891233-abcdef012345678912345678\r\n\
         accept: text/html,application/xhtml+xml\r\naccept-language: en\r\ncookie: {}\r\nconnection: keep-alive\r\n\r\n",
        "session=abcdefgh; ".repeat(40)
    );
    plain("GET of a browser behind an ALB", &[(&v1, 100)], "", &browser);
}

#[test]
fn bodies_and_rewrites_cost_no_heap_block() {
    let v1 = Upstream::start("v1").unwrap();
    let post = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\n{}", "x".repeat(5000));
    plain("POST of 5,000 bytes", &[(&v1, 100)], "", &post);
    let put = format!("PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 5000\r\n\r\n{}", "x".repeat(5000));
    plain("PUT of 5,000 bytes", &[(&v1, 100)], "", &put);
    let chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    plain("POST in chunks", &[(&v1, 100)], "", chunked);
    let rewritten = ", prefix_rewrite: /api/, host_rewrite_literal: svc.local";
    plain("GET with rewrites", &[(&v1, 100)], rewritten, "GET /a/b HTTP/1.1\r\nhost: a.test\r\n\r\n");
}

#[test]
fn the_future_of_a_connection_keeps_its_size() {
    let v1 = Upstream::start("v1").unwrap();
    let process = process(&[(&v1, 100)], "");
    let runtime = Builder::new_current_thread().enable_io().enable_time().build().unwrap();
    runtime.block_on(async {
        let worker = Rc::new(Worker::new(0, process, Arc::default()));
        let socket = tokio::net::TcpStream::connect(v1.addr()).await.unwrap();
        let client = Client::new(Rc::clone(&worker), 0, v1.addr(), Stream::plain(socket));
        let serve = client.serve();
        println!("an HTTP/1 connection's future has {} bytes", lifecycle::assertions::size_of_future(&serve));
        lifecycle::assertions::future_size(&serve, 2_200, 2_900);
    });
}
