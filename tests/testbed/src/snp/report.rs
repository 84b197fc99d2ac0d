//! The attestation report (AMD 56860, table "ATTESTATION_REPORT Structure"): fields by name on one side, 1184 bytes on the other.

use p384::elliptic_curve::bigint::{ArrayEncoding, U384};
use p384::{ecdsa::SigningKey, ecdsa::signature::Signer};

use super::platform::{Line, Tcb};

/// Bytes of a report.
pub const REPORT_LENGTH: usize = 0x4a0;

/// Where the signature begins; everything before it is signed.
pub const SIGNATURE_OFFSET: usize = 0x2a0;

/// Bytes of each of the two numbers of a signature, 48 of them significant, little-endian.
const SCALAR_LENGTH: usize = 72;

/// Order of P-384's group (SEC 2 version 2, section 2.5.1), big-endian.
const ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf, 0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a,
    0xcc, 0xc5, 0x29, 0x73,
];

/// Family, model and stepping as CPUID function 1 gives them, combined (version 3 and later).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cpuid {
    /// Base plus extended family: 0x19 for Milan and Genoa, 0x1a for Turin.
    pub family: u8,
    /// Combined model.
    pub model: u8,
    /// Stepping.
    pub stepping: u8,
}

/// A version of the SNP firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirmwareVersion {
    /// Major.
    pub major: u8,
    /// Minor.
    pub minor: u8,
    /// Build.
    pub build: u8,
}

/// Values of the key information word at 0x48.
pub struct KeyInfo;

impl KeyInfo {
    /// Bit 0: the author key digest is meaningful.
    pub const AUTHOR_KEY_EN: u32 = 1;
    /// Bit 1: the platform does not sign.
    pub const MASK_CHIP_KEY: u32 = 1 << 1;
    /// Bits 4:2: signed with the VCEK.
    pub const VCEK: u32 = 0;
    /// Bits 4:2: signed with the VLEK.
    pub const VLEK: u32 = 1 << 2;
    /// Bits 4:2: not signed.
    pub const NONE: u32 = 7 << 2;
}

/// An attestation report before it is signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportBuilder {
    /// 0x000: VERSION.
    pub version: u32,
    /// 0x004: GUEST_SVN.
    pub guest_svn: u32,
    /// 0x008: POLICY.
    pub policy: u64,
    /// 0x010: FAMILY_ID.
    pub family_id: [u8; 16],
    /// 0x020: IMAGE_ID.
    pub image_id: [u8; 16],
    /// 0x030: VMPL.
    pub vmpl: u32,
    /// 0x034: SIGNATURE_ALGO, 1 for ECDSA P-384 with SHA-384.
    pub signature_algorithm: u32,
    /// 0x038: CURRENT_TCB.
    pub current_tcb: Tcb,
    /// 0x040: PLATFORM_INFO.
    pub platform_info: u64,
    /// 0x048: key information, of [`KeyInfo`]'s values. [`super::SoftPlatform::sign`] takes the VLEK when bits 4:2 say so, and the VCEK otherwise.
    pub key_info: u32,
    /// 0x050: REPORT_DATA.
    pub report_data: [u8; 64],
    /// 0x090: MEASUREMENT.
    pub measurement: [u8; 48],
    /// 0x0c0: HOST_DATA.
    pub host_data: [u8; 32],
    /// 0x0e0: ID_KEY_DIGEST.
    pub id_key_digest: [u8; 48],
    /// 0x110: AUTHOR_KEY_DIGEST.
    pub author_key_digest: [u8; 48],
    /// 0x140: REPORT_ID.
    pub report_id: [u8; 32],
    /// 0x160: REPORT_ID_MA, all ones when there is no migration agent.
    pub report_id_ma: [u8; 32],
    /// 0x180: REPORTED_TCB.
    pub reported_tcb: Tcb,
    /// 0x188: CPUID family, model, stepping; `None` writes the zeros of version 2.
    pub cpuid: Option<Cpuid>,
    /// 0x1a0: CHIP_ID.
    pub chip_id: [u8; 64],
    /// 0x1e0: COMMITTED_TCB.
    pub committed_tcb: Tcb,
    /// 0x1e8: CURRENT_BUILD, CURRENT_MINOR, CURRENT_MAJOR.
    pub current_version: FirmwareVersion,
    /// 0x1ec: COMMITTED_BUILD, COMMITTED_MINOR, COMMITTED_MAJOR.
    pub committed_version: FirmwareVersion,
    /// 0x1f0: LAUNCH_TCB.
    pub launch_tcb: Tcb,
    /// 0x1f8: LAUNCH_MIT_VECTOR; `None` writes the zeros of versions 2 to 4.
    pub launch_mitigations: Option<u64>,
    /// 0x200: CURRENT_MIT_VECTOR; `None` writes the zeros of versions 2 to 4.
    pub current_mitigations: Option<u64>,
    /// In whose layout the four TCB versions are written.
    pub tcb_layout: Line,
    /// Bytes that are set last, before signing: offset and value.
    pub overrides: Vec<(usize, u8)>,
}

impl ReportBuilder {
    /// Applies a change and hands the report back.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// Sets the byte at `offset`, whatever field it belongs to, before signing.
    #[must_use]
    pub fn set_byte(mut self, offset: usize, value: u8) -> Self {
        self.overrides.push((offset, value));
        self
    }

    /// The 1184 bytes with an empty signature.
    ///
    /// # Panics
    /// When an override lies outside the report.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; REPORT_LENGTH];
        let mut put = |offset: usize, field: &[u8]| bytes[offset..offset + field.len()].copy_from_slice(field);
        put(0x000, &self.version.to_le_bytes());
        put(0x004, &self.guest_svn.to_le_bytes());
        put(0x008, &self.policy.to_le_bytes());
        put(0x010, &self.family_id);
        put(0x020, &self.image_id);
        put(0x030, &self.vmpl.to_le_bytes());
        put(0x034, &self.signature_algorithm.to_le_bytes());
        put(0x038, &self.current_tcb.bytes(self.tcb_layout));
        put(0x040, &self.platform_info.to_le_bytes());
        put(0x048, &self.key_info.to_le_bytes());
        put(0x050, &self.report_data);
        put(0x090, &self.measurement);
        put(0x0c0, &self.host_data);
        put(0x0e0, &self.id_key_digest);
        put(0x110, &self.author_key_digest);
        put(0x140, &self.report_id);
        put(0x160, &self.report_id_ma);
        put(0x180, &self.reported_tcb.bytes(self.tcb_layout));
        if let Some(cpuid) = self.cpuid {
            put(0x188, &[cpuid.family, cpuid.model, cpuid.stepping]);
        }
        put(0x1a0, &self.chip_id);
        put(0x1e0, &self.committed_tcb.bytes(self.tcb_layout));
        put(0x1e8, &self.current_version.bytes());
        put(0x1ec, &self.committed_version.bytes());
        put(0x1f0, &self.launch_tcb.bytes(self.tcb_layout));
        put(0x1f8, &self.launch_mitigations.unwrap_or(0).to_le_bytes());
        put(0x200, &self.current_mitigations.unwrap_or(0).to_le_bytes());
        for (offset, value) in &self.overrides {
            bytes[*offset] = *value;
        }
        bytes
    }
}

impl FirmwareVersion {
    /// Build, minor, major: the order in the report.
    fn bytes(self) -> [u8; 3] {
        [self.build, self.minor, self.major]
    }
}

/// Signs bytes 0 to 0x2a0 and writes the signature at 0x2a0 (AMD 56860, chapter "Digital Signatures": R and S little-endian, 72 bytes each).
pub(super) fn sign(report: &mut [u8], key: &SigningKey) {
    let signature: p384::ecdsa::Signature = key.sign(&report[..SIGNATURE_OFFSET]);
    report[SIGNATURE_OFFSET..].fill(0);
    let bytes = signature.to_bytes();
    write_scalar(report, Scalar::R, bytes[..48].try_into().expect("48 bytes"));
    write_scalar(report, Scalar::S, bytes[48..].try_into().expect("48 bytes"));
}

#[derive(Clone, Copy)]
enum Scalar {
    R,
    S,
}

impl Scalar {
    fn offset(self) -> usize {
        match self {
            Self::R => SIGNATURE_OFFSET,
            Self::S => SIGNATURE_OFFSET + SCALAR_LENGTH,
        }
    }
}

fn write_scalar(report: &mut [u8], which: Scalar, mut big_endian: [u8; 48]) {
    big_endian.reverse();
    report[which.offset()..which.offset() + 48].copy_from_slice(&big_endian);
}

fn read_scalar(report: &[u8], which: Scalar) -> [u8; 48] {
    let mut bytes: [u8; 48] = report[which.offset()..which.offset() + 48].try_into().expect("48 bytes");
    bytes.reverse();
    bytes
}

/// What can be wrong with the signature field of a signed report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFlaw {
    /// The lowest bit of R is flipped.
    FlippedR,
    /// The lowest bit of S is flipped.
    FlippedS,
    /// R is zero.
    ZeroR,
    /// S is zero.
    ZeroS,
    /// R is the order of the group.
    OrderR,
    /// S is the order of the group.
    OrderS,
    /// The last of R's 24 upper bytes is 1.
    UpperR,
    /// The first of S's 24 upper bytes is 1.
    UpperS,
    /// The last of the reserved bytes behind S is 1.
    Reserved,
    /// The whole field is zero, as a platform leaves it that does not sign.
    Empty,
    /// R and S are big-endian.
    BigEndian,
    /// S is replaced by the order minus S: another valid signature of the same report.
    NegatedS,
}

impl SignatureFlaw {
    /// Every flaw that makes the field invalid: all but [`Self::NegatedS`].
    pub const INVALID: [Self; 11] = [
        Self::FlippedR,
        Self::FlippedS,
        Self::ZeroR,
        Self::ZeroS,
        Self::OrderR,
        Self::OrderS,
        Self::UpperR,
        Self::UpperS,
        Self::Reserved,
        Self::Empty,
        Self::BigEndian,
    ];

    /// Applies the flaw to a signed report.
    ///
    /// # Panics
    /// When `report` is not 1184 bytes.
    pub fn apply(self, report: &mut [u8]) {
        assert_eq!(report.len(), REPORT_LENGTH, "a signed report");
        let (r, s) = (Scalar::R, Scalar::S);
        match self {
            Self::FlippedR => report[r.offset()] ^= 1,
            Self::FlippedS => report[s.offset()] ^= 1,
            Self::ZeroR => write_scalar(report, r, [0; 48]),
            Self::ZeroS => write_scalar(report, s, [0; 48]),
            Self::OrderR => write_scalar(report, r, ORDER),
            Self::OrderS => write_scalar(report, s, ORDER),
            Self::UpperR => report[r.offset() + SCALAR_LENGTH - 1] = 1,
            Self::UpperS => report[s.offset() + 48] = 1,
            Self::Reserved => report[REPORT_LENGTH - 1] = 1,
            Self::Empty => report[SIGNATURE_OFFSET..].fill(0),
            Self::BigEndian => {
                for which in [r, s] {
                    report[which.offset()..which.offset() + 48].reverse();
                }
            }
            Self::NegatedS => {
                let negated = U384::from_be_slice(&ORDER).wrapping_sub(&U384::from_be_slice(&read_scalar(report, s)));
                write_scalar(report, s, negated.to_be_byte_array().into());
            }
        }
    }
}
