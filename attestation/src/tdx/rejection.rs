//! Why TDX evidence is not genuine, not fresh or not well formed: a variant per check, in the order of [`crate::TDX_STEPS`].

use protocol::time::UnixTime;

use crate::claims::{PckAuthority, TdBody};
use crate::event_log::EventLogError;
use crate::rejection::{HexBytes, rejections};
use crate::x509::Untimely;

rejections! {
    /// Why TDX evidence was rejected. [`Self::code`] and [`Self::step`] are stable; the sentence is for people and may change.
    TdxRejection, steps crate::TDX_STEPS, or
    /// 12: the event log is ill-formed, or does not replay to the quote's registers.
    EventLog(EventLogError);

    // 1: format
    /// Longer than any quote ([`protocol::limits::TD_QUOTE`]).
    1 "tdx-quote-too-long" "expected a quote of at most {limit} bytes, found {found}"
    QuoteTooLong {
        /// The limit.
        limit: usize,
        /// How many bytes came.
        found: usize,
    }
    /// CBOR: a quote of the DICE kind, which nothing here reads.
    1 "tdx-quote-dice" "the quote is CBOR, as DICE quotes are; expected an ECDSA quote of version 4 or 5"
    QuoteDice {}
    /// The bytes end before a field does.
    1 "tdx-quote-truncated" "the quote ends within {field}"
    QuoteTruncated {
        /// Which field.
        field: &'static str,
    }
    /// The version is not 4 or 5.
    1 "tdx-quote-version" "expected quote version 4 or 5, found {found}"
    QuoteVersion {
        /// The version.
        found: u16,
    }
    /// The attestation key is not of P-256.
    1 "tdx-attestation-key-type" "expected attestation key type 2 (ECDSA P-256), found {found}"
    AttestationKeyType {
        /// The type.
        found: u16,
    }
    /// The quote is not of a TD.
    1 "tdx-tee-type" "expected TEE type 0x81 (TDX), found {found:#x}"
    TeeType {
        /// The type.
        found: u32,
    }
    /// The quoting enclave is not Intel's.
    1 "tdx-qe-vendor" "expected the quoting enclave vendor {expected}, found {found}"
    QeVendor {
        /// Intel's id.
        expected: HexBytes<16>,
        /// The id.
        found: HexBytes<16>,
    }
    /// A version 5 body that is no TD report.
    1 "tdx-body-type" "expected body type 2, 3 or 4 (a TD report), found {found}"
    BodyType {
        /// The type.
        found: u16,
    }
    /// A version 5 body is not of the size of its type.
    1 "tdx-body-size" "expected {expected} bytes in the body of a TD {body} report, found {found}"
    BodySize {
        /// The type.
        body: TdBody,
        /// Its size.
        expected: u32,
        /// The size in the descriptor.
        found: u32,
    }
    /// Certification data is of another type than every cloud's quotes have.
    1 "tdx-certification-type" "expected certification data of type {expected} in {place}, found {found}"
    CertificationType {
        /// `the quote` or `the QE report's certification data`.
        place: &'static str,
        /// 6 or 5.
        expected: u16,
        /// The type.
        found: u16,
    }
    /// A part does not end where its length says.
    1 "tdx-certification-length" "expected {place} to end with its last field, found {left} more bytes"
    CertificationLength {
        /// Which part.
        place: &'static str,
        /// Bytes behind its last field.
        left: usize,
    }
    /// More authentication data than any quoting enclave has ([`protocol::limits::QE_AUTHENTICATION_DATA`]).
    1 "tdx-qe-authentication-data" "expected at most {limit} bytes of QE authentication data, found {found}"
    QeAuthenticationData {
        /// The limit.
        limit: usize,
        /// How many there are.
        found: usize,
    }
    /// More padding behind the quote than any buffer has ([`protocol::limits::TD_QUOTE_PADDING`]).
    1 "tdx-padding-too-long" "expected at most {limit} bytes of padding behind the quote, found {found}"
    PaddingTooLong {
        /// The limit.
        limit: usize,
        /// How many there are.
        found: usize,
    }
    /// What follows the quote is not all zero.
    1 "tdx-padding-not-zero" "expected only zero bytes behind the quote, found another at {offset}"
    PaddingNotZero {
        /// Its offset in the evidence, in bytes.
        offset: usize,
    }

    // 2: PCK certificate chain
    /// The anchors in force have no root for TDX.
    2 "tdx-not-anchored" "the anchors in force have no root for TDX"
    NotAnchored {}
    /// The collateral was prepared under other anchors.
    2 "tdx-prepared-under-other-anchors" "the collateral was prepared under other anchors than the evidence is judged under"
    OtherAnchors {}
    /// The chain is no PEM of certificates.
    2 "tdx-pck-chain-malformed" "the PCK certificate chain is malformed: {what}"
    PckChainMalformed {
        /// What is wrong with it.
        what: &'static str,
    }
    /// The chain has not exactly three certificates: leaf, authority, root.
    2 "tdx-pck-chain-count" "expected 3 certificates in the PCK certificate chain, found {found}"
    PckChainCount {
        /// How many there are.
        found: usize,
    }
    /// A certificate of the chain is not exactly one DER certificate.
    2 "tdx-certificate-malformed" "the {certificate} is malformed: {what}"
    CertificateMalformed {
        /// Which one.
        certificate: &'static str,
        /// What is wrong with it.
        what: &'static str,
    }
    /// A certificate of the chain has not the exact common name of its role.
    2 "tdx-certificate-name" "expected the {certificate} to have its role's common name, found {found:?}"
    CertificateName {
        /// Which one.
        certificate: &'static str,
        /// Its common name.
        found: String,
    }
    /// A certificate of the chain does not name the next one as its issuer.
    2 "tdx-certificate-issuer" "the {certificate} is issued by {found:?}, not by the next certificate of its chain"
    CertificateIssuer {
        /// Which one.
        certificate: &'static str,
        /// The issuer's common name.
        found: String,
    }
    /// The root of the chain has another name or key than the pinned one.
    2 "tdx-root-mismatch" "the root of the PCK certificate chain is not the pinned one"
    RootMismatch {}
    /// A certificate of the chain breaks its profile in a way that no other variant names.
    2 "tdx-certificate-profile" "the {certificate} breaks its profile: {what}"
    CertificateProfile {
        /// Which one.
        certificate: &'static str,
        /// The rule that it breaks.
        what: &'static str,
    }
    /// The issuer of the leaf is no certificate authority.
    2 "tdx-certificate-not-an-authority" "the {certificate} is no certificate authority"
    NotAnAuthority {
        /// Which one.
        certificate: &'static str,
    }
    /// The leaf is a certificate authority.
    2 "tdx-certificate-is-an-authority" "the {certificate} is a certificate authority"
    IsAnAuthority {
        /// Which one.
        certificate: &'static str,
    }
    /// The issuer of the leaf has not path length 0.
    2 "tdx-certificate-path-length" "expected path length 0 in the {certificate}"
    PathLength {
        /// Which one.
        certificate: &'static str,
    }
    /// A certificate of the chain may not be used for what it is used for, or for more.
    2 "tdx-certificate-key-usage" "the {certificate} has not the key usage of its role"
    KeyUsage {
        /// Which one.
        certificate: &'static str,
    }
    /// A certificate of the chain is signed by another algorithm than ECDSA P-256 with SHA-256.
    2 "tdx-certificate-algorithm" "the {certificate} is not signed by ECDSA with SHA-256"
    CertificateAlgorithm {
        /// Which one.
        certificate: &'static str,
    }
    /// The signature of a certificate of the chain does not verify under the next one's key.
    2 "tdx-certificate-signature" "the signature of the {certificate} does not verify under its issuer's key"
    CertificateSignature {
        /// Which one.
        certificate: &'static str,
    }
    /// A certificate of the chain is not valid yet.
    2 "tdx-certificate-not-yet-valid" "the {certificate} is valid from {not_before}, judged at {at}"
    CertificateNotYetValid {
        /// Which one.
        certificate: &'static str,
        /// Start of its validity.
        not_before: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }
    /// A certificate of the chain is valid no more.
    2 "tdx-certificate-expired" "the {certificate} was valid until {not_after}, judged at {at}"
    CertificateExpired {
        /// Which one.
        certificate: &'static str,
        /// End of its validity.
        not_after: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }
    /// The SGX extension of the PCK certificate breaks its structure.
    2 "tdx-pck-extension" "the SGX extension of the PCK certificate is malformed: {what}"
    PckExtension {
        /// What is wrong with it.
        what: &'static str,
    }
    /// A part of the SGX extension is absent.
    2 "tdx-pck-extension-missing" "the SGX extension of the PCK certificate lacks {name}"
    PckExtensionMissing {
        /// Its name in Intel's profile.
        name: &'static str,
    }
    /// A part of the SGX extension stands twice.
    2 "tdx-pck-extension-duplicate" "the SGX extension of the PCK certificate has {name} twice"
    PckExtensionDuplicate {
        /// Its name in Intel's profile.
        name: &'static str,
    }
    /// A part of the SGX extension that the issuing authority's profile excludes.
    2 "tdx-pck-extension-forbidden" "the SGX extension of the PCK certificate has {name}, which its authority's profile excludes"
    PckExtensionForbidden {
        /// Its name in Intel's profile.
        name: &'static str,
    }
    /// A part of the SGX extension is not of its type or size.
    2 "tdx-pck-extension-value" "{name} in the SGX extension of the PCK certificate has no value of its type"
    PckExtensionValue {
        /// Its name in Intel's profile.
        name: &'static str,
    }

    // 3: revocation
    /// A revocation list of the collateral is no DER list within the limit of size, or breaks its profile.
    3 "tdx-crl-malformed" "revocation list {index} of the TDX collateral is malformed: {what}"
    CrlMalformed {
        /// Its place in the collateral, from 0.
        index: usize,
        /// What is wrong with it.
        what: &'static str,
    }
    /// A revocation list of the collateral is of nobody who issues any.
    3 "tdx-crl-issuer" "revocation list {index} of the TDX collateral is issued by {found:?}, no root or PCK authority"
    CrlIssuer {
        /// Its place in the collateral, from 0.
        index: usize,
        /// The issuer's common name.
        found: String,
    }
    /// A revocation list does not verify under the key of the authority whose name it bears.
    3 "tdx-crl-signature" "the signature of revocation list {index} of the TDX collateral does not verify under its issuer's key"
    CrlSignature {
        /// Its place in the collateral, from 0.
        index: usize,
    }
    /// No revocation list of an authority was issued by then, and the caller has no policy that could deny that.
    3 "tdx-crl-missing" "there is no revocation list of the {issuer} that was issued by {at}"
    CrlMissing {
        /// Whose list.
        issuer: &'static str,
        /// The time of judging.
        at: UnixTime,
    }
    /// The freshest revocation list is past its next update, and the caller has no policy that could bear that.
    3 "tdx-crl-lapsed" "the revocation list of the {issuer} was due for update at {next_update}, judged at {at}"
    CrlLapsed {
        /// Whose list.
        issuer: &'static str,
        /// When the next one was due.
        next_update: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }
    /// A list of the root names the root itself: whoever holds its key has given it up.
    3 "tdx-root-revoked" "the root revoked itself, serial number {serial}"
    RootRevoked {
        /// Its serial number, in hex.
        serial: String,
    }
    /// The pinned root revoked the PCK authority.
    3 "tdx-authority-revoked" "the root revoked the PCK {authority} authority with serial number {serial}"
    AuthorityRevoked {
        /// Which authority.
        authority: PckAuthority,
        /// Its serial number, in hex.
        serial: String,
    }
    /// The PCK authority revoked the PCK certificate.
    3 "tdx-pck-revoked" "the PCK {authority} authority revoked the PCK certificate with serial number {serial}"
    PckRevoked {
        /// Which authority.
        authority: PckAuthority,
        /// The certificate's serial number, in hex.
        serial: String,
    }

    // 4: signed collateral
    /// The collateral has no signed document for this platform. It can be fetched.
    4 "tdx-collateral-missing" "no {what} for FMSPC {fmspc} is at hand"
    CollateralMissing {
        /// `tcb-info` or `qe-identity`.
        what: &'static str,
        /// The platform's FMSPC.
        fmspc: HexBytes<6>,
    }
    /// A document is longer than any ([`protocol::limits::COLLATERAL_BODY`]).
    4 "tdx-document-too-long" "expected a {document} of at most {limit} bytes, found {found}"
    DocumentTooLong {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// The limit.
        limit: usize,
        /// How many bytes came.
        found: usize,
    }
    /// A document is not JSON of its type.
    4 "tdx-document-malformed" "the {document} is malformed: {what}"
    DocumentMalformed {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// What is wrong with it.
        what: String,
    }
    /// A key stands twice in one object of a document, so that two readers could read two things.
    4 "tdx-document-duplicate-key" "the {document} has the key {key:?} twice in one object"
    DocumentDuplicateKey {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// The key.
        key: String,
    }
    /// The signer's chain is not exactly signer and root.
    4 "tdx-signer-chain" "the chain of the {document}'s signer is not exactly one signer and its root: {what}"
    SignerChain {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// What is wrong with it.
        what: &'static str,
    }
    /// The signer's chain does not end in the pinned root.
    4 "tdx-signer-root" "the chain of the {document}'s signer does not end in the pinned root"
    SignerRoot {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
    }
    /// The signer has not the role of signing collateral.
    4 "tdx-signer-name" "expected Intel SGX TCB Signing as the {document}'s signer, found {found:?}"
    SignerName {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// Its common name.
        found: String,
    }
    /// The signer's certificate breaks its profile.
    4 "tdx-signer-profile" "the certificate of the {document}'s signer breaks its profile: {what}"
    SignerProfile {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// The rule that it breaks.
        what: &'static str,
    }
    /// The signer's certificate does not verify under the root's key.
    4 "tdx-signer-signature" "the certificate of the {document}'s signer does not verify under the pinned root"
    SignerSignature {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
    }
    /// The pinned root revoked the signer.
    4 "tdx-signer-revoked" "the root revoked the {document}'s signer with serial number {serial}"
    SignerRevoked {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// Its serial number, in hex.
        serial: String,
    }
    /// The signer's certificate is not valid yet.
    4 "tdx-signer-not-yet-valid" "the certificate of the {document}'s signer is valid from {not_before}, judged at {at}"
    SignerNotYetValid {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// Start of its validity.
        not_before: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }
    /// The signer's certificate is valid no more.
    4 "tdx-signer-expired" "the certificate of the {document}'s signer was valid until {not_after}, judged at {at}"
    SignerExpired {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// End of its validity.
        not_after: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }
    /// The signature does not verify over the received bytes.
    4 "tdx-document-signature" "the signature of the {document} does not verify over its bytes as received"
    DocumentSignature {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
    }
    /// The document is of another kind: of SGX, or of another enclave.
    4 "tdx-document-id" "expected the {document} to have the id {expected:?}, found {found:?}"
    DocumentId {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// `TDX` or `TD_QE`.
        expected: &'static str,
        /// id.
        found: String,
    }
    /// The document is of a version that nothing here reads.
    4 "tdx-document-version" "expected the {document} to have version {expected}, found {found}"
    DocumentVersion {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// The version.
        expected: u32,
        /// version.
        found: u32,
    }
    /// The TCB info's levels are to be compared in a way that nothing here knows.
    4 "tdx-tcb-type" "expected tcbType 0, found {found}"
    TcbType {
        /// tcbType.
        found: u32,
    }
    /// A TCB level has not sixteen components of a kind.
    4 "tdx-tcb-components" "expected 16 TCB components in each level, found {found}"
    TcbComponents {
        /// How many there are.
        found: usize,
    }
    /// Two levels for one TCB.
    4 "tdx-tcb-level-duplicate" "the {document} has two levels for one TCB"
    TcbLevelDuplicate {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
    }
    /// A level's status is a word that nothing here knows.
    4 "tdx-tcb-status-unknown" "the {document} has the unknown status {found:?}"
    TcbStatusUnknown {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// tcbStatus.
        found: String,
    }
    /// The document was issued after the time of judging.
    4 "tdx-document-not-yet-issued" "the {document} was issued at {issued}, judged at {at}"
    DocumentNotYetIssued {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// issueDate.
        issued: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }
    /// The document is past its next update, and the caller has no policy that could bear that.
    4 "tdx-document-lapsed" "the {document} was due for update at {next_update}, judged at {at}"
    DocumentLapsed {
        /// `tcb-info` or `qe-identity`.
        document: &'static str,
        /// nextUpdate.
        next_update: UnixTime,
        /// The time of judging.
        at: UnixTime,
    }

    // 5: platform of the TCB info
    /// The TCB info for the platform's FMSPC is of another provisioning certification enclave.
    5 "tdx-pceid-mismatch" "the PCK certificate is of PCEID {expected}, the TCB info of {found}"
    PceidMismatch {
        /// The PCK certificate's.
        expected: HexBytes<2>,
        /// The TCB info's.
        found: HexBytes<2>,
    }

    // 6: TDX module
    /// The TCB info knows no module of this major version.
    6 "tdx-module-unknown" "the TCB info has no identity of a TDX module of major version {version}"
    ModuleUnknown {
        /// TEE_TCB_SVN byte 1.
        version: u8,
    }
    /// The module is signed by somebody else.
    6 "tdx-module-signer" "expected MRSIGNERSEAM {expected}, found {found}"
    ModuleSigner {
        /// The identity's mrsigner.
        expected: HexBytes<48>,
        /// MRSIGNERSEAM.
        found: HexBytes<48>,
    }
    /// The module has other attributes.
    6 "tdx-module-attributes" "expected SEAMATTRIBUTES {expected}, all zero, found {found}"
    ModuleAttributes {
        /// The identity's attributes.
        expected: HexBytes<8>,
        /// SEAMATTRIBUTES, as stored.
        found: HexBytes<8>,
    }

    // 7: quoting enclave's report
    /// The QE report's signature does not verify under the PCK certificate's key.
    7 "tdx-qe-report-signature" "the signature of the quoting enclave's report does not verify under the PCK certificate"
    QeReportSignature {}
    /// The quoting enclave does not vouch for the attestation key.
    7 "tdx-attestation-key-binding" "the quoting enclave's report is not bound to the attestation key and the authentication data"
    AttestationKeyBinding {}
    /// The rest of the QE report's data is not zero.
    7 "tdx-qe-report-data-tail" "expected zero in bytes 32 to 63 of the quoting enclave's report data"
    QeReportDataTail {}

    // 8: quoting enclave's identity
    /// MISCSELECT, under the identity's mask.
    8 "tdx-qe-miscselect" "expected the quoting enclave's MISCSELECT to be {expected} under its mask, found {found}"
    QeMiscselect {
        /// The identity's.
        expected: HexBytes<4>,
        /// The report's.
        found: HexBytes<4>,
    }
    /// ATTRIBUTES, under the identity's mask. DEBUG is among them.
    8 "tdx-qe-attributes" "expected the quoting enclave's ATTRIBUTES to be {expected} under their mask, found {found}"
    QeAttributes {
        /// The identity's.
        expected: HexBytes<16>,
        /// The report's.
        found: HexBytes<16>,
    }
    /// MRSIGNER.
    8 "tdx-qe-signer" "expected the quoting enclave's MRSIGNER {expected}, found {found}"
    QeSigner {
        /// The identity's.
        expected: HexBytes<32>,
        /// The report's.
        found: HexBytes<32>,
    }
    /// ISVPRODID.
    8 "tdx-qe-product" "expected the quoting enclave's ISVPRODID {expected}, found {found}"
    QeProduct {
        /// The identity's.
        expected: u16,
        /// The report's.
        found: u16,
    }

    // 9: quote signature
    /// The signature does not verify over the received bytes.
    9 "tdx-quote-signature" "the quote's signature does not verify under its attestation key"
    QuoteSignature {}

    // 10: TCB evaluation
    /// No level of the collateral is low enough: nobody vouches for this TCB.
    10 "tdx-tcb-not-supported" "no TCB level covers the {part}"
    TcbNotSupported {
        /// Which part.
        part: &'static str,
    }
    /// The level is revoked.
    10 "tdx-tcb-revoked" "the TCB of the {part} is revoked"
    TcbRevoked {
        /// Which part.
        part: &'static str,
    }
    /// A module or quoting enclave has a status that says something about neither.
    10 "tdx-tcb-part-status" "expected the {part} to be UpToDate or OutOfDate, found {found}"
    TcbPartStatus {
        /// Which part.
        part: &'static str,
        /// Its status.
        found: crate::claims::TcbStatus,
    }

    // 11: report data
    /// REPORTDATA is not what the session's transcript, or the caller, asks for.
    11 "tdx-report-data" "expected report data {expected}, found {found}"
    ReportData {
        /// What it should be.
        expected: HexBytes<64>,
        /// REPORTDATA.
        found: HexBytes<64>,
    }

    // 13: second opinion
    /// The independent verifier read a field differently.
    13 "tdx-second-opinion-disagrees" "two independent verifiers read {field} differently"
    SecondOpinion {
        /// The first field that differs.
        field: &'static str,
    }
    /// The independent verifier refused a quote for no reason on the list of known ones.
    13 "tdx-second-opinion-refused" "the independent verifier refused the quote: {why}"
    SecondOpinionRefused {
        /// In its words.
        why: String,
    }
    /// The independent verifier panicked on a quote that ours accepted: a fault in one of the two, which somebody should look at.
    13 "tdx-second-opinion-panicked" "the independent verifier panicked on the quote"
    SecondOpinionPanicked {}
}

impl From<Untimely> for TdxRejection {
    fn from(untimely: Untimely) -> Self {
        match untimely {
            Untimely::NotYet { certificate, not_before, at } => Self::CertificateNotYetValid { certificate, not_before, at },
            Untimely::Expired { certificate, not_after, at } => Self::CertificateExpired { certificate, not_after, at },
        }
    }
}
