//! The TCB calendar for AMD SEV-SNP: which minimum TCB holds for a processor line at a time.
//!
//! A baseline asks for a TCB since the day on which it was published. With a period of grace, it takes that much longer until it
//! is what counts; until then the one before it does. The first of a line has none before it, so it counts at any time.

use std::time::Duration;

use attestation::{ProductLine, Tcb};
use protocol::documents::{BaselineProduct, TcbBaselinesBody};
use protocol::dsse::{Body as _, Document};
use protocol::ids::{Name, Version};
use protocol::time::UnixTime;

/// The TCB baselines of one authority, ready to be asked. Whose signature they bore is the caller's to compare with the policy's.
#[derive(Debug)]
pub struct Calendar {
    name: Name,
    version: Version,
    /// By date; of each line, no baseline lowers a part of the one before.
    baselines: Vec<Baseline>,
}

/// From a date on, the least TCB of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Baseline {
    line: ProductLine,
    pub(crate) published: UnixTime,
    pub(crate) minimum: Tcb,
}

impl Calendar {
    /// From the signed document, whose rules hold: sorted, rising, bounded.
    #[must_use]
    pub fn new(document: &Document<TcbBaselinesBody>) -> Self {
        Self::read(document.body())
    }

    /// From baselines that nobody signed, for judging offline beside a policy that nobody signed either.
    ///
    /// # Errors
    /// The rule that they break.
    pub fn of_anybody(body: &TcbBaselinesBody) -> Result<Self, &'static str> {
        body.check()?;
        Ok(Self::read(body))
    }

    fn read(body: &TcbBaselinesBody) -> Self {
        let baselines = body.baselines.iter().map(|baseline| Baseline {
            line: match baseline.product {
                BaselineProduct::Milan => ProductLine::Milan,
                BaselineProduct::Genoa => ProductLine::Genoa,
                BaselineProduct::Turin => ProductLine::Turin,
            },
            published: baseline.published,
            minimum: Tcb {
                fmc: baseline.fmc,
                bootloader: baseline.bootloader,
                tee: baseline.tee,
                snp: baseline.snp,
                microcode: baseline.microcode,
            },
        });
        Self { name: body.name.clone(), version: body.version, baselines: baselines.collect() }
    }

    /// Its name: the one that policies refer to.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Its version.
    #[must_use]
    pub const fn version(&self) -> Version {
        self.version
    }

    /// Every baseline of `line` by date, each with the time from which it counts; the first has none: it counts at any time.
    pub(crate) fn of(&self, line: ProductLine, grace: Duration) -> impl Iterator<Item = (Option<UnixTime>, &Baseline)> {
        let own = self.baselines.iter().filter(move |baseline| baseline.line == line);
        own.enumerate().map(move |(place, baseline)| ((place > 0).then(|| baseline.published.plus(grace)), baseline))
    }

    /// The baseline that counts for `line` at `at`; `None` where the calendar has none of this line.
    pub(crate) fn in_force(&self, line: ProductLine, grace: Duration, at: UnixTime) -> Option<&Baseline> {
        self.of(line, grace).filter(|(from, _)| from.is_none_or(|from| from <= at)).last().map(|(_, baseline)| baseline)
    }
}
