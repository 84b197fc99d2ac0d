//! One soft machine: what it is, and when what is issued for it is valid.

use sha2::{Digest, Sha256};

use super::document::upper_hex;
use super::guest::{SoftTdGuest, TdShape};
pub use crate::snp::Root;
use crate::x509::Window;

/// An authority over PCK certificates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PckAuthority {
    /// Intel SGX PCK Platform CA: machines of several packages.
    Platform,
    /// Intel SGX PCK Processor CA: machines of one.
    Processor,
}

/// A place in the hierarchy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Intel SGX Root CA.
    Root,
    /// Either authority over PCK certificates.
    PckAuthority(PckAuthority),
    /// The machine's own Intel SGX PCK Certificate.
    Pck,
    /// Intel SGX TCB Signing.
    TcbSigner,
}

/// When a platform's certificates, lists and documents are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Root, PCK authorities, TCB signer.
    pub authorities: Window,
    /// PCK certificate.
    pub pck: Window,
    /// The root's revocation list.
    pub root_list: Window,
    /// A PCK authority's revocation list.
    pub pck_list: Window,
    /// TCB info and QE identity: `issueDate` to `nextUpdate`.
    pub documents: Window,
}

/// 2018-05-21 10:45:10 UTC.
const AUTHORITIES_FROM: u64 = 1_526_899_510;
/// 2024-01-01 00:00:00 UTC.
const PCK_FROM: u64 = 1_704_067_200;
/// 2025-09-01 00:00:00 UTC: behind every `tcbDate` of the soft platform.
const DOCUMENTS_FROM: u64 = 1_756_684_800;
/// 2049-12-31 23:59:59 UTC: tests and demo work on any plausible clock.
const FAR: u64 = 2_524_607_999;
const DAY: u64 = 86_400;

impl Default for Validity {
    /// Wide windows: authorities from May 2018, PCK certificate from January 2024, lists and documents from September 2025, all to the end of
    /// 2049.
    fn default() -> Self {
        let from = |not_before| Window { not_before, not_after: FAR };
        Self {
            authorities: from(AUTHORITIES_FROM),
            pck: from(PCK_FROM),
            root_list: from(DOCUMENTS_FROM),
            pck_list: from(DOCUMENTS_FROM),
            documents: from(DOCUMENTS_FROM),
        }
    }
}

/// One machine, under a soft root.
///
/// Certificates, keys and documents follow the public fields: set a field and everything made afterwards agrees with it. The documents of
/// [`Self::tcb_info`] and [`Self::qe_identity`] do not follow the SVNs, since Intel's do not: an older machine is out of date. For one thing
/// wrong and all else right, take [`Self::pck_with`] and its siblings, or change a builder.
#[derive(Clone, Debug)]
pub struct SoftTdx {
    /// The hierarchy.
    pub root: Root,
    /// The authority over its PCK certificate.
    pub authority: PckAuthority,
    /// FMSPC; the soft machine has one that no real one has.
    pub fmspc: [u8; 6],
    /// PCEID.
    pub pce_id: [u8; 2],
    /// PPID.
    pub ppid: [u8; 16],
    /// Sixteen component SVNs, which are the CPUSVN too.
    pub components: [u8; 16],
    /// PCESVN.
    pub pce_svn: u16,
    /// Platform instance id: platform authority only.
    pub platform_instance: [u8; 16],
    /// Packages can be added: platform authority only.
    pub dynamic_platform: bool,
    /// Intel keeps the platform's root keys: platform authority only.
    pub cached_keys: bool,
    /// Simultaneous multithreading: platform authority only.
    pub smt_enabled: bool,
    /// TEE_TCB_SVN: byte 0 is the module's minor SVN, byte 1 its major version, byte 2 the microcode's.
    pub tee_tcb_svn: [u8; 16],
    /// ISVSVN of the quoting enclave.
    pub qe_isv_svn: u16,
    /// `tcbEvaluationDataNumber` of its documents.
    pub evaluation: u32,
    /// Validity of certificates, lists and documents.
    pub validity: Validity,
}

impl Default for SoftTdx {
    fn default() -> Self {
        Self::new()
    }
}

impl SoftTdx {
    /// An up-to-date machine of several packages under the trusted test root, with module 1.5 and everything as of 2026.
    #[must_use]
    pub fn new() -> Self {
        Self {
            root: Root::Trusted,
            authority: PckAuthority::Platform,
            fmspc: [0x77, 0x06, 0xfe, 0, 0, 0],
            pce_id: [0, 0],
            ppid: identifier("ppid", "first"),
            components: [4, 4, 2, 2, 4, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0],
            pce_svn: 11,
            platform_instance: identifier("instance", "first"),
            dynamic_platform: true,
            cached_keys: true,
            smt_enabled: true,
            tee_tcb_svn: [11, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            qe_isv_svn: 8,
            evaluation: 20,
            validity: Validity::default(),
        }
    }

    /// The same machine under another hierarchy.
    #[must_use]
    pub fn under(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// The same machine with a PCK certificate of the other authority.
    #[must_use]
    pub fn certified_by(mut self, authority: PckAuthority) -> Self {
        self.authority = authority;
        self
    }

    /// Another machine of the same make, told apart by `name`.
    #[must_use]
    pub fn with_chip(mut self, name: &str) -> Self {
        self.ppid = identifier("ppid", name);
        self.platform_instance = identifier("instance", name);
        self
    }

    /// Applies any change and hands the machine back.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// A PCK certificate of seven years from the day before `now`; lists and documents made at midnight of that day, the root's list for one
    /// year, the others for thirty days, as Intel makes them. `now` is in seconds since 1970-01-01 UTC; two processes agree on the bytes on
    /// the same day.
    #[must_use]
    pub fn dated(mut self, now: u64) -> Self {
        let yesterday = (now / DAY).saturating_sub(1) * DAY;
        let days = |days: u64| Window { not_before: yesterday, not_after: yesterday + days * DAY };
        self.validity.pck = days(7 * 365);
        self.validity.root_list = days(365);
        self.validity.pck_list = days(30);
        self.validity.documents = days(30);
        self
    }

    /// FMSPC as documents and addresses have it: upper-case hex.
    #[must_use]
    pub fn fmspc_hex(&self) -> String {
        upper_hex(&self.fmspc)
    }

    /// A TD on this machine.
    #[must_use]
    pub fn guest(&self, shape: TdShape) -> SoftTdGuest {
        SoftTdGuest::new(self.clone(), shape)
    }
}

fn identifier(kind: &str, name: &str) -> [u8; 16] {
    Sha256::digest(format!("portcullis testbed {kind} {name}"))[..16].try_into().expect("16 of 32 bytes")
}
