//! One soft processor: its keys, its certificates and its signatures.

use p384::ecdsa::SigningKey;
use sha2::{Digest, Sha384, Sha512};

use super::certificates::{Certificate, Issuer, oid};
use super::guest::{GuestShape, SoftGuest};
use super::profiles::authority_key;
use super::report::{self, Cpuid, FirmwareVersion, KeyInfo, REPORT_LENGTH, ReportBuilder};
use super::revocation::RevocationList;
use crate::der;
use crate::rsa::{PssParameters, RsaKey};
use crate::x509::{Extension, SignatureState, Window, authority_key_value};

/// A product line, with its own certificate authorities and layouts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Line {
    /// EPYC 7003.
    Milan,
    /// EPYC 9004 and 8004: Genoa, Bergamo, Siena.
    Genoa,
    /// EPYC 9005.
    Turin,
}

impl Line {
    /// Every line.
    pub const ALL: [Self; 3] = [Self::Milan, Self::Genoa, Self::Turin];

    /// The name in certificates and KDS addresses.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Milan => "Milan",
            Self::Genoa => "Genoa",
            Self::Turin => "Turin",
        }
    }
}

/// Which of the two committed hierarchies a platform belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    /// The one that tests trust.
    Trusted,
    /// Another one with the same names: an attacker's own.
    Other,
}

/// A certificate authority of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// AMD root key.
    Ark,
    /// AMD SEV key, which signs VCEKs.
    Ask,
    /// AMD SEV VLEK key, which signs VLEKs.
    Asvk,
}

/// A key that signs reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// Versioned chip endorsement key.
    Vcek,
    /// Versioned loaded endorsement key, of a cloud provider.
    Vlek,
}

/// A TCB version, component by component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcb {
    /// First mutable code: Turin only.
    pub fmc: u8,
    /// Boot loader.
    pub bootloader: u8,
    /// Secure processor's operating system.
    pub tee: u8,
    /// SNP firmware.
    pub snp: u8,
    /// Microcode.
    pub microcode: u8,
}

impl Tcb {
    /// The 8 bytes in this line's layout (AMD 56860, table "TCB_VERSION Structure").
    #[must_use]
    pub fn bytes(self, layout: Line) -> [u8; 8] {
        match layout {
            Line::Milan | Line::Genoa => [self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode],
            Line::Turin => [self.fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode],
        }
    }
}

/// When a platform's certificates and lists are valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// ARK, ASK and ASVK.
    pub authorities: Window,
    /// VCEK and VLEK.
    pub leaves: Window,
    /// Revocation lists: `thisUpdate` to `nextUpdate`.
    pub revocations: Window,
}

/// 2020-10-22 17:23:05 UTC.
const AUTHORITIES_FROM: u64 = 1_603_387_385;
/// 2024-01-01 00:00:00 UTC.
const LEAVES_FROM: u64 = 1_704_067_200;
/// 2049-12-31 23:59:59 UTC: tests and demo work on any plausible clock.
const FAR: u64 = 2_524_607_999;
const DAY: u64 = 86_400;

impl Default for Validity {
    /// Wide windows: authorities from October 2020, leaves and lists from January 2024, all to the end of 2049.
    fn default() -> Self {
        Self {
            authorities: Window { not_before: AUTHORITIES_FROM, not_after: FAR },
            leaves: Window { not_before: LEAVES_FROM, not_after: FAR },
            revocations: Window { not_before: LEAVES_FROM, not_after: FAR },
        }
    }
}

/// A chip identifier that belongs to `name`: 64 bytes, on Turin 8 and zeros.
#[must_use]
pub fn chip_id(line: Line, name: &str) -> [u8; 64] {
    let mut id: [u8; 64] = Sha512::digest(format!("portcullis testbed chip {name}")).into();
    if line == Line::Turin {
        id[8..].fill(0);
    }
    id
}

/// One processor with its firmware, under a soft root.
///
/// Certificates and keys follow the public fields: set a field and everything made afterwards agrees with it. For one thing wrong and
/// all else right, take [`Self::vcek_with`] and its siblings, or change the [`ReportBuilder`].
#[derive(Clone, Debug)]
pub struct SoftPlatform {
    /// The product line.
    pub line: Line,
    /// The hierarchy.
    pub root: Root,
    /// CHIP_ID, and the VCEK's `hwID` (its first 8 bytes on Turin).
    pub chip_id: [u8; 64],
    /// The TCB version in every field of its reports, from which VCEK and VLEK are derived.
    pub tcb: Tcb,
    /// Family, model, stepping.
    pub cpuid: Cpuid,
    /// The firmware's version.
    pub firmware: FirmwareVersion,
    /// `productName` of the VCEK, with the stepping where AMD has it. A VLEK has the line's name.
    pub product_name: String,
    /// `cspID` of the VLEK.
    pub csp_id: String,
    /// Validity of certificates and lists.
    pub validity: Validity,
}

impl SoftPlatform {
    /// A processor of this line under the trusted test root, with the firmware of a well-kept machine of 2026.
    #[must_use]
    pub fn new(line: Line) -> Self {
        let (cpuid, firmware, product_name) = match line {
            Line::Milan => ((0x19, 0x01, 1), (1, 55, 29), "Milan-B0"),
            Line::Genoa => ((0x19, 0x11, 1), (1, 55, 49), "Genoa"),
            Line::Turin => ((0x1a, 0x02, 1), (1, 55, 65), "Turin"),
        };
        let tcb = match line {
            Line::Milan => Tcb { fmc: 0, bootloader: 4, tee: 0, snp: 0x18, microcode: 0xdb },
            Line::Genoa => Tcb { fmc: 0, bootloader: 0x0a, tee: 0, snp: 0x1b, microcode: 0x58 },
            Line::Turin => Tcb { fmc: 1, bootloader: 1, tee: 1, snp: 4, microcode: 0x51 },
        };
        Self {
            line,
            root: Root::Trusted,
            chip_id: chip_id(line, "first"),
            tcb,
            cpuid: Cpuid { family: cpuid.0, model: cpuid.1, stepping: cpuid.2 },
            firmware: FirmwareVersion { major: firmware.0, minor: firmware.1, build: firmware.2 },
            product_name: product_name.to_owned(),
            csp_id: "CN=cc-test-region.example".to_owned(),
            validity: Validity::default(),
        }
    }

    /// The same machine under another hierarchy.
    #[must_use]
    pub fn under(mut self, root: Root) -> Self {
        self.root = root;
        self
    }

    /// Another machine of the same make, told apart by `name`.
    #[must_use]
    pub fn with_chip(mut self, name: &str) -> Self {
        self.chip_id = chip_id(self.line, name);
        self
    }

    /// The same machine with another TCB version.
    #[must_use]
    pub fn with_tcb(mut self, tcb: Tcb) -> Self {
        self.tcb = tcb;
        self
    }

    /// Leaves valid for seven years from the day before `now`, lists made at midnight of that day for one year, as AMD makes them.
    /// `now` is in seconds since 1970-01-01 UTC; two processes agree on the bytes on the same day.
    #[must_use]
    pub fn dated(mut self, now: u64) -> Self {
        let yesterday = (now / DAY).saturating_sub(1) * DAY;
        self.validity.leaves = Window { not_before: yesterday, not_after: yesterday + 7 * 365 * DAY };
        self.validity.revocations = Window { not_before: yesterday, not_after: yesterday + 365 * DAY };
        self
    }

    /// The private key of one of this platform's authorities.
    #[must_use]
    pub fn authority_key(&self, authority: Authority) -> &'static RsaKey {
        authority_key(self.root, self.line, authority)
    }

    /// The serial number of one of this line's authorities, AMD's own.
    #[must_use]
    pub fn serial(&self, authority: Authority) -> u64 {
        match (self.line, authority) {
            (Line::Milan, Authority::Ark) => 0x01_0000,
            (Line::Milan, Authority::Ask) => 0x01_0001,
            (Line::Milan, Authority::Asvk) => 0x01_0101,
            (Line::Genoa, Authority::Ark) => 0x02_0000,
            (Line::Genoa, Authority::Ask) => 0x02_0002,
            (Line::Genoa, Authority::Asvk) => 0x02_0101,
            (Line::Turin, Authority::Ark) => 0x03_0000,
            (Line::Turin, Authority::Ask) => 0x03_0001,
            (Line::Turin, Authority::Asvk) => 0x03_0101,
        }
    }

    /// The ARK's certificate, self-signed, DER.
    #[must_use]
    pub fn ark_der(&self) -> Vec<u8> {
        self.ark_with(|_| ())
    }

    /// The ARK's certificate with a change made before it is signed.
    #[must_use]
    pub fn ark_with(&self, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        changed(self.authority_certificate(Authority::Ark), change)
    }

    /// The ASK's certificate, DER.
    #[must_use]
    pub fn ask_der(&self) -> Vec<u8> {
        self.ask_with(|_| ())
    }

    /// The ASK's certificate with a change made before it is signed.
    #[must_use]
    pub fn ask_with(&self, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        changed(self.authority_certificate(Authority::Ask), change)
    }

    /// The ASVK's certificate, DER.
    #[must_use]
    pub fn asvk_der(&self) -> Vec<u8> {
        self.asvk_with(|_| ())
    }

    /// The ASVK's certificate with a change made before it is signed.
    #[must_use]
    pub fn asvk_with(&self, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        changed(self.authority_certificate(Authority::Asvk), change)
    }

    /// The VCEK's certificate, DER.
    #[must_use]
    pub fn vcek_der(&self) -> Vec<u8> {
        self.vcek_with(|_| ())
    }

    /// The VCEK's certificate with a change made before it is signed.
    #[must_use]
    pub fn vcek_with(&self, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        changed(self.leaf_certificate(Leaf::Vcek), change)
    }

    /// The VLEK's certificate, DER.
    #[must_use]
    pub fn vlek_der(&self) -> Vec<u8> {
        self.vlek_with(|_| ())
    }

    /// The VLEK's certificate with a change made before it is signed.
    #[must_use]
    pub fn vlek_with(&self, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        changed(self.leaf_certificate(Leaf::Vlek), change)
    }

    /// Leaf, intermediate and ARK for reports of this key, DER, in this order.
    #[must_use]
    pub fn certificates(&self, leaf: Leaf) -> Vec<Vec<u8>> {
        match leaf {
            Leaf::Vcek => vec![self.vcek_der(), self.ask_der(), self.ark_der()],
            Leaf::Vlek => vec![self.vlek_der(), self.asvk_der(), self.ark_der()],
        }
    }

    /// The ARK's revocation list with these serial numbers, DER. AMD's lists are empty but for a revoked Genoa ASK.
    #[must_use]
    pub fn crl_der(&self, serials: &[u64]) -> Vec<u8> {
        self.crl_with(|list| serials.iter().for_each(|serial| list.revoke(*serial)))
    }

    /// The ARK's empty revocation list with a change made before it is signed.
    #[must_use]
    pub fn crl_with(&self, change: impl FnOnce(&mut RevocationList)) -> Vec<u8> {
        let ark = self.authority_key(Authority::Ark);
        let mut list = RevocationList {
            version: Some(1),
            issuer: self.authority_name(Authority::Ark),
            this_update: self.validity.revocations.not_before,
            next_update: Some(self.validity.revocations.not_after),
            revoked: Vec::new(),
            extensions: vec![
                Extension::new(oid::AUTHORITY_KEY, authority_key_value(&ark.key_identifier())),
                Extension::new(oid::CRL_NUMBER, der::integer(1)),
            ],
            parameters: PssParameters::AMD_WITHOUT_TRAILER,
            inner_algorithm: None,
            outer_algorithm: None,
            signer: Issuer(ark),
            signature: SignatureState::Genuine,
        };
        change(&mut list);
        list.der()
    }

    /// A report of the version that this line's firmware writes today (Milan 3, Genoa and Turin 5), signed by the VCEK.
    #[must_use]
    pub fn report(&self) -> ReportBuilder {
        self.report_of_version(if self.line == Line::Milan { 3 } else { 5 })
    }

    /// A report of this version: 2 has no CPUID, 5 has mitigation vectors.
    #[must_use]
    pub fn report_of_version(&self, version: u32) -> ReportBuilder {
        let mitigations = (version >= 5).then_some(if self.line == Line::Turin { 0x3f } else { 0x0b });
        ReportBuilder {
            version,
            guest_svn: 0,
            // SMT allowed; bit 17 is reserved and one.
            policy: 0x3_0000,
            family_id: [0; 16],
            image_id: [0; 16],
            vmpl: 0,
            signature_algorithm: 1,
            current_tcb: self.tcb,
            // SMT; from version 3 also ECC and the completed alias check.
            platform_info: if version >= 3 { 0x25 } else { 0x01 },
            key_info: KeyInfo::VCEK,
            report_data: [0; 64],
            measurement: Sha384::digest("portcullis testbed guest image").into(),
            host_data: [0; 32],
            id_key_digest: [0; 48],
            author_key_digest: [0; 48],
            report_id: Sha384::digest("portcullis testbed report id")[..32].try_into().expect("32 bytes"),
            report_id_ma: [0xff; 32],
            reported_tcb: self.tcb,
            cpuid: (version >= 3).then_some(self.cpuid),
            chip_id: self.chip_id,
            committed_tcb: self.tcb,
            current_version: self.firmware,
            committed_version: self.firmware,
            launch_tcb: self.tcb,
            launch_mitigations: mitigations,
            current_mitigations: mitigations,
            tcb_layout: self.line,
            overrides: Vec::new(),
        }
    }

    /// A report that this key signs. A provider that loads a VLEK masks the chip, so CHIP_ID is zero then.
    #[must_use]
    pub fn report_by(&self, leaf: Leaf) -> ReportBuilder {
        match leaf {
            Leaf::Vcek => self.report(),
            Leaf::Vlek => self.report().with(|report| {
                report.key_info = KeyInfo::VLEK;
                report.chip_id = [0; 64];
            }),
        }
    }

    /// The signed report, 1184 bytes: by the VLEK when the key information says so, else by the VCEK.
    #[must_use]
    pub fn sign(&self, report: &ReportBuilder) -> Vec<u8> {
        let leaf = if report.key_info >> 2 & 7 == 1 { Leaf::Vlek } else { Leaf::Vcek };
        let mut bytes = report.bytes();
        self.resign(&mut bytes, leaf);
        bytes
    }

    /// Signs any 1184 bytes anew with this key, whatever they say.
    ///
    /// # Panics
    /// When `report` is not 1184 bytes.
    pub fn resign(&self, report: &mut [u8], leaf: Leaf) {
        assert_eq!(report.len(), REPORT_LENGTH, "a report is 1184 bytes");
        report::sign(report, &self.leaf_key(leaf));
    }

    /// A guest on this machine.
    #[must_use]
    pub fn guest(&self, shape: GuestShape) -> SoftGuest {
        SoftGuest::new(self.clone(), shape)
    }

    /// The private key that this chip and this TCB give: P-384.
    #[must_use]
    pub fn leaf_key(&self, leaf: Leaf) -> SigningKey {
        let mut seed = Sha384::new_with_prefix(format!("portcullis testbed {leaf:?} {:?} {:?}", self.root, self.line));
        seed.update(self.tcb.bytes(self.line));
        match leaf {
            Leaf::Vcek => seed.update(self.chip_id),
            Leaf::Vlek => seed.update(&self.csp_id),
        }
        SigningKey::from_slice(&seed.finalize()).expect("a hash is below the group's order but for one in 2^190")
    }
}

fn changed(mut certificate: Certificate, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
    change(&mut certificate);
    certificate.der()
}
