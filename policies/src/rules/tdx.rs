//! Rules for Intel TDX.

use std::time::Duration;

use protocol::time::UnixTime;

use super::{Age, Exposure, HostValue};
use crate::sets::{List, NamedSets};

/// Rules for Intel TDX.
#[derive(Debug)]
pub(crate) struct Tdx {
    pub(crate) measurements: NamedSets<48>,
    /// RTMR0 to RTMR3.
    pub(crate) registers: [Register; 4],
    pub(crate) modules: Option<NamedSets<48>>,
    pub(crate) pks: Exposure,
    pub(crate) key_locker: Exposure,
    pub(crate) perfmon: Exposure,
    /// The features that may be enabled.
    pub(crate) xfam: u64,
    pub(crate) mrconfigid: HostValue<48>,
    pub(crate) mrowner: HostValue<48>,
    pub(crate) mrownerconfig: HostValue<48>,
    pub(crate) service_td: HostValue<48>,
    pub(crate) vm_ids: List<u8>,
    pub(crate) td_id: HostValue<32>,
    pub(crate) device_info: HostValue<48>,
    pub(crate) fmspcs: Option<List<[u8; 6]>>,
    pub(crate) instances_allowed: Option<List<[u8; 16]>>,
    pub(crate) instances_denied: Option<List<[u8; 16]>>,
    pub(crate) ppids_allowed: Option<List<[u8; 16]>>,
    pub(crate) ppids_denied: Option<List<[u8; 16]>>,
    pub(crate) smt: Exposure,
    pub(crate) tcb: TdxTcb,
    pub(crate) collateral: Age,
}

/// What one runtime register must hold. At least one of the two is there.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) value: Option<RegisterValue>,
    pub(crate) events: Option<EventRule>,
}

/// What the value of a register must be.
#[derive(Debug)]
pub(crate) enum RegisterValue {
    /// Never extended.
    AllZero,
    OneOf(NamedSets<48>),
    /// Anything: `not-checked`.
    NotChecked,
}

/// An event that a register was extended with.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Event {
    pub(crate) kind: u32,
    pub(crate) digest: [u8; 48],
}

/// What the events of a register must be. None but these.
#[derive(Debug)]
pub(crate) enum EventRule {
    /// Exactly one of these, from first to last, by name.
    Sequences(Vec<(String, Vec<Event>)>),
    /// Each one of `allowed`, in any order and number, all of `required` among them.
    Allowed { allowed: List<Event>, required: Vec<Event> },
}

/// What Intel's collateral must say of the platform.
#[derive(Debug)]
pub(crate) struct TdxTcb {
    /// The advisories with which each status is accepted; `None`: it is not.
    pub(crate) sw_hardening: Option<List<String>>,
    pub(crate) configuration: Option<List<String>>,
    pub(crate) configuration_and_sw_hardening: Option<List<String>>,
    /// How long a platform may stay behind.
    pub(crate) grace: Option<Duration>,
    pub(crate) denied_advisories: Option<List<String>>,
    pub(crate) not_before: Option<UnixTime>,
    pub(crate) minimum_evaluation: Option<u32>,
}
