//! Why evidence is not genuine, not fresh or not well formed: a variant per check, in the order of the crate's steps.
//!
//! A rejection is never a policy's no; that is a denial and comes from `policies`.

use std::fmt;

use protocol::ids::{Digest, Platform};
use protocol::time::UnixTime;

use crate::claims::{ProductLine, SigningKeyKind, Tcb};
use crate::tdx::rejection::TdxRejection;
use crate::x509::Untimely;

/// Declares an enum of rejections with, for each variant, its step, its stable code and its sentence. It may hold another such enum.
macro_rules! rejections {
    (
        $(#[$enum_doc:meta])*
        $name:ident, steps $steps:path $(, or $(#[$other_doc:meta])* $other:ident($other_type:ty))?;
        $(
            $(#[$doc:meta])*
            $step:literal $code:literal $message:literal
            $variant:ident { $($(#[$field_doc:meta])* $field:ident: $type:ty,)* }
        )*
    ) => {
        $(#[$enum_doc])*
        #[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
        pub enum $name {
            $(
                $(#[$doc])*
                #[error($message)]
                $variant { $($(#[$field_doc])* $field: $type,)* },
            )*
            $(
                $(#[$other_doc])*
                #[error(transparent)]
                $other(#[from] $other_type),
            )?
        }

        impl $name {
            /// Every code of its own, in the order of the steps.
            pub const CODES: &'static [&'static str] = &[$($code,)*];

            /// The stable reason code, in kebab case.
            #[must_use]
            pub const fn code(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $code,)*
                    $(Self::$other(other) => <$other_type>::code(other),)?
                }
            }

            /// The number of the step that said no, from 1.
            #[must_use]
            pub const fn step(&self) -> u8 {
                match self {
                    $(Self::$variant { .. } => $step,)*
                    $(Self::$other(other) => <$other_type>::step(other),)?
                }
            }

            /// The steps that the evidence went through, by name.
            #[must_use]
            pub const fn steps(&self) -> &'static [&'static str] {
                $(
                    if let Self::$other(other) = self {
                        return <$other_type>::steps(other);
                    }
                )?
                &$steps
            }
        }
    };
}
pub(crate) use rejections;

rejections! {
    /// Why evidence was rejected. [`Self::code`] and [`Self::step`] are stable; the sentence is for people and may change.
    /// The variants are those of any session, then those of SNP evidence; those of TDX evidence are a [`TdxRejection`].
    Rejection, steps crate::STEPS, or
    /// TDX evidence, by the steps of [`crate::TDX_STEPS`].
    Tdx(TdxRejection);

    // 1: format
    /// The session's transcript speaks of another kind of platform than the evidence.
    1 "platform-mismatch" "the transcript is of platform {expected}, the evidence of {found}"
    PlatformMismatch {
        /// What the transcript says.
        expected: Platform,
        /// What the evidence is.
        found: Platform,
    }
    /// The session's transcript speaks of another event log than the evidence has, or of one that did not come.
    1 "event-log-mismatch" "the event log that came with the evidence is not the one that the transcript names"
    EventLogMismatch {
        /// SHA-256 of the transcript's; `None` where it names none.
        expected: Option<Digest>,
        /// SHA-256 of the evidence's; `None` where none came.
        found: Option<Digest>,
    }
    /// More certificates or revocation lists than any evidence needs ([`protocol::limits::CERTIFICATES`]).
    1 "snp-too-many-certificates" "expected at most {limit} {what}, found {found}"
    TooMany {
        /// `certificates` or `revocation lists`, and whose.
        what: &'static str,
        /// The limit.
        limit: usize,
        /// How many came.
        found: usize,
    }
    /// The certificate table beside a report breaks its format (GHCB specification 56421, section 4.1.8.1).
    1 "snp-certificate-table" "the certificate table is ill-formed: {what}"
    CertificateTable {
        /// The rule that it breaks.
        what: &'static str,
    }
    /// Not exactly 1184 bytes.
    1 "snp-report-length" "expected a report of {expected} bytes, found {found}"
    ReportLength {
        /// [`protocol::limits::SNP_REPORT`].
        expected: usize,
        /// How many bytes came.
        found: usize,
    }
    /// VERSION is not one of 2 to 5.
    1 "snp-report-version" "expected report version 2 to 5, found {found}"
    ReportVersion {
        /// VERSION.
        found: u32,
    }
    /// A field that the vendor says must be zero is not.
    1 "snp-reserved-not-zero" "expected zero in the reserved {field} at {offset:#x}"
    ReservedNotZero {
        /// Which field.
        field: &'static str,
        /// Its offset in the report, in bytes.
        offset: usize,
    }
    /// VMPL is above 3; 0xffffffff is a report that the host asked for.
    1 "snp-vmpl-range" "expected VMPL 0 to 3, found {found:#x}"
    VmplRange {
        /// VMPL.
        found: u32,
    }

    // 2: signature algorithm and signing key
    /// SIGNATURE_ALGO is not ECDSA P-384 with SHA-384.
    2 "snp-signature-algorithm" "expected signature algorithm 1 (ECDSA P-384 with SHA-384), found {found}"
    SignatureAlgorithm {
        /// SIGNATURE_ALGO.
        found: u32,
    }
    /// SIGNING_KEY says that nothing signed the report.
    2 "snp-not-signed" "the report says that no key signed it"
    NotSigned {}
    /// SIGNING_KEY is one of the reserved 2 to 6.
    2 "snp-signing-key-reserved" "expected signing key 0 (VCEK) or 1 (VLEK), found {found}"
    SigningKeyReserved {
        /// SIGNING_KEY.
        found: u32,
    }
    /// MASK_CHIP_KEY: the firmware wrote zeros in place of a signature.
    2 "snp-chip-key-masked" "the chip key is masked, so that the report has no signature"
    ChipKeyMasked {}

    // 3: product line
    /// CPUID family and model are of no line that has a root here; Venice is among them.
    3 "snp-product-unknown" "no root is known for processors of family {family:#x} model {model:#x}"
    ProductUnknown {
        /// Combined family.
        family: u8,
        /// Combined model.
        model: u8,
    }
    /// The anchors in force have no root for the line.
    3 "snp-product-not-anchored" "the anchors in force have no root for {line}"
    ProductNotAnchored {
        /// The line.
        line: ProductLine,
    }

    // 4: leaf certificate
    /// A certificate of the evidence or the collateral is not exactly one DER certificate within the limit of size.
    4 "snp-certificate-malformed" "certificate {index} of the {place} is malformed: {what}"
    CertificateMalformed {
        /// `evidence` or `collateral`.
        place: &'static str,
        /// Its place there, from 0.
        index: usize,
        /// What is wrong with it.
        what: &'static str,
    }
    /// No certificate of the kind that SIGNING_KEY names.
    4 "snp-leaf-missing" "no {kind} certificate came with the report"
    LeafMissing {
        /// The kind that SIGNING_KEY names.
        kind: SigningKeyKind,
    }
    /// The certificate that came is of the other kind than SIGNING_KEY names.
    4 "snp-leaf-kind" "the report is signed by a {expected}, but only a {found} certificate came with it"
    LeafKind {
        /// The kind that SIGNING_KEY names.
        expected: SigningKeyKind,
        /// The kind that came.
        found: SigningKeyKind,
    }
    /// The leaf certificate breaks its profile (AMD 57230, section 3) in a way that no other variant names.
    4 "snp-leaf-profile" "the leaf certificate breaks its profile: {what}"
    LeafProfile {
        /// The rule that it breaks.
        what: &'static str,
    }
    /// An extension that the profile requires is absent.
    4 "snp-leaf-extension-missing" "the leaf certificate lacks the extension {name}"
    LeafExtensionMissing {
        /// Its name in AMD 57230.
        name: &'static str,
    }
    /// An extension that the profile excludes is present: HWID beside a VLEK, CSP_ID beside a VCEK, an unknown one of AMD's.
    4 "snp-leaf-extension-forbidden" "the leaf certificate has the extension {name}, which its profile excludes"
    LeafExtensionForbidden {
        /// Its name in AMD 57230.
        name: &'static str,
    }
    /// The same extension twice.
    4 "snp-leaf-extension-duplicate" "the leaf certificate has the extension {name} twice"
    LeafExtensionDuplicate {
        /// Its name in AMD 57230.
        name: &'static str,
    }
    /// An extension whose value is not of its type or size.
    4 "snp-leaf-extension-value" "the leaf certificate's extension {name} has no value of its type"
    LeafExtensionValue {
        /// Its name in AMD 57230.
        name: &'static str,
    }
    /// productName names no line that has a root here.
    4 "snp-leaf-product-unknown" "the leaf certificate names the product {found:?}, for which no root is known"
    LeafProductUnknown {
        /// productName.
        found: String,
    }
    /// productName is of another line than the report's CPUID.
    4 "snp-leaf-product-mismatch" "the report is of {expected}, the leaf certificate of {found}"
    LeafProductMismatch {
        /// The line by CPUID.
        expected: ProductLine,
        /// The line by productName.
        found: ProductLine,
    }
    /// structVersion is not the one of the line.
    4 "snp-leaf-struct-version" "expected structVersion {expected} for {line}, found {found}"
    LeafStructVersion {
        /// The line.
        line: ProductLine,
        /// Its version: 0 for Milan and Genoa, 1 for Turin.
        expected: u8,
        /// structVersion.
        found: u8,
    }

    // 5: chain
    /// Neither evidence nor collateral has the certificate that issued the leaf, and it is not among those compiled in.
    5 "snp-intermediate-missing" "no certificate named {expected} is at hand"
    IntermediateMissing {
        /// Its common name.
        expected: String,
    }
    /// The chain does not end in the pinned root.
    5 "snp-chain-unknown-issuer" "the chain does not end in the pinned ARK-{line}"
    ChainUnknownIssuer {
        /// The line.
        line: ProductLine,
    }
    /// A signature in the chain does not verify.
    5 "snp-chain-signature" "a signature of the chain to ARK-{line} does not verify"
    ChainSignature {
        /// The line.
        line: ProductLine,
    }
    /// A certificate is signed by another algorithm than RSASSA-PSS with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes.
    5 "snp-chain-algorithm" "a certificate of the chain is not signed by RSASSA-PSS with SHA-384 and a salt of 48 bytes"
    ChainAlgorithm {}
    /// A certificate of the chain is not valid yet.
    5 "snp-chain-not-yet-valid" "the {certificate} is valid from {not_before}, judged at {at}"
    ChainNotYetValid {
        /// Which one.
        certificate: &'static str,
        /// Start of its validity.
        not_before: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }
    /// A certificate of the chain is valid no more.
    5 "snp-chain-expired" "the {certificate} was valid until {not_after}, judged at {at}"
    ChainExpired {
        /// Which one.
        certificate: &'static str,
        /// End of its validity.
        not_after: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }
    /// The issuer of the leaf is no certificate authority.
    5 "snp-chain-not-an-authority" "the certificate that issued the leaf is no certificate authority"
    ChainNotAnAuthority {}
    /// The issuer of the leaf lacks the key usage keyCertSign, or has another beside it that the profile does not know.
    5 "snp-chain-key-usage" "the certificate that issued the leaf is not limited to signing certificates"
    ChainKeyUsage {}
    /// The issuer of the leaf lacks the path length 0 of its profile, or the path is longer than its authorities allow.
    5 "snp-chain-path-length" "the certificate that issued the leaf does not have path length 0"
    ChainPathLength {}
    /// Anything else that the path building refused.
    5 "snp-chain-refused" "the chain was refused: {why}"
    ChainRefused {
        /// In the words of the path builder.
        why: String,
    }

    // 6: revocation
    /// A revocation list of the collateral is no DER list within the limit of size, or breaks its profile.
    6 "snp-crl-malformed" "revocation list {index} of the collateral is malformed: {what}"
    CrlMalformed {
        /// Its place in the collateral, from 0.
        index: usize,
        /// What is wrong with it.
        what: &'static str,
    }
    /// A revocation list of the collateral is of nobody in the anchors.
    6 "snp-crl-issuer" "revocation list {index} of the collateral is issued by {found:?}, no root of the anchors"
    CrlIssuer {
        /// Its place in the collateral, from 0.
        index: usize,
        /// The issuer's common name.
        found: String,
    }
    /// A revocation list of the collateral does not verify under the pinned root whose name it bears.
    6 "snp-crl-signature" "the signature of revocation list {index} of the collateral does not verify under ARK-{line}"
    CrlSignature {
        /// Its place in the collateral, from 0.
        index: usize,
        /// The line.
        line: ProductLine,
    }
    /// The pinned root revoked an authority of the chain, or one that came with the evidence as its own.
    6 "snp-authority-revoked" "ARK-{line} revoked {subject} with serial number {serial}"
    AuthorityRevoked {
        /// The line.
        line: ProductLine,
        /// The authority's common name.
        subject: String,
        /// Its serial number, in hex.
        serial: String,
    }
    /// The pinned root revoked the leaf itself.
    6 "snp-leaf-revoked" "ARK-{line} revoked the {kind} with serial number {serial}"
    LeafRevoked {
        /// The line.
        line: ProductLine,
        /// VCEK or VLEK.
        kind: SigningKeyKind,
        /// Its serial number, in hex.
        serial: String,
    }

    // 7: signature
    /// Bytes 48 to 71 of r or s, or the bytes behind s, are not zero.
    7 "snp-signature-padding" "expected zero in the unused bytes of the signature's {part}"
    SignaturePadding {
        /// `r`, `s` or `reserved`.
        part: &'static str,
    }
    /// r or s is not within 1 to n - 1.
    7 "snp-signature-range" "the signature's {part} is not within 1 to n - 1"
    SignatureRange {
        /// `r` or `s`.
        part: &'static str,
    }
    /// The signature does not verify over the received bytes.
    7 "snp-signature" "the report's signature does not verify under the {kind}"
    Signature {
        /// VCEK or VLEK.
        kind: SigningKeyKind,
    }

    // 8: TCB of the signing key
    /// A byte of a TCB version that the line does not use is not zero: the layout is not the line's.
    8 "snp-tcb-layout" "expected zero in the bytes of {field} that {line} does not use"
    TcbLayout {
        /// Which TCB version.
        field: &'static str,
        /// The line.
        line: ProductLine,
    }
    /// One of spl4 to spl7 is not zero.
    8 "snp-leaf-reserved-spl" "expected zero in the leaf certificate's reserved {name}, found {found}"
    LeafReservedSpl {
        /// Its name in AMD 57230.
        name: &'static str,
        /// Its value.
        found: u8,
    }
    /// REPORTED_TCB is not the TCB that the certificate says its key is derived from.
    8 "snp-tcb-mismatch" "the report says TCB {report}, its certificate {certificate}"
    TcbMismatch {
        /// REPORTED_TCB.
        report: Tcb,
        /// The certificate's SPLs.
        certificate: Tcb,
    }

    // 9: chip identity
    /// CHIP_ID is not the HWID of the VCEK.
    9 "snp-chip-id-mismatch" "the report is of chip {report}, its VCEK of {certificate}"
    ChipIdMismatch {
        /// CHIP_ID.
        report: HexBytes<64>,
        /// HWID, behind it zeros up to 64 bytes.
        certificate: HexBytes<64>,
    }

    // 10: report data
    /// REPORT_DATA is not what the session's transcript, or the caller, asks for.
    10 "snp-report-data" "expected report data {expected}, found {found}"
    ReportData {
        /// What it should be.
        expected: HexBytes<64>,
        /// REPORT_DATA.
        found: HexBytes<64>,
    }

    // 11: guest policy, structure
    /// POLICY bit 17 is not 1.
    11 "snp-policy-bit-17" "expected guest policy bit 17 set, found {found:#x}"
    PolicyBit17 {
        /// POLICY.
        found: u64,
    }
    /// A reserved bit of POLICY is set.
    11 "snp-policy-reserved" "expected guest policy bits 26 to 63 clear, found {found:#x}"
    PolicyReserved {
        /// POLICY.
        found: u64,
    }

    // 12: relations between TCB versions
    /// CURRENT_TCB is below REPORTED_TCB.
    12 "snp-tcb-current-below-reported" "current TCB {current} is below the reported {reported}"
    CurrentBelowReported {
        /// CURRENT_TCB.
        current: Tcb,
        /// REPORTED_TCB.
        reported: Tcb,
    }
    /// COMMITTED_TCB is above CURRENT_TCB.
    12 "snp-tcb-committed-above-current" "committed TCB {committed} is above the current {current}"
    CommittedAboveCurrent {
        /// COMMITTED_TCB.
        committed: Tcb,
        /// CURRENT_TCB.
        current: Tcb,
    }

    // 13: platform info, structure
    /// PLATFORM_INFO has a bit that nobody documented when this was written.
    13 "snp-platform-info-unknown" "platform info {found:#x} has the unknown bits {unknown:#x}"
    PlatformInfoUnknown {
        /// PLATFORM_INFO.
        found: u64,
        /// The unknown ones among its bits.
        unknown: u64,
    }

    // 14: second opinion
    /// The independent parser read a field differently.
    14 "snp-second-opinion" "two independent parsers read {field} differently"
    SecondOpinion {
        /// The first field that differs.
        field: &'static str,
    }
    /// The independent parser refused a report for no reason on the list of known ones.
    14 "snp-second-opinion-refused" "the independent parser refused the report: {why}"
    SecondOpinionRefused {
        /// In its words.
        why: String,
    }
    /// The independent parser panicked on a report that ours accepted: a fault in one of the two, which somebody should look at.
    14 "snp-second-opinion-panicked" "the independent parser panicked on the report"
    SecondOpinionPanicked {}
}

impl Rejection {
    /// Whether an independent reader disagreed with ours about evidence whose signatures hold, refused it or panicked on it: one of the two
    /// has a fault, which somebody should look at.
    #[must_use]
    pub const fn is_of_second_opinion(&self) -> bool {
        matches!(
            self,
            Self::SecondOpinion { .. }
                | Self::SecondOpinionRefused { .. }
                | Self::SecondOpinionPanicked {}
                | Self::Tdx(
                    TdxRejection::SecondOpinion { .. } | TdxRejection::SecondOpinionRefused { .. } | TdxRejection::SecondOpinionPanicked {}
                )
        )
    }
}

impl From<Untimely> for Rejection {
    fn from(untimely: Untimely) -> Self {
        match untimely {
            Untimely::NotYet { certificate, not_before, at } => Self::ChainNotYetValid { certificate, not_before, at },
            Untimely::Expired { certificate, not_after, at } => Self::ChainExpired { certificate, not_after, at },
        }
    }
}

/// Bytes that show themselves as lower-case hex. Boxed, so that a rejection is small.
#[derive(Clone, PartialEq, Eq)]
pub struct HexBytes<const N: usize>(Box<[u8; N]>);

impl<const N: usize> HexBytes<N> {
    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; N] {
        &self.0
    }
}

impl<const N: usize> From<[u8; N]> for HexBytes<N> {
    fn from(bytes: [u8; N]) -> Self {
        Self(Box::new(bytes))
    }
}

impl<const N: usize> fmt::Display for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl<const N: usize> fmt::Debug for HexBytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An anchor that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadAnchor {
    /// Not one DER certificate of the ARK's profile.
    #[error("the ARK of {line} is malformed: {what}")]
    Malformed {
        /// The line it was given for.
        line: ProductLine,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Its subject is not `ARK-` and the line's name, or its issuer is another.
    #[error("expected a certificate of ARK-{line} issued by itself, found one of {found:?}")]
    Name {
        /// The line it was given for.
        line: ProductLine,
        /// Its common name.
        found: String,
    },
    /// It does not verify under its own key.
    #[error("the ARK of {line} does not verify under its own key")]
    Signature {
        /// The line it was given for.
        line: ProductLine,
    },
    /// Two for one line.
    #[error("two ARKs for {line}")]
    Twice {
        /// The line.
        line: ProductLine,
    },
    /// None at all.
    #[error("no ARK was given")]
    None,
    /// Not one DER certificate of the profile of Intel's root.
    #[error("the root for TDX is malformed: {what}")]
    IntelMalformed {
        /// What is wrong with it.
        what: &'static str,
    },
    /// Its subject is not that of Intel's root, or its issuer is another.
    #[error("expected a certificate of Intel SGX Root CA issued by itself, found one of {found:?}")]
    IntelName {
        /// Its common name.
        found: String,
    },
    /// It does not verify under its own key.
    #[error("the root for TDX does not verify under its own key")]
    IntelSignature,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_log::EventLogError;

    #[test]
    fn codes_are_kebab_case_and_stand_once() {
        let mut seen = std::collections::HashSet::new();
        for code in Rejection::CODES.iter().chain(TdxRejection::CODES).chain(EventLogError::CODES) {
            assert!(seen.insert(code), "{code} twice");
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{code}");
        }
    }

    #[test]
    fn what_a_second_opinion_brought_to_light_is_told_from_everything_else() {
        let (field, why) = ("MEASUREMENT", || "why".to_owned());
        let of_second_opinion: [Rejection; 6] = [
            Rejection::SecondOpinion { field },
            Rejection::SecondOpinionRefused { why: why() },
            Rejection::SecondOpinionPanicked {},
            TdxRejection::SecondOpinion { field }.into(),
            TdxRejection::SecondOpinionRefused { why: why() }.into(),
            TdxRejection::SecondOpinionPanicked {}.into(),
        ];
        assert!(of_second_opinion.iter().all(Rejection::is_of_second_opinion));
        let mut codes: Vec<&str> = Rejection::CODES.iter().chain(TdxRejection::CODES).copied().collect();
        codes.retain(|code| code.contains("second-opinion"));
        assert_eq!(of_second_opinion.each_ref().map(Rejection::code).to_vec(), codes);
        let others: [Rejection; 2] = [Rejection::Signature { kind: SigningKeyKind::Vcek }, TdxRejection::QuoteSignature {}.into()];
        assert!(!others.iter().any(Rejection::is_of_second_opinion));
    }

    #[test]
    fn a_rejection_knows_its_step_and_its_code() {
        let rejection = Rejection::TcbLayout { field: "CURRENT_TCB", line: ProductLine::Milan };
        assert_eq!((rejection.step(), rejection.code()), (8, "snp-tcb-layout"));
        assert_eq!(rejection.to_string(), "expected zero in the bytes of CURRENT_TCB that Milan does not use");
        let rejection = Rejection::ReportData { expected: [0xab; 64].into(), found: [0; 64].into() };
        assert!(rejection.to_string().starts_with("expected report data ababab"), "{rejection}");
    }
}
