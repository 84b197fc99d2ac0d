//! What `POST /v1/release` receives from anybody: as it came, and as a body that its own key signed.
//!
//! Input: a byte that chooses which, then JSON.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{Signer, documents};
use protocol::dsse::Body;
use protocol::limits;
use protocol::messages::{EvidenceMessage, ReceivedRequest, ReleaseRequest};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let json =
        if choice % 2 == 0 { bytes.to_vec() } else { documents::signed(ReleaseRequest::PAYLOAD_TYPE, bytes, Signer::Guest).to_json() };
    let Ok(received) = ReceivedRequest::read(&json) else { return };
    let body = &received.body;
    assert!(json.len() <= limits::REQUEST_BODY && (1..=limits::ASKS).contains(&body.items.len()));
    assert_eq!(body.signing_key, *Signer::Guest.key().public(), "only the guest of the fixtures has signed anything");
    if choice % 2 == 1 {
        assert_eq!(documents::read::<ReleaseRequest>(bytes, Signer::Guest).map(|document| *document.digest()), Ok(received.digest));
    }
    if let EvidenceMessage::SevSnp { report, certificate_table } = &body.evidence {
        // Whatever it is, reading it ends in a value or a named reason.
        drop(attestation::SnpEvidence::from_certificate_table(report.clone(), certificate_table));
    }
    drop(protocol::challenge::Challenge::parse(&body.challenge));
});
