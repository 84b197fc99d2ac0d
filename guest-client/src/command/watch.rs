//! Progress of an opening on standard error, and the signals that end it.

use std::io::IsTerminal;
use std::mem;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use models_manifest::{Advance, Progress};
use serde::Serialize;

use super::failure::{Exit, Failure};
use crate::mount::supervised;
use crate::signals::{self, Asked};
use crate::sources::Stopper;

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Shown {
    /// A bar with rate and remaining time.
    Bar,
    /// One JSON object a line, each second.
    Json,
    /// Not at all.
    None,
}

impl Shown {
    /// Where nobody says: a bar on a terminal, events for who asks for JSON.
    #[must_use]
    pub fn fitting(json: bool) -> Self {
        match (std::io::stderr().is_terminal(), json) {
            (true, _) => Self::Bar,
            (false, true) => Self::Json,
            (false, false) => Self::None,
        }
    }
}

/// The least time between two events.
const INTERVAL: Duration = Duration::from_secs(1);

/// One event.
#[derive(Debug, PartialEq, Serialize)]
struct Event<'a> {
    event: &'static str,
    path: &'a str,
    /// Plaintext bytes.
    done: u64,
    total: u64,
    /// Bytes a second since the beginning; not known at once.
    rate: Option<u64>,
    /// Seconds, if it goes on so.
    eta: Option<u64>,
}

impl<'a> Event<'a> {
    fn of(advance: &Advance<'a>, elapsed: Duration) -> Self {
        let Advance { path, done, total, .. } = *advance;
        let rate = u128::from(done).saturating_mul(1000).checked_div(elapsed.as_millis());
        let rate = rate.and_then(|rate| u64::try_from(rate).ok()).filter(|rate| *rate > 0);
        let eta = rate.map(|rate| total.saturating_sub(done).div_ceil(rate));
        Self { event: "opening", path: path.as_str(), done, total, rate, eta }
    }
}

/// `SIGINT` and `SIGTERM`, from when an opening or a mount is asked for. Before there is anything to put away, one ends the process at
/// once, also where the process is a container's first, which signals alone would not end. Then the first ends the work in order, also
/// where it waits for a storage, and the second ends the process at once. A mount's server is asked by each: the second is for those whom
/// it still serves.
#[derive(Clone, Default)]
pub struct Interrupt(Arc<Mutex<Work>>);

#[derive(Default)]
enum Work {
    /// Nothing was made.
    #[default]
    Before,
    /// Something may be there, and this ends what waits.
    Under(Option<Stopper>),
    /// A mount's server starts, and has nothing to put away but itself.
    Starting(supervised::Stopper),
    /// A mount is there, and its server ends in order.
    Mounted(supervised::Stopper),
    /// Others listen.
    HandedOver,
    /// It was asked to end.
    Ending(Asked),
}

impl Interrupt {
    /// Listens from now on. Where the system does not let it, signals end the process as ever.
    #[must_use]
    pub fn listen() -> Self {
        let interrupt = Self::default();
        let seen = interrupt.clone();
        // See above.
        let _ = signals::on_each(move |asked| seen.hears(asked));
        interrupt
    }

    fn hears(&self, asked: Asked) -> ControlFlow<()> {
        let mut work = self.work();
        match &*work {
            Work::Under(stopper) => stopper.iter().for_each(Stopper::stop),
            Work::Starting(server) => server.stop(),
            Work::Before => std::process::exit(Failure::Ended(asked, None).tell().code()),
            Work::Mounted(server) => {
                server.stop();
                return ControlFlow::Continue(());
            }
            Work::HandedOver => return ControlFlow::Break(()),
            Work::Ending(_) => std::process::exit(Exit::from(asked).code()),
        }
        *work = Work::Ending(asked);
        ControlFlow::Continue(())
    }

    /// From now on the first signal asks this server to end, and what waits for it learns of that by [`Self::asked`].
    pub fn starts(&self, server: supervised::Stopper) {
        *self.work() = Work::Starting(server);
    }

    /// From now on a signal asks this server to end, and ends nothing here.
    pub fn asks(&self, server: supervised::Stopper) {
        *self.work() = Work::Mounted(server);
    }

    /// From now on there is something to put away: the first signal ends nothing here, and is told by [`Self::hand_over`].
    pub fn keeps(&self) {
        *self.work() = Work::Under(None);
    }

    /// From now on others listen, and a signal ends nothing here. By which one the work was asked to end before that.
    #[must_use]
    pub fn hand_over(&self) -> Option<Asked> {
        if let Work::Ending(asked) = mem::replace(&mut *self.work(), Work::HandedOver) { Some(asked) } else { None }
    }

    /// By which signal the work was asked to end.
    #[must_use]
    pub fn asked(&self) -> Option<Asked> {
        if let Work::Ending(asked) = *self.work() { Some(asked) } else { None }
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows progress, and ends the work where the process is asked to end.
pub struct Watch {
    bar: Option<ProgressBar>,
    shown: Shown,
    began: Instant,
    last: Option<Instant>,
    interrupt: Interrupt,
}

impl Watch {
    /// From now on. What waits for a storage is ended by `stopper`.
    #[must_use]
    pub fn begin(shown: Shown, interrupt: &Interrupt, stopper: Option<Stopper>) -> Self {
        *interrupt.work() = Work::Under(stopper);
        Self { bar: (shown == Shown::Bar).then(bar), shown, began: Instant::now(), last: None, interrupt: interrupt.clone() }
    }

    /// Whether enough time has passed since the last event; the first comes at once.
    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let due = self.last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if due {
            self.last = Some(now);
        }
        due
    }
}

impl Progress for Watch {
    fn advance(&mut self, advance: Advance<'_>) -> ControlFlow<()> {
        if let Some(bar) = &self.bar {
            bar.set_length(advance.total);
            bar.set_position(advance.done);
            bar.set_message(advance.path.to_string());
        }
        if self.shown == Shown::Json && self.is_due() {
            eprintln!("{}", serde_json::to_string(&Event::of(&advance, self.began.elapsed())).unwrap_or_default());
        }
        if self.interrupt.asked().is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style = "{bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta} {wide_msg}";
    ProgressBar::new(0).with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_and_rest_are_told_once_they_are_known() {
        let path = "a/b".parse().unwrap();
        let event = |done, elapsed| {
            let advance = Advance { path: &path, file_done: 0, file_total: 0, done, total: 1000 };
            serde_json::to_string(&Event::of(&advance, Duration::from_millis(elapsed))).unwrap()
        };
        let text = |rest: &str| format!(r#"{{"event":"opening","path":"a/b",{rest}}}"#);
        assert_eq!(event(0, 0), text(r#""done":0,"total":1000,"rate":null,"eta":null"#));
        assert_eq!(event(0, 900), text(r#""done":0,"total":1000,"rate":null,"eta":null"#));
        assert_eq!(event(300, 1000), text(r#""done":300,"total":1000,"rate":300,"eta":3"#));
        assert_eq!(event(1000, 2000), text(r#""done":1000,"total":1000,"rate":500,"eta":0"#));
    }

    #[test]
    fn a_signal_that_comes_before_others_listen_is_told_to_them_once_there_is_something_to_put_away() {
        let interrupt = Interrupt::default();
        interrupt.keeps();
        assert!(interrupt.hears(Asked::Terminate).is_continue(), "it ends nothing here");
        assert_eq!(interrupt.hand_over(), Some(Asked::Terminate));
        assert!(interrupt.hears(Asked::Terminate).is_break(), "it is theirs");
        // The near miss: none came.
        let interrupt = Interrupt::default();
        interrupt.keeps();
        assert_eq!(interrupt.hand_over(), None);
    }
}
