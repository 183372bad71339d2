//! Reuse: who gets an idle connection, and what becomes of those that nobody wants.

use super::*;
use crate::cluster::{ClusterShared, Endpoint};
use crate::io::Stream;
use crate::stats::cells::Shard;
use crate::stats::registry::Registry;
use crate::upstream::{DEFAULT_REUSE, Place};
use std::rc::Rc;
use std::sync::Arc;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::LocalSet;

struct World {
    pools: Rc<Pools>,
    endpoint: Arc<Endpoint>,
    cluster: Arc<ClusterShared>,
    listener: TcpListener,
}

impl World {
    async fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self {
            pools: Rc::default(),
            endpoint: Arc::new(Endpoint::new(1, address, String::new())),
            cluster: Arc::new(ClusterShared::new(Registry::new(1).cluster("v1"))),
            listener,
        }
    }

    /// An open connection and its other end.
    async fn connect(&self) -> (UpstreamConnection, TcpStream) {
        let ours = TcpStream::connect(self.endpoint.address).await.expect("connected");
        let (theirs, _) = self.listener.accept().await.expect("accepted");
        let place = Place::take(&self.endpoint, &self.cluster);
        (UpstreamConnection::new(Stream::plain(ours), place, Shard::worker(0)), theirs)
    }

    fn take(&self, repeatable: bool) -> Option<UpstreamConnection> {
        self.pools.checkout(self.endpoint.id, repeatable)
    }

    /// Lets the watcher work until so many are idle.
    async fn until_idle(&self, count: usize) {
        let watched = async {
            while self.pools.idle_count() != count {
                tokio::task::yield_now().await;
            }
        };
        testkit::within(Duration::from_secs(20), "idle connections", watched).await.expect("removed");
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_idle_connection_is_taken_first() {
    let world = World::new().await;
    let (old, _old) = world.connect().await;
    let (new, _new) = world.connect().await;
    world.pools.checkin(old, Duration::from_secs(10));
    tokio::time::advance(Duration::from_millis(500)).await;
    world.pools.checkin(new, Duration::from_secs(20));
    let first = world.take(true).expect("the newest");
    assert_eq!((first.reuse_for.as_secs(), first.reused), (20, true));
    assert_eq!(world.take(true).expect("the other").reuse_for.as_secs(), 10);
    assert!(world.take(true).is_none());
}

#[tokio::test(start_paused = true)]
async fn nobody_gets_a_connection_that_its_server_may_be_closing() {
    let world = World::new().await;
    let (connection, _other) = world.connect().await;
    world.pools.checkin(connection, DEFAULT_REUSE);
    tokio::time::advance(DEFAULT_REUSE).await;
    assert!(world.take(true).is_none());
    assert_eq!(world.pools.idle_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_repeated_takes_only_what_was_idle_for_less_than_a_second() {
    let world = World::new().await;
    let (connection, _other) = world.connect().await;
    world.pools.checkin(connection, DEFAULT_REUSE);
    tokio::time::advance(FRESH - Duration::from_millis(1)).await;
    let connection = world.take(false).expect("still fresh");
    world.pools.checkin(connection, DEFAULT_REUSE);
    tokio::time::advance(FRESH).await;
    assert!(world.take(false).is_none());
    assert!(world.take(true).is_some(), "it stays for who can be repeated");
}

#[tokio::test(start_paused = true)]
async fn what_nobody_may_use_again_is_closed_at_once() {
    let world = World::new().await;
    let (never, _a) = world.connect().await;
    world.pools.checkin(never, Duration::ZERO);
    let (mut dirty, _b) = world.connect().await;
    dirty.leftover.push(b'x');
    world.pools.checkin(dirty, DEFAULT_REUSE);
    world.endpoint.gone.store(true, Relaxed);
    let (gone, _c) = world.connect().await;
    world.pools.checkin(gone, DEFAULT_REUSE);
    assert_eq!((world.pools.idle_count(), world.cluster.active_connections.load(Relaxed)), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn an_end_and_stray_bytes_remove_an_idle_connection() {
    LocalSet::new()
        .run_until(async {
            let world = World::new().await;
            let watcher = Rc::clone(&world.pools);
            tokio::task::spawn_local(async move { watcher.watch().await });
            tokio::task::yield_now().await;
            let (one, closed) = world.connect().await;
            let (two, mut talking) = world.connect().await;
            let (three, _quiet) = world.connect().await;
            for connection in [one, two, three] {
                world.pools.checkin(connection, Duration::from_secs(3600));
            }
            assert_eq!(world.pools.idle_count(), 3);
            drop(closed);
            world.until_idle(2).await;
            talking.write_all(b"HTTP/1.1 408 Request Timeout\r\n\r\n").await.expect("sent");
            world.until_idle(1).await;
            assert!(world.take(true).is_some());
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn old_connections_and_those_of_a_gone_endpoint_are_swept_away() {
    LocalSet::new()
        .run_until(async {
            let world = World::new().await;
            let watcher = Rc::clone(&world.pools);
            tokio::task::spawn_local(async move { watcher.watch().await });
            let (short, _a) = world.connect().await;
            let (long, _b) = world.connect().await;
            world.pools.checkin(short, Duration::from_secs(2));
            world.pools.checkin(long, Duration::from_secs(3600));
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(world.pools.idle_count(), 1);
            world.endpoint.gone.store(true, Relaxed);
            tokio::time::sleep(SWEEP * 2).await;
            assert_eq!((world.pools.idle_count(), world.cluster.active_connections.load(Relaxed)), (0, 0));
            tokio::time::sleep(SWEEP * (u32::from(FORGET) + 2)).await;
            assert!(world.pools.idle.borrow().is_empty(), "its list is forgotten");
        })
        .await;
}
