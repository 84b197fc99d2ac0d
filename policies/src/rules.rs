//! A policy after reading: every rule with its value, defaults filled in. Made by [`crate::compile`] alone.

mod tdx;

use std::time::Duration;

use attestation::{FirmwareVersion, PlatformClaims, ProductLine, SigningKeyKind, Tcb};
use protocol::ids::{Digest, Name, Role};

use crate::identity::IdentityRules;
use crate::sets::{List, NamedSets};

pub(crate) use tdx::{Event, EventRule, Register, RegisterValue, Tdx, TdxTcb};

/// Rules for every kind of platform, and one table for each kind.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) description: Option<String>,
    pub(crate) role: Role,
    pub(crate) configuration: Configuration,
    pub(crate) attestation_lifetime: Duration,
    pub(crate) revocation: Age,
    pub(crate) second_opinion_exceptions: Vec<SecondOpinionException>,
    /// Whose signature the record's statement must bear.
    pub(crate) publishers: Option<NamedSets<32>>,
    /// Who a guest is that passes.
    pub(crate) identity: Option<IdentityRules>,
    /// At least one of the two is there.
    pub(crate) snp: Option<Snp>,
    pub(crate) tdx: Option<Tdx>,
}

/// What the digest of the guest's configuration must be.
#[derive(Debug)]
pub(crate) enum Configuration {
    /// The launch measurement covers it: `config-is-measured`.
    IsMeasured,
    /// One of these.
    OneOf(List<Digest>),
}

/// How old a list or document of the vendor's may be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Age {
    /// As old as its own next-update time says.
    InForce,
    /// This old, whatever its next-update time says.
    AtMost(Duration),
}

/// A kind of evidence that the independent parser cannot read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum SecondOpinionException {
    /// An SNP report of version 2 without a chip id: the parser guesses the TCB layout from the chip id.
    MaskedVersion2,
    /// A TDX quote of version 5: the verifier reads version 4.
    Version5Quote,
    /// Any TDX quote: for brokers that were built without the second verifier.
    AnyQuote,
}

impl SecondOpinionException {
    pub(crate) const ALL: [Self; 3] = [Self::MaskedVersion2, Self::Version5Quote, Self::AnyQuote];

    /// Its word in the language.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MaskedVersion2 => "masked-version-2-report",
            Self::Version5Quote => "version-5-quote",
            Self::AnyQuote => "any-quote",
        }
    }

    /// Whether evidence is of this kind.
    pub(crate) const fn covers(self, claims: &PlatformClaims) -> bool {
        match (self, claims) {
            (Self::MaskedVersion2, PlatformClaims::Snp(claims)) => claims.version == 2 && claims.chip_id.is_none(),
            (Self::Version5Quote, PlatformClaims::Tdx(claims)) => claims.quote_version == 5,
            (Self::AnyQuote, PlatformClaims::Tdx(_)) => true,
            (Self::MaskedVersion2, PlatformClaims::Tdx(_)) | (Self::Version5Quote | Self::AnyQuote, PlatformClaims::Snp(_)) => false,
        }
    }
}

/// A weakness that is denied unless the policy names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exposure {
    Denied,
    Accepted,
}

/// A protection that a guest's launch may demand of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protection {
    Optional,
    Required,
}

/// Rules for AMD SEV-SNP.
#[derive(Debug)]
pub(crate) struct Snp {
    pub(crate) signing_keys: Vec<SigningKeyKind>,
    pub(crate) vmpl: List<u32>,
    pub(crate) host_data: HostValue<32>,
    pub(crate) provisional_firmware: Exposure,
    pub(crate) masked_chips: Exposure,
    /// The name of the TCB calendar; there exactly where a product's minimum comes from it.
    pub(crate) calendar: Option<Name>,
    pub(crate) measurements: Option<NamedSets<48>>,
    pub(crate) id_block: Option<IdBlock>,
    pub(crate) guest_policy: GuestPolicy,
    pub(crate) products: Products,
    pub(crate) platform_info: PlatformInfo,
    pub(crate) launch_mitigations: Option<u64>,
    pub(crate) current_mitigations: Option<u64>,
    pub(crate) chips_allowed: Option<List<[u8; 64]>>,
    pub(crate) chips_denied: Option<List<[u8; 64]>>,
    pub(crate) csps_allowed: Option<List<String>>,
    pub(crate) csps_denied: Option<List<String>>,
}

/// What a value must be that the host chose at launch.
#[derive(Debug)]
pub(crate) enum HostValue<const N: usize> {
    AllZero,
    OneOf(List<[u8; N]>),
    /// The digest of the guest's configuration, from its transcript, and zeros up to the value's size.
    ConfigurationDigest,
    /// Anything, by this word.
    NotTrusted(&'static str),
}

/// Who must have signed the guest's ID block, and what it must say.
#[derive(Debug)]
pub(crate) struct IdBlock {
    pub(crate) id_keys: Option<NamedSets<48>>,
    pub(crate) author_keys: Option<NamedSets<48>>,
    pub(crate) minimum_guest_svn: u32,
    pub(crate) family_ids: Option<List<[u8; 16]>>,
    pub(crate) image_ids: Option<List<[u8; 16]>>,
}

/// What the guest may have been launched with. Debugging and migration are not here: no policy can accept them.
#[derive(Debug)]
pub(crate) struct GuestPolicy {
    pub(crate) smt: Exposure,
    pub(crate) cxl: Exposure,
    pub(crate) single_socket: Protection,
    pub(crate) mem_aes_256_xts: Protection,
    pub(crate) rapl_disabled: Protection,
    pub(crate) ciphertext_hiding: Protection,
    pub(crate) page_swap_disabled: Protection,
    pub(crate) minimum_abi: (u8, u8),
}

/// The processor lines that may run the guest.
#[derive(Debug)]
pub(crate) struct Products {
    pub(crate) milan: Option<Product>,
    pub(crate) genoa: Option<Product>,
    pub(crate) turin: Option<Product>,
}

impl Products {
    pub(crate) const fn of(&self, line: ProductLine) -> Option<&Product> {
        match line {
            ProductLine::Milan => self.milan.as_ref(),
            ProductLine::Genoa => self.genoa.as_ref(),
            ProductLine::Turin => self.turin.as_ref(),
        }
    }
}

/// What a processor of one line must run.
#[derive(Debug)]
pub(crate) struct Product {
    pub(crate) committed: Floor,
    pub(crate) reported: Floor,
    pub(crate) launch: Floor,
    /// How long after a baseline's date the one before it still does; there exactly where a floor is the calendar's.
    pub(crate) grace: Option<Duration>,
    pub(crate) firmware: Option<FirmwareVersion>,
}

impl Product {
    pub(crate) const fn floors(&self) -> [Floor; 3] {
        [self.committed, self.reported, self.launch]
    }
}

/// Where a minimum TCB comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    /// The policy.
    Fixed(Tcb),
    /// The TCB calendar.
    Calendar,
}

/// Masks over PLATFORM_INFO.
#[derive(Debug)]
pub(crate) struct PlatformInfo {
    pub(crate) must_be_set: u64,
    pub(crate) must_be_clear: u64,
}

/// PLATFORM_INFO bits by name (AMD 56860, table "ATTESTATION_REPORT"); `attestation` rejects bits that nobody documented.
pub(crate) const PLATFORM_BITS: [(u64, &str); 7] = [
    (1 << 0, "smt-enabled"),
    (1 << 1, "tsme-enabled"),
    (1 << 2, "ecc-enabled"),
    (1 << 3, "rapl-disabled"),
    (1 << 4, "ciphertext-hiding-enabled"),
    (1 << 5, "alias-check-complete"),
    (1 << 7, "tio-enabled"),
];
