//! Revocation lists: the operator's, where an ill-formed one is a rejection, and the host's, where a useless one is dropped.
//!
//! Input: a byte that chooses the machine, then DER.

#![no_main]

use attestation::{Collateral, GenuineEvidence, Rejection, Revocation};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::snp::{Issuer, Machine, claims, to_be_signed};

fuzz_target!(|data: &[u8]| {
    let Some((choice, der)) = data.split_first() else { return };
    let machine = Machine::chosen(*choice);
    let unsigned = |genuine: &GenuineEvidence| {
        let revocation = &claims(genuine).revocation;
        assert!(
            matches!(revocation, Revocation::Unknown) || to_be_signed(der) == to_be_signed(&machine.crl),
            "{revocation:?} from nowhere"
        );
    };
    unsigned(&brought(machine, der).expect("what a host hands out beside the evidence hurts nobody"));
    match provided(machine, der) {
        Ok(genuine) => unsigned(&genuine),
        Err(Rejection::CrlSignature { .. }) => {
            let Some(issued) = machine.issue(der, Issuer::Root) else { return };
            match (provided(machine, &issued), brought(machine, &issued)) {
                (Ok(one), Ok(other)) => assert_eq!(claims(&one), claims(&other), "wherever a good list comes from, it says the same"),
                (Err(one @ (Rejection::AuthorityRevoked { .. } | Rejection::LeafRevoked { .. })), Err(other)) => assert_eq!(one, other),
                (one, other) => panic!("{:?} {:?}", one.map(drop), other.map(drop)),
            }
        }
        Err(_) => {}
    }
});

fn provided(machine: &Machine, crl: &[u8]) -> Result<GenuineEvidence, Rejection> {
    machine.judge(machine.evidence(&machine.report), &Collateral { crls: vec![crl.to_vec()], ..Collateral::default() })
}

fn brought(machine: &Machine, crl: &[u8]) -> Result<GenuineEvidence, Rejection> {
    let mut evidence = machine.evidence(&machine.report);
    evidence.crls.push(crl.to_vec());
    machine.judge(evidence, &Collateral::default())
}
