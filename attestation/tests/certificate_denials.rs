//! Certificates of which one thing is wrong, signed by the right authority all the same: each is refused by the check that is there
//! for it, and what lies just within the rule passes.

mod soft;

use attestation::{Anchors, BadAnchor, ProductLine, Rejection, SigningKeyKind};
use protocol::time::UnixTime;
use soft::{Case, NOW};
use testbed::der;
use testbed::rsa::{Hash, PssParameters, Trailer};
use testbed::snp::{Authority, BasicConstraints, Certificate, Extension, Leaf, Line, Name, Root, SignatureState, SoftPlatform, oid};

fn milan() -> SoftPlatform {
    SoftPlatform::new(Line::Milan)
}

/// Milan's evidence with a change in the VCEK.
fn vcek(change: impl FnOnce(&mut Certificate)) -> Case {
    Case::milan().with(0, milan().vcek_with(change))
}

/// Milan's evidence with a change in the ASK.
fn ask(change: impl FnOnce(&mut Certificate)) -> Case {
    Case::milan().with(1, milan().ask_with(change))
}

#[test]
fn a_certificate_is_one_der_certificate_in_evidence_and_collateral() {
    let whole = milan().vcek_der();
    let mut trailing = whole.clone();
    trailing.push(0);
    let mut long = whole.clone();
    long.resize(8 * 1024 + 1, 0);
    let version_1 = milan().vcek_with(|vcek| vcek.version = 0);
    // The bit string of the signature says how many bits at its end are unused: none.
    let mut unused_bits = whole.clone();
    let count = unused_bits.len() - 513;
    assert_eq!(std::mem::replace(&mut unused_bits[count], 4), 0);
    let last = unused_bits.len() - 1;
    unused_bits[last] &= 0xf0;
    let two_algorithms = milan().vcek_with(|vcek| vcek.inner_algorithm = Some(PssParameters::AMD.identifier()));
    for (bad, what) in [
        (whole[..whole.len() - 1].to_vec(), "not DER of its type"),
        (Vec::new(), "not DER of its type"),
        (b"-----BEGIN CERTIFICATE-----".to_vec(), "not DER of its type"),
        (trailing, "bytes behind its end"),
        (long, "longer than any certificate"),
        (version_1, "not X.509 version 3"),
        (two_algorithms, "two different signature algorithms"),
        (unused_bits, "a signature with unused bits"),
    ] {
        let expected = |place, index| Rejection::CertificateMalformed { place, index, what };
        assert_eq!(Case::milan().with(0, bad.clone()).fails(), expected("evidence", 0));
        let mut case = Case::milan();
        case.collateral.certificates = vec![milan().ask_der(), bad];
        assert_eq!(case.fails(), expected("collateral", 1));
    }
}

#[test]
fn the_leaf_is_of_the_kind_that_the_report_names() {
    let mut case = Case::milan();
    case.evidence.certificates.remove(0);
    assert_eq!(case.fails(), Rejection::LeafMissing { kind: SigningKeyKind::Vcek });
    case.evidence.certificates.push(milan().vlek_der());
    assert_eq!(case.fails(), Rejection::LeafKind { expected: SigningKeyKind::Vcek, found: SigningKeyKind::Vlek });
    case.evidence.certificates.push(milan().vcek_der());
    case.passes();
    let mut case = Case::genuine(Line::Milan, Leaf::Vlek);
    case.evidence.certificates[0] = milan().vcek_der();
    assert_eq!(case.fails(), Rejection::LeafKind { expected: SigningKeyKind::Vlek, found: SigningKeyKind::Vcek });
    // The name decides, exactly.
    for name in ["VCEK", "SEV-VCEK ", "sev-vcek", "SEV-VCEK-Milan"] {
        let case = vcek(|vcek| vcek.subject = Name::amd(name));
        assert_eq!(case.fails(), Rejection::LeafMissing { kind: SigningKeyKind::Vcek }, "{name:?}");
    }
}

#[test]
fn among_several_leaves_the_one_that_fits_the_report_counts() {
    let mut case = Case::milan();
    let expired = milan().vcek_with(|vcek| vcek.valid.not_after = vcek.valid.not_before + 1);
    let others = [milan().with_chip("another").vcek_der(), expired, milan().vcek_with(|vcek| vcek.remove(oid::HWID))];
    for (place, other) in others.into_iter().enumerate() {
        case.evidence.certificates.insert(place, other);
    }
    case.passes();
    // The right one may be the operator's.
    let genuine = case.evidence.certificates.remove(3);
    let rejection = case.fails();
    assert!(matches!(rejection, Rejection::ChainExpired { certificate: "VCEK", .. }), "{rejection}");
    case.collateral.certificates.push(genuine);
    case.passes();
}

#[test]
fn a_leaf_has_every_extension_of_its_profile_once() {
    let names = [
        (oid::STRUCT_VERSION, "structVersion"),
        (oid::PRODUCT_NAME, "productName"),
        (oid::BOOTLOADER, "blSPL"),
        (oid::TEE, "teeSPL"),
        (oid::SNP, "snpSPL"),
        (oid::MICROCODE, "ucodeSPL"),
    ];
    for (line, leaf) in Line::ALL.into_iter().flat_map(|line| [(line, Leaf::Vcek), (line, Leaf::Vlek)]) {
        let platform = SoftPlatform::new(line);
        let with = |change: &dyn Fn(&mut Certificate)| {
            let certificate = match leaf {
                Leaf::Vcek => platform.vcek_with(change),
                Leaf::Vlek => platform.vlek_with(change),
            };
            Case::genuine(line, leaf).with(0, certificate)
        };
        let owner = if leaf == Leaf::Vcek { (oid::HWID, "hwID") } else { (oid::CSP_ID, "cspID") };
        let fmc = (line == Line::Turin).then_some((oid::FMC, "fmcSPL"));
        for (id, name) in names.into_iter().chain([owner]).chain(fmc) {
            assert_eq!(with(&|leaf| leaf.remove(id)).fails(), Rejection::LeafExtensionMissing { name }, "{line:?} {leaf:?}");
            assert_eq!(with(&|leaf| leaf.duplicate(id)).fails(), Rejection::LeafExtensionDuplicate { name }, "{line:?} {leaf:?}");
        }
        // The reserved ones may be absent, but not twice.
        with(&|leaf| [oid::SPL_4, oid::SPL_5, oid::SPL_6, oid::SPL_7].into_iter().for_each(|id| leaf.remove(id))).passes();
        assert_eq!(with(&|leaf| leaf.duplicate(oid::SPL_5)).fails(), Rejection::LeafExtensionDuplicate { name: "spl5" });
    }
}

#[test]
fn a_vcek_names_its_chip_and_a_vlek_its_provider_and_neither_both() {
    let forbidden = |name| Rejection::LeafExtensionForbidden { name };
    assert_eq!(vcek(|vcek| vcek.set_csp_id("CN=cc")).fails(), forbidden("cspID"));
    let vlek = milan().vlek_with(|vlek| vlek.set_hwid(&[1; 64]));
    assert_eq!(Case::genuine(Line::Milan, Leaf::Vlek).with(0, vlek).fails(), forbidden("hwID"));
    assert_eq!(vcek(|vcek| vcek.set_level(oid::FMC, 1)).fails(), forbidden("fmcSPL"));
    let unknown = "of an unknown kind in AMD's arc";
    assert_eq!(vcek(|vcek| vcek.set("1.3.6.1.4.1.3704.1.3.10", der::integer(1))).fails(), forbidden(unknown));
    assert_eq!(vcek(|vcek| vcek.set("1.3.6.1.4.1.3704.1.6", der::integer(1))).fails(), forbidden(unknown));
    // Outside the arc an uncritical extension says nothing.
    vcek(|vcek| vcek.set("1.3.6.1.4.1.3704.2", der::integer(1))).passes();
}

#[test]
fn extension_values_are_of_their_type_and_size() {
    let value = |name| Rejection::LeafExtensionValue { name };
    for (id, name) in [(oid::BOOTLOADER, "blSPL"), (oid::MICROCODE, "ucodeSPL"), (oid::STRUCT_VERSION, "structVersion")] {
        for bad in [der::integer(256), Vec::new(), vec![0x02, 0x01, 0x80], vec![0x02, 0x02, 0x00, 0x01], der::octet_string(&[4])] {
            assert_eq!(vcek(|vcek| vcek.set(id, bad.clone())).fails(), value(name), "{bad:02x?}");
        }
    }
    assert_eq!(vcek(|vcek| vcek.set(oid::PRODUCT_NAME, der::utf8_string("Milan-B0"))).fails(), value("productName"));
    assert_eq!(vcek(|vcek| vcek.set_hwid_wrapped(&milan().chip_id)).fails(), value("hwID"));
    assert_eq!(vcek(|vcek| vcek.set_hwid(&milan().chip_id[..63])).fails(), value("hwID"));
    assert_eq!(vcek(|vcek| vcek.set_hwid(&milan().chip_id[..8])).fails(), value("hwID"));
    let turin = SoftPlatform::new(Line::Turin);
    let long = turin.vcek_with(|vcek| vcek.set_hwid(&turin.chip_id));
    assert_eq!(Case::genuine(Line::Turin, Leaf::Vcek).with(0, long).fails(), value("hwID"));
    let vlek = milan().vlek_with(|vlek| vlek.set(oid::CSP_ID, der::utf8_string("CN=cc")));
    assert_eq!(Case::genuine(Line::Milan, Leaf::Vlek).with(0, vlek).fails(), value("cspID"));
}

#[test]
fn the_product_name_is_the_reports_line() {
    for found in ["Venice", "Milan-", "milan", "Milan-B0 "] {
        let case = vcek(|vcek| vcek.set_product_name(found));
        assert_eq!(case.fails(), Rejection::LeafProductUnknown { found: found.to_owned() });
    }
    let case = vcek(|vcek| vcek.set_product_name("Genoa"));
    assert_eq!(case.fails(), Rejection::LeafProductMismatch { expected: ProductLine::Milan, found: ProductLine::Genoa });
    assert_eq!(vcek(|vcek| vcek.set_product_name("Milan")).passes().stepping, None);
    assert_eq!(vcek(|vcek| vcek.set_product_name("Milan-B1")).passes().stepping.as_deref(), Some("B1"));
}

#[test]
fn struct_version_is_the_lines() {
    let case = vcek(|vcek| vcek.set_level(oid::STRUCT_VERSION, 1));
    assert_eq!(case.fails(), Rejection::LeafStructVersion { line: ProductLine::Milan, expected: 0, found: 1 });
    let turin = SoftPlatform::new(Line::Turin).vcek_with(|vcek| vcek.set_level(oid::STRUCT_VERSION, 0));
    let case = Case::genuine(Line::Turin, Leaf::Vcek).with(0, turin);
    assert_eq!(case.fails(), Rejection::LeafStructVersion { line: ProductLine::Turin, expected: 1, found: 0 });
}

#[test]
fn the_leafs_key_is_of_p384_and_its_issuer_of_its_kind_and_line() {
    let key = Rejection::LeafProfile { what: "its key is not of P-384" };
    let rsa = milan().authority_key(Authority::Ask).public_key_info();
    assert_eq!(vcek(|vcek| vcek.public_key = rsa).fails(), key);
    let p256 = der::sequence(&[&der::oid("1.2.840.10045.2.1"), &der::oid("1.2.840.10045.3.1.7")]);
    let point = [&[4][..], &[1; 64]].concat();
    assert_eq!(vcek(|vcek| vcek.public_key = der::sequence(&[&p256, &der::bit_string(&point)])).fails(), key);
    // A point of P-384 under another name.
    let own = |vcek: &mut Certificate| vcek.public_key[vcek.public_key.len() - 97..].to_vec();
    vcek(|vcek| {
        let p384 = der::sequence(&[&der::oid("1.2.840.10045.2.1"), &der::oid("1.3.132.0.34")]);
        vcek.public_key = der::sequence(&[&p384, &der::bit_string(&own(vcek))]);
    })
    .passes();
    for (algorithm, curve) in [("1.2.840.10045.2.1", "1.2.840.10045.3.1.7"), ("1.3.132.1.12", "1.3.132.0.34")] {
        let named = der::sequence(&[&der::oid(algorithm), &der::oid(curve)]);
        assert_eq!(vcek(|vcek| vcek.public_key = der::sequence(&[&named, &der::bit_string(&own(vcek))])).fails(), key, "{algorithm}");
    }
    let issuer = Rejection::LeafProfile { what: "its issuer is not the authority of its kind and line" };
    for name in ["SEV-Genoa", "SEV-VLEK-Milan", "ARK-Milan", "SEV-Milan "] {
        assert_eq!(vcek(|vcek| vcek.issuer = Name::amd(name)).fails(), issuer, "{name:?}");
    }
}

#[test]
fn reserved_levels_are_zero() {
    for (id, name) in [(oid::SPL_4, "spl4"), (oid::SPL_5, "spl5"), (oid::SPL_6, "spl6"), (oid::SPL_7, "spl7")] {
        assert_eq!(vcek(|vcek| vcek.set_level(id, 1)).fails(), Rejection::LeafReservedSpl { name, found: 1 });
    }
}

#[test]
fn the_issuer_comes_from_evidence_or_collateral() {
    let mut case = Case::milan();
    let ask = case.evidence.certificates.remove(1);
    assert_eq!(case.fails(), Rejection::IntermediateMissing { expected: "SEV-Milan".to_owned() });
    case.collateral.certificates.push(ask);
    case.passes();
    let mut case = Case::genuine(Line::Turin, Leaf::Vlek);
    case.evidence.certificates.remove(1);
    assert_eq!(case.fails(), Rejection::IntermediateMissing { expected: "SEV-VLEK-Turin".to_owned() });
}

#[test]
fn a_hierarchy_of_ones_own_proves_nothing_whatever_it_calls_itself() {
    for line in Line::ALL {
        for leaf in [Leaf::Vcek, Leaf::Vlek] {
            let impostor = SoftPlatform::new(line).under(Root::Other);
            let mut case = Case::of(&impostor, &impostor.report_by(leaf));
            let expected = Rejection::ChainSignature { line: soft::product(line) };
            assert_eq!(case.fails(), expected);
            // Beside the genuine authorities it is no better.
            case.evidence.certificates.extend(SoftPlatform::new(line).certificates(leaf).into_iter().skip(1));
            assert_eq!(case.fails(), expected);
            let theirs = Anchors::test(vec![(soft::product(line), impostor.ark_der())]).unwrap();
            case.judge_under(&theirs).unwrap();
        }
    }
    let case = Case::milan();
    assert_eq!(case.judge_under(&Anchors::vendor()).unwrap_err(), Rejection::ChainSignature { line: ProductLine::Milan });
}

#[test]
fn the_chain_ends_in_the_root_of_the_line() {
    let case = ask(|ask| ask.issuer = Name::amd("ARK-Other"));
    assert_eq!(case.fails(), Rejection::ChainUnknownIssuer { line: ProductLine::Milan });
    let self_made = milan().ask_with(|ask| ask.signer = testbed::snp::Issuer(milan().authority_key(Authority::Ask)));
    assert_eq!(Case::milan().with(1, self_made).fails(), Rejection::ChainSignature { line: ProductLine::Milan });
    // What the attester calls the ARK is no matter.
    let impostor = milan().under(Root::Other).ark_der();
    Case::milan().with(2, impostor).passes();
    let mut without = Case::milan();
    without.evidence.certificates.truncate(2);
    without.passes();
}

#[test]
fn every_signature_of_the_chain_is_checked() {
    for state in [SignatureState::Flipped, SignatureState::Short, SignatureState::Zero] {
        let expected = Rejection::ChainSignature { line: ProductLine::Milan };
        assert_eq!(vcek(|vcek| vcek.signature = state).fails(), expected, "{state:?}");
        assert_eq!(ask(|ask| ask.signature = state).fails(), expected, "{state:?}");
    }
}

#[test]
fn certificates_are_signed_by_the_one_algorithm() {
    let amd = PssParameters::AMD;
    for parameters in [
        PssParameters { hash: Hash::Sha256, mask_hash: Hash::Sha256, salt_length: 32, ..amd },
        PssParameters { hash: Hash::Sha512, mask_hash: Hash::Sha512, salt_length: 64, ..amd },
        PssParameters { mask_hash: Hash::Sha256, ..amd },
        PssParameters { salt_length: 47, ..amd },
        PssParameters { salt_length: 0, ..amd },
        PssParameters { trailer: Trailer::Explicit(2), ..amd },
    ] {
        assert_eq!(vcek(|vcek| vcek.parameters = parameters.clone()).fails(), Rejection::ChainAlgorithm {}, "{parameters:?}");
        assert_eq!(ask(|ask| ask.parameters = parameters.clone()).fails(), Rejection::ChainAlgorithm {}, "{parameters:?}");
        // The parameters say the right thing, and the signature was made with the wrong ones.
        let lying = vcek(|vcek| {
            vcek.parameters = parameters.clone();
            vcek.inner_algorithm = Some(amd.identifier());
            vcek.outer_algorithm = Some(amd.identifier());
        });
        if parameters.trailer == amd.trailer {
            assert_eq!(lying.fails(), Rejection::ChainSignature { line: ProductLine::Milan }, "{parameters:?}");
        }
    }
    for parameters in [PssParameters::AMD, PssParameters::AMD_WITHOUT_TRAILER] {
        vcek(|vcek| vcek.parameters = parameters.clone()).passes();
        ask(|ask| ask.parameters = parameters).passes();
    }
}

#[test]
fn every_certificate_of_the_chain_is_valid_at_the_time() {
    let time = UnixTime::from_seconds;
    let now = NOW.seconds();
    let late = |certificate, not_after| Rejection::ChainExpired { certificate, not_after: time(not_after), at: NOW };
    let early = |certificate, not_before| Rejection::ChainNotYetValid { certificate, not_before: time(not_before), at: NOW };
    assert_eq!(vcek(|vcek| vcek.valid.not_after = now - 1).fails(), late("VCEK", now - 1));
    assert_eq!(vcek(|vcek| vcek.valid.not_before = now + 1).fails(), early("VCEK", now + 1));
    assert_eq!(ask(|ask| ask.valid.not_after = now - 1).fails(), late("ASK", now - 1));
    assert_eq!(ask(|ask| ask.valid.not_before = now + 1).fails(), early("ASK", now + 1));
    let asvk = milan().asvk_with(|asvk| asvk.valid.not_after = now - 1);
    assert_eq!(Case::genuine(Line::Milan, Leaf::Vlek).with(1, asvk).fails(), late("ASVK", now - 1));
    let old_root = Anchors::test(vec![(ProductLine::Milan, milan().ark_with(|ark| ark.valid.not_after = now - 1))]).unwrap();
    assert_eq!(Case::milan().judge_under(&old_root).unwrap_err(), late("ARK", now - 1));
    // Both ends are within.
    for case in [vcek(|vcek| vcek.valid.not_after = now), vcek(|vcek| vcek.valid.not_before = now)] {
        case.passes();
    }
    for case in [ask(|ask| ask.valid.not_after = now), ask(|ask| ask.valid.not_before = now)] {
        case.passes();
    }
}

#[test]
fn the_issuer_is_an_authority_over_leaves_only() {
    let constraints = |constraints| ask(|ask| ask.set_basic_constraints(constraints)).fails();
    assert_eq!(constraints(BasicConstraints::Absent), Rejection::ChainNotAnAuthority {});
    assert_eq!(constraints(BasicConstraints::NotAuthority), Rejection::ChainNotAnAuthority {});
    assert_eq!(constraints(BasicConstraints::Authority), Rejection::ChainPathLength {});
    assert_eq!(constraints(BasicConstraints::PathLength(1)), Rejection::ChainPathLength {});
    for bits in [&[6][..], &[0], &[0, 6]] {
        assert_eq!(ask(|ask| ask.set_key_usage(bits)).fails(), Rejection::ChainKeyUsage {}, "{bits:?}");
    }
    assert_eq!(ask(|ask| ask.remove(oid::KEY_USAGE)).fails(), Rejection::ChainKeyUsage {});
    assert_eq!(ask(|ask| ask.set_key_usage(&[5, 6])).passes().product, ProductLine::Milan);
}

#[test]
fn a_certificate_with_something_critical_and_unknown_is_refused() {
    let unknown = |certificate: &mut Certificate| certificate.extensions.push(Extension::critical("1.2.3.4", der::integer(1)));
    let server = |certificate: &mut Certificate| certificate.set("2.5.29.37", der::sequence(&[&der::oid("1.3.6.1.5.5.7.3.1")]));
    let refused = |why: &str| Rejection::ChainRefused { why: why.to_owned() };
    assert_eq!(vcek(unknown).fails(), refused("UnsupportedCriticalExtension"));
    assert_eq!(vcek(server).fails(), refused("ExtensionValueInvalid"));
    assert_eq!(vcek(|vcek| vcek.set_basic_constraints(BasicConstraints::Authority)).fails(), refused("CaUsedAsEndEntity"));
    vcek(|vcek| vcek.set("1.2.3.4", der::integer(1))).passes();
}

#[test]
fn an_anchor_is_a_self_signed_ark_of_its_line() {
    let line = ProductLine::Milan;
    let bad = |der: Vec<u8>| Anchors::test(vec![(line, der)]).err().unwrap();
    let name = |found: &str| BadAnchor::Name { line, found: found.to_owned() };
    assert_eq!(bad(SoftPlatform::new(Line::Genoa).ark_der()), name("ARK-Genoa"));
    assert_eq!(bad(milan().ask_der()), name("SEV-Milan"));
    assert_eq!(bad(milan().ark_with(|ark| ark.issuer = Name::amd("ARK-Other"))), name("ARK-Milan"));
    assert_eq!(bad(milan().ark_with(|ark| ark.signature = SignatureState::Flipped)), BadAnchor::Signature { line });
    let other_key = testbed::snp::Issuer(milan().under(Root::Other).authority_key(Authority::Ark));
    assert_eq!(bad(milan().ark_with(|ark| ark.signer = other_key)), BadAnchor::Signature { line });
    assert_eq!(bad(milan().ark_with(|ark| ark.parameters.salt_length = 20)), BadAnchor::Signature { line });
    let malformed = |what| BadAnchor::Malformed { line, what };
    assert_eq!(bad(Vec::new()), malformed("not DER of its type"));
    let no_authority = milan().ark_with(|ark| ark.set_basic_constraints(BasicConstraints::NotAuthority));
    assert_eq!(bad(no_authority), malformed("no certificate authority"));
    assert_eq!(bad(milan().ark_with(|ark| ark.duplicate(oid::BASIC_CONSTRAINTS))), malformed("no certificate authority"));
    let twice = milan().ark_with(|ark| ark.duplicate(oid::KEY_USAGE));
    assert_eq!(bad(twice), malformed("not for signing certificates and revocation lists"));
    let no_lists = milan().ark_with(|ark| ark.set_key_usage(&[5]));
    assert_eq!(bad(no_lists), malformed("not for signing certificates and revocation lists"));
    let ark = milan().ark_der();
    assert_eq!(Anchors::test(vec![(line, ark.clone()), (line, ark.clone())]).err(), Some(BadAnchor::Twice { line }));
    assert_eq!(Anchors::test(Vec::new()).err(), Some(BadAnchor::None));
    let anchors = Anchors::test(vec![(line, ark)]).unwrap();
    assert_eq!(anchors.class(), protocol::ids::AnchorClass::Test);
    assert_eq!(Anchors::vendor().class(), protocol::ids::AnchorClass::Vendor);
    assert_ne!(anchors.digest(), Anchors::vendor().digest());
    assert_ne!(anchors.digest(), soft::anchors().digest());
}
