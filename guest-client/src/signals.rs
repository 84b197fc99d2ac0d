//! `SIGINT` and `SIGTERM`: whoever asks this process to end, waited for on a thread of its own.

use std::io;
use std::ops::ControlFlow;
use std::thread;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// By which signal the process was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// `SIGINT`, as Ctrl-C sends it.
    Interrupt,
    /// `SIGTERM`, as service managers and kubelets send it.
    Terminate,
}

impl Asked {
    /// The signal's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interrupt => "SIGINT",
            Self::Terminate => "SIGTERM",
        }
    }
}

/// Both signals. From when there is one of these, they do not end the process by themselves any more.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens, within a runtime.
    ///
    /// # Errors
    /// The system's.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The next one.
    pub async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Interrupt,
            _ = self.terminate.recv() => Asked::Terminate,
        }
    }
}

/// Tells `each` of every such signal, on a thread of its own, until it breaks. When this returns, they are listened for.
///
/// # Errors
/// The system's; the signals then end the process as ever.
pub fn on_each(mut each: impl FnMut(Asked) -> ControlFlow<()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _entered = runtime.enter();
        Signals::listen()?
    };
    let wait = move || runtime.block_on(async { while each(signals.next().await).is_continue() {} });
    thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}
