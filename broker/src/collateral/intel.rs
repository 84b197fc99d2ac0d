//! Intel's pieces: what each is, and whether it is genuine, by the verifier that evidence is judged with.

use attestation::{Collateral, PreparedCollateral, SignedBody, TdxCollateral, TdxPiece, TdxPieceKind, TdxSignature};
use protocol::encoding::to_base64;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{CollateralHouse, Judged, NotKept, PieceKey, RawPiece, hex};

/// A piece that was carried here: its kind, what it is, or why that is not known, and itself.
pub(super) type NamedPiece = (&'static str, Result<PieceKey, NotKept>, RawPiece);

impl CollateralHouse {
    /// What each of Intel's pieces is, or why that is not known, with its kind. A list gets the certificate of its authority, where that
    /// came with it or is held, as its issuer chain.
    pub(super) fn name_intel(&self, tdx: TdxCollateral) -> Vec<NamedPiece> {
        let key = |tdx: TdxCollateral| key_of(&self.read_intel(tdx)?).ok_or(NotKept::Unknown);
        let mut named = Vec::new();
        for signed in tdx.tcb_infos {
            let key = key(TdxCollateral { tcb_infos: vec![signed.clone()], ..TdxCollateral::default() });
            named.push(("tcb-info", key, raw(signed)));
        }
        for signed in tdx.qe_identities {
            let key = key(TdxCollateral { qe_identities: vec![signed.clone()], ..TdxCollateral::default() });
            named.push(("qe-identity", key, raw(signed)));
        }
        let mut authorities: Vec<_> =
            tdx.certificates.into_iter().filter(|der| attestation::is_pck_authority(der, &self.anchors)).collect();
        authorities.extend(self.pck_authorities());
        for der in tdx.crls {
            let key = key(TdxCollateral { crls: vec![der.clone()], certificates: authorities.clone(), ..TdxCollateral::default() });
            let kind = key.as_ref().map_or("pck-crl", PieceKey::kind);
            let issuer_chain = if kind == "pck-crl" { pem_of(self.authority_of(&der, &authorities)) } else { Vec::new() };
            named.push((kind, key, RawPiece { bytes: der, issuer_chain }));
        }
        named
    }

    /// A piece as it is kept: a list of a PCK authority with the certificate that it verifies under, also where that is held and did not
    /// come. The list takes the place of the one that brought it.
    pub(super) fn completed(&self, key: &PieceKey, raw: RawPiece) -> RawPiece {
        if !matches!(key, PieceKey::PckCrl(_)) {
            return raw;
        }
        let came = of_intel(key, &raw).certificates;
        if self.authority_of(&raw.bytes, &came).is_some() {
            return raw;
        }
        match self.authority_of(&raw.bytes, &self.pck_authorities()) {
            Some(authority) => RawPiece { issuer_chain: pem_of(Some(authority)), ..raw },
            None => raw,
        }
    }

    pub(super) fn judge_intel(&self, key: &PieceKey, raw: &RawPiece) -> Result<Judged, NotKept> {
        let mut tdx = of_intel(key, raw);
        if matches!(key, PieceKey::PckCrl(_)) {
            tdx.certificates.extend(self.pck_authorities());
        }
        let piece = self.read_intel(tdx)?;
        if key_of(&piece) != Some(*key) {
            return Err(NotKept::Other { found: key_of(&piece).map_or_else(String::new, |key| key.to_string()) });
        }
        let evaluation = piece.evaluation.and_then(|number| Some((floor_of(key)?, number)));
        Ok(Judged { issued: piece.issued, until: piece.next_update, evaluation })
    }

    /// The one piece in this, verified. A list of the root that is held is looked at too: it may name the signer.
    fn read_intel(&self, mut tdx: TdxCollateral) -> Result<TdxPiece, NotKept> {
        let root_list = self.piece(&PieceKey::RootCrl).filter(|_| tdx.crls.is_empty());
        let others = usize::from(root_list.is_some());
        tdx.crls.extend(root_list.map(|piece| piece.raw.bytes.clone()));
        let prepared = PreparedCollateral::prepare(Collateral { tdx, ..Collateral::default() }, &self.anchors);
        if let Some((_, rejection)) = prepared.problems().next() {
            return Err(rejection.clone().into());
        }
        let mut pieces = prepared.tdx_pieces();
        if others == 1 {
            pieces.retain(|piece| !matches!(piece.kind, TdxPieceKind::RootCrl));
        }
        let piece = pieces.pop().ok_or(NotKept::Unknown)?;
        match piece.signature {
            TdxSignature::Verified => Ok(piece),
            TdxSignature::NotJudged => Err(NotKept::NoAuthority),
        }
    }

    /// The one of these authorities that signed a list.
    fn authority_of<'a>(&self, list: &[u8], authorities: &'a [Vec<u8>]) -> Option<&'a Vec<u8>> {
        let signed = |authority: &&Vec<u8>| {
            let tdx = TdxCollateral { crls: vec![list.to_vec()], certificates: vec![(*authority).clone()], ..TdxCollateral::default() };
            let prepared = PreparedCollateral::prepare(Collateral { tdx, ..Collateral::default() }, &self.anchors);
            prepared.tdx_pieces().iter().any(|piece| piece.signature == TdxSignature::Verified)
        };
        authorities.iter().find(signed)
    }

    /// The certificates of PCK authorities whose lists are held, DER.
    fn pck_authorities(&self) -> Vec<Vec<u8>> {
        let held = self.held();
        let lists = held.pieces.values().filter(|piece| matches!(piece.key, PieceKey::PckCrl(_)));
        lists.flat_map(|piece| of_intel(&piece.key, &piece.raw).certificates).collect()
    }
}

fn raw(SignedBody { body, issuer_chain }: SignedBody) -> RawPiece {
    RawPiece { bytes: body, issuer_chain }
}

/// A piece of Intel's, as the verifier takes it.
pub(super) fn of_intel(key: &PieceKey, raw: &RawPiece) -> TdxCollateral {
    let body = || vec![SignedBody { body: raw.bytes.clone(), issuer_chain: raw.issuer_chain.clone() }];
    match key {
        PieceKey::TcbInfo(_) => TdxCollateral { tcb_infos: body(), ..TdxCollateral::default() },
        PieceKey::QeIdentity => TdxCollateral { qe_identities: body(), ..TdxCollateral::default() },
        _ => {
            let chain = CertificateDer::pem_slice_iter(&raw.issuer_chain).filter_map(Result::ok).map(|der| der.to_vec());
            TdxCollateral { crls: vec![raw.bytes.clone()], certificates: chain.collect(), ..TdxCollateral::default() }
        }
    }
}

/// The key of a verified piece of Intel's.
const fn key_of(piece: &TdxPiece) -> Option<PieceKey> {
    match (piece.kind, piece.fmspc, piece.authority) {
        (TdxPieceKind::TcbInfo, Some(fmspc), _) => Some(PieceKey::TcbInfo(fmspc)),
        (TdxPieceKind::QeIdentity, ..) => Some(PieceKey::QeIdentity),
        (TdxPieceKind::RootCrl, ..) => Some(PieceKey::RootCrl),
        (TdxPieceKind::PckCrl, _, Some(authority)) => Some(PieceKey::PckCrl(authority)),
        _ => None,
    }
}

/// What a piece's evaluation number is the number of.
fn floor_of(key: &PieceKey) -> Option<String> {
    match key {
        PieceKey::TcbInfo(fmspc) => Some(format!("TDX/{}", hex(fmspc))),
        PieceKey::QeIdentity => Some("TD_QE".to_owned()),
        _ => None,
    }
}

/// A certificate in PEM, if there is one.
fn pem_of(certificate: Option<&Vec<u8>>) -> Vec<u8> {
    let one = |der: &Vec<u8>| format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", to_base64(der));
    certificate.map(one).unwrap_or_default().into_bytes()
}
