//! Soft machines of every line and signing key, with certificates made once and signatures made fast.

use std::sync::OnceLock;

use attestation::{
    Anchors, Collateral, Evidence, GenuineEvidence, Lapsed, PlatformClaims, PreparedCollateral, ProductLine, Rejection, ReportDataRule,
    SnpClaims, SnpEvidence, judge,
};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, RSA_PSS_SHA384};
use testbed::der;
use testbed::rsa::PssParameters;
use testbed::snp::{Leaf, Line, REPORT_LENGTH, SIGNATURE_OFFSET, SoftPlatform};

use crate::NOW;

/// One soft machine and one of its two kinds of signing key.
pub struct Machine {
    /// The platform.
    pub platform: SoftPlatform,
    /// Which key signs.
    pub leaf: Leaf,
    /// Leaf, intermediate and root, DER.
    pub certificates: Vec<Vec<u8>>,
    /// The root's empty revocation list, DER.
    pub crl: Vec<u8>,
    /// A genuine report.
    pub report: Vec<u8>,
    /// What is trusted.
    pub anchors: Anchors,
    leaf_key: EcdsaKeyPair,
    issuer_key: RsaKeyPair,
    root_key: RsaKeyPair,
}

/// Who issues a certificate or list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// ASK or ASVK: leaves.
    Intermediate,
    /// ARK: intermediates, itself, revocation lists.
    Root,
}

/// The committed test keys of a line: ARK, ASK, ASVK.
macro_rules! keys {
    ($line:literal) => {
        [
            include_bytes!(concat!("../../tests/testbed/keys/test-", $line, "-ark.rsa.der")).as_slice(),
            include_bytes!(concat!("../../tests/testbed/keys/test-", $line, "-ask.rsa.der")).as_slice(),
            include_bytes!(concat!("../../tests/testbed/keys/test-", $line, "-asvk.rsa.der")).as_slice(),
        ]
    };
}

impl Machine {
    /// All six: each line with VCEK, then each with VLEK.
    pub fn all() -> &'static [Self] {
        static MACHINES: OnceLock<Vec<Machine>> = OnceLock::new();
        MACHINES.get_or_init(|| [Leaf::Vcek, Leaf::Vlek].iter().flat_map(|leaf| Line::ALL.map(|line| Self::new(line, *leaf))).collect())
    }

    /// The one that a byte of input stands for.
    #[must_use]
    pub fn chosen(byte: u8) -> &'static Self {
        let all = Self::all();
        &all[usize::from(byte) % all.len()]
    }

    fn new(line: Line, leaf: Leaf) -> Self {
        let platform = SoftPlatform::new(line);
        let (product, [ark, ask, asvk]) = match line {
            Line::Milan => (ProductLine::Milan, keys!("milan")),
            Line::Genoa => (ProductLine::Genoa, keys!("genoa")),
            Line::Turin => (ProductLine::Turin, keys!("turin")),
        };
        let key = platform.leaf_key(leaf);
        let (private, public) = (key.to_bytes(), key.verifying_key().to_sec1_point(false));
        let pair = EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P384_SHA384_FIXED_SIGNING, &private, public.as_bytes());
        let rsa = |der| RsaKeyPair::from_der(der).expect("a committed key");
        Self {
            leaf,
            certificates: platform.certificates(leaf),
            crl: platform.crl_der(&[]),
            report: platform.sign(&platform.report_by(leaf)),
            anchors: Anchors::test(vec![(product, platform.ark_der())]).expect("a soft root"),
            leaf_key: pair.expect("a soft platform's key"),
            issuer_key: rsa(if leaf == Leaf::Vcek { ask } else { asvk }),
            root_key: rsa(ark),
            platform,
        }
    }

    /// The genuine certificates around any report.
    #[must_use]
    pub fn evidence(&self, report: &[u8]) -> SnpEvidence {
        SnpEvidence { report: report.to_vec(), certificates: self.certificates.clone(), crls: Vec::new() }
    }

    /// The verdict on evidence of this machine.
    ///
    /// # Errors
    /// The rejection.
    pub fn judge(&self, evidence: SnpEvidence, collateral: &Collateral) -> Result<GenuineEvidence, Rejection> {
        let collateral = PreparedCollateral::prepare(collateral.clone(), &self.anchors);
        judge(&Evidence::Snp(evidence), &collateral, &self.anchors, ReportDataRule::NotCompared, Lapsed::Rejected, NOW)
    }

    /// The claims of the genuine report under the genuine certificates.
    #[must_use]
    pub fn claims(&self) -> SnpClaims {
        claims(&self.judge(self.evidence(&self.report), &Collateral::default()).expect("genuine")).clone()
    }

    /// The same report with a good signature (AMD 56860, chapter "Digital Signatures": R and S little-endian, 72 bytes each).
    ///
    /// # Panics
    /// When it is not 1184 bytes.
    #[must_use]
    pub fn sign(&self, report: &[u8]) -> Vec<u8> {
        assert_eq!(report.len(), REPORT_LENGTH, "a report is 1184 bytes");
        let mut bytes = report[..SIGNATURE_OFFSET].to_vec();
        let signature = self.leaf_key.sign(&SystemRandom::new(), &bytes).expect("signing works");
        for half in signature.as_ref().chunks(48) {
            bytes.extend(half.iter().rev());
            bytes.extend([0; 24]);
        }
        bytes.resize(REPORT_LENGTH, 0);
        bytes
    }

    /// The first element of a DER certificate or revocation list, signed anew by this issuer. `None` where there is none.
    #[must_use]
    pub fn issue(&self, signed: &[u8], by: Issuer) -> Option<Vec<u8>> {
        let body = to_be_signed(signed)?;
        let key = match by {
            Issuer::Intermediate => &self.issuer_key,
            Issuer::Root => &self.root_key,
        };
        // Whichever of AMD's two spellings of the algorithm the signed part has.
        let spellings = [PssParameters::AMD, PssParameters::AMD_WITHOUT_TRAILER].map(|parameters| parameters.identifier());
        let algorithm = spellings.into_iter().find(|spelling| body.windows(spelling.len()).any(|window| window == spelling.as_slice()))?;
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PSS_SHA384, &SystemRandom::new(), body, &mut signature).expect("signing works");
        Some(der::sequence(&[body, &algorithm, &der::bit_string(&signature)]))
    }
}

/// The claims of an SNP verdict.
///
/// # Panics
/// On another platform's.
#[must_use]
pub const fn claims(genuine: &GenuineEvidence) -> &SnpClaims {
    let PlatformClaims::Snp(claims) = genuine.platform() else { panic!("an SNP report") };
    claims
}

/// The first element inside the outer SEQUENCE, tag and length included.
#[must_use]
pub fn to_be_signed(der: &[u8]) -> Option<&[u8]> {
    let (content, _) = element(der)?;
    let (_, length) = element(content)?;
    content.get(..length)
}

/// Content and whole length of the DER element at the start; lengths of up to four bytes.
fn element(der: &[u8]) -> Option<(&[u8], usize)> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, header) = match first {
        0..=0x7f => (usize::from(first), 2),
        0x81..=0x84 => {
            let bytes = rest.get(..usize::from(first & 0x7f))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + bytes.len())
        }
        _ => return None,
    };
    let end = header.checked_add(length)?;
    Some((der.get(header..end)?, end))
}
