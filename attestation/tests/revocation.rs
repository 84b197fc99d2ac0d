//! Revocation lists: what they refuse, what they prove, and what they are worth when they are old.

mod soft;

use attestation::{Collateral, PreparedCollateral, ProductLine, Rejection, Revocation, SigningKeyKind};
use protocol::time::UnixTime;
use soft::{Case, NOW, anchors};
use testbed::der;
use testbed::rsa::{Hash, PssParameters};
use testbed::snp::{Authority, Extension, Leaf, Line, Name, RevocationList, Root, SignatureState, SoftPlatform};

fn milan() -> SoftPlatform {
    SoftPlatform::new(Line::Milan)
}

/// Milan's evidence, and its list with a change in the collateral.
fn list(change: impl FnOnce(&mut RevocationList)) -> Case {
    Case::milan().collateral_crl(milan().crl_with(change))
}

const DAY: u64 = 86_400;

fn window(this_update: u64, next_update: u64) -> impl Fn(&mut RevocationList) {
    move |list| {
        list.this_update = this_update;
        list.next_update = Some(next_update);
    }
}

#[test]
fn a_revoked_authority_is_refused_even_by_a_stale_list() {
    let now = NOW.seconds();
    for (leaf, authority, name) in [(Leaf::Vcek, Authority::Ask, "SEV-Milan"), (Leaf::Vlek, Authority::Asvk, "SEV-VLEK-Milan")] {
        let serial = milan().serial(authority);
        let expected = Rejection::AuthorityRevoked { line: ProductLine::Milan, subject: name.to_owned(), serial: format!("{serial:x}") };
        for revoke_in in [window(now - 9 * DAY, now + DAY), window(now - 9 * DAY, now - DAY), window(now + DAY, now + 9 * DAY)] {
            let revoking = milan().crl_with(|list| {
                revoke_in(list);
                list.revoke(serial);
            });
            let genuine = Case::genuine(Line::Milan, leaf);
            assert_eq!(genuine.clone().collateral_crl(revoking.clone()).fails(), expected);
            let mut brought = genuine.clone();
            brought.evidence.crls.push(revoking);
            assert_eq!(brought.fails(), expected);
        }
        // The other kind's authority is no matter.
        let other = milan().serial(if leaf == Leaf::Vcek { Authority::Asvk } else { Authority::Ask });
        Case::genuine(Line::Milan, leaf).collateral_crl(milan().crl_der(&[other, 1, 0xffff_ffff])).passes();
    }
}

#[test]
fn a_revoked_authority_that_came_as_the_leafs_own_is_refused() {
    let old = milan().ask_with(|ask| ask.serial = 0x01_0007);
    let mut case = Case::milan().collateral_crl(milan().crl_der(&[0x01_0007]));
    case.passes();
    case.evidence.certificates.push(old);
    let expected = Rejection::AuthorityRevoked { line: ProductLine::Milan, subject: "SEV-Milan".to_owned(), serial: "10007".to_owned() };
    assert_eq!(case.fails(), expected);
}

#[test]
fn a_revoked_leaf_is_refused_but_serial_number_0_names_nobody() {
    Case::milan().collateral_crl(milan().crl_der(&[0])).passes();
    let mut case = Case::milan().with(0, milan().vcek_with(|vcek| vcek.serial = 0x77));
    case.passes();
    case.collateral.crls.push(milan().crl_der(&[0x77]));
    let expected = Rejection::LeafRevoked { line: ProductLine::Milan, kind: SigningKeyKind::Vcek, serial: "77".to_owned() };
    assert_eq!(case.fails(), expected);
}

#[test]
fn how_fresh_the_lists_are_is_a_claim() {
    let now = NOW.seconds();
    let time = UnixTime::from_seconds;
    let revocation = |windows: &[(u64, u64)]| {
        let mut case = Case::milan();
        for (this, next) in windows {
            case.collateral.crls.push(milan().crl_with(window(*this, *next)));
        }
        case.passes().revocation
    };
    assert_eq!(revocation(&[]), Revocation::Unknown);
    let checked = |this, next| Revocation::Checked { this_update: time(this), next_update: time(next) };
    let stale = |this, next| Revocation::Stale { this_update: time(this), next_update: time(next) };
    assert_eq!(revocation(&[(now, now)]), checked(now, now));
    assert_eq!(revocation(&[(now - 2, now - 1)]), stale(now - 2, now - 1));
    assert_eq!(revocation(&[(now + 1, now + 2)]), Revocation::Unknown, "a list of the future proves nothing yet");
    assert_eq!(
        revocation(&[(now - 9, now + 1), (now - 5, now + 9), (now - 7, now + 99)]),
        checked(now - 5, now + 9),
        "the freshest counts"
    );
}

#[test]
fn a_list_that_the_attester_brings_is_as_good_if_the_root_signed_it_and_no_matter_if_not() {
    let now = NOW.seconds();
    let mut case = Case::milan();
    case.evidence.crls = vec![
        b"garbage".to_vec(),
        milan().under(Root::Other).crl_der(&[]),
        milan().crl_with(|list| list.signature = SignatureState::Flipped),
        SoftPlatform::new(Line::Genoa).crl_der(&[]),
    ];
    assert_eq!(case.passes().revocation, Revocation::Unknown);
    case.evidence.crls.push(milan().crl_with(window(now - 1, now + 1)));
    assert!(matches!(case.passes().revocation, Revocation::Checked { .. }));
}

#[test]
fn a_list_of_the_collateral_is_the_roots_or_refused_by_its_place() {
    let mut case = Case::milan().collateral_crl(milan().crl_der(&[]));
    let expected = Rejection::CrlSignature { index: 1, line: ProductLine::Milan };
    case.collateral.crls.push(milan().under(Root::Other).crl_der(&[]));
    assert_eq!(case.fails(), expected);
    let weak = PssParameters { hash: Hash::Sha256, mask_hash: Hash::Sha256, salt_length: 32, ..PssParameters::AMD };
    for flaw in [
        milan().crl_with(|list| list.signature = SignatureState::Flipped),
        milan().crl_with(|list| list.signature = SignatureState::Short),
        milan().crl_with(|list| list.parameters = weak),
        milan().crl_with(|list| list.signer = testbed::snp::Issuer(milan().authority_key(Authority::Ask))),
    ] {
        case.collateral.crls[1] = flaw;
        assert_eq!(case.fails(), expected);
    }
    // Another's list is that one's matter, whatever it says, and whether it is a root in force or not.
    let others = [
        milan().crl_with(|list| {
            list.issuer = Name::amd("ARK-Other");
            list.revoke(milan().serial(Authority::Ask));
        }),
        SoftPlatform::new(Line::Genoa).crl_der(&[milan().serial(Authority::Ask)]),
    ];
    for other in others {
        case.collateral.crls[1] = other;
        case.passes();
    }
}

#[test]
fn what_is_wrong_with_a_list_is_seen_without_evidence() {
    let problems = |crls: Vec<Vec<u8>>| {
        let prepared = PreparedCollateral::prepare(Collateral { crls, ..Collateral::default() }, &anchors());
        prepared.problems().map(|(piece, rejection)| (piece, rejection.clone())).collect::<Vec<_>>()
    };
    let found = problems(vec![
        milan().crl_der(&[]),
        milan().crl_with(|list| list.issuer = Name::amd("ARK-Other")),
        milan().under(Root::Other).crl_der(&[]),
        b"no list".to_vec(),
    ]);
    let [issuer, signature, malformed] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(*issuer, ("SNP revocation list 1".to_owned(), Rejection::CrlIssuer { index: 1, found: "ARK-Other".to_owned() }));
    assert_eq!(*signature, ("SNP revocation list 2".to_owned(), Rejection::CrlSignature { index: 2, line: ProductLine::Milan }));
    assert!(matches!(malformed.1, Rejection::CrlMalformed { index: 3, .. }), "{malformed:?}");
    assert_eq!(problems(vec![milan().crl_der(&[7]), SoftPlatform::new(Line::Genoa).crl_der(&[])]), []);
}

#[test]
fn a_revoked_authority_that_is_merely_held_refuses_nobody_whom_it_did_not_sign() {
    let old = milan().ask_with(|ask| ask.serial = 0x01_0007);
    let mut case = Case::milan().collateral_crl(milan().crl_der(&[0x01_0007]));
    case.collateral.certificates.push(old.clone());
    case.passes();
    // The near miss: it is what the leaf leads to the root by.
    case.evidence.certificates.remove(1);
    let expected = Rejection::AuthorityRevoked { line: ProductLine::Milan, subject: "SEV-Milan".to_owned(), serial: "10007".to_owned() };
    assert_eq!(case.fails(), expected);
    // And it is not worth keeping.
    let check = |lists: &[Vec<u8>]| attestation::judge_amd_revocation(&old, lists, ProductLine::Milan, &anchors());
    assert_eq!(check(&case.collateral.crls), Err(expected));
    assert_eq!(check(&[milan().crl_der(&[0x01_0008]), SoftPlatform::new(Line::Genoa).crl_der(&[0x01_0007])]), Ok(()));
}

#[test]
fn a_list_of_the_collateral_is_well_formed_and_complete() {
    let malformed = |case: &Case| match case.fails() {
        Rejection::CrlMalformed { index: 0, what } => what,
        other => panic!("{other}"),
    };
    let whole = milan().crl_der(&[5]);
    for bad in [Vec::new(), whole[..whole.len() - 1].to_vec(), b"-----BEGIN X509 CRL-----".to_vec(), milan().ark_der()] {
        malformed(&Case::milan().collateral_crl(bad));
    }
    let trailing = [&whole[..], &[0]].concat();
    assert_eq!(malformed(&Case::milan().collateral_crl(trailing)), "bytes behind its end");
    let mut long = whole.clone();
    long.resize(256 * 1024 + 1, 0);
    assert_eq!(malformed(&Case::milan().collateral_crl(long)), "longer than any list");
    assert_eq!(malformed(&list(|list| list.version = Some(0))), "not version 2");
    assert_eq!(malformed(&list(|list| list.version = None)), "not DER of its type");
    assert_eq!(malformed(&list(|list| list.next_update = None)), "no time of the next update");
    let inner = PssParameters::AMD.identifier();
    assert_eq!(malformed(&list(|list| list.inner_algorithm = Some(inner))), "two different signature algorithms");
    // A delta, a partial or an indirect list says so critically.
    let delta = Extension::critical("2.5.29.27", der::integer(1));
    assert_eq!(malformed(&list(|list| list.extensions.push(delta.clone()))), "a critical extension");
    let entry = list(|list| {
        list.revoke(5);
        list.revoked[0].extensions.push(Extension::critical("2.5.29.29", der::sequence(&[])));
    });
    assert_eq!(malformed(&entry), "a critical extension");
    // Whether it says so critically or not: it must, but what it leaves out is left out either way.
    let partial = "a delta, a part, or of another issuer's certificates";
    for kind in ["2.5.29.27", "2.5.29.28", "2.5.29.29"] {
        let extension = || Extension::new(kind, der::sequence(&[]));
        assert_eq!(malformed(&list(|list| list.extensions.push(extension()))), partial, "{kind}");
        let entry = list(|list| {
            list.revoke(5);
            list.revoked[0].extensions.push(extension());
        });
        assert_eq!(malformed(&entry), partial, "{kind}");
    }
    list(|list| list.extensions.push(Extension::new("2.5.29.26", der::sequence(&[])))).passes();
    list(|list| {
        list.revoke(5);
        list.revoked[0].extensions.push(Extension::new("2.5.29.21", vec![0x0a, 0x01, 0x01]));
    })
    .passes();
}
