//! What the collateral says of a TCB (QVL, "EvaluateTcb", "TcbLevelCheck", "TDRelaunchCheck").

use protocol::time::UnixTime;

use super::collateral::levels::{IsvLevel, Standing, Verdict};
use super::collateral::qe_identity::QeIdentity;
use super::collateral::tcb_info::{PlatformLevel, TcbInfo};
use super::module;
use super::rejection::TdxRejection;
use crate::claims::{TcbPart, TcbStatus, TcbVerdict};

const PLATFORM: &str = "platform";
const MODULE: &str = "TDX module";
const QE: &str = "quoting enclave";

/// What is evaluated, but for TEE_TCB_SVN.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a> {
    pub(super) components: &'a [u8; 16],
    pub(super) pce_svn: u16,
    pub(super) qe_isv_svn: u16,
    pub(super) info: &'a TcbInfo,
    pub(super) identity: &'a QeIdentity,
}

/// The verdict on the TCB that a TD was launched under. Where the report names the one that runs now, that has to be supported and not
/// revoked, too, and it says whether launching again would help.
pub(super) fn evaluate(subject: Subject<'_>, launched: [u8; 16], current: Option<[u8; 16]>) -> Result<TcbVerdict, TdxRejection> {
    let mut verdict = evaluate_one(subject, launched)?;
    if let Some(current) = current {
        verdict.status = relaunch(verdict.status, evaluate_one(subject, current)?.status);
    }
    Ok(verdict)
}

fn evaluate_one(subject: Subject<'_>, svn: [u8; 16]) -> Result<TcbVerdict, TdxRejection> {
    let Subject { qe_isv_svn, info, identity, .. } = subject;
    let [module_svn, _, ..] = svn;
    let module = module::find(info, svn).map_err(|_| TdxRejection::TcbNotSupported { part: MODULE })?;
    // From major version 1 on, the first two components are the module's, and its identity has levels of its own.
    let start = if module.is_some() { 2 } else { 0 };
    let platform =
        Found::first(&info.levels, PLATFORM, |level| covers(level, subject, &svn, start), |level: &PlatformLevel| &level.verdict)?;
    let isv = |levels, part, svn: u16| Found::first(levels, part, |level: &IsvLevel| svn >= level.isv_svn, |level| &level.verdict);
    let module = module.map(|module| isv(&module.levels, MODULE, u16::from(module_svn))?.of_component()).transpose()?;
    let qe = isv(&identity.levels, QE, qe_isv_svn)?.of_component()?;

    let parts = || module.iter().chain([&qe, &platform]);
    let component_behind = module.iter().chain([&qe]).any(Found::is_out_of_date);
    let any_behind = parts().any(Found::is_out_of_date);
    let mut advisories: Vec<String> = parts().flat_map(|part| part.verdict.advisories.iter().cloned()).collect();
    advisories.sort_unstable();
    advisories.dedup();
    Ok(TcbVerdict {
        status: if component_behind { converge(platform.status) } else { platform.status },
        date: parts().map(|part| part.verdict.date).min().unwrap_or(platform.verdict.date),
        advisories,
        superseded: parts().filter(|part| part.is_out_of_date() || !any_behind).filter_map(|part| part.superseded).min(),
        platform: platform.part(),
        module: module.as_ref().map(Found::part),
        qe: qe.part(),
    })
}

/// The first level that a part reaches, and what stands above it.
struct Found<'a> {
    name: &'static str,
    verdict: &'a Verdict,
    status: TcbStatus,
    /// The earliest date of a level above, as it was first dated.
    superseded: Option<UnixTime>,
}

impl<'a> Found<'a> {
    fn first<T>(
        levels: &'a [T],
        name: &'static str,
        reached: impl Fn(&T) -> bool,
        verdict: impl Fn(&'a T) -> &'a Verdict,
    ) -> Result<Self, TdxRejection> {
        let mut superseded: Option<UnixTime> = None;
        for level in levels {
            let found = verdict(level);
            if reached(level) {
                return match found.standing {
                    Standing::Is(status) => Ok(Self { name, verdict: found, status, superseded }),
                    Standing::Revoked => Err(TdxRejection::TcbRevoked { part: name }),
                };
            }
            superseded = Some(superseded.map_or(found.first_dated, |earlier| earlier.min(found.first_dated)));
        }
        Err(TdxRejection::TcbNotSupported { part: name })
    }

    /// A module or quoting enclave is up to date or out of date. Any other status would be lost in the merge, and is refused.
    fn of_component(self) -> Result<Self, TdxRejection> {
        match self.status {
            TcbStatus::UpToDate | TcbStatus::OutOfDate => Ok(self),
            found => Err(TdxRejection::TcbPartStatus { part: self.name, found }),
        }
    }

    fn part(&self) -> TcbPart {
        TcbPart { status: self.status, date: self.verdict.date, advisories: self.verdict.advisories.clone() }
    }

    const fn is_out_of_date(&self) -> bool {
        matches!(self.status, TcbStatus::OutOfDate | TcbStatus::OutOfDateConfigurationNeeded)
    }
}

/// Whether a platform reaches a level in every component. TDX components count from `start`.
fn covers(level: &PlatformLevel, subject: Subject<'_>, svn: &[u8; 16], start: usize) -> bool {
    let at_least = |own: &[u8], least: &[u8]| own.iter().zip(least).all(|(own, least)| own >= least);
    let tail = |components: &[u8; 16]| components.iter().copied().skip(start).collect::<Vec<u8>>();
    at_least(subject.components, &level.sgx) && subject.pce_svn >= level.pce_svn && at_least(&tail(svn), &tail(&level.tdx))
}

/// The platform's status where a component is out of date.
const fn converge(platform: TcbStatus) -> TcbStatus {
    match platform {
        TcbStatus::UpToDate | TcbStatus::SwHardeningNeeded => TcbStatus::OutOfDate,
        TcbStatus::ConfigurationNeeded | TcbStatus::ConfigurationAndSwHardeningNeeded => TcbStatus::OutOfDateConfigurationNeeded,
        other => other,
    }
}

/// The status of a TD that was launched under one TCB and runs under another: it descends from the first.
const fn relaunch(launched: TcbStatus, current: TcbStatus) -> TcbStatus {
    use TcbStatus::{
        ConfigurationAndSwHardeningNeeded, ConfigurationNeeded, OutOfDate, OutOfDateConfigurationNeeded, RelaunchAdvised,
        RelaunchAdvisedConfigurationNeeded, SwHardeningNeeded, UpToDate,
    };
    match (launched, current) {
        (OutOfDate, UpToDate | SwHardeningNeeded) => RelaunchAdvised,
        (OutOfDate, ConfigurationNeeded | ConfigurationAndSwHardeningNeeded)
        | (OutOfDateConfigurationNeeded, UpToDate | SwHardeningNeeded | ConfigurationNeeded | ConfigurationAndSwHardeningNeeded) => {
            RelaunchAdvisedConfigurationNeeded
        }
        (launched, _) => launched,
    }
}
