//! Vendor collateral on its way to where there is no network: one signed file for SNP and TDX.
//!
//! The signature says who carried it here, and no more. Every piece in it is a vendor's own signed statement or nothing: it is verified
//! under the vendors' roots when it is imported and again when it is used. So a bundle names no installation, and one may serve many;
//! an old one brought again does no harm, since every piece has dates of its own and a broker never takes an older TCB for a newer one.

use serde::{Deserialize, Serialize};

use crate::dsse::{Body, DocumentError, SignedDocument};
use crate::ids::Digest;
use crate::limits;
use crate::time::UnixTime;

/// What a bundle says: these pieces were gathered, then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralBundleBody {
    /// When it was put together.
    pub created: UnixTime,
    /// The pieces, in any order.
    pub pieces: Vec<CollateralPiece>,
}

/// One piece of collateral, as received from its vendor. Not trusted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CollateralPiece {
    /// What it is said to be.
    pub kind: CollateralKind,
    /// DER, or JSON exactly as it was signed.
    #[serde(with = "crate::encoding::base64")]
    pub bytes: Vec<u8>,
    /// The chain of its signer, PEM, signer first. TCB infos and identities come with one, TDX revocation lists may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer_chain: Option<String>,
    /// Where it was found, for people: an address or a file.
    pub source: String,
}

/// What a piece can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollateralKind {
    /// A certificate of AMD's: VCEK, VLEK, ASK, ASVK, ARK (DER).
    SnpCertificate,
    /// A revocation list of AMD's (DER).
    SnpCrl,
    /// Intel's TCB info of one FMSPC (JSON, with its issuer chain).
    TdxTcbInfo,
    /// Intel's identity of the TD quoting enclave (JSON, with its issuer chain).
    TdxQeIdentity,
    /// A revocation list of Intel's: of the root, or of an authority over PCK certificates (DER).
    TdxCrl,
    /// A certificate of Intel's authorities (DER).
    TdxCertificate,
}

impl CollateralKind {
    /// Its name in JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SnpCertificate => "snp-certificate",
            Self::SnpCrl => "snp-crl",
            Self::TdxTcbInfo => "tdx-tcb-info",
            Self::TdxQeIdentity => "tdx-qe-identity",
            Self::TdxCrl => "tdx-crl",
            Self::TdxCertificate => "tdx-certificate",
        }
    }

    /// Whether it is JSON that counts only with the chain of its signer.
    #[must_use]
    pub const fn has_chain(self) -> bool {
        matches!(self, Self::TdxTcbInfo | Self::TdxQeIdentity)
    }
}

impl CollateralPiece {
    /// SHA-256 of its bytes: what answers name it by.
    #[must_use]
    pub fn digest(&self) -> Digest {
        crate::encoding::sha256(&self.bytes)
    }

    /// The rules of its form; whether it is genuine is not among them.
    ///
    /// # Errors
    /// What is wrong, in a few words.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.bytes.is_empty() {
            return Err("an empty piece");
        }
        if self.bytes.len() > limits::COLLATERAL_PIECE {
            return Err("a piece larger than any");
        }
        match (&self.issuer_chain, self.kind) {
            (None, kind) if kind.has_chain() => return Err("a TCB info or identity without issuer chain"),
            (Some(_), CollateralKind::SnpCertificate | CollateralKind::SnpCrl | CollateralKind::TdxCertificate) => {
                return Err("an issuer chain beside a piece that needs none");
            }
            (Some(chain), _) if chain.len() > limits::COLLATERAL_CHAIN || !chain.is_ascii() => return Err("an issuer chain that is none"),
            _ => {}
        }
        if self.source.len() > limits::COLLATERAL_SOURCE || self.source.chars().any(char::is_control) {
            return Err("a source that cannot be shown");
        }
        Ok(())
    }
}

impl Body for CollateralBundleBody {
    const PAYLOAD_TYPE: &'static str = "application/vnd.portcullis.collateral+json";
    const LIMIT: usize = limits::COLLATERAL_BUNDLE;

    fn check(&self) -> Result<(), &'static str> {
        if self.pieces.len() > limits::COLLATERAL_PIECES {
            return Err("more pieces than a bundle may hold");
        }
        self.pieces.iter().try_for_each(CollateralPiece::check)
    }
}

impl CollateralBundleBody {
    /// What a bundle says, whoever signed it: enough for whoever verifies every piece under the vendors' roots and needs no carrier's word.
    ///
    /// # Errors
    /// [`DocumentError::WrongType`], [`DocumentError::Body`].
    pub fn of_anybody(signed: &SignedDocument) -> Result<Self, DocumentError> {
        if signed.payload_type != Self::PAYLOAD_TYPE {
            return Err(DocumentError::WrongType { expected: Self::PAYLOAD_TYPE, found: signed.payload_type.clone() });
        }
        let refuse = |what: String| DocumentError::Body { expected: Self::PAYLOAD_TYPE, what };
        let body: Self = crate::dsse::object(&signed.payload).map_err(refuse)?;
        body.check().map_err(|what| refuse(what.to_owned()))?;
        Ok(body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;

    fn piece(kind: CollateralKind) -> CollateralPiece {
        let issuer_chain = kind.has_chain().then(|| "-----BEGIN CERTIFICATE-----".to_owned());
        CollateralPiece { kind, bytes: vec![1], issuer_chain, source: "tcb_info.json".to_owned() }
    }

    fn refusal(piece: CollateralPiece) -> Option<&'static str> {
        CollateralBundleBody { created: UnixTime::from_seconds(1), pieces: vec![piece] }.check().err()
    }

    #[test]
    fn a_piece_has_bytes_a_chain_where_it_needs_one_and_a_source_that_can_be_shown() {
        use CollateralKind::{SnpCertificate, TdxCrl, TdxTcbInfo};
        let chain = || Some("-----BEGIN CERTIFICATE-----".to_owned());
        assert_eq!(refusal(piece(TdxTcbInfo)), None);
        assert_eq!(refusal(CollateralPiece { bytes: Vec::new(), ..piece(TdxTcbInfo) }), Some("an empty piece"));
        let size = |size| CollateralPiece { bytes: vec![1; size], ..piece(TdxCrl) };
        assert_eq!(refusal(size(limits::COLLATERAL_PIECE)), None);
        assert_eq!(refusal(size(limits::COLLATERAL_PIECE + 1)), Some("a piece larger than any"));
        let bare = CollateralPiece { issuer_chain: None, ..piece(TdxTcbInfo) };
        assert_eq!(refusal(bare), Some("a TCB info or identity without issuer chain"));
        assert_eq!(refusal(CollateralPiece { issuer_chain: chain(), ..piece(TdxCrl) }), None);
        let needless = CollateralPiece { issuer_chain: chain(), ..piece(SnpCertificate) };
        assert_eq!(refusal(needless), Some("an issuer chain beside a piece that needs none"));
        let long = CollateralPiece { issuer_chain: Some("x".repeat(limits::COLLATERAL_CHAIN + 1)), ..piece(TdxCrl) };
        assert_eq!(refusal(long), Some("an issuer chain that is none"));
        for source in ["\u{1b}[2J".to_owned(), "x".repeat(limits::COLLATERAL_SOURCE + 1)] {
            assert_eq!(refusal(CollateralPiece { source, ..piece(TdxCrl) }), Some("a source that cannot be shown"));
        }
    }

    #[test]
    fn a_bundle_holds_a_bounded_number_of_pieces() {
        let bundle =
            |count| CollateralBundleBody { created: UnixTime::from_seconds(1), pieces: vec![piece(CollateralKind::SnpCrl); count] };
        assert_eq!(bundle(limits::COLLATERAL_PIECES).check(), Ok(()));
        assert_eq!(bundle(limits::COLLATERAL_PIECES + 1).check(), Err("more pieces than a bundle may hold"));
    }

    #[test]
    fn a_bundle_reads_back_under_its_signer_and_its_pieces_under_anybody() {
        let key = SigningKey::from_seed(&[1; 32]).unwrap();
        let pieces = vec![piece(CollateralKind::TdxTcbInfo), piece(CollateralKind::SnpCertificate)];
        let body = CollateralBundleBody { created: UnixTime::from_seconds(1), pieces };
        let signed = SignedDocument::sign(&body, &key).unwrap();
        let read = SignedDocument::parse::<CollateralBundleBody>(&signed.to_json()).unwrap();
        assert_eq!(read.authenticate::<CollateralBundleBody>(&[*key.public()]).unwrap().body(), &body);
        assert_eq!(CollateralBundleBody::of_anybody(&read), Ok(body));
        let mut other = read;
        other.payload_type = "application/vnd.portcullis.policy+json".to_owned();
        let refused = CollateralBundleBody::of_anybody(&other);
        assert!(matches!(refused, Err(DocumentError::WrongType { .. })), "{refused:?}");
    }

    #[test]
    fn the_name_of_a_kind_is_the_one_in_json() {
        use CollateralKind::{SnpCertificate, SnpCrl, TdxCertificate, TdxCrl, TdxQeIdentity, TdxTcbInfo};
        for kind in [SnpCertificate, SnpCrl, TdxTcbInfo, TdxQeIdentity, TdxCrl, TdxCertificate] {
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.as_str()));
        }
    }
}
