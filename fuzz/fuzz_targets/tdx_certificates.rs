//! Intel's X.509 certificates: PCK certificate, its authority and root in a quote, or the signer of collateral and its root, as PEM.
//!
//! Input: a byte that chooses the machine, a byte that chooses the place, then DER.

#![no_main]

use attestation::{GenuineEvidence, Rejection};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::tdx::{Issuer, TdMachine, claims};
use testbed::tdx::pem;

fuzz_target!(|data: &[u8]| {
    let [choice, place, der @ ..] = data else { return };
    let machine = TdMachine::chosen(*choice);
    let place = usize::from(*place) % 5;
    match judge(machine, place, der) {
        // Nobody signed other bytes, so whatever passes says what the genuine certificates say.
        Ok(genuine) => assert_eq!(*claims(&genuine), machine.claims()),
        Err(Rejection::Tdx(rejection)) if rejection.code().ends_with("-signature") => {
            let issuer = if place == 0 { Issuer::Authority } else { Issuer::Root };
            let Some(issued) = machine.issue(der, issuer) else { return };
            if let Ok(genuine) = judge(machine, place, &issued) {
                let (found, expected) = (claims(&genuine), machine.claims());
                // A PCK certificate says which platform it is and at which SVNs; which documents answer for it follows from that.
                assert_eq!((found.platform.fmspc, found.platform.pceid), (expected.platform.fmspc, expected.platform.pceid));
                assert_eq!((found.mrtd, found.tcb_info, found.qe_identity), (expected.mrtd, expected.tcb_info, expected.qe_identity));
                assert!(place == 0 || found.platform == expected.platform);
            }
        }
        Err(_) => {}
    }
});

/// In the quote's chain at 0 to 2, in the chain of the documents' signer at 3 and 4.
fn judge(machine: &TdMachine, place: usize, der: &[u8]) -> Result<GenuineEvidence, Rejection> {
    let mut chain = machine.chain.clone();
    if let Some(certificate) = chain.get_mut(place) {
        *certificate = der.to_vec();
        return machine.judge(&machine.quote_with(&chain));
    }
    let mut signers = [machine.platform.tcb_signer_der(), machine.platform.root_der()];
    signers[place - 3] = der.to_vec();
    let mut collateral = machine.collateral.clone();
    for document in collateral.tcb_infos.iter_mut().chain(&mut collateral.qe_identities) {
        document.issuer_chain = pem::chain(&signers).into_bytes();
    }
    machine.judge_with(collateral)
}
