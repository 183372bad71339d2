//! A response body that comes in pieces with pauses between them, and may break off in its middle.
//!
//! Owns the pace of one body. Must never hold more than the content it was given. Next: `upstream.rs`,
//! which builds it.

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Sleep;

/// What breaks a connection off when that was asked for.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body.
#[derive(Debug)]
pub struct Pieces {
    content: Bytes,
    size: usize,
    pause: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
    /// Break off when no more than so many bytes are left.
    cut_at: Option<usize>,
    /// What was given out has had a chance to be written.
    flushed: bool,
    first: bool,
}

impl Pieces {
    /// `content` in `pieces` pieces, `pause` apart; with `cut` it fails after half of the content.
    #[must_use]
    pub fn new(content: Bytes, (pieces, pause): (u32, Duration), cut: bool) -> Self {
        Self {
            size: content.len().div_ceil(pieces.max(1) as usize).max(1),
            cut_at: cut.then_some(content.len() / 2),
            content,
            pause,
            waiting: None,
            flushed: false,
            first: true,
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.cut_at.is_some_and(|left| this.content.len() <= left) {
            if !this.flushed {
                // hyper writes out what it has when a body is not ready; an error would throw it away.
                this.flushed = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Some(Err("cut as asked".into())));
        }
        if this.content.is_empty() {
            return Poll::Ready(None);
        }
        if !this.first && !this.pause.is_zero() {
            let pause = this.pause;
            ready!(this.waiting.get_or_insert_with(|| Box::pin(tokio::time::sleep(pause))).as_mut().poll(cx));
            this.waiting = None;
        }
        this.first = false;
        let room = this.content.len() - this.cut_at.unwrap_or(0);
        let piece = this.content.split_to(this.size.min(room));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_empty() && self.cut_at.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.content.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    async fn frames(mut body: Pieces) -> (Vec<usize>, bool) {
        let mut sizes = Vec::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => sizes.push(frame.into_data().unwrap().len()),
                Err(_) => return (sizes, true),
            }
        }
        (sizes, false)
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_in_its_pieces_with_pauses_between() {
        let start = tokio::time::Instant::now();
        let body = Pieces::new(Bytes::from(vec![0; 100]), (3, Duration::from_secs(1)), false);
        assert_eq!(frames(body).await, (vec![34, 34, 32], false));
        assert_eq!(start.elapsed(), Duration::from_secs(2));
    }

    #[tokio::test]
    async fn a_cut_body_fails_after_half() {
        for (pieces, sizes) in [(1, vec![50]), (2, vec![50]), (4, vec![25, 25]), (3, vec![34, 16])] {
            let body = Pieces::new(Bytes::from(vec![0; 100]), (pieces, Duration::ZERO), true);
            assert_eq!(frames(body).await, (sizes, true));
        }
    }

    #[tokio::test]
    async fn more_pieces_than_bytes_are_one_byte_each_and_nothing_is_nothing() {
        let body = Pieces::new(Bytes::from_static(b"abc"), (10, Duration::ZERO), false);
        assert_eq!(frames(body).await, (vec![1, 1, 1], false));
        let body = Pieces::new(Bytes::new(), (10, Duration::ZERO), false);
        assert_eq!(frames(body).await, (vec![], false));
    }
}
