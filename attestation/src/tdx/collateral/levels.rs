//! TCB levels: what Intel says of each TCB, in descending order whatever the order of the document.

use std::cmp::Reverse;

use protocol::time::UnixTime;

use super::json::{RawIsvTcb, RawLevel};
use crate::claims::TcbStatus;
use crate::tdx::rejection::TdxRejection;

/// What a level says of its TCB.
pub(in crate::tdx) struct Verdict {
    pub(in crate::tdx) standing: Standing,
    pub(in crate::tdx) date: UnixTime,
    /// The earliest date that a document at hand gives the level. Intel dates a level anew for as long as nothing is known against it, so
    /// that `date` is not when the level came out.
    pub(in crate::tdx) first_dated: UnixTime,
    pub(in crate::tdx) advisories: Vec<String>,
}

/// A status that a document can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tdx) enum Standing {
    Is(TcbStatus),
    Revoked,
}

/// Which level of which part: the same one in documents of different dates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::tdx) enum LevelName {
    Platform { fmspc: [u8; 6], sgx: [u8; 16], pce_svn: u16, tdx: [u8; 16] },
    Module { fmspc: [u8; 6], version: u8, isv_svn: u16 },
    QuotingEnclave { isv_svn: u16 },
}

/// A level whose TCB is one ISVSVN.
pub(in crate::tdx) struct IsvLevel {
    pub(in crate::tdx) isv_svn: u16,
    pub(in crate::tdx) verdict: Verdict,
}

impl<T> RawLevel<T> {
    /// The TCB, and the verdict on it.
    pub(super) fn check(self, document: &'static str) -> Result<(T, Verdict), TdxRejection> {
        let standing = match self.tcb_status.as_str() {
            "UpToDate" => Standing::Is(TcbStatus::UpToDate),
            "SWHardeningNeeded" => Standing::Is(TcbStatus::SwHardeningNeeded),
            "ConfigurationNeeded" => Standing::Is(TcbStatus::ConfigurationNeeded),
            "ConfigurationAndSWHardeningNeeded" => Standing::Is(TcbStatus::ConfigurationAndSwHardeningNeeded),
            "OutOfDate" => Standing::Is(TcbStatus::OutOfDate),
            "OutOfDateConfigurationNeeded" => Standing::Is(TcbStatus::OutOfDateConfigurationNeeded),
            "Revoked" => Standing::Revoked,
            _ => return Err(TdxRejection::TcbStatusUnknown { document, found: self.tcb_status }),
        };
        let date = self.tcb_date;
        Ok((self.tcb, Verdict { standing, date, first_dated: date, advisories: self.advisories }))
    }
}

/// Checks levels by ISVSVN and puts the highest first.
pub(super) fn by_isv_svn(levels: Vec<RawLevel<RawIsvTcb>>, document: &'static str) -> Result<Vec<IsvLevel>, TdxRejection> {
    let check = |level: RawLevel<RawIsvTcb>| level.check(document).map(|(tcb, verdict)| IsvLevel { isv_svn: tcb.isvsvn, verdict });
    let levels: Result<Vec<IsvLevel>, TdxRejection> = levels.into_iter().map(check).collect();
    descending(levels?, |level| level.isv_svn, document)
}

/// Sorts levels by a key, the highest first; none may stand twice.
pub(super) fn descending<T, K: Ord>(mut levels: Vec<T>, key: impl Fn(&T) -> K, document: &'static str) -> Result<Vec<T>, TdxRejection> {
    levels.sort_by_key(|level| Reverse(key(level)));
    let twice = levels.iter().zip(levels.iter().skip(1)).any(|(one, next)| key(one) == key(next));
    if twice { Err(TdxRejection::TcbLevelDuplicate { document }) } else { Ok(levels) }
}
