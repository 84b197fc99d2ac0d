//! PCK chains and revocation lists of a soft TDX machine with one thing wrong, each beside one that is nearly so and passes.

mod soft_tdx;

use attestation::{Anchors, BadAnchor, Lapsed, PckAuthority, Revocation, TdxRejection};
use protocol::limits;
use protocol::time::UnixTime;
use soft_tdx::{Case, NOW, anchors, unused_bits};
use testbed::der;
use testbed::tdx::{self, BasicConstraints, Role, Root, SgxExtension, SignatureState, SoftTdx, oid};

const LEAF: &str = "PCK certificate";
const AUTHORITY: &str = "PCK authority's certificate";
const ROOT: &str = "root certificate of the PCK chain";

fn processor() -> SoftTdx {
    SoftTdx::new().certified_by(tdx::PckAuthority::Processor)
}

/// With another SGX extension.
fn sgx(platform: SoftTdx, change: impl FnOnce(&mut SgxExtension)) -> Case {
    let mut extension = platform.sgx_extension();
    change(&mut extension);
    Case::of(platform).pck(|pck| pck.set(oid::SGX, extension.der()))
}

#[test]
fn both_authorities_certify() {
    let claims = Case::genuine().passes().platform;
    assert_eq!((claims.authority, claims.smt_enabled), (PckAuthority::Platform, Some(true)));
    assert!(claims.platform_instance.is_some());
    let claims = Case::of(processor()).passes().platform;
    assert_eq!((claims.authority, claims.platform_instance, claims.smt_enabled), (PckAuthority::Processor, None, None));
}

#[test]
fn evidence_is_judged_only_under_a_root_for_it() {
    let ark = testbed::snp::SoftPlatform::new(testbed::snp::Line::Milan).ark_der();
    let only_snp = Anchors::test(vec![(attestation::ProductLine::Milan, ark.clone())]).unwrap();
    let rejected = Case::genuine().judge_under(&only_snp).err().unwrap();
    assert_eq!(rejected.rejection, TdxRejection::NotAnchored {}.into());
    let both = Anchors::test_with_intel(vec![(attestation::ProductLine::Milan, ark)], SoftTdx::new().root_der()).unwrap();
    Case::genuine().judge_under(&both).unwrap();
    let rejected = Case::genuine().judge_under(&Anchors::vendor()).err().unwrap();
    assert_eq!(rejected.rejection, TdxRejection::RootMismatch {}.into());
}

#[test]
fn collateral_is_used_under_the_anchors_that_it_was_prepared_under() {
    let case = Case::genuine();
    let evidence = attestation::Evidence::Tdx(case.evidence.clone());
    let judge = |prepared: &attestation::PreparedCollateral| {
        attestation::judge(&evidence, prepared, &anchors(), case.expected.clone(), case.lapsed, case.at)
    };
    let rejection = judge(&case.prepared(&Anchors::vendor())).err().unwrap();
    assert_eq!(rejection, TdxRejection::OtherAnchors {}.into());
    // Others are those of which anything differs that a verdict depends on: the serial number too, by which a root can revoke itself.
    let root = |change: fn(&mut tdx::Certificate)| {
        let anchors = Anchors::test_with_intel(Vec::new(), SoftTdx::new().certificate_with(Role::Root, change)).unwrap();
        (judge(&case.prepared(&anchors)), anchors.digest())
    };
    let (same, digest) = root(|_| ());
    same.unwrap();
    assert_eq!(digest, anchors().digest());
    let changes: [fn(&mut tdx::Certificate); 3] =
        [|root| root.serial[19] ^= 1, |root| root.valid.not_before -= 1, |root| root.valid.not_after -= 1];
    for change in changes {
        let (other, digest) = root(change);
        assert_eq!(other.err(), Some(TdxRejection::OtherAnchors {}.into()));
        assert_ne!(digest, anchors().digest());
    }
}

#[test]
fn a_chain_is_three_certificates_in_pem() {
    let pem = |chain: Vec<u8>| Case::genuine().quote(|quote| quote.certification = chain);
    let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec();
    assert_eq!(pem(broken).fails(), TdxRejection::PckChainMalformed { what: "no PEM of certificates" });
    assert_eq!(pem(Vec::new()).fails(), TdxRejection::PckChainCount { found: 0 });
    let own = SoftTdx::new().pck_chain();
    assert_eq!(Case::genuine().chain(&own[..2]).fails(), TdxRejection::PckChainCount { found: 2 });
    assert_eq!(Case::genuine().chain(&[own.clone(), own.clone()].concat()).fails(), TdxRejection::PckChainCount { found: 6 });
    // With and without the NUL that text ends in.
    Case::genuine().chain(&own).passes();
    pem([tdx::pem::chain(&own).as_bytes(), &[0, 0]].concat()).passes();
}

#[test]
fn a_chain_is_in_its_order() {
    let [pck, authority, root]: [Vec<u8>; 3] = SoftTdx::new().pck_chain().try_into().unwrap();
    assert_eq!(Case::genuine().chain(&[authority.clone(), pck.clone(), root.clone()]).fails().code(), "tdx-certificate-name");
    assert_eq!(Case::genuine().chain(&[pck.clone(), root.clone(), authority.clone()]).fails(), TdxRejection::RootMismatch {});
    Case::genuine().chain(&[pck, authority, root]).passes();
}

#[test]
fn each_certificate_is_der() {
    for (index, certificate) in [LEAF, AUTHORITY, ROOT].into_iter().enumerate() {
        let with = |change: fn(&mut Vec<u8>)| {
            let mut chain = SoftTdx::new().pck_chain();
            change(&mut chain[index]);
            Case::genuine().chain(&chain).fails()
        };
        let malformed = |what| TdxRejection::CertificateMalformed { certificate, what };
        assert_eq!(with(|der| der.push(0)), malformed("bytes behind its end"));
        assert_eq!(with(|der| der.truncate(der.len() - 1)), malformed("not DER of its type"));
        assert_eq!(with(Vec::clear), malformed("not DER of its type"));
        assert_eq!(with(|der| unused_bits(der)), malformed("a signature with unused bits"));
        assert_eq!(with(|der| der.resize(limits::CERTIFICATE + 1, 0)), malformed("longer than any certificate"));
    }
    let own = Some(der::sequence(&[&der::oid("1.2.840.10045.4.3.2")]));
    let other = Some(der::sequence(&[&der::oid("1.2.840.10045.4.3.3")]));
    let malformed = |what| TdxRejection::CertificateMalformed { certificate: LEAF, what };
    let case = Case::genuine().pck(|pck| pck.inner_algorithm = other);
    assert_eq!(case.fails(), malformed("two different signature algorithms"));
    Case::genuine().pck(|pck| pck.inner_algorithm = own).passes();
    assert_eq!(Case::genuine().pck(|pck| pck.version = 1).fails(), malformed("not X.509 version 3"));
    Case::genuine().chain(&SoftTdx::new().pck_chain()).passes();
}

#[test]
fn each_certificate_has_its_exact_name() {
    let renamed = |name: &'static str| move |certificate: &mut tdx::Certificate| certificate.subject.common_name = name.to_owned();
    let named = |certificate, found: &str| TdxRejection::CertificateName { certificate, found: found.to_owned() };
    for name in ["Intel SGX PCK Certificate ", "intel sgx pck certificate", "SGX PCK Certificate", "Intel SGX TCB Signing"] {
        assert_eq!(Case::genuine().pck(renamed(name)).fails(), named(LEAF, name));
    }
    for name in ["Intel SGX PCK Platform CA 2", "Intel SGX PCK Processor", "Intel SGX Root CA"] {
        assert_eq!(Case::genuine().authority(renamed(name)).fails(), named(AUTHORITY, name));
    }
    Case::genuine().pck(renamed("Intel SGX PCK Certificate")).passes();
}

#[test]
fn each_certificate_names_the_next_as_its_issuer() {
    let issuer = |certificate, found: &str| TdxRejection::CertificateIssuer { certificate, found: found.to_owned() };
    let case = Case::genuine().pck(|pck| pck.issuer.common_name = "Intel SGX PCK Processor CA".to_owned());
    assert_eq!(case.fails(), issuer(LEAF, "Intel SGX PCK Processor CA"));
    // The raw name counts, not the common name alone.
    let case = Case::genuine().pck(|pck| pck.issuer.state = "NY".to_owned());
    assert_eq!(case.fails(), issuer(LEAF, "Intel SGX PCK Platform CA"));
    let case = Case::genuine().authority(|authority| authority.issuer.country = "DE".to_owned());
    assert_eq!(case.fails(), issuer(AUTHORITY, "Intel SGX Root CA"));
    Case::genuine().pck(|pck| pck.issuer.common_name = "Intel SGX PCK Platform CA".to_owned()).passes();
}

#[test]
fn the_root_is_the_pinned_one_by_name_and_key() {
    let [pck, authority, _]: [Vec<u8>; 3] = SoftTdx::new().pck_chain().try_into().unwrap();
    let other = SoftTdx::new().under(Root::Other).root_der();
    assert_eq!(Case::genuine().chain(&[pck.clone(), authority.clone(), other]).fails(), TdxRejection::RootMismatch {});
    let mut renamed = SoftTdx::new().certificate(Role::Root);
    renamed.subject.locality = "Elsewhere".to_owned();
    assert_eq!(Case::genuine().chain(&[pck.clone(), authority.clone(), renamed.der()]).fails(), TdxRejection::RootMismatch {});
    // Whatever else it says counts for nothing.
    let mut dated = SoftTdx::new().certificate(Role::Root);
    dated.valid.not_after = dated.valid.not_before;
    Case::genuine().chain(&[pck, authority, dated.der()]).passes();
    let whole = SoftTdx::new().under(Root::Other);
    assert_eq!(Case::of(whole).fails(), TdxRejection::RootMismatch {});
}

#[test]
fn the_authority_is_one_and_with_path_length_0() {
    let with = |constraints| Case::genuine().authority(|authority| authority.set_basic_constraints(constraints)).fails();
    assert_eq!(with(BasicConstraints::Absent), TdxRejection::NotAnAuthority { certificate: AUTHORITY });
    assert_eq!(with(BasicConstraints::NotAuthority), TdxRejection::NotAnAuthority { certificate: AUTHORITY });
    assert_eq!(with(BasicConstraints::Authority), TdxRejection::PathLength { certificate: AUTHORITY });
    assert_eq!(with(BasicConstraints::PathLength(1)), TdxRejection::PathLength { certificate: AUTHORITY });
    Case::genuine().authority(|_| ()).passes();
}

#[test]
fn the_leaf_is_no_authority() {
    let with = |constraints| Case::genuine().pck(|pck| pck.set_basic_constraints(constraints)).fails();
    assert_eq!(with(BasicConstraints::PathLength(0)), TdxRejection::IsAnAuthority { certificate: LEAF });
    assert_eq!(with(BasicConstraints::Authority), TdxRejection::IsAnAuthority { certificate: LEAF });
    let what = "no basic constraints of its kind";
    assert_eq!(with(BasicConstraints::Absent), TdxRejection::CertificateProfile { certificate: LEAF, what });
    Case::genuine().pck(|pck| pck.set_basic_constraints(BasicConstraints::NotAuthority)).passes();
}

#[test]
fn each_certificate_is_used_for_what_it_is_for() {
    for usage in [[0].as_slice(), &[5], &[6]] {
        let case = Case::genuine().authority(|authority| authority.set_key_usage(usage));
        assert_eq!(case.fails(), TdxRejection::KeyUsage { certificate: AUTHORITY });
    }
    for usage in [[1].as_slice(), &[0, 5], &[0, 6]] {
        assert_eq!(Case::genuine().pck(|pck| pck.set_key_usage(usage)).fails(), TdxRejection::KeyUsage { certificate: LEAF });
    }
    assert_eq!(Case::genuine().pck(|pck| pck.remove(oid::KEY_USAGE)).fails(), TdxRejection::KeyUsage { certificate: LEAF });
    Case::genuine().pck(|pck| pck.set_key_usage(&[0])).passes();
}

#[test]
fn no_extension_stands_twice_or_is_critical_and_unknown() {
    let profile = |certificate, what| TdxRejection::CertificateProfile { certificate, what };
    let twice = |certificate: &mut tdx::Certificate| certificate.duplicate(oid::SUBJECT_KEY);
    assert_eq!(Case::genuine().pck(twice).fails(), profile(LEAF, "an extension twice"));
    assert_eq!(Case::genuine().authority(twice).fails(), profile(AUTHORITY, "an extension twice"));
    let critical = |certificate: &mut tdx::Certificate| {
        certificate.extensions.push(tdx::Extension::critical("1.2.3.4", der::octet_string(&[1])));
    };
    let what = "a critical extension of an unknown kind";
    assert_eq!(Case::genuine().pck(critical).fails(), profile(LEAF, what));
    assert_eq!(Case::genuine().authority(critical).fails(), profile(AUTHORITY, what));
    let not_critical = |certificate: &mut tdx::Certificate| {
        certificate.extensions.push(tdx::Extension::new("1.2.3.4", der::octet_string(&[1])));
    };
    Case::genuine().pck(not_critical).passes();
    Case::genuine().authority(not_critical).passes();
}

#[test]
fn each_key_is_of_p256() {
    let p384 = |key: &mut Vec<u8>| {
        // secp384r1 in the place of prime256v1.
        let algorithm = der::sequence(&[&der::oid("1.2.840.10045.2.1"), &der::oid("1.3.132.0.34")]);
        *key = der::sequence(&[&algorithm, &der::bit_string(&[4; 97])]);
    };
    let what = "its key is not of P-256";
    let case = Case::genuine().pck(|pck| p384(&mut pck.public_key));
    assert_eq!(case.fails(), TdxRejection::CertificateProfile { certificate: LEAF, what });
    let case = Case::genuine().authority(|authority| p384(&mut authority.public_key));
    assert_eq!(case.fails(), TdxRejection::CertificateProfile { certificate: AUTHORITY, what });
    Case::genuine().pck(|pck| pck.public_key = tdx::public_key_info(&SoftTdx::new().key(Role::Pck))).passes();
}

#[test]
fn each_certificate_is_signed_by_ecdsa_with_sha256() {
    // ecdsa-with-SHA384.
    let other = || Some(der::sequence(&[&der::oid("1.2.840.10045.4.3.3")]));
    let case = Case::genuine().pck(|pck| (pck.inner_algorithm, pck.outer_algorithm) = (other(), other()));
    assert_eq!(case.fails(), TdxRejection::CertificateAlgorithm { certificate: LEAF });
    let case = Case::genuine().authority(|authority| (authority.inner_algorithm, authority.outer_algorithm) = (other(), other()));
    assert_eq!(case.fails(), TdxRejection::CertificateAlgorithm { certificate: AUTHORITY });
    let own = || Some(der::sequence(&[&der::oid("1.2.840.10045.4.3.2")]));
    Case::genuine().pck(|pck| (pck.inner_algorithm, pck.outer_algorithm) = (own(), own())).passes();
    Case::genuine().authority(|authority| (authority.inner_algorithm, authority.outer_algorithm) = (own(), own())).passes();
}

#[test]
fn each_certificate_verifies_under_the_next_ones_key() {
    let other = SoftTdx::new().under(Root::Other);
    for state in [SignatureState::Flipped, SignatureState::Short, SignatureState::Zero] {
        let case = Case::genuine().pck(|pck| pck.signature = state);
        assert_eq!(case.fails(), TdxRejection::CertificateSignature { certificate: LEAF }, "{state:?}");
        let case = Case::genuine().authority(|authority| authority.signature = state);
        assert_eq!(case.fails(), TdxRejection::CertificateSignature { certificate: AUTHORITY }, "{state:?}");
    }
    let case = Case::genuine().pck(|pck| pck.signer = other.key(Role::Root));
    assert_eq!(case.fails(), TdxRejection::CertificateSignature { certificate: LEAF });
    let case = Case::genuine().authority(|authority| authority.signer = other.key(Role::Root));
    assert_eq!(case.fails(), TdxRejection::CertificateSignature { certificate: AUTHORITY });
    // An authority at hand vouches for itself alone: one byte more, and its signature counts.
    let mut case = Case::genuine().authority(|authority| authority.signature = SignatureState::Flipped);
    case.collateral.certificates = vec![SoftTdx::new().pck_authority_der()];
    assert_eq!(case.fails(), TdxRejection::CertificateSignature { certificate: AUTHORITY });
    Case::genuine().pck(|pck| pck.signature = SignatureState::Genuine).passes();
}

#[test]
fn each_certificate_has_its_time() {
    let now = NOW.seconds();
    let (before, after) = (UnixTime::from_seconds(now + 1), UnixTime::from_seconds(now - 1));
    let late = |certificate: &mut tdx::Certificate| certificate.valid.not_before = now + 1;
    let past = |certificate: &mut tdx::Certificate| certificate.valid.not_after = now - 1;
    let not_yet = |certificate| TdxRejection::CertificateNotYetValid { certificate, not_before: before, at: NOW };
    let expired = |certificate| TdxRejection::CertificateExpired { certificate, not_after: after, at: NOW };
    assert_eq!(Case::genuine().pck(late).fails(), not_yet(LEAF));
    assert_eq!(Case::genuine().pck(past).fails(), expired(LEAF));
    assert_eq!(Case::genuine().authority(late).fails(), not_yet(AUTHORITY));
    assert_eq!(Case::genuine().authority(past).fails(), expired(AUTHORITY));
    let exact = |pck: &mut tdx::Certificate| (pck.valid.not_before, pck.valid.not_after) = (now, now);
    Case::genuine().pck(exact).passes();
    let under = |change: &dyn Fn(&mut tdx::Certificate)| {
        let root = SoftTdx::new().certificate_with(Role::Root, change);
        Case::genuine().judge_under(&Anchors::test_with_intel(Vec::new(), root).unwrap()).map(drop).map_err(|rejected| rejected.rejection)
    };
    assert_eq!(under(&late), Err(not_yet("Intel SGX Root CA").into()));
    assert_eq!(under(&past), Err(expired("Intel SGX Root CA").into()));
    assert_eq!(under(&exact), Ok(()));
}

#[test]
fn the_sgx_extension_has_each_part_once_and_none_else() {
    let case = Case::genuine().pck(|pck| pck.remove(oid::SGX));
    assert_eq!(case.fails(), TdxRejection::PckExtension { what: "none, or two" });
    let element = SgxExtension::element;
    let case = sgx(SoftTdx::new(), |sgx| sgx.more.push(element("4", &der::octet_string(&sgx.fmspc))));
    assert_eq!(case.fails(), TdxRejection::PckExtensionDuplicate { name: "FMSPC" });
    let what = "a part of an unknown kind";
    for suffix in ["8", "4.1", "0"] {
        let case = sgx(SoftTdx::new(), |sgx| sgx.more.push(element(suffix, &der::octet_string(&[1]))));
        assert_eq!(case.fails(), TdxRejection::PckExtension { what }, "{suffix}");
    }
    let case = Case::genuine().pck(|pck| pck.set(oid::SGX, vec![0x30, 1]));
    assert_eq!(case.fails(), TdxRejection::PckExtension { what: "not DER of its type" });
    // Within TCB and Configuration as well.
    let svn = |suffix| element(suffix, &der::integer(4));
    let smt = |suffix| element(suffix, &der::TRUE);
    let case = sgx(SoftTdx::new(), |sgx| sgx.more_in_tcb.push(svn("2.3")));
    assert_eq!(case.fails(), TdxRejection::PckExtensionDuplicate { name: "TCB component 3" });
    let case = sgx(SoftTdx::new(), |sgx| sgx.more_in_configuration.push(smt("7.3")));
    assert_eq!(case.fails(), TdxRejection::PckExtensionDuplicate { name: "smtEnabled" });
    for suffix in ["2.19", "2.0", "7.1", "2"] {
        assert_eq!(sgx(SoftTdx::new(), |sgx| sgx.more_in_tcb.push(svn(suffix))).fails(), TdxRejection::PckExtension { what }, "{suffix}");
    }
    for suffix in ["7.4", "7.0", "2.1", "7"] {
        let case = sgx(SoftTdx::new(), |sgx| sgx.more_in_configuration.push(smt(suffix)));
        assert_eq!(case.fails(), TdxRejection::PckExtension { what }, "{suffix}");
    }
    sgx(SoftTdx::new(), |_| ()).passes();
    // In their places they may stand in any order.
    sgx(SoftTdx::new(), |sgx| (sgx.without, sgx.more_in_tcb) = (vec!["2.3"], vec![svn("2.3")])).passes();
    sgx(SoftTdx::new(), |sgx| (sgx.without, sgx.more_in_configuration) = (vec!["7.3"], vec![smt("7.3")])).passes();
}

#[test]
fn the_sgx_extension_is_of_its_authoritys_profile() {
    let case = sgx(SoftTdx::new(), |sgx| sgx.platform = None);
    assert_eq!(case.fails(), TdxRejection::PckExtensionMissing { name: "PlatformInstanceID" });
    let platform = SoftTdx::new().sgx_extension().platform;
    let case = sgx(processor(), |sgx| sgx.platform = platform);
    assert_eq!(case.fails(), TdxRejection::PckExtensionForbidden { name: "PlatformInstanceID" });
    let case = sgx(processor(), |sgx| (sgx.platform, sgx.without) = (platform, vec!["6"]));
    assert_eq!(case.fails(), TdxRejection::PckExtensionForbidden { name: "Configuration" });
    sgx(processor(), |sgx| (sgx.platform, sgx.without) = (platform, vec!["6", "7"])).passes();
    let case = sgx(SoftTdx::new(), |sgx| sgx.components.truncate(15));
    assert_eq!(case.fails(), TdxRejection::PckExtensionMissing { name: "TCB component 16" });
    sgx(processor(), |_| ()).passes();
}

#[test]
fn every_part_of_the_sgx_extension_is_there() {
    for (suffix, name) in [
        ("1", "PPID"),
        ("2", "TCB"),
        ("2.1", "TCB component 1"),
        ("2.17", "PCESVN"),
        ("2.18", "CPUSVN"),
        ("3", "PCEID"),
        ("4", "FMSPC"),
        ("5", "SGXType"),
        ("6", "PlatformInstanceID"),
        ("7", "Configuration"),
        ("7.1", "dynamicPlatform"),
        ("7.2", "cachedKeys"),
        ("7.3", "smtEnabled"),
    ] {
        let case = sgx(SoftTdx::new(), |sgx| sgx.without.push(suffix));
        assert_eq!(case.fails(), TdxRejection::PckExtensionMissing { name }, "{suffix}");
    }
    sgx(SoftTdx::new(), |_| ()).passes();
}

#[test]
fn each_part_of_the_sgx_extension_is_of_its_type() {
    let value = |name| TdxRejection::PckExtensionValue { name };
    assert_eq!(sgx(SoftTdx::new(), |sgx| sgx.fmspc.push(0)).fails(), value("FMSPC"));
    assert_eq!(sgx(SoftTdx::new(), |sgx| sgx.pce_id.push(0)).fails(), value("PCEID"));
    assert_eq!(sgx(SoftTdx::new(), |sgx| sgx.sgx_type = 3).fails(), value("SGXType"));
    assert_eq!(sgx(SoftTdx::new(), |sgx| sgx.components[3] = 256).fails(), value("TCB component 4"));
    assert_eq!(sgx(SoftTdx::new(), |sgx| sgx.pce_svn = 65_536).fails(), value("PCESVN"));
    assert_eq!(sgx(SoftTdx::new(), |sgx| sgx.cpu_svn.truncate(15)).fails(), value("CPUSVN"));
    let instead = |suffix, value| sgx(SoftTdx::new(), |sgx| sgx.instead.push((suffix, value)));
    for (suffix, name) in [("1", "PPID"), ("6", "PlatformInstanceID"), ("2.18", "CPUSVN")] {
        for length in [0, 15, 17] {
            assert_eq!(instead(suffix, der::octet_string(&vec![1; length])).fails(), value(name), "{suffix} of {length}");
        }
        assert_eq!(instead(suffix, der::integer(1)).fails(), value(name), "{suffix}");
        instead(suffix, der::octet_string(&[1; 16])).passes();
    }
    for (suffix, name) in [("7.1", "dynamicPlatform"), ("7.2", "cachedKeys"), ("7.3", "smtEnabled")] {
        // Another type; TRUE as BER has it, and DER has not; two bytes.
        for other in [der::integer(1), vec![1, 1, 1], vec![1, 2, 0xff, 0xff]] {
            assert_eq!(instead(suffix, other.clone()).fails(), value(name), "{suffix} {other:?}");
        }
        instead(suffix, der::TRUE.to_vec()).passes();
    }
    for (suffix, name) in [("2.1", "TCB component 1"), ("2.17", "PCESVN")] {
        for other in [der::octet_string(&[4]), der::element(0x0a, &[4])] {
            assert_eq!(instead(suffix, other.clone()).fails(), value(name), "{suffix} {other:?}");
        }
        instead(suffix, der::integer(99)).passes();
    }
    for other in [der::integer(1), der::element(0x0a, &[0, 1]), der::element(0x0a, &[])] {
        assert_eq!(instead("5", other.clone()).fails(), value("SGXType"), "{other:?}");
    }
    for kind in 0..=2 {
        instead("5", der::element(0x0a, &[kind])).passes();
    }
    let what = "not DER of its type";
    for suffix in ["2", "7"] {
        assert_eq!(instead(suffix, der::octet_string(&[1])).fails(), TdxRejection::PckExtension { what }, "{suffix}");
    }
    // The integers count, not the CPUSVN.
    let claims = sgx(SoftTdx::new(), |sgx| (sgx.components[3], sgx.pce_svn, sgx.cpu_svn) = (255, 65_535, vec![0; 16])).passes();
    assert_eq!((claims.platform.components[3], claims.platform.pce_svn), (255, 65_535));
}

#[test]
fn revocation_lists_are_well_formed_and_of_somebody() {
    let soft = SoftTdx::new();
    let own = vec![soft.root_list_der(&[]), soft.pck_list_der(&[])];
    let with = |list: Vec<u8>| Case::genuine().crls([own.clone(), vec![list]].concat());
    assert_eq!(with(vec![1]).fails(), TdxRejection::CrlMalformed { index: 2, what: "not DER of its type" });
    let other = soft.root_list_with(|list| list.issuer.common_name = "Intel SGX TCB Signing".to_owned());
    assert_eq!(with(other).fails(), TdxRejection::CrlIssuer { index: 2, found: "Intel SGX TCB Signing".to_owned() });
    let whole = soft.root_list_der(&[soft.serial(Role::Pck)]);
    let changed = |change: fn(&mut tdx::RevocationList)| with(soft.root_list_with(change));
    let malformed = |what| TdxRejection::CrlMalformed { index: 2, what };
    assert_eq!(with([whole.as_slice(), &[0]].concat()).fails(), malformed("bytes behind its end"));
    assert_eq!(with(whole[..whole.len() - 1].to_vec()).fails(), malformed("not DER of its type"));
    let mut long = whole.clone();
    long.resize(limits::REVOCATION_LIST + 1, 0);
    assert_eq!(with(long).fails(), malformed("longer than any list"));
    assert_eq!(changed(|list| list.version = Some(0)).fails(), malformed("not version 2"));
    assert_eq!(changed(|list| list.version = None).fails(), malformed("not DER of its type"));
    assert_eq!(changed(|list| list.next_update = None).fails(), malformed("no time of the next update"));
    let other = |list: &mut tdx::RevocationList| list.inner_algorithm = Some(der::sequence(&[&der::oid("1.2.840.10045.4.3.3")]));
    assert_eq!(changed(other).fails(), malformed("two different signature algorithms"));
    let critical = |list: &mut tdx::RevocationList| list.extensions.push(tdx::Extension::critical("1.2.3.4", der::integer(1)));
    assert_eq!(changed(critical).fails(), malformed("a critical extension"));
    let of_entry = |list: &mut tdx::RevocationList| {
        list.revoke(&[5]);
        list.revoked[0].extensions.push(tdx::Extension::critical("1.2.3.4", der::integer(1)));
    };
    assert_eq!(changed(of_entry).fails(), malformed("a critical extension"));
    // A delta, a part, and another issuer's say what they are, critically or not.
    let partial = malformed("a delta, a part, or of another issuer's certificates");
    for kind in ["2.5.29.27", "2.5.29.28", "2.5.29.29"] {
        let extension = || tdx::Extension::new(kind, der::integer(1));
        assert_eq!(with(soft.root_list_with(|list| list.extensions.push(extension()))).fails(), partial, "{kind}");
        let of_entry = soft.pck_list_with(|list| {
            list.revoke(&[5]);
            list.revoked[0].extensions.push(extension());
        });
        assert_eq!(with(of_entry).fails(), partial, "{kind}");
    }
    let unknown = soft.root_list_with(|list| {
        list.revoke(&[5]);
        list.revoked[0].extensions.push(tdx::Extension::new("1.2.3.4", der::integer(1)));
        list.extensions.push(tdx::Extension::new("1.2.3.4", der::integer(1)));
    });
    with(unknown).passes();
    // Of the other authority, which has no part in this chain.
    with(processor().pck_list_with(|list| list.signature = SignatureState::Flipped)).passes();
}

#[test]
fn revocation_lists_verify_under_their_issuers_key() {
    let soft = SoftTdx::new();
    let flip = |list: &mut tdx::RevocationList| list.signature = SignatureState::Flipped;
    let case = Case::genuine().crls(vec![soft.root_list_with(flip), soft.pck_list_der(&[])]);
    assert_eq!(case.fails(), TdxRejection::CrlSignature { index: 0 });
    let mut case = Case::genuine().crls(vec![soft.root_list_der(&[]), soft.pck_list_with(flip)]);
    assert_eq!(case.fails(), TdxRejection::CrlSignature { index: 1 });
    // The same where only the quote has the authority.
    case.collateral.certificates.clear();
    assert_eq!(case.fails(), TdxRejection::CrlSignature { index: 1 });
    let mut case = Case::genuine();
    case.collateral.certificates.clear();
    assert!(matches!(case.passes().revocation, Revocation::Checked { .. }));
    // The root does not speak for the authority.
    let by_root = soft.pck_list_with(|list| list.signer = soft.key(Role::Root));
    assert_eq!(Case::genuine().crls(vec![by_root]).fails(), TdxRejection::CrlSignature { index: 0 });
}

#[test]
fn what_is_revoked_is_rejected_however_old_the_list() {
    let soft = SoftTdx::new();
    let authority = soft.serial(Role::PckAuthority(tdx::PckAuthority::Platform));
    let (own, other) = (soft.serial(Role::Pck), soft.serial(Role::TcbSigner));
    let lists = |root: &[Vec<u8>], pck: &[Vec<u8>]| Case::genuine().crls(vec![soft.root_list_der(root), soft.pck_list_der(pck)]);
    let text = |serial: &[u8]| hex::encode(serial).trim_start_matches('0').to_owned();
    let root = soft.serial(Role::Root);
    assert_eq!(lists(std::slice::from_ref(&root), &[]).fails(), TdxRejection::RootRevoked { serial: text(&root) });
    let revoked = TdxRejection::AuthorityRevoked { authority: PckAuthority::Platform, serial: text(&authority) };
    assert_eq!(lists(std::slice::from_ref(&authority), &[]).fails(), revoked);
    let revoked = TdxRejection::PckRevoked { authority: PckAuthority::Platform, serial: text(&own) };
    assert_eq!(lists(&[], &[other.clone(), own.clone()]).fails(), revoked);
    assert_eq!(lists(&[], std::slice::from_ref(&own)).lapsed(Lapsed::Claimed).at(soft.validity.pck.not_after).fails(), revoked);
    // A serial number is one under its own issuer.
    lists(&[own], &[other, authority, root]).passes();
}

#[test]
fn the_signer_of_collateral_is_not_revoked() {
    let soft = SoftTdx::new();
    let serial = soft.serial(Role::TcbSigner);
    let case = Case::genuine().crls(vec![soft.root_list_der(std::slice::from_ref(&serial)), soft.pck_list_der(&[])]);
    let serial = hex::encode(serial).trim_start_matches('0').to_owned();
    assert_eq!(case.fails(), TdxRejection::SignerRevoked { document: "tcb-info", serial });
    let others = [soft.serial(Role::Pck)];
    Case::genuine().crls(vec![soft.root_list_der(&others), soft.pck_list_der(&[])]).passes();
}

#[test]
fn one_list_that_names_a_certificate_is_enough_whatever_stands_in_others() {
    let soft = SoftTdx::new();
    let authority = soft.serial(Role::PckAuthority(tdx::PckAuthority::Platform));
    let (root, pck) = (soft.root_list_der(&[]), soft.pck_list_der(&[]));
    let (of_root, of_pck) = (soft.root_list_der(&[authority]), soft.pck_list_der(&[soft.serial(Role::Pck)]));
    let code = |lists: [&Vec<u8>; 3]| Case::genuine().crls(lists.map(Vec::clone).to_vec()).fails().code();
    assert_eq!([code([&root, &pck, &of_pck]), code([&root, &of_pck, &pck])], ["tdx-pck-revoked"; 2]);
    assert_eq!([code([&root, &of_root, &pck]), code([&of_root, &root, &pck])], ["tdx-authority-revoked"; 2]);
    Case::genuine().crls(vec![root.clone(), root, pck.clone(), pck]).passes();
}

#[test]
fn a_list_by_another_key_of_the_same_name_says_nothing_of_this_chain() {
    let soft = SoftTdx::new();
    let key = soft.clone().under(Root::Other).key(Role::PckAuthority(tdx::PckAuthority::Platform));
    let namesake = soft.pck_authority_with(|authority| authority.public_key = tdx::public_key_info(&key));
    let mut case = Case::genuine();
    case.collateral.crls.push(soft.pck_list_with(|list| {
        list.revoke(&soft.serial(Role::Pck));
        list.signer = key;
    }));
    // Where nobody else of that name is at hand, it is a bad list of this authority's.
    assert_eq!(case.fails(), TdxRejection::CrlSignature { index: 2 });
    case.collateral.certificates.push(namesake);
    assert!(matches!(case.passes().revocation, Revocation::Checked { .. }));
    // Alone, it leaves this authority without a list.
    case.collateral.crls.remove(1);
    assert_eq!(case.fails(), TdxRejection::CrlMissing { issuer: "Intel SGX PCK Platform CA", at: NOW });
    assert_eq!(case.lapsed(Lapsed::Claimed).passes().revocation, Revocation::Unknown);
}

#[test]
fn each_list_is_signed_by_ecdsa_with_sha256() {
    let soft = SoftTdx::new();
    let by = |oid: &'static str| {
        move |list: &mut tdx::RevocationList| {
            let algorithm = Some(der::sequence(&[&der::oid(oid)]));
            (list.inner_algorithm, list.outer_algorithm) = (algorithm.clone(), algorithm);
        }
    };
    let lists = |oid| Case::genuine().crls(vec![soft.root_list_with(by(oid)), soft.pck_list_with(by(oid))]);
    assert_eq!(lists("1.2.840.10045.4.3.3").fails(), TdxRejection::CrlSignature { index: 0 });
    lists("1.2.840.10045.4.3.2").passes();
}

#[test]
fn what_is_known_of_each_list_is_claimed_apart() {
    let (now, soft) = (NOW.seconds(), SoftTdx::new());
    let time = UnixTime::from_seconds;
    let window = |this: u64, next: u64| move |list: &mut tdx::RevocationList| (list.this_update, list.next_update) = (this, Some(next));
    // As Intel issues them: the root's for a year, the PCK authority's for a month. Whichever is due first, each has its own dates.
    for (root, pck) in [(now + 65, now + 25), (now + 25, now + 65), (now - 5, now + 9), (now + 9, now - 5), (now - 5, now - 2)] {
        let lists = vec![soft.root_list_with(window(now - 300, root)), soft.pck_list_with(window(now - 10, pck))];
        let claims = Case::genuine().crls(lists).lapsed(Lapsed::Claimed).passes();
        let expected = |this: u64, next: u64| {
            let (this_update, next_update) = (time(this), time(next));
            if next < now { Revocation::Stale { this_update, next_update } } else { Revocation::Checked { this_update, next_update } }
        };
        assert_eq!((claims.root_revocation, claims.revocation), (expected(now - 300, root), expected(now - 10, pck)));
    }
}

#[test]
fn lists_have_their_time() {
    const ROOT: &str = "Intel SGX Root CA";
    const PLATFORM: &str = "Intel SGX PCK Platform CA";
    let now = NOW.seconds();
    let soft = SoftTdx::new();
    let window = |this: u64, next: u64| move |list: &mut tdx::RevocationList| (list.this_update, list.next_update) = (this, Some(next));
    let (root, pck) = (soft.root_list_der(&[]), soft.pck_list_der(&[]));
    let lapsed_pck = vec![root.clone(), soft.pck_list_with(window(now - 10, now - 1))];
    let lapsed_root = vec![soft.root_list_with(window(now - 10, now - 1)), pck.clone()];
    let lapsed = |issuer| TdxRejection::CrlLapsed { issuer, next_update: UnixTime::from_seconds(now - 1), at: NOW };
    assert_eq!(Case::genuine().crls(lapsed_pck.clone()).fails(), lapsed(PLATFORM));
    assert_eq!(Case::genuine().crls(lapsed_root.clone()).fails(), lapsed(ROOT));
    Case::genuine().crls(lapsed_pck).lapsed(Lapsed::Claimed).passes();
    Case::genuine().crls(lapsed_root).lapsed(Lapsed::Claimed).passes();
    Case::genuine().crls(vec![root.clone(), soft.pck_list_with(window(now - 10, now))]).passes();
    Case::genuine().crls(vec![root.clone(), soft.pck_list_with(window(now, now + 2))]).passes();
    // A list of the future says no more than none at all: whoever has no policy on it is told that it is missing.
    let missing = |issuer| TdxRejection::CrlMissing { issuer, at: NOW };
    let future_pck = vec![root.clone(), soft.pck_list_with(window(now + 1, now + 2))];
    let future_root = vec![soft.root_list_with(window(now + 1, now + 2)), pck.clone()];
    let cases = [
        (future_pck, missing(PLATFORM), [true, false]),
        (future_root, missing(ROOT), [false, true]),
        (vec![root], missing(PLATFORM), [true, false]),
        (vec![pck], missing(ROOT), [false, true]),
        (Vec::new(), missing(ROOT), [false, false]),
    ];
    for (lists, rejection, known) in cases {
        let case = Case::genuine().crls(lists);
        assert_eq!(case.fails(), rejection);
        let claims = case.lapsed(Lapsed::Claimed).passes();
        assert_eq!([claims.root_revocation, claims.revocation].map(|claim| claim != Revocation::Unknown), known);
    }
}

#[test]
fn an_anchor_is_of_the_profile_of_intels_root() {
    let root = |change: fn(&mut tdx::Certificate)| {
        let mut root = SoftTdx::new().certificate(Role::Root);
        change(&mut root);
        Anchors::test_with_intel(Vec::new(), root.der()).err()
    };
    let malformed = |what| Some(BadAnchor::IntelMalformed { what });
    let named = |found: &str| Some(BadAnchor::IntelName { found: found.to_owned() });
    assert_eq!(root(|_| ()), None);
    assert_eq!(root(|root| root.subject.common_name.push('2')), named("Intel SGX Root CA2"));
    assert_eq!(root(|root| root.issuer.state = "NY".to_owned()), named("Intel SGX Root CA"));
    assert_eq!(root(|root| root.set_basic_constraints(BasicConstraints::NotAuthority)), malformed("no certificate authority"));
    assert_eq!(root(|root| root.set_basic_constraints(BasicConstraints::PathLength(2))), malformed("not of path length 1"));
    assert_eq!(root(|root| root.set_key_usage(&[5])), malformed("not for signing certificates and revocation lists"));
    assert_eq!(root(|root| root.signature = SignatureState::Flipped), Some(BadAnchor::IntelSignature));
    assert_eq!(Anchors::test_with_intel(Vec::new(), Vec::new()).err(), malformed("not DER of its type"));
    assert_ne!(anchors().digest(), Anchors::vendor().digest());
}
