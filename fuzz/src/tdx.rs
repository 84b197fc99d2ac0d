//! Soft TDX machines with every kind of TD report, with certificates and collateral made once and signatures made fast.

use std::sync::OnceLock;

use attestation::{
    Anchors, Collateral, Evidence, GenuineEvidence, Lapsed, PlatformClaims, PreparedCollateral, Rejection, ReportDataRule, SignedBody,
    TdxClaims, TdxCollateral, TdxEvidence, judge,
};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm};
use testbed::der;
use testbed::tdx::{PckAuthority, Role, SoftTdGuest, SoftTdx, TdReportKind, TdShape, coordinates, pem};

use crate::NOW;
use crate::snp::to_be_signed;

/// One soft machine, and a TD on it.
pub struct TdMachine {
    /// The platform.
    pub platform: SoftTdx,
    /// The TD.
    pub guest: SoftTdGuest,
    /// A genuine quote.
    pub quote: Vec<u8>,
    /// PCK certificate, its authority, root, DER.
    pub chain: Vec<Vec<u8>>,
    /// What its operator holds.
    pub collateral: TdxCollateral,
    /// The same, prepared.
    pub prepared: PreparedCollateral,
    /// What is trusted.
    pub anchors: Anchors,
    attestation: EcdsaKeyPair,
    /// x ‖ y of the attestation key.
    attestation_point: [u8; 64],
    pck: EcdsaKeyPair,
    authority: EcdsaKeyPair,
    root: EcdsaKeyPair,
    tcb_signer: EcdsaKeyPair,
}

/// Who issues a certificate or list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// The PCK authority: PCK certificates and its list.
    Authority,
    /// The root: everything else.
    Root,
}

/// A signed document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// TCB info.
    TcbInfo,
    /// Identity of the quoting enclave.
    QeIdentity,
}

/// Of the only signatures in the hierarchy (RFC 5758).
const ECDSA_WITH_SHA256: &str = "1.2.840.10045.4.3.2";

/// Version 4 or 5, the body, and whose PCK certificate.
const SHAPES: [(u16, TdReportKind, PckAuthority); 4] = [
    (4, TdReportKind::Td10, PckAuthority::Platform),
    (5, TdReportKind::Td10, PckAuthority::Processor),
    (5, TdReportKind::Td15, PckAuthority::Platform),
    (5, TdReportKind::Td15Ex, PckAuthority::Platform),
];

impl TdMachine {
    /// All four: a version 4 quote, then each body of version 5, one of them under the processor authority.
    pub fn all() -> &'static [Self] {
        static MACHINES: OnceLock<Vec<TdMachine>> = OnceLock::new();
        MACHINES.get_or_init(|| SHAPES.iter().map(|(version, kind, authority)| Self::new(*version, *kind, *authority)).collect())
    }

    /// The one that a byte of input stands for.
    #[must_use]
    pub fn chosen(byte: u8) -> &'static Self {
        let all = Self::all();
        &all[usize::from(byte) % all.len()]
    }

    fn new(quote_version: u16, kind: TdReportKind, authority: PckAuthority) -> Self {
        let platform = SoftTdx::new().certified_by(authority);
        let shape = TdShape { quote_version, kind, ..TdShape::default() };
        let guest = platform.guest(shape);
        let soft = platform.collateral();
        let signed = |body| SignedBody { body, issuer_chain: soft.issuer_chain.clone().into_bytes() };
        let collateral = TdxCollateral {
            tcb_infos: vec![signed(soft.tcb_info)],
            qe_identities: vec![signed(soft.qe_identity)],
            crls: vec![soft.root_list, soft.pck_list],
            certificates: vec![platform.pck_authority_der()],
            ..TdxCollateral::default()
        };
        let anchors = Anchors::test_with_intel(Vec::new(), platform.root_der()).expect("a soft root");
        let prepared = PreparedCollateral::prepare(Collateral { tdx: collateral.clone(), ..Collateral::default() }, &anchors);
        let of = |algorithm, role| {
            let key = platform.key(role);
            pair(algorithm, &key.to_bytes(), coordinates(&key))
        };
        let (fixed, asn1) = (&ECDSA_P256_SHA256_FIXED_SIGNING, &ECDSA_P256_SHA256_ASN1_SIGNING);
        let attestation_key = &guest.quote.attestation_key;
        let attestation_point = coordinates(attestation_key);
        Self {
            quote: guest.attest(&[7; 64]).quote,
            chain: platform.pck_chain(),
            collateral,
            prepared,
            anchors,
            attestation: pair(fixed, &attestation_key.to_bytes(), attestation_point),
            attestation_point,
            pck: of(fixed, Role::Pck),
            authority: of(asn1, Role::PckAuthority(authority)),
            root: of(asn1, Role::Root),
            tcb_signer: of(fixed, Role::TcbSigner),
            guest,
            platform,
        }
    }

    /// The verdict on a quote under the genuine collateral.
    ///
    /// # Errors
    /// The rejection.
    pub fn judge(&self, quote: &[u8]) -> Result<GenuineEvidence, Rejection> {
        self.judge_under(quote, &self.prepared)
    }

    /// The verdict on the genuine quote under other collateral.
    ///
    /// # Errors
    /// The rejection.
    pub fn judge_with(&self, collateral: TdxCollateral) -> Result<GenuineEvidence, Rejection> {
        self.judge_under(&self.quote, &self.prepare(collateral))
    }

    /// Other collateral, prepared under this machine's root.
    #[must_use]
    pub fn prepare(&self, tdx: TdxCollateral) -> PreparedCollateral {
        PreparedCollateral::prepare(Collateral { tdx, ..Collateral::default() }, &self.anchors)
    }

    /// The verdict on a quote with the guest's event log, under the genuine collateral.
    ///
    /// # Errors
    /// The rejection.
    pub fn judge_with_log(&self, quote: &[u8]) -> Result<GenuineEvidence, Rejection> {
        self.judge_evidence(TdxEvidence { quote: quote.to_vec(), event_log: self.guest.event_log.clone() }, &self.prepared)
    }

    fn judge_under(&self, quote: &[u8], collateral: &PreparedCollateral) -> Result<GenuineEvidence, Rejection> {
        self.judge_evidence(TdxEvidence { quote: quote.to_vec(), event_log: None }, collateral)
    }

    fn judge_evidence(&self, evidence: TdxEvidence, collateral: &PreparedCollateral) -> Result<GenuineEvidence, Rejection> {
        judge(&Evidence::Tdx(evidence), collateral, &self.anchors, ReportDataRule::NotCompared, Lapsed::Rejected, NOW)
    }

    /// The claims of the genuine quote under the genuine collateral.
    ///
    /// # Panics
    /// Never: it is genuine.
    #[must_use]
    pub fn claims(&self) -> TdxClaims {
        claims(&self.judge(&self.quote).expect("genuine")).clone()
    }

    /// The genuine quote with other certificates in it.
    #[must_use]
    pub fn quote_with(&self, chain: &[Vec<u8>]) -> Vec<u8> {
        let certification = pem::chain(chain).into_bytes();
        // The chain stands behind everything that is signed; only the three sizes around it follow.
        let quote = self.guest.quote.clone().with(|quote| quote.body.report_data = [7; 64]);
        quote.with(|quote| quote.certification = certification).bytes()
    }

    /// The same quote with the machine's attestation key and good signatures by it and by the PCK certificate's key; the tail of the
    /// quoting enclave's report data stays as it is. `None` where the bytes end before.
    ///
    /// Offsets from the quote signature on: it 0, attestation key 64, QE report 134, its signature 518, authentication data 582.
    #[must_use]
    pub fn sign(&self, quote: &[u8]) -> Option<Vec<u8>> {
        let signed = match quote.first_chunk() {
            Some([5, 0]) => 54usize.checked_add(u32::from_le_bytes(*quote.get(50..)?.first_chunk()?) as usize)?,
            _ => 48 + 584,
        };
        let mut bytes = quote.to_vec();
        let (head, data) = bytes.split_at_mut_checked(signed.checked_add(4)?)?;
        let length = usize::from(u16::from_le_bytes(*data.get(582..)?.first_chunk()?));
        data.get_mut(64..128)?.copy_from_slice(&self.attestation_point);
        let mut binding = Context::new(&SHA256);
        binding.update(&self.attestation_point);
        binding.update(data.get(584..)?.get(..length)?);
        data.get_mut(134 + 320..134 + 352)?.copy_from_slice(binding.finish().as_ref());
        let report = fixed(&self.pck, data.get(134..518)?);
        data.get_mut(518..582)?.copy_from_slice(&report);
        data.get_mut(..64)?.copy_from_slice(&fixed(&self.attestation, head.get(..signed)?));
        Some(bytes)
    }

    /// The first element of a DER certificate or revocation list, signed anew by this issuer. `None` where there is none.
    #[must_use]
    pub fn issue(&self, signed: &[u8], by: Issuer) -> Option<Vec<u8>> {
        let body = to_be_signed(signed)?;
        let key = match by {
            Issuer::Authority => &self.authority,
            Issuer::Root => &self.root,
        };
        let signature = key.sign(&SystemRandom::new(), body).expect("signing works");
        Some(der::sequence(&[body, &der::sequence(&[&der::oid(ECDSA_WITH_SHA256)]), &der::bit_string(signature.as_ref())]))
    }

    /// Any bytes as a document's value, signed by the signer of collateral.
    #[must_use]
    pub fn publish(&self, document: Document, value: &[u8]) -> Vec<u8> {
        let signature: String = fixed(&self.tcb_signer, value).iter().map(|byte| format!("{byte:02x}")).collect();
        let name = match document {
            Document::TcbInfo => "tcbInfo",
            Document::QeIdentity => "enclaveIdentity",
        };
        [format!("{{\"{name}\":").as_bytes(), value, format!(",\"signature\":\"{signature}\"}}").as_bytes()].concat()
    }

    /// The genuine collateral with another body of this document.
    #[must_use]
    pub fn collateral_with(&self, document: Document, body: Vec<u8>) -> TdxCollateral {
        let mut collateral = self.collateral.clone();
        let bodies = match document {
            Document::TcbInfo => &mut collateral.tcb_infos,
            Document::QeIdentity => &mut collateral.qe_identities,
        };
        bodies[0].body = body;
        collateral
    }
}

/// The claims of a TDX verdict.
///
/// # Panics
/// On another platform's.
#[must_use]
pub const fn claims(genuine: &GenuineEvidence) -> &TdxClaims {
    let PlatformClaims::Tdx(claims) = genuine.platform() else { panic!("a TD quote") };
    claims
}

/// r ‖ s.
fn fixed(key: &EcdsaKeyPair, message: &[u8]) -> [u8; 64] {
    let signature = key.sign(&SystemRandom::new(), message).expect("signing works");
    signature.as_ref().try_into().expect("64 bytes")
}

/// A soft platform's key, for fast signatures.
fn pair(algorithm: &'static EcdsaSigningAlgorithm, private: &[u8], point: [u8; 64]) -> EcdsaKeyPair {
    let public = [&[4], point.as_slice()].concat();
    EcdsaKeyPair::from_private_key_and_public_key(algorithm, private, &public).expect("a soft platform's key")
}
