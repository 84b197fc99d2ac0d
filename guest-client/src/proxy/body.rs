//! Bodies on their way: an agent's request up to a limit, an upstream's answer piece by piece as it comes.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::echo::Watch;

/// What became of a request's body, for whoever waits for the answer.
#[derive(Debug, Default)]
pub struct Progress {
    bytes: AtomicU64,
    trouble: AtomicU8,
}

/// Why a request's body did not go on to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It was longer than the limit.
    TooLarge,
    /// The agent did not send all of it.
    Broken,
}

impl Progress {
    /// How much has gone on.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What went wrong with it.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        match self.trouble.load(Ordering::Relaxed) {
            1 => Some(Trouble::TooLarge),
            2 => Some(Trouble::Broken),
            _ => None,
        }
    }

    fn note(&self, trouble: Trouble) -> Stopped {
        self.trouble.store(if trouble == Trouble::TooLarge { 1 } else { 2 }, Ordering::Relaxed);
        Stopped
    }
}

/// A body that ends before its end, so that nobody takes it for whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the body was stopped")]
pub struct Stopped;

/// A request's body on its way to the upstream. Trailers end here: a server might take them for headers.
pub struct Sent {
    body: Option<Incoming>,
    left: u64,
    progress: Arc<Progress>,
}

impl Sent {
    /// At most `limit` bytes of `body`.
    #[must_use]
    pub const fn new(body: Option<Incoming>, limit: u64, progress: Arc<Progress>) -> Self {
        Self { body, left: limit, progress }
    }
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Stopped;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Stopped>>> {
        loop {
            let Some(body) = self.body.as_mut() else { return Poll::Ready(None) };
            let data = match ready!(Pin::new(body).poll_frame(context)) {
                None => return Poll::Ready(None),
                Some(Err(_)) => return Poll::Ready(Some(Err(self.progress.note(Trouble::Broken)))),
                Some(Ok(frame)) => frame.into_data(),
            };
            let Ok(data) = data else { continue };
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            let Some(left) = self.left.checked_sub(length) else {
                return Poll::Ready(Some(Err(self.progress.note(Trouble::TooLarge))));
            };
            self.left = left;
            self.progress.bytes.fetch_add(length, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(data))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Why an answer did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Cut {
    /// The upstream's connection broke.
    #[error("the upstream's answer broke off")]
    Broken,
    /// Nothing came for too long.
    #[error("the upstream sent nothing for too long")]
    Idle,
    /// The credential is no longer there.
    #[error("the credential is no longer there")]
    NoCredential,
    /// The answer holds the credential.
    #[error("the upstream's answer holds the credential")]
    Echo,
    /// The agent has gone, or the whole took too long.
    #[error("the agent has gone, or it took too long")]
    Gone,
}

impl Cut {
    /// A stable name for each variant.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Broken => "upstream-broken",
            Self::Idle => "upstream-idle",
            Self::NoCredential => "credential-absent",
            Self::Echo => "credential-echoed",
            Self::Gone => "agent-gone",
        }
    }
}

/// Whoever is told how an answer ended; when this goes, it has.
pub trait End: Send {
    /// A piece went on.
    fn passed(&mut self, bytes: usize);
    /// It ended: whole, or cut.
    fn ended(&mut self, how: Result<(), Cut>);
}

/// An upstream's answer on its way to the agent.
pub struct Streamed {
    body: Incoming,
    watch: Watch,
    gone: Pin<Box<dyn Future<Output = ()> + Send>>,
    idle: Duration,
    waiting: Pin<Box<Sleep>>,
    over: bool,
    end: Box<dyn End>,
}

type Polled = Option<Result<Frame<Bytes>, Cut>>;

impl Streamed {
    /// `body`, as long as it does not hold the credential, `gone` has not come, and there is a piece every `idle`.
    #[must_use]
    pub fn new(body: Incoming, watch: Watch, gone: Pin<Box<dyn Future<Output = ()> + Send>>, idle: Duration, end: Box<dyn End>) -> Self {
        let waiting = Box::pin(sleep(idle));
        let mut streamed = Self { body, watch, gone, idle, waiting, over: false, end };
        streamed.notice_end();
        streamed
    }

    /// A body whose length is known is not asked again once it has come: its end is noticed behind its last piece.
    fn notice_end(&mut self) {
        if !self.over && self.body.is_end_stream() {
            self.end_with(Ok(()));
        }
    }

    fn end_with(&mut self, how: Result<(), Cut>) {
        self.over = true;
        self.end.ended(how);
    }

    fn cut(&mut self, why: Cut) -> Polled {
        self.end_with(Err(why));
        Some(Err(why))
    }

    /// A piece goes on at once and whole, or ends the answer.
    fn take(&mut self, frame: Frame<Bytes>) -> Polled {
        let deadline = Instant::now() + self.idle;
        self.waiting.as_mut().reset(deadline);
        if let Some(data) = frame.data_ref() {
            if self.watch.pass(data).is_err() {
                return self.cut(Cut::Echo);
            }
            self.end.passed(data.len());
        }
        if let Some(trailers) = frame.trailers_ref() {
            if trailers.values().any(|value| self.watch.is_in(value.as_bytes())) {
                return self.cut(Cut::Echo);
            }
            // Behind trailers nothing is asked for.
            self.end_with(Ok(()));
        }
        self.notice_end();
        Some(Ok(frame))
    }
}

impl Body for Streamed {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Polled> {
        if self.over {
            return Poll::Ready(None);
        }
        if self.gone.as_mut().poll(context).is_ready() {
            return Poll::Ready(self.cut(Cut::NoCredential));
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending if self.waiting.as_mut().poll(context).is_ready() => Poll::Ready(self.cut(Cut::Idle)),
            Poll::Pending => Poll::Pending,
            Poll::Ready(Some(Err(_))) => Poll::Ready(self.cut(Cut::Broken)),
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(self.take(frame)),
            Poll::Ready(None) => {
                self.end_with(Ok(()));
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A body that is there as a whole, under the same name for errors.
pub type Whole = http_body_util::combinators::MapErr<http_body_util::Full<Bytes>, fn(Infallible) -> Cut>;
