//! Intel's signed documents: TCB info and QE identity, as bodies and as values under a good signature.
//!
//! Input: a byte that chooses machine, document and whether the rest is a body or a value.

#![no_main]

use attestation::{TcbPart, TdxPieceKind};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::tdx::{Document, TdMachine, claims};
use protocol::time::UnixTime;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let machine = TdMachine::chosen(*choice);
    let (document, kind) = match choice & 0x40 {
        0 => (Document::TcbInfo, TdxPieceKind::TcbInfo),
        _ => (Document::QeIdentity, TdxPieceKind::QeIdentity),
    };
    let signed = choice & 0x80 != 0;
    let body = if signed { machine.publish(document, bytes) } else { bytes.to_vec() };
    let collateral = machine.collateral_with(document, body.clone());
    // What is held is either trusted and listed, or has a problem; in both cases it is one document.
    let prepared = machine.prepare(collateral.clone());
    let trusted = prepared.tdx_pieces().iter().filter(|piece| piece.kind == kind).count();
    assert_eq!(trusted + prepared.problems().count(), 1);
    let Ok(genuine) = machine.judge_with(collateral) else { return };
    let found = claims(&genuine);
    if !signed {
        // Nobody signed another value.
        return assert_eq!(*found, machine.claims());
    }
    // Another reader of JSON finds in it what the claims say.
    let body: Value = serde_json::from_slice(&body).expect("JSON");
    match document {
        Document::TcbInfo => {
            let info = &body["tcbInfo"];
            source(info, found.tcb_info.evaluation, found.tcb_info.issued, found.tcb_info.next_update);
            assert_eq!(text(&info["fmspc"]).to_ascii_uppercase(), machine.platform.fmspc_hex());
            assert!(stands(&info["tcbLevels"], &found.tcb.platform));
            let identities = info["tdxModuleIdentities"].as_array().into_iter().flatten();
            let modules: Vec<&Value> = identities.map(|identity| &identity["tcbLevels"]).collect();
            assert!(found.tcb.module.as_ref().is_none_or(|module| modules.iter().any(|levels| stands(levels, module))));
        }
        Document::QeIdentity => {
            let identity = &body["enclaveIdentity"];
            source(identity, found.qe_identity.evaluation, found.qe_identity.issued, found.qe_identity.next_update);
            assert!(stands(&identity["tcbLevels"], &found.tcb.qe));
        }
    }
});

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

fn time(value: &Value) -> UnixTime {
    UnixTime::parse(text(value)).expect("a time")
}

fn source(document: &Value, evaluation: u32, issued: UnixTime, next_update: UnixTime) {
    assert_eq!(document["tcbEvaluationDataNumber"], evaluation);
    assert_eq!((time(&document["issueDate"]), time(&document["nextUpdate"])), (issued, next_update));
}

/// Whether one of these levels has this status and date.
fn stands(levels: &Value, part: &TcbPart) -> bool {
    let mut levels = levels.as_array().into_iter().flatten();
    levels.any(|level| text(&level["tcbStatus"]) == part.status.as_str() && time(&level["tcbDate"]) == part.date)
}
