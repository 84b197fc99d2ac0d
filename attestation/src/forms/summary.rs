//! What a piece says of itself, for people: nothing here is verified.

use protocol::collateral::{CollateralKind, CollateralPiece};
use protocol::time::UnixTime;
use serde::Deserialize;

use super::peek::{self, Content};
use crate::snp::pieces::VcekName;

/// What a piece says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceSummary {
    /// What it is about: an FMSPC in hex; a certificate's subject and its issuer, of a VCEK also the beginning of its chip's id and its TCB;
    /// a list's issuer.
    pub subject: String,
    /// `tcbEvaluationDataNumber` of a TCB info or identity.
    pub evaluation: Option<u32>,
    /// From when until when; `None` where it cannot be read.
    pub validity: Option<Validity>,
}

/// From when until when a piece says that it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// issueDate, thisUpdate or notBefore.
    pub issued: UnixTime,
    /// nextUpdate or notAfter; `None` for a list that names none.
    pub next_update: Option<UnixTime>,
}

#[derive(Deserialize)]
struct TcbInfoBody {
    #[serde(rename = "tcbInfo")]
    info: Dated,
}

#[derive(Deserialize)]
struct IdentityBody {
    #[serde(rename = "enclaveIdentity")]
    identity: Dated,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Dated {
    id: String,
    fmspc: Option<String>,
    issue_date: String,
    next_update: String,
    tcb_evaluation_data_number: u32,
}

impl PieceSummary {
    /// Of a piece. What cannot be read is called so.
    #[must_use]
    pub fn of(piece: &CollateralPiece) -> Self {
        let bytes = &piece.bytes;
        let summary = match piece.kind {
            CollateralKind::TdxTcbInfo => serde_json::from_slice(bytes).ok().and_then(|TcbInfoBody { info }| dated(info)),
            CollateralKind::TdxQeIdentity => serde_json::from_slice(bytes).ok().and_then(|IdentityBody { identity }| dated(identity)),
            CollateralKind::SnpCertificate => peek::peek(bytes).map(|peeked| of_chip(bytes, peeked_summary(&peeked))),
            _ => peek::peek(bytes).map(|peeked| peeked_summary(&peeked)),
        };
        summary.unwrap_or_else(|| Self { subject: "unreadable".to_owned(), evaluation: None, validity: None })
    }
}

fn dated(body: Dated) -> Option<PieceSummary> {
    let (issued, next_update) = (UnixTime::parse(&body.issue_date).ok()?, UnixTime::parse(&body.next_update).ok()?);
    Some(PieceSummary {
        // A stranger's text: shown only where it is what such a field can be.
        subject: body
            .fmspc
            .unwrap_or(body.id)
            .chars()
            .filter(|letter| letter.is_ascii_graphic())
            .take(32)
            .collect::<String>()
            .to_ascii_lowercase(),
        evaluation: Some(body.tcb_evaluation_data_number),
        validity: Some(Validity { issued, next_update: Some(next_update) }),
    })
}

/// Bytes of a chip's id that tell it from others.
const CHIP: usize = 8;

/// The summary of a certificate of AMD's, with the chip and TCB that a VCEK names.
fn of_chip(der: &[u8], summary: PieceSummary) -> PieceSummary {
    let Some(name) = VcekName::of_certificate(der) else { return summary };
    let chip = hex::encode(name.chip_id().get(..CHIP).unwrap_or_default());
    let tcb = name.tcb();
    let fmc = tcb.fmc.map(|fmc| format!("fmc {fmc} ")).unwrap_or_default();
    let (bootloader, tee, snp, microcode) = (tcb.bootloader, tcb.tee, tcb.snp, tcb.microcode);
    let subject = format!("{}, chip {chip}…, {fmc}bootloader {bootloader} tee {tee} snp {snp} microcode {microcode}", summary.subject);
    PieceSummary { subject, ..summary }
}

fn peeked_summary(peeked: &peek::Peeked) -> PieceSummary {
    let plain = |name: &str| name.chars().filter(|letter| !letter.is_control()).take(64).collect::<String>();
    let issuer = plain(&peeked.issuer);
    match &peeked.content {
        Content::Certificate { subject, not_before, not_after } => PieceSummary {
            subject: format!("{} by {issuer}", plain(subject)),
            evaluation: None,
            validity: Some(Validity { issued: *not_before, next_update: Some(*not_after) }),
        },
        Content::RevocationList { this_update, next_update } => {
            PieceSummary { subject: issuer, evaluation: None, validity: Some(Validity { issued: *this_update, next_update: *next_update }) }
        }
    }
}
