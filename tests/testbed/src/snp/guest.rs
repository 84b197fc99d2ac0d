//! A guest on a soft platform: what its kernel hands out for 64 bytes of report data.

use super::platform::{Leaf, SoftPlatform};
use super::report::{KeyInfo, ReportBuilder};
use super::table::{Guid, certificate_table};

/// What is peculiar to a guest. The default is a production guest without ID block at VMPL 0.
#[derive(Clone, Debug)]
pub struct GuestShape {
    /// Launch measurement; `None` takes the testbed's own image.
    pub measurement: Option<[u8; 48]>,
    /// Guest policy.
    pub policy: u64,
    /// Host data.
    pub host_data: [u8; 32],
    /// Privilege level that the report is requested for.
    pub vmpl: u32,
    /// Guest security version, of the ID block.
    pub guest_svn: u32,
    /// Family, of the ID block.
    pub family_id: [u8; 16],
    /// Image, of the ID block.
    pub image_id: [u8; 16],
    /// Digest of the key that signed the ID block.
    pub id_key_digest: [u8; 48],
    /// Digest of the key that signed the ID key.
    pub author_key_digest: Option<[u8; 48]>,
    /// Report version; `None` takes the line's own.
    pub version: Option<u32>,
    /// The key that signs.
    pub leaf: Leaf,
}

impl Default for GuestShape {
    fn default() -> Self {
        Self {
            measurement: None,
            policy: 0x3_0000,
            host_data: [0; 32],
            vmpl: 0,
            guest_svn: 0,
            family_id: [0; 16],
            image_id: [0; 16],
            id_key_digest: [0; 48],
            author_key_digest: None,
            version: None,
            leaf: Leaf::Vcek,
        }
    }
}

/// A report and what the host sent along.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftEvidence {
    /// The attestation report, 1184 bytes.
    pub report: Vec<u8>,
    /// The certificate table: leaf, intermediate, ARK.
    pub certificate_table: Vec<u8>,
}

/// A guest that is running on a soft platform.
#[derive(Clone, Debug)]
pub struct SoftGuest {
    /// The machine.
    pub platform: SoftPlatform,
    /// Its reports, but for the report data.
    pub report: ReportBuilder,
    /// The certificate table that the host gives it.
    pub certificate_table: Vec<u8>,
}

impl SoftGuest {
    pub(super) fn new(platform: SoftPlatform, shape: GuestShape) -> Self {
        let mut report = shape.version.map_or_else(|| platform.report(), |version| platform.report_of_version(version));
        let by = platform.report_by(shape.leaf);
        report.key_info = by.key_info;
        report.chip_id = by.chip_id;
        report.measurement = shape.measurement.unwrap_or(report.measurement);
        report.policy = shape.policy;
        report.host_data = shape.host_data;
        report.vmpl = shape.vmpl;
        report.guest_svn = shape.guest_svn;
        report.family_id = shape.family_id;
        report.image_id = shape.image_id;
        report.id_key_digest = shape.id_key_digest;
        if let Some(digest) = shape.author_key_digest {
            report.author_key_digest = digest;
            report.key_info |= KeyInfo::AUTHOR_KEY_EN;
        }
        let leaf = match shape.leaf {
            Leaf::Vcek => Guid::VCEK,
            Leaf::Vlek => Guid::VLEK,
        };
        let certificates = platform.certificates(shape.leaf);
        let named: Vec<(Guid, &[u8])> = [leaf, Guid::ASK, Guid::ARK].into_iter().zip(certificates.iter().map(Vec::as_slice)).collect();
        let certificate_table = certificate_table(&named);
        Self { platform, report, certificate_table }
    }

    /// A report over this report data, and the certificate table.
    #[must_use]
    pub fn attest(&self, report_data: &[u8; 64]) -> SoftEvidence {
        self.attest_at(report_data, self.report.vmpl)
    }

    /// The same at another privilege level, for a guest that asks for one.
    #[must_use]
    pub fn attest_at(&self, report_data: &[u8; 64], vmpl: u32) -> SoftEvidence {
        let report = self.report.clone().with(|report| {
            report.report_data = *report_data;
            report.vmpl = vmpl;
        });
        SoftEvidence { report: self.platform.sign(&report), certificate_table: self.certificate_table.clone() }
    }
}
