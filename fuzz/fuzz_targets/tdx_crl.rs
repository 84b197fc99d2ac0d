//! Intel's revocation lists in the operator's collateral: the root's, or the PCK authority's.
//!
//! Input: a byte that chooses machine and issuer, then DER.

#![no_main]

use attestation::{GenuineEvidence, Rejection, Revocation, TdxRejection};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::snp::to_be_signed;
use portcullis_fuzz::tdx::{Issuer, TdMachine, claims};

fuzz_target!(|data: &[u8]| {
    let Some((choice, der)) = data.split_first() else { return };
    let machine = TdMachine::chosen(*choice);
    let (place, issuer) = if choice & 0x80 == 0 { (0, Issuer::Root) } else { (1, Issuer::Authority) };
    match judge(machine, place, &[der]) {
        Ok(genuine) => {
            let revocation = claims(&genuine).revocation;
            let own = &machine.collateral.crls[place];
            assert!(matches!(revocation, Revocation::Unknown) || to_be_signed(der) == to_be_signed(own), "{revocation:?} from nowhere");
        }
        Err(Rejection::Tdx(TdxRejection::CrlSignature { .. })) => {
            let Some(issued) = machine.issue(der, issuer) else { return };
            let genuine = &machine.collateral.crls[place];
            // A list that stands twice says what it says once; what it revokes stays revoked beside one that does not.
            match (judge(machine, place, &[&issued]), judge(machine, place, &[genuine, &issued])) {
                // Stale by itself, and of no matter beside a fresh one.
                (Err(Rejection::Tdx(TdxRejection::CrlLapsed { .. })), _) => {}
                (Ok(one), Ok(other)) => assert_eq!(claims(&one).platform, claims(&other).platform),
                (Err(one), Err(other)) => assert_eq!(revoked(&one), revoked(&other), "{one} {other}"),
                (one, other) => panic!("{:?} {:?}", one.map(drop), other.map(drop)),
            }
        }
        Err(_) => {}
    }
});

/// The genuine quote with the list of the other issuer as it is, and these in the place of this one's.
fn judge(machine: &TdMachine, place: usize, lists: &[&[u8]]) -> Result<GenuineEvidence, Rejection> {
    let mut collateral = machine.collateral.clone();
    collateral.crls.remove(place);
    collateral.crls.extend(lists.iter().map(|list| list.to_vec()));
    machine.judge_with(collateral)
}

fn revoked(rejection: &Rejection) -> bool {
    rejection.code().ends_with("-revoked")
}
