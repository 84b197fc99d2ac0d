//! Progress of long work: a bar with rate and remaining time on a terminal, one JSON object a second where events are asked for.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use models_manifest::{Advance, Progress, Workers};
use serde_json::json;

use crate::clock;
use crate::console::Console;
use crate::interrupt::Interrupt;

/// How much of the machine is used.
#[derive(Args)]
pub(crate) struct WorkArguments {
    /// Threads that encrypt [default: one for each processor]
    #[arg(long, value_name = "N")]
    threads: Option<NonZero<usize>>,

    /// What their buffers may take together; fewer threads work where it is too little for all
    #[arg(long, value_name = "MIB", default_value_t = Workers::MEMORY >> 20)]
    memory: usize,
}

impl WorkArguments {
    pub(crate) fn workers(&self) -> Workers {
        self.threads.map_or_else(Workers::default, Workers::new).within(self.memory.saturating_mul(1 << 20))
    }
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Events {
    /// A bar, where there is a terminal.
    Bar,
    /// One JSON object a line.
    Json,
}

/// The least time between two events.
const INTERVAL: Duration = Duration::from_secs(1);

/// Shows progress, and ends the work when the user asks.
pub(crate) struct Watcher<'c, 'a> {
    interrupt: Interrupt,
    console: &'c mut Console<'a>,
    events: Events,
    bar: ProgressBar,
    began: Instant,
    last: Option<Instant>,
}

impl<'c, 'a> Watcher<'c, 'a> {
    pub(crate) fn new(events: Events, console: &'c mut Console<'a>) -> Self {
        let target = match events {
            // Indicatif draws on standard error, and nothing where that is no terminal.
            Events::Bar if console.is_process() => ProgressDrawTarget::stderr(),
            _ => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        if let Ok(style) =
            ProgressStyle::with_template("{bar:30} {decimal_bytes}/{decimal_total_bytes} {decimal_bytes_per_sec} eta {eta} {wide_msg}")
        {
            bar.set_style(style);
        }
        Self { interrupt: Interrupt::listen(), console, events, bar, began: clock::monotonic(), last: None }
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }

    /// Whether enough time has passed since the last event; the first comes at once.
    fn is_due(&mut self) -> bool {
        let now = clock::monotonic();
        let due = self.last.is_none_or(|last| now.duration_since(last) >= INTERVAL);
        if due {
            self.last = Some(now);
        }
        due
    }
}

impl Progress for Watcher<'_, '_> {
    fn advance(&mut self, advance: Advance<'_>) -> ControlFlow<()> {
        if self.interrupt.is_asked() {
            return ControlFlow::Break(());
        }
        match self.events {
            Events::Bar => {
                self.bar.set_length(advance.total);
                self.bar.set_position(advance.done);
                self.bar.set_message(advance.path.as_str().to_owned());
            }
            Events::Json => {
                if self.is_due() {
                    let Pace { rate, eta } = Pace::of(&advance, self.began.elapsed());
                    self.console.event(&json!({
                        "event": "sealing", "path": advance.path, "done": advance.done, "total": advance.total, "rate": rate, "eta": eta,
                    }));
                }
            }
        }
        ControlFlow::Continue(())
    }
}

/// How fast work goes on, and how long it will take if it goes on so.
#[derive(Debug, PartialEq, Eq)]
struct Pace {
    /// Bytes a second since the beginning; not known at once.
    rate: Option<u64>,
    /// Seconds.
    eta: Option<u64>,
}

impl Pace {
    fn of(advance: &Advance<'_>, elapsed: Duration) -> Self {
        let rate = u128::from(advance.done).saturating_mul(1000).checked_div(elapsed.as_millis());
        let rate = rate.and_then(|rate| u64::try_from(rate).ok()).filter(|rate| *rate > 0);
        Self { rate, eta: rate.map(|rate| advance.total.saturating_sub(advance.done).div_ceil(rate)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_known_once_time_has_passed_and_something_was_done() {
        let path = "a".parse().unwrap();
        let pace = |done, elapsed| {
            Pace::of(&Advance { path: &path, file_done: 0, file_total: 0, done, total: 1000 }, Duration::from_millis(elapsed))
        };
        assert_eq!(pace(500, 0), Pace { rate: None, eta: None });
        assert_eq!(pace(0, 500), Pace { rate: None, eta: None });
        assert_eq!(pace(500, 2000), Pace { rate: Some(250), eta: Some(2) });
        assert_eq!(pace(1000, 2000), Pace { rate: Some(500), eta: Some(0) });
    }
}
