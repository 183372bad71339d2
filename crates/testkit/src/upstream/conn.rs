//! One connection of a scripted backend: reads requests, records them, carries out the replies.
//!
//! Must never answer anything that the reply does not say, apart from `100 Continue` for a body that is about to be read.

use std::io::{Error, Result};
use std::net::TcpListener;
use std::sync::Arc;

use super::reply::{Content, End, Pause, Reply, head};
use super::{KeepAlive, MAX_BODY_KEPT, MAX_RECORDS, Received, Seen, Shared};
use crate::net::{lock, reset_on_drop};
use crate::wire::{Framing, Head, Wire};

/// Accepts for ever, each connection in its own task.
pub(super) async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    while let Ok((stream, _peer)) = listener.accept().await {
        let connection = shared.count(|seen| {
            seen.connections += 1;
            seen.connections
        });
        let open = Open(Arc::clone(&shared));
        tokio::spawn(async move {
            let conn = Conn { wire: Wire::new(stream), shared: Arc::clone(&open.0), connection, record: 0 };
            // The peer's end of the connection failing is an ordinary event here.
            let _ended = conn.serve().await;
            drop(open);
        });
    }
}

/// Counts a connection as closed when it is over, however it ends.
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count(|seen| seen.closed += 1);
    }
}

impl Shared {
    fn count<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        let mut out = None;
        self.seen.send_modify(|seen| out = Some(change(seen)));
        // send_modify always calls its closure.
        out.unwrap_or_else(|| unreachable!())
    }

    fn reply(&self, request: &Received) -> Reply {
        if let Some(reply) = lock(&self.next).pop_front() {
            return reply;
        }
        let script = Arc::clone(&lock(&self.script));
        script(request)
    }
}

struct Conn {
    wire: Wire,
    shared: Arc<Shared>,
    connection: u64,
    /// The number of the current request among all of the backend's, to find its record again.
    record: u64,
}

impl Conn {
    async fn serve(mut self) -> Result<()> {
        for nth in 1.. {
            let keep_alive = *lock(&self.shared.keep_alive);
            let head = match keep_alive.idle.filter(|_| nth > 1) {
                None => self.wire.head().await,
                Some(idle) => match tokio::time::timeout(idle, self.wire.head()).await {
                    Ok(head) => head,
                    Err(_) => return self.end(End::Close).await,
                },
            };
            let head = match head {
                Ok(Some(head)) => Head::parse(&head),
                Ok(None) => return Ok(()),
                Err(error) => return self.cut_head(nth, &error),
            };
            let request = self.begin(nth, head);
            let keep_alive = *lock(&self.shared.keep_alive);
            let last = keep_alive.max_requests.is_some_and(|max| nth >= max);
            let reply = self.shared.reply(&request);
            let end = self.answer(&request, &reply, announce(keep_alive, last)).await?;
            let closing = last || request.head.has_token("connection", "close");
            match end {
                End::KeepAlive if closing => return self.end(End::Close).await,
                End::KeepAlive => {}
                end => return self.end(end).await,
            }
        }
        Ok(())
    }

    fn begin(&mut self, nth: u64, head: Head) -> Received {
        let raw = self.wire.take_kept();
        let request = Received { connection: self.connection, nth, raw, head, ..Received::default() };
        self.record = self.shared.count(|seen| {
            let mut records = lock(&self.shared.records);
            records.push_back(request.clone());
            if records.len() > MAX_RECORDS {
                records.pop_front();
            }
            seen.requests += 1;
            seen.requests
        });
        request
    }

    /// Records the bytes of a head that never became one.
    fn cut_head(&mut self, nth: u64, error: &Error) -> Result<()> {
        let head = Head::parse(self.wire.ahead());
        let raw = self.wire.ahead().to_vec();
        self.begin(nth, head);
        self.update(|record| {
            record.raw = raw;
            record.error = Some(error.to_string());
        });
        Ok(())
    }

    /// Changes the record of the current request, unless it has been forgotten.
    fn update(&self, change: impl FnOnce(&mut Received)) {
        update(&self.shared, self.record, change);
    }

    /// Reads the rest of the request into its record and returns the body kept.
    async fn read_body(&mut self, framing: Framing) -> Result<Vec<u8>> {
        let (shared, record) = (Arc::clone(&self.shared), self.record);
        let mut body = Vec::new();
        let mut sink = |piece: &[u8]| {
            let room = MAX_BODY_KEPT.saturating_sub(body.len()).min(piece.len());
            body.extend_from_slice(piece.get(..room).unwrap_or_default());
            update(&shared, record, |r| {
                r.body_len += piece.len() as u64;
                r.body.extend_from_slice(piece.get(..room).unwrap_or_default());
            });
        };
        let read = self.wire.body(framing, &mut sink).await;
        let raw = self.wire.take_kept();
        self.update(|record| {
            record.raw.extend_from_slice(&raw);
            match &read {
                Ok(trailers) => {
                    record.trailers.clone_from(trailers);
                    record.complete = true;
                }
                Err(error) => record.error = Some(error.to_string()),
            }
        });
        read?;
        self.shared.count(|seen| seen.complete += 1);
        Ok(body)
    }

    async fn answer(
        &mut self,
        request: &Received,
        reply: &Reply,
        extra: Vec<(String, String)>,
    ) -> Result<End> {
        let framing = request.head.framing(Framing::None);
        for (status, headers) in &reply.interim {
            self.wire.write(&head(*status, headers)).await?;
        }
        let mut body = Vec::new();
        if !reply.before_body {
            let asked = request.head.has_token("expect", "100-continue");
            if asked && reply.interim.iter().all(|(status, _)| *status != 100) {
                self.wire.write(&head(100, &[])).await?;
            }
            body = self.read_body(framing).await?;
        }
        if let Some(pause) = &reply.pause {
            self.wait(pause).await?;
        }
        let image = reply.image(request.method() == "HEAD", &body, &extra);
        let image = image.get(..reply.cut_at.unwrap_or(usize::MAX).min(image.len())).unwrap_or_default();
        self.write(image, reply).await?;
        self.shared.count(|seen| seen.replies += 1);
        if matches!(reply.content, Content::UpgradeEcho(_)) && reply.end == End::KeepAlive {
            self.echo().await?;
            return Ok(End::Close);
        }
        if reply.before_body && reply.end == End::KeepAlive {
            self.read_body(framing).await?;
        }
        Ok(reply.end)
    }

    /// Writes in the pieces that the reply asks for.
    async fn write(&mut self, image: &[u8], reply: &Reply) -> Result<()> {
        let mut stops: Vec<(usize, &Pause)> =
            reply.pauses_at.iter().map(|(at, pause)| (*at, pause)).collect();
        if let Some((piece, pause)) = &reply.slow {
            stops.extend((*piece..image.len()).step_by(*piece).map(|at| (at, pause)));
            stops.sort_by_key(|(at, _)| *at);
        }
        let mut from = 0;
        for (at, pause) in stops.into_iter().filter(|(at, _)| *at <= image.len()) {
            self.wire.write(image.get(from..at).unwrap_or_default()).await?;
            from = at;
            self.wait(pause).await?;
        }
        self.wire.write(image.get(from..).unwrap_or_default()).await
    }

    /// Waits, unless the peer goes away.
    async fn wait(&mut self, pause: &Pause) -> Result<()> {
        let over = async {
            match pause {
                Pause::Gate(gate) => gate.pass().await,
                Pause::Time(time) => tokio::time::sleep(*time).await,
            }
        };
        tokio::select! {
            biased;
            () = over => Ok(()),
            () = self.wire.closed() => Err(Error::other("the peer went away")),
        }
    }

    async fn echo(&mut self) -> Result<()> {
        let ahead = self.wire.ahead().to_vec();
        self.wire.write(&ahead).await?;
        let (mut read, mut write) = self.wire.stream.split();
        tokio::io::copy(&mut read, &mut write).await?;
        Ok(())
    }

    async fn end(mut self, end: End) -> Result<()> {
        use tokio::io::AsyncWriteExt as _;
        match end {
            End::KeepAlive => {}
            End::Reset => reset_on_drop(&self.wire.stream)?,
            End::Close => {
                self.wire.stream.shutdown().await?;
                self.wire.drain().await;
            }
            End::Hang => self.wire.drain().await,
        }
        Ok(())
    }
}

fn update(shared: &Shared, record: u64, change: impl FnOnce(&mut Received)) {
    let newest = shared.seen.borrow().requests;
    let mut records = lock(&shared.records);
    let from_end = usize::try_from(newest.saturating_sub(record)).unwrap_or(usize::MAX);
    let index = records.len().checked_sub(from_end.saturating_add(1));
    if let Some(record) = index.and_then(|index| records.get_mut(index)) {
        change(record);
    }
}

fn announce(keep_alive: KeepAlive, last: bool) -> Vec<(String, String)> {
    match (keep_alive.announce, keep_alive.idle) {
        (true, _) if last => vec![("connection".into(), "close".into())],
        (true, Some(idle)) => vec![("keep-alive".into(), format!("timeout={}", idle.as_secs()))],
        _ => Vec::new(),
    }
}
