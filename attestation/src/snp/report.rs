//! The attestation report, read field by field (AMD 56860, table "ATTESTATION_REPORT Structure").
//!
//! All integers are little-endian. Byte strings stand as stored.
//!
//! ```text
//! 0x000   4  VERSION              0x0e0  48  ID_KEY_DIGEST              0x1e8   3  CURRENT_BUILD, _MINOR, _MAJOR
//! 0x004   4  GUEST_SVN            0x110  48  AUTHOR_KEY_DIGEST          0x1eb   1  reserved
//! 0x008   8  POLICY               0x140  32  REPORT_ID                  0x1ec   3  COMMITTED_BUILD, _MINOR, _MAJOR
//! 0x010  16  FAMILY_ID            0x160  32  REPORT_ID_MA               0x1ef   1  reserved
//! 0x020  16  IMAGE_ID             0x180   8  REPORTED_TCB               0x1f0   8  LAUNCH_TCB
//! 0x030   4  VMPL                 0x188   1  CPUID_FAM_ID  (v3)         0x1f8   8  LAUNCH_MIT_VECTOR   (v5)
//! 0x034   4  SIGNATURE_ALGO       0x189   1  CPUID_MOD_ID  (v3)         0x200   8  CURRENT_MIT_VECTOR  (v5)
//! 0x038   8  CURRENT_TCB          0x18a   1  CPUID_STEP    (v3)         0x208 152  reserved
//! 0x040   8  PLATFORM_INFO        0x18b  21  reserved                   0x2a0  72  SIGNATURE: R
//! 0x048   4  key info             0x1a0  64  CHIP_ID                    0x2e8  72  SIGNATURE: S
//! 0x04c   4  reserved             0x1e0   8  COMMITTED_TCB              0x330 368  SIGNATURE: reserved
//! 0x050  64  REPORT_DATA
//! 0x090  48  MEASUREMENT          key info: bit 0 AUTHOR_KEY_EN, bit 1 MASK_CHIP_KEY, bits 4:2 SIGNING_KEY, bits 31:5 reserved
//! 0x0c0  32  HOST_DATA
//! ```
//! A field marked with a version is reserved before it.

use protocol::limits;

use crate::claims::{FirmwareVersion, SigningKeyKind};
use crate::rejection::Rejection;

/// Bytes that the signature covers: everything before it.
const SIGNED: usize = 0x2a0;

/// A well-formed report, not yet believed. TCB versions wait for the line that says how to read them.
#[derive(Debug)]
pub(super) struct Report<'a> {
    /// The received bytes.
    pub(super) bytes: &'a [u8],
    /// Those of them that the signature covers.
    pub(super) signed: &'a [u8],
    pub(super) version: u32,
    pub(super) guest_svn: u32,
    pub(super) policy: u64,
    pub(super) family_id: [u8; 16],
    pub(super) image_id: [u8; 16],
    pub(super) vmpl: u32,
    signature_algorithm: u32,
    pub(super) current_tcb: [u8; 8],
    pub(super) platform_info: u64,
    key_info: u32,
    pub(super) report_data: [u8; 64],
    pub(super) measurement: [u8; 48],
    pub(super) host_data: [u8; 32],
    pub(super) id_key_digest: [u8; 48],
    pub(super) author_key_digest: [u8; 48],
    pub(super) report_id: [u8; 32],
    pub(super) report_id_ma: [u8; 32],
    pub(super) reported_tcb: [u8; 8],
    /// Combined family and model; `None` in version 2.
    pub(super) cpuid: Option<(u8, u8)>,
    pub(super) chip_id: [u8; 64],
    pub(super) committed_tcb: [u8; 8],
    pub(super) current_version: FirmwareVersion,
    pub(super) committed_version: FirmwareVersion,
    pub(super) launch_tcb: [u8; 8],
    /// LAUNCH_MIT_VECTOR and CURRENT_MIT_VECTOR; `None` before version 5.
    pub(super) mitigations: Option<(u64, u64)>,
    /// R, S, and what follows them.
    pub(super) signature: (&'a [u8; 72], &'a [u8; 72], &'a [u8; 368]),
}

impl<'a> Report<'a> {
    /// Reads exactly one report of version 2 to 5.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Rejection> {
        let mut reader = Reader::new(bytes)?;
        let version = reader.u32()?;
        if !(2..=5).contains(&version) {
            return Err(Rejection::ReportVersion { found: version });
        }
        let guest_svn = reader.u32()?;
        let policy = reader.u64()?;
        let family_id = *reader.take()?;
        let image_id = *reader.take()?;
        let vmpl = reader.u32()?;
        if vmpl > 3 {
            return Err(Rejection::VmplRange { found: vmpl });
        }
        let signature_algorithm = reader.u32()?;
        let current_tcb = *reader.take()?;
        let platform_info = reader.u64()?;
        let key_info = reader.u32()?;
        if key_info >> 5 != 0 {
            return Err(Rejection::ReservedNotZero { field: "bits 31:5 of the key info", offset: 0x48 });
        }
        reader.zero::<4>("bytes behind the key info")?;
        let report_data = *reader.take()?;
        let measurement = *reader.take()?;
        let host_data = *reader.take()?;
        let id_key_digest = *reader.take()?;
        let author_key_digest = *reader.take()?;
        let report_id = *reader.take()?;
        let report_id_ma = *reader.take()?;
        let reported_tcb = *reader.take()?;
        let cpuid = reader.cpuid(version)?;
        reader.zero::<21>("bytes before the chip id")?;
        let chip_id = *reader.take()?;
        let committed_tcb = *reader.take()?;
        let current_version = reader.firmware_version("byte behind the current version")?;
        let committed_version = reader.firmware_version("byte behind the committed version")?;
        let launch_tcb = *reader.take()?;
        let mitigations = reader.mitigations(version)?;
        reader.zero::<152>("bytes before the signature")?;
        let signature = (reader.take()?, reader.take()?, reader.take()?);
        Ok(Self {
            bytes,
            signed: bytes.get(..SIGNED).unwrap_or_default(),
            version,
            guest_svn,
            policy,
            family_id,
            image_id,
            vmpl,
            signature_algorithm,
            current_tcb,
            platform_info,
            key_info,
            report_data,
            measurement,
            host_data,
            id_key_digest,
            author_key_digest,
            report_id,
            report_id_ma,
            reported_tcb,
            cpuid,
            chip_id,
            committed_tcb,
            current_version,
            committed_version,
            launch_tcb,
            mitigations,
            signature,
        })
    }

    /// The kind of key that signed, if a known algorithm and a known key did.
    pub(super) fn signing_key(&self) -> Result<SigningKeyKind, Rejection> {
        if self.signature_algorithm != 1 {
            return Err(Rejection::SignatureAlgorithm { found: self.signature_algorithm });
        }
        let kind = match self.key_info >> 2 {
            0 => SigningKeyKind::Vcek,
            1 => SigningKeyKind::Vlek,
            7 => return Err(Rejection::NotSigned {}),
            found => return Err(Rejection::SigningKeyReserved { found }),
        };
        if self.key_info & 0b10 != 0 {
            return Err(Rejection::ChipKeyMasked {});
        }
        Ok(kind)
    }

    /// AUTHOR_KEY_EN.
    pub(super) const fn author_key_enabled(&self) -> bool {
        self.key_info & 1 != 0
    }

    /// Whether the report does not name the chip.
    pub(super) fn chip_id_is_masked(&self) -> bool {
        self.chip_id == [0; 64]
    }
}

/// Reads forward through the 1184 bytes.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn new(bytes: &'a [u8]) -> Result<Self, Rejection> {
        if bytes.len() == limits::SNP_REPORT { Ok(Self { rest: bytes }) } else { Err(length(bytes.len())) }
    }

    fn offset(&self) -> usize {
        limits::SNP_REPORT.saturating_sub(self.rest.len())
    }

    fn take<const N: usize>(&mut self) -> Result<&'a [u8; N], Rejection> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or(length(self.offset()))?;
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32, Rejection> {
        self.take().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64(&mut self) -> Result<u64, Rejection> {
        self.take().map(|bytes| u64::from_le_bytes(*bytes))
    }

    /// `N` bytes that must be zero.
    fn zero<const N: usize>(&mut self, field: &'static str) -> Result<(), Rejection> {
        let offset = self.offset();
        if self.take::<N>()? == &[0; N] { Ok(()) } else { Err(Rejection::ReservedNotZero { field, offset }) }
    }

    /// Three bytes: family, model, stepping. The stepping is of no use to anybody here: the certificate names it.
    fn cpuid(&mut self, version: u32) -> Result<Option<(u8, u8)>, Rejection> {
        if version < 3 {
            return self.zero::<3>("bytes before the chip id").map(|()| None);
        }
        let [family, model, _stepping] = *self.take()?;
        Ok(Some((family, model)))
    }

    /// Four bytes: build, minor, major, reserved.
    fn firmware_version(&mut self, reserved: &'static str) -> Result<FirmwareVersion, Rejection> {
        let [build, minor, major] = *self.take()?;
        self.zero::<1>(reserved)?;
        Ok(FirmwareVersion { major, minor, build })
    }

    fn mitigations(&mut self, version: u32) -> Result<Option<(u64, u64)>, Rejection> {
        if version < 5 {
            return self.zero::<16>("bytes before the signature").map(|()| None);
        }
        Ok(Some((self.u64()?, self.u64()?)))
    }
}

const fn length(found: usize) -> Rejection {
    Rejection::ReportLength { expected: limits::SNP_REPORT, found }
}
