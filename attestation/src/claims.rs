//! What verified evidence says: plain data that a policy can read, and the two types that vouch for it.
//!
//! [`PlatformClaims`] alone proves nothing: it is data. [`VerifiedClaims`] and [`GenuineEvidence`] carry it after
//! [`crate::verify`] and [`crate::judge`] have passed every step; there is no other way to make one.

mod tdx;

use std::fmt;

use protocol::encoding::hex;
use protocol::ids::AnchorClass;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use serde::{Deserialize, Serialize};

pub use tdx::{
    CollateralSource, EventLog, MeasuredEvent, PckAuthority, PckClaims, TcbPart, TcbStatus, TcbVerdict, TdAttributes, TdBody, TdExtended,
    TdxClaims,
};

/// Claims of evidence that answered one transcript: what policies decide a release on.
/// Made by [`crate::verify`] and [`crate::verify_again`] alone.
#[derive(Debug)]
pub struct VerifiedClaims {
    platform: PlatformClaims,
    transcript: Transcript,
    anchors: AnchorClass,
    verified_at: UnixTime,
}

impl VerifiedClaims {
    pub(crate) fn new(platform: PlatformClaims, transcript: Transcript, anchors: AnchorClass, verified_at: UnixTime) -> Self {
        Self { platform, transcript, anchors, verified_at }
    }

    /// The same, first verified at an earlier time.
    pub(crate) fn since(self, verified_at: UnixTime) -> Self {
        Self { verified_at, ..self }
    }

    /// What the platform said of the guest and of itself.
    #[must_use]
    pub const fn platform(&self) -> &PlatformClaims {
        &self.platform
    }

    /// The transcript that the report data proved: the guest's keys, role and configuration.
    #[must_use]
    pub const fn transcript(&self) -> &Transcript {
        &self.transcript
    }

    /// Under whose roots.
    #[must_use]
    pub const fn anchors(&self) -> AnchorClass {
        self.anchors
    }

    /// When the evidence was verified for the first time: the age of the attestation counts from here.
    #[must_use]
    pub const fn verified_at(&self) -> UnixTime {
        self.verified_at
    }
}

/// Claims of evidence that is genuine, judged without a session: good for data only, never for a release.
/// Made by [`crate::judge`] alone.
#[derive(Debug)]
pub struct GenuineEvidence {
    platform: PlatformClaims,
    anchors: AnchorClass,
    steps: Vec<Step>,
}

impl GenuineEvidence {
    pub(crate) fn new(platform: PlatformClaims, anchors: AnchorClass, steps: Vec<Step>) -> Self {
        Self { platform, anchors, steps }
    }

    /// What the platform said of the guest and of itself.
    #[must_use]
    pub const fn platform(&self) -> &PlatformClaims {
        &self.platform
    }

    /// Under whose roots.
    #[must_use]
    pub const fn anchors(&self) -> AnchorClass {
        self.anchors
    }

    /// Every step that passed, in the order of the crate's header.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// One step that passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its number in the crate's header, from 1.
    pub number: u8,
    /// What it checks, in a few words.
    pub name: &'static str,
    /// What was compared with what, for people.
    pub compared: String,
}

/// What a platform said, by kind of platform.
#[expect(clippy::large_enum_variant, reason = "one for each guest; nothing moves it about")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "platform")]
pub enum PlatformClaims {
    /// AMD SEV-SNP.
    #[serde(rename = "sev-snp")]
    Snp(SnpClaims),
    /// Intel TDX.
    #[serde(rename = "tdx")]
    Tdx(TdxClaims),
}

/// Everything in an SNP attestation report that a policy can read (AMD 56860, table "ATTESTATION_REPORT"), and what the
/// certificates and revocation lists add to it. Byte strings stand as stored; in JSON they are lower-case hex.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SnpClaims {
    /// VERSION of the report: 2 to 5.
    pub version: u32,
    /// The processor line whose root the chain ends in.
    pub product: ProductLine,
    /// What named the line first; the certificate always agrees.
    pub product_from: ProductSource,
    /// The stepping in the certificate's product name, such as `B0`; `None` where it names the line alone.
    pub stepping: Option<String>,
    /// GUEST_SVN, from the ID block; 0 without one.
    pub guest_svn: u32,
    /// POLICY: what the host was bound to when it launched the guest.
    pub guest_policy: GuestPolicy,
    /// FAMILY_ID, from the ID block.
    #[serde(with = "hex")]
    pub family_id: [u8; 16],
    /// IMAGE_ID, from the ID block.
    #[serde(with = "hex")]
    pub image_id: [u8; 16],
    /// VMPL that asked for the report: 0 to 3.
    pub vmpl: u32,
    /// PLATFORM_INFO bits.
    #[serde(serialize_with = "bits")]
    pub platform_info: u64,
    /// SIGNING_KEY: which kind of key signed.
    pub signing_key: SigningKeyKind,
    /// AUTHOR_KEY_EN: whether an author key vouched for the ID key.
    pub author_key_enabled: bool,
    /// REPORT_DATA: what the guest put in.
    #[serde(with = "hex")]
    pub report_data: [u8; 64],
    /// MEASUREMENT: the launch digest (SHA-384).
    #[serde(with = "hex")]
    pub measurement: [u8; 48],
    /// HOST_DATA: what the host put in at launch.
    #[serde(with = "hex")]
    pub host_data: [u8; 32],
    /// ID_KEY_DIGEST: SHA-384 of the key that signed the ID block; zero without one.
    #[serde(with = "hex")]
    pub id_key_digest: [u8; 48],
    /// AUTHOR_KEY_DIGEST; `None` unless [`Self::author_key_enabled`].
    #[serde(serialize_with = "optional_hex")]
    pub author_key_digest: Option<[u8; 48]>,
    /// REPORT_ID: this guest instance.
    #[serde(with = "hex")]
    pub report_id: [u8; 32],
    /// REPORT_ID_MA: its migration agent; all ones where there is none.
    #[serde(with = "hex")]
    pub report_id_ma: [u8; 32],
    /// CHIP_ID, as the VCEK confirmed it; `None` where the report does not name the chip.
    #[serde(serialize_with = "optional_hex")]
    pub chip_id: Option<[u8; 64]>,
    /// CSP_ID of the VLEK; `None` under a VCEK.
    pub csp_id: Option<String>,
    /// CURRENT_TCB.
    pub current_tcb: Tcb,
    /// REPORTED_TCB: the one that the signing key was derived from.
    pub reported_tcb: Tcb,
    /// COMMITTED_TCB: below it the platform cannot be rolled back.
    pub committed_tcb: Tcb,
    /// LAUNCH_TCB: the current one when the guest was launched or imported.
    pub launch_tcb: Tcb,
    /// CURRENT_VERSION of the firmware.
    pub current_version: FirmwareVersion,
    /// COMMITTED_VERSION of the firmware.
    pub committed_version: FirmwareVersion,
    /// LAUNCH_MIT_VECTOR; `None` below report version 5.
    #[serde(serialize_with = "optional_bits")]
    pub launch_mitigations: Option<u64>,
    /// CURRENT_MIT_VECTOR; `None` below report version 5.
    #[serde(serialize_with = "optional_bits")]
    pub current_mitigations: Option<u64>,
    /// What is known of revoked certificate authorities at the time of judging.
    pub revocation: Revocation,
    /// What the independent parser said.
    pub second_opinion: SecondOpinion,
}

/// Processor lines with a root of their own. Bergamo and Siena are of the Genoa line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProductLine {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004, 8004.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl ProductLine {
    /// Every line, oldest first.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name as it stands in AMD's certificates: `Milan`, `Genoa`, `Turin`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }
}

impl fmt::Display for ProductLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What named the product line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProductSource {
    /// CPUID family and model in the report (version 3 and later).
    Cpuid,
    /// The leaf certificate's product name (version 2).
    Certificate,
}

/// The kind of key that signed the report (SIGNING_KEY).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SigningKeyKind {
    /// Versioned Chip Endorsement Key: of one chip.
    Vcek,
    /// Versioned Loaded Endorsement Key: of one cloud provider.
    Vlek,
}

impl SigningKeyKind {
    /// `VCEK` or `VLEK`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Vcek => "VCEK",
            Self::Vlek => "VLEK",
        }
    }
}

impl fmt::Display for SigningKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// POLICY: what the guest may be launched with (AMD 56860, table "Guest Policy").
#[expect(clippy::struct_excessive_bools, reason = "a bit field of the vendor's, as data")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct GuestPolicy {
    /// ABI_MAJOR: least firmware ABI, major part.
    pub abi_major: u8,
    /// ABI_MINOR: least firmware ABI, minor part.
    pub abi_minor: u8,
    /// SMT may be enabled on the host.
    pub smt: bool,
    /// A migration agent may be bound to the guest.
    pub migrate_ma: bool,
    /// The host may debug the guest: it can read and write all of its memory.
    pub debug: bool,
    /// The guest may run on one socket only.
    pub single_socket: bool,
    /// CXL devices may hold memory.
    pub cxl: bool,
    /// AES-256-XTS memory encryption is required.
    pub mem_aes_256_xts: bool,
    /// RAPL must be disabled.
    pub rapl_disabled: bool,
    /// Ciphertext hiding for DRAM is required.
    pub ciphertext_hiding: bool,
    /// Guest pages must not be swapped.
    pub page_swap_disabled: bool,
    /// All 64 bits.
    #[serde(serialize_with = "bits")]
    pub raw: u64,
}

/// A TCB version, in parts; it is never compared as one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tcb {
    /// FMC; `None` before Turin.
    pub fmc: Option<u8>,
    /// Boot loader.
    pub bootloader: u8,
    /// TEE (PSP operating system).
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl Tcb {
    /// Whether every part is at least that of `floor`. A part that only one of the two has makes it false.
    #[must_use]
    pub fn is_at_least(&self, floor: &Self) -> bool {
        let fmc = match (self.fmc, floor.fmc) {
            (None, None) => true,
            (Some(own), Some(floor)) => own >= floor,
            _ => false,
        };
        fmc && self.bootloader >= floor.bootloader && self.tee >= floor.tee && self.snp >= floor.snp && self.microcode >= floor.microcode
    }
}

impl fmt::Display for Tcb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(fmc) = self.fmc {
            write!(f, "fmc {fmc} ")?;
        }
        write!(f, "bootloader {} tee {} snp {} microcode {}", self.bootloader, self.tee, self.snp, self.microcode)
    }
}

/// A version of the SNP firmware. Ordered by major, minor, build.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct FirmwareVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

impl fmt::Display for FirmwareVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.build)
    }
}

/// What is known of revoked certificate authorities. A revoked one is a [`crate::Rejection`]; this says how fresh the no is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case")]
pub enum Revocation {
    /// A list of the pinned root was in force and does not name the chain's authorities.
    Checked {
        /// When the list was issued.
        this_update: UnixTime,
        /// When the next one was due.
        next_update: UnixTime,
    },
    /// The freshest list that the pinned root signed does not name them, but is past its window.
    Stale {
        /// When the list was issued.
        this_update: UnixTime,
        /// When the next one was due: in the past.
        next_update: UnixTime,
    },
    /// No list.
    Unknown,
}

impl fmt::Display for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Checked { this_update, next_update } => write!(f, "checked with the list of {this_update}, due {next_update}"),
            Self::Stale { this_update, next_update } => write!(f, "unknown since {next_update}, when the list of {this_update} ran out"),
            Self::Unknown => f.write_str("unknown: no list"),
        }
    }
}

/// What an independent parser made of the same bytes: of an SNP report, or of a version 4 quote. It reads no collateral, and of certificates the
/// bytes of a quote's chain alone. A difference is a [`crate::Rejection`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "opinion", rename_all = "kebab-case")]
pub enum SecondOpinion {
    /// It read the same in every field of the SNP report or TD report that a policy can read.
    Agreed,
    /// It cannot read this report, for a reason on the list of known ones.
    Unavailable {
        /// The reason.
        why: &'static str,
    },
}

impl SecondOpinion {
    /// Why there is none on a TDX quote of version 4 in a build without a second verifier of quotes.
    pub const NOT_BUILT_IN: &str = "tdx-quote-is-not-built-in";
}

impl fmt::Display for SecondOpinion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agreed => f.write_str("agreed"),
            Self::Unavailable { why } => write!(f, "unavailable: {why}"),
        }
    }
}

/// A bit field as `0x…`, because JSON numbers end at 2^53.
fn bits<S: serde::Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{value:#x}"))
}

fn optional_bits<S: serde::Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => bits(value, serializer),
        None => serializer.serialize_none(),
    }
}

fn optional_hex<S: serde::Serializer, const N: usize>(value: &Option<[u8; N]>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hex::serialize(value, serializer),
        None => serializer.serialize_none(),
    }
}
