//! An upgraded connection: bytes both ways until both sides have finished.
//!
//! Owns nothing but the two pumps; half-closes are passed on. It must never read what it carries.
//! Next: `h1.rs`, which starts it.

use super::pump::{Encoding, Pump, PumpFailure};
use super::timer::{Expired, Timer};
use crate::io::Stream;
use crate::worker::Worker;
use http1::Framing;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll};

/// One side: a stream and what was read of it too early.
pub type Side<'a> = (&'a mut Stream, &'a mut Vec<u8>);

/// How a tunnel ended, and the bytes that went each way.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// From the client.
    pub received: u64,
    /// To the client.
    pub sent: u64,
    /// Nothing moved for the stream idle time.
    pub idle: bool,
}

/// Carries bytes both ways. `head` goes to the client first.
pub async fn run(
    worker: &Rc<Worker>,
    head: &[u8],
    client: Side<'_>,
    upstream: Side<'_>,
    timer: &mut Timer,
) -> Ended {
    let mut up = Direction::new(worker);
    let mut down = Direction::new(worker);
    down.pump.out.buffer().extend_from_slice(head);
    let idle = poll_fn(|cx| {
        let to_upstream = up.poll(cx, timer, worker, (&mut *client.0, &mut *client.1), upstream.0);
        let to_client = down.poll(cx, timer, worker, (&mut *upstream.0, &mut *upstream.1), client.0);
        match (to_upstream, to_client) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(false),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(false),
            _ => timer.poll(cx).map(|expired| expired == Expired::Idle),
        }
    })
    .await;
    Ended { received: up.pump.bytes, sent: down.pump.bytes, idle }
}

struct Direction {
    pump: Pump,
    moved: bool,
    shut: bool,
}

impl Direction {
    fn new(worker: &Rc<Worker>) -> Self {
        let pump = Pump::new(worker, Framing::UntilClose, true, Encoding::Raw);
        Self { pump, moved: false, shut: false }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        timer: &mut Timer,
        worker: &Worker,
        source: Side<'_>,
        sink: &mut Stream,
    ) -> Poll<Result<(), PumpFailure>> {
        if !self.moved {
            match self.pump.poll(cx, timer, worker, source, sink) {
                Poll::Ready(Ok(())) => self.moved = true,
                other => return other,
            }
        }
        if !self.shut {
            match sink.poll_shutdown(cx) {
                Poll::Ready(Ok(())) => self.shut = true,
                Poll::Ready(Err(_)) => return Poll::Ready(Err(PumpFailure::Sink)),
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(()))
    }
}
