//! X.509 certificates: leaf, intermediate, root, or one too many, beside a genuine report.
//!
//! Input: a byte that chooses the machine, a byte that chooses the place, then DER.

#![no_main]

use attestation::{Collateral, Rejection};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::snp::{Issuer, Machine, claims};

fuzz_target!(|data: &[u8]| {
    let [choice, place, der @ ..] = data else { return };
    let machine = Machine::chosen(*choice);
    let place = usize::from(*place) % 4;
    let judge = |der: Vec<u8>| {
        let mut evidence = machine.evidence(&machine.report);
        match evidence.certificates.get_mut(place) {
            Some(certificate) => *certificate = der,
            None => evidence.certificates.push(der),
        }
        machine.judge(evidence, &Collateral::default())
    };
    match judge(der.to_vec()) {
        // Nobody signed other bytes, so whatever passes says what the genuine chain says.
        Ok(genuine) => assert_eq!(*claims(&genuine), machine.claims()),
        Err(Rejection::ChainSignature { .. } | Rejection::ChainUnknownIssuer { .. }) => {
            let issuer = if place == 0 { Issuer::Intermediate } else { Issuer::Root };
            let Some(issued) = machine.issue(der, issuer) else { return };
            if let Ok(genuine) = judge(issued) {
                let (found, expected) = (claims(&genuine), machine.claims());
                // Of what a policy reads, these alone come from a certificate.
                assert_eq!((found.product, found.chip_id, found.reported_tcb), (expected.product, expected.chip_id, expected.reported_tcb));
                assert_eq!((found.signing_key, found.measurement), (expected.signing_key, expected.measurement));
            }
        }
        Err(_) => {}
    }
});
