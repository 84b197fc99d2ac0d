//! The SGX extension of a PCK certificate (Intel SGX PCK certificate and CRL profile, section 1.3.5), every element of it public.

use super::certificates::oid;
use crate::der;

/// What only certificates of the platform authority say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlatformPart {
    /// .6: platform instance id.
    pub instance: [u8; 16],
    /// .7.1: packages can be added.
    pub dynamic_platform: bool,
    /// .7.2: Intel keeps the platform's root keys.
    pub cached_keys: bool,
    /// .7.3: simultaneous multithreading is on.
    pub smt_enabled: bool,
}

/// Value of the extension 1.2.840.113741.1.13.1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SgxExtension {
    /// .1: PPID.
    pub ppid: [u8; 16],
    /// .2.1 to .2.16: component SVNs. 0x80 and above take two bytes of DER.
    pub components: Vec<u64>,
    /// .2.17: PCESVN.
    pub pce_svn: u64,
    /// .2.18: CPUSVN.
    pub cpu_svn: Vec<u8>,
    /// .3: PCEID.
    pub pce_id: Vec<u8>,
    /// .4: FMSPC.
    pub fmspc: Vec<u8>,
    /// .5: SGX type: 0 standard, 1 scalable, 2 scalable with integrity.
    pub sgx_type: u8,
    /// .6 and .7; `None` under the processor authority.
    pub platform: Option<PlatformPart>,
    /// More elements behind, each a whole `SEQUENCE`: duplicates and unknown ones.
    pub more: Vec<Vec<u8>>,
    /// More elements at the end of .2, the TCB.
    pub more_in_tcb: Vec<Vec<u8>>,
    /// More elements at the end of .7, the configuration.
    pub more_in_configuration: Vec<Vec<u8>>,
    /// Elements that are left out, by suffix: `7`, `2.17`.
    pub without: Vec<&'static str>,
    /// Other encoded values of elements, by suffix.
    pub instead: Vec<(&'static str, Vec<u8>)>,
}

impl SgxExtension {
    /// The value, DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        let mut parts = vec![
            self.part("1", &der::octet_string(&self.ppid)),
            self.part("2", &der::element(0x30, &self.tcb())),
            self.part("3", &der::octet_string(&self.pce_id)),
            self.part("4", &der::octet_string(&self.fmspc)),
            self.part("5", &der::element(0x0a, &[self.sgx_type])),
        ];
        if let Some(platform) = self.platform {
            let configuration = [
                self.part("7.1", &boolean(platform.dynamic_platform)),
                self.part("7.2", &boolean(platform.cached_keys)),
                self.part("7.3", &boolean(platform.smt_enabled)),
                self.more_in_configuration.concat(),
            ];
            parts.push(self.part("6", &der::octet_string(&platform.instance)));
            parts.push(self.part("7", &der::element(0x30, &configuration.concat())));
        }
        parts.extend(self.more.iter().cloned());
        der::element(0x30, &parts.concat())
    }

    fn tcb(&self) -> Vec<u8> {
        let mut parts: Vec<u8> =
            self.components.iter().zip(1..).flat_map(|(svn, number)| self.part(&format!("2.{number}"), &der::integer(*svn))).collect();
        parts.extend(self.part("2.17", &der::integer(self.pce_svn)));
        parts.extend(self.part("2.18", &der::octet_string(&self.cpu_svn)));
        parts.extend(self.more_in_tcb.concat());
        parts
    }

    /// The element of this suffix: of this value, unless another is named or it is left out.
    fn part(&self, suffix: &str, value: &[u8]) -> Vec<u8> {
        if self.without.contains(&suffix) {
            return Vec::new();
        }
        let other = self.instead.iter().find(|(named, _)| *named == suffix);
        Self::element(suffix, other.map_or(value, |(_, other)| other))
    }

    /// `SEQUENCE` of the identifier 1.2.840.113741.1.13.1.`suffix` and an encoded value.
    #[must_use]
    pub fn element(suffix: &str, value: &[u8]) -> Vec<u8> {
        der::sequence(&[&der::oid(&format!("{}.{suffix}", oid::SGX)), value])
    }
}

fn boolean(value: bool) -> [u8; 3] {
    [0x01, 1, if value { 0xff } else { 0 }]
}
