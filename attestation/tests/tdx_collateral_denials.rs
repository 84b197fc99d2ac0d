//! Signed collateral of a soft TDX machine with one thing wrong, each beside one that is nearly so and passes.

mod soft_tdx;

use attestation::{HexBytes, Lapsed, SignedBody, TdxPieceKind, TdxRejection, TdxSignature};
use protocol::limits;
use protocol::time::UnixTime;
use soft_tdx::{Case, NOW, anchors, unused_bits};
use testbed::der;
use testbed::tdx::{self, BasicConstraints, IsvLevel, Role, Root, SignatureFlaw, SignatureState, SoftTdx, oid, pem};

const TCB_INFO: &str = "tcb-info";
const QE_IDENTITY: &str = "qe-identity";

fn soft() -> SoftTdx {
    SoftTdx::new()
}

fn tcb_info(change: impl FnOnce(&mut tdx::TcbInfo)) -> Case {
    Case::genuine().tcb_info(soft().tcb_info_body(change))
}

fn qe_identity(change: impl FnOnce(&mut tdx::QeIdentity)) -> Case {
    Case::genuine().qe_identity(soft().qe_identity_body(change))
}

/// With a part of the TCB info's text replaced before it is signed.
fn tcb_text(part: &str, by: &str) -> Case {
    Case::genuine().tcb_info(soft().tcb_info_document(&soft().tcb_info()).replacing(part, by).bytes())
}

#[test]
fn what_is_missing_is_named_for_whoever_fetches_it() {
    let fmspc = HexBytes::from(soft().fmspc);
    let mut case = Case::genuine();
    case.collateral.tcb_infos.clear();
    assert_eq!(case.fails(), TdxRejection::CollateralMissing { what: TCB_INFO, fmspc: fmspc.clone() });
    let mut case = Case::genuine();
    case.collateral.qe_identities.clear();
    assert_eq!(case.fails(), TdxRejection::CollateralMissing { what: QE_IDENTITY, fmspc: fmspc.clone() });
    // A TCB info of other platforms is none for this one.
    let case = tcb_info(|info| info.fmspc = "7706FE000001".to_owned());
    let missing = case.fails();
    assert_eq!(missing, TdxRejection::CollateralMissing { what: TCB_INFO, fmspc });
    assert_eq!(missing.code(), "tdx-collateral-missing");
    tcb_info(|info| info.fmspc = info.fmspc.to_lowercase()).passes();
}

#[test]
fn a_document_is_not_longer_than_any() {
    let limit = limits::COLLATERAL_BODY;
    let padded = |length: usize| {
        let mut body = soft().tcb_info_body(|_| ());
        body.resize(length, b' ');
        Case::genuine().tcb_info(body)
    };
    assert_eq!(padded(limit + 1).fails(), TdxRejection::DocumentTooLong { document: TCB_INFO, limit, found: limit + 1 });
    padded(limit).passes();
}

#[test]
fn a_document_is_one_object_of_exactly_two_keys() {
    let malformed = |body: Vec<u8>| match Case::genuine().tcb_info(body).fails() {
        TdxRejection::DocumentMalformed { document: TCB_INFO, what } => what,
        other => panic!("{other}"),
    };
    let genuine = soft().tcb_info_body(|_| ());
    let text = String::from_utf8(genuine.clone()).unwrap();
    malformed(Vec::new());
    malformed([genuine.as_slice(), b"x"].concat());
    malformed(genuine[..genuine.len() - 1].to_vec());
    malformed([&genuine[..20], &[0xff], &genuine[20..]].concat());
    malformed(text.replace(",\"signature\"", ",\"more\":1,\"signature\"").into_bytes());
    malformed(text.replace("\"signature\"", "\"Signature\"").into_bytes());
    malformed(text.replace(",\"signature\"", ",\"enclaveIdentity\":null,\"signature\"").into_bytes());
    let (value, rest) = text.strip_prefix("{\"tcbInfo\":").and_then(|text| text.rsplit_once(",\"signature\":")).unwrap();
    malformed(format!("[{value},{}]", rest.trim_end_matches('}')).into_bytes());
    malformed(format!("[{value},null,{}]", rest.trim_end_matches('}')).into_bytes());
    malformed(soft().qe_identity_body(|_| ()));
    let (_, signature) = text.rsplit_once(":\"").unwrap();
    malformed(text.replace(signature, &format!("00{signature}")).into_bytes());
    malformed(text.replace(signature, &signature[2..]).into_bytes());
    // White space around the signed value is nobody's, and hex has two cases.
    let spaced = text.replacen("{\"tcbInfo\":", " { \"tcbInfo\" : ", 1).replace(",\"signature\"", " , \"signature\"");
    Case::genuine().tcb_info(spaced.into_bytes()).passes();
    let upper = text.replace(signature, &signature.to_uppercase());
    Case::genuine().tcb_info(upper.into_bytes()).passes();
}

#[test]
fn what_was_signed_is_read_and_nothing_else() {
    // The same value in another spelling is not what was signed.
    let text = String::from_utf8(soft().tcb_info_body(|_| ())).unwrap();
    let spaced = text.replacen("\"version\":3", "\"version\": 3", 1);
    assert_eq!(Case::genuine().tcb_info(spaced.into_bytes()).fails(), TdxRejection::DocumentSignature { document: TCB_INFO });
    tcb_text("\"version\":3", "\"version\": 3").passes();
    tcb_text("{\"id\":\"TDX\"", "{ \"unknown\":[1.5e3,null,true,\"\\u00e4\",{\"a\":1}],\n\"id\":\"TDX\"").passes();
}

#[test]
fn no_key_stands_twice_in_any_object() {
    let twice = |case: Case, key: &str| {
        assert_eq!(case.fails(), TdxRejection::DocumentDuplicateKey { document: TCB_INFO, key: key.to_owned() });
    };
    twice(tcb_text("\"version\":3", "\"version\":3,\"version\":3"), "version");
    twice(tcb_text("\"pcesvn\":11", "\"pcesvn\":11,\"pcesvn\":0"), "pcesvn");
    // In another spelling, and of a key that nothing here reads.
    twice(tcb_text("\"version\":3", "\"version\":3,\"\\u0076ersion\":3"), "version");
    twice(tcb_text("\"version\":3", "\"version\":3,\"more\":{\"a\":1,\"a\":2}"), "a");
    let text = String::from_utf8(soft().tcb_info_body(|_| ())).unwrap();
    let outer = text.replacen('{', "{\"signature\":\"00\",", 1);
    twice(Case::genuine().tcb_info(outer.into_bytes()), "signature");
    tcb_text("\"version\":3", "\"version\":3,\"more\":[{\"a\":1},{\"a\":2}]").passes();
}

#[test]
fn each_member_is_of_its_type() {
    let malformed = |part: &str, by: &str| match tcb_text(part, by).fails() {
        TdxRejection::DocumentMalformed { document: TCB_INFO, .. } => {}
        other => panic!("{part} {by}: {other}"),
    };
    malformed("\"version\":3", "\"version\":\"3\"");
    malformed("\"fmspc\":\"7706FE000000\"", "\"fmspc\":\"7706FE0000\"");
    malformed("\"pceId\":\"0000\"", "\"pceId\":\"00zz\"");
    malformed("\"pcesvn\":11", "\"pcesvn\":65536");
    malformed("\"pcesvn\":11,", "");
    malformed("{\"svn\":4,", "{\"svn\":256,");
    malformed("{\"svn\":4,", "{\"svn\":-1,");
    malformed("\"tcbDate\":\"2025-08-13T00:00:00Z\"", "\"tcbDate\":\"2025-08-13\"");
    // Two identities of one module, in two spellings; one that is none.
    malformed("TDX_03", "tdx_01");
    malformed("TDX_03", "TDX_3");
    match qe_identity(|_| ()).qe_identity(b"{}".to_vec()).fails() {
        TdxRejection::DocumentMalformed { document: QE_IDENTITY, .. } => {}
        other => panic!("{other}"),
    }
    tcb_text("\"pcesvn\":11", "\"pcesvn\": 11").passes();
}

#[test]
fn a_signers_chain_is_signer_and_root() {
    let (signer, root) = (soft().tcb_signer_der(), soft().root_der());
    let what = "expected two certificates";
    let chain = |what| TdxRejection::SignerChain { document: TCB_INFO, what };
    assert_eq!(Case::genuine().signer_chain(&[]).fails(), chain(what));
    assert_eq!(Case::genuine().signer_chain(std::slice::from_ref(&signer)).fails(), chain(what));
    assert_eq!(Case::genuine().signer_chain(&[signer.clone(), root.clone(), root.clone()]).fails(), chain(what));
    let trailing = |der: &[u8]| [der, &[0]].concat();
    assert_eq!(Case::genuine().signer_chain(&[trailing(&signer), root.clone()]).fails(), chain("bytes behind its end"));
    assert_eq!(Case::genuine().signer_chain(&[signer.clone(), trailing(&root)]).fails(), chain("bytes behind its end"));
    let cut = signer[..signer.len() - 1].to_vec();
    assert_eq!(Case::genuine().signer_chain(&[cut, root.clone()]).fails(), chain("not DER of its type"));
    let mut unused = signer.clone();
    unused_bits(&mut unused);
    assert_eq!(Case::genuine().signer_chain(&[unused, root.clone()]).fails(), chain("a signature with unused bits"));
    let other = Some(der::sequence(&[&der::oid("1.2.840.10045.4.3.3")]));
    let case = Case::genuine().signer(|signer| signer.outer_algorithm = other);
    assert_eq!(case.fails(), chain("two different signature algorithms"));
    let mut case = Case::genuine();
    case.collateral.tcb_infos[0].issuer_chain = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n".to_vec();
    assert_eq!(case.fails(), chain("no PEM of certificates"));
    // A PCK authority between them is one too many, whoever it is.
    assert_eq!(Case::genuine().signer_chain(&[signer.clone(), soft().pck_authority_der(), root.clone()]).fails(), chain(what));
    Case::genuine().signer_chain(&[signer, root]).passes();
}

#[test]
fn a_signers_chain_ends_in_the_pinned_root() {
    let other = soft().under(Root::Other);
    let root = TdxRejection::SignerRoot { document: TCB_INFO };
    assert_eq!(Case::genuine().signer_chain(&[soft().tcb_signer_der(), other.root_der()]).fails(), root);
    assert_eq!(Case::genuine().signer_chain(&[other.tcb_signer_der(), other.root_der()]).fails(), root);
    assert_eq!(Case::genuine().signer(|signer| signer.issuer.state = "NY".to_owned()).fails(), root);
    let flip = |signer: &mut tdx::Certificate| signer.signature = SignatureState::Flipped;
    assert_eq!(Case::genuine().signer(flip).fails(), TdxRejection::SignerSignature { document: TCB_INFO });
    let impostor = Case::genuine().signer(|signer| signer.signer = other.key(Role::Root));
    assert_eq!(impostor.fails(), TdxRejection::SignerSignature { document: TCB_INFO });
    Case::genuine().signer(|signer| signer.issuer.state = "CA".to_owned()).passes();
}

#[test]
fn a_signer_has_the_role_of_signing_collateral() {
    for name in ["Intel SGX TCB Signing 2", "SGX TCB Signing", "Intel SGX PCK Certificate"] {
        let case = Case::genuine().signer(|signer| signer.subject.common_name = name.to_owned());
        assert_eq!(case.fails(), TdxRejection::SignerName { document: TCB_INFO, found: name.to_owned() });
    }
    // A PCK certificate signs nothing, though it is under the same root and the signature is its own.
    let by_pck = soft().tcb_info_document(&soft().tcb_info()).with(|document| document.signer = soft().key(Role::Pck));
    let chain = [soft().pck_der(), soft().pck_authority_der(), soft().root_der()];
    let case = Case::genuine().tcb_info(by_pck.bytes()).signer_chain(&chain);
    assert_eq!(case.fails(), TdxRejection::SignerChain { document: TCB_INFO, what: "expected two certificates" });
    let profile = |what| TdxRejection::SignerProfile { document: TCB_INFO, what };
    let case = Case::genuine().signer(|signer| signer.set_basic_constraints(BasicConstraints::PathLength(0)));
    assert_eq!(case.fails(), profile("a certificate authority"));
    assert_eq!(Case::genuine().signer(|signer| signer.set_key_usage(&[5])).fails(), profile("another key usage"));
    assert_eq!(Case::genuine().signer(|signer| signer.duplicate(oid::KEY_USAGE)).fails(), profile("an extension twice"));
    let case = Case::genuine().signer(|signer| signer.set_basic_constraints(BasicConstraints::Absent));
    assert_eq!(case.fails(), profile("no basic constraints of its kind"));
    let more = |extension: tdx::Extension| Case::genuine().signer(|signer| signer.extensions.push(extension));
    let critical = more(tdx::Extension::critical("1.2.3.4", der::octet_string(&[1])));
    assert_eq!(critical.fails(), profile("a critical extension of an unknown kind"));
    more(tdx::Extension::new("1.2.3.4", der::octet_string(&[1]))).passes();
    // secp384r1 in the place of prime256v1; a key with unused bits; none that is a key's.
    let curve = |oid: &str| der::sequence(&[&der::oid("1.2.840.10045.2.1"), &der::oid(oid)]);
    let p384 = der::sequence(&[&curve("1.3.132.0.34"), &der::bit_string(&[4; 97])]);
    let point = [&[4], tdx::coordinates(&soft().key(Role::TcbSigner)).as_slice()].concat();
    let spki = |bits: &[u8]| der::sequence(&[&curve("1.2.840.10045.3.1.7"), bits]);
    let unused = spki(&der::element(3, &[&[1], point[..64].as_ref(), &[point[64] & 0xfe]].concat()));
    for key in [p384, unused, spki(&der::octet_string(&point)), spki(&der::bit_string(&[4; 65])), der::octet_string(&point)] {
        assert_eq!(Case::genuine().signer(|signer| signer.public_key = key).fails(), profile("its key is not of P-256"));
    }
    Case::genuine().signer(|signer| signer.public_key = spki(&der::bit_string(&point))).passes();
    let ecdsa = |oid: &str| Some(der::sequence(&[&der::oid(oid)]));
    let by = |oid| Case::genuine().signer(|signer| (signer.inner_algorithm, signer.outer_algorithm) = (ecdsa(oid), ecdsa(oid)));
    assert_eq!(by("1.2.840.10045.4.3.3").fails(), profile("signed by another algorithm than ECDSA with SHA-256"));
    by("1.2.840.10045.4.3.2").passes();
    Case::genuine().signer(|_| ()).passes();
}

/// With another chain of the QE identity's signer.
fn identity_chain(certificates: &[Vec<u8>]) -> Case {
    let mut case = Case::genuine();
    case.collateral.qe_identities[0].issuer_chain = pem::chain(certificates).into_bytes();
    case
}

#[test]
fn the_signer_of_a_qe_identity_is_held_to_the_same() {
    let (signer, root) = (soft().tcb_signer_der(), soft().root_der());
    let with = |change: fn(&mut tdx::Certificate)| identity_chain(&[soft().tcb_signer_with(change), soft().root_der()]).fails();
    let document = QE_IDENTITY;
    let what = "expected two certificates";
    assert_eq!(identity_chain(std::slice::from_ref(&signer)).fails(), TdxRejection::SignerChain { document, what });
    let other = soft().under(Root::Other);
    assert_eq!(identity_chain(&[signer.clone(), other.root_der()]).fails(), TdxRejection::SignerRoot { document });
    let found = "Intel SGX TCB Signing 2".to_owned();
    assert_eq!(with(|signer| signer.subject.common_name.push_str(" 2")), TdxRejection::SignerName { document, found });
    let what = "another key usage";
    assert_eq!(with(|signer| signer.set_key_usage(&[5])), TdxRejection::SignerProfile { document, what });
    assert_eq!(with(|signer| signer.signature = SignatureState::Flipped), TdxRejection::SignerSignature { document });
    let not_before = UnixTime::from_seconds(NOW.seconds() + 1);
    let early = with(|signer| signer.valid.not_before = NOW.seconds() + 1);
    assert_eq!(early, TdxRejection::SignerNotYetValid { document, not_before, at: NOW });
    let not_after = UnixTime::from_seconds(NOW.seconds() - 1);
    let late = with(|signer| signer.valid.not_after = NOW.seconds() - 1);
    assert_eq!(late, TdxRejection::SignerExpired { document, not_after, at: NOW });
    // A signer that the identity alone has is revoked for it alone.
    let own = soft().tcb_signer_with(|signer| signer.serial = vec![0x77]);
    let case = identity_chain(&[own, root.clone()]);
    case.passes();
    let revoked = case.crls(vec![soft().root_list_der(&[vec![0x77]]), soft().pck_list_der(&[])]);
    assert_eq!(revoked.fails(), TdxRejection::SignerRevoked { document, serial: "77".to_owned() });
    identity_chain(&[signer, root]).passes();
}

#[test]
fn a_qe_identity_is_as_short_and_as_unambiguous() {
    let (document, limit) = (QE_IDENTITY, limits::COLLATERAL_BODY);
    let padded = |length: usize| {
        let mut body = soft().qe_identity_body(|_| ());
        body.resize(length, b' ');
        Case::genuine().qe_identity(body)
    };
    assert_eq!(padded(limit + 1).fails(), TdxRejection::DocumentTooLong { document, limit, found: limit + 1 });
    padded(limit).passes();
    let text = |part: &str, by: &str| {
        Case::genuine().qe_identity(soft().qe_identity_document(&soft().qe_identity()).replacing(part, by).bytes()).clone()
    };
    let twice = |key: &str| TdxRejection::DocumentDuplicateKey { document, key: key.to_owned() };
    assert_eq!(text("\"isvprodid\":2", "\"isvprodid\":2,\"isvprodid\":2").fails(), twice("isvprodid"));
    assert_eq!(text("\"isvsvn\":8", "\"isvsvn\":8,\"isvsvn\":0").fails(), twice("isvsvn"));
    text("\"isvprodid\":2", "\"isvprodid\":2,\"more\":[{\"a\":1},{\"a\":2}]").passes();
}

#[test]
fn a_signer_has_its_time() {
    let now = NOW.seconds();
    let case = Case::genuine().signer(|signer| signer.valid.not_before = now + 1);
    let not_before = UnixTime::from_seconds(now + 1);
    assert_eq!(case.fails(), TdxRejection::SignerNotYetValid { document: TCB_INFO, not_before, at: NOW });
    let case = Case::genuine().signer(|signer| signer.valid.not_after = now - 1).lapsed(Lapsed::Claimed);
    let not_after = UnixTime::from_seconds(now - 1);
    assert_eq!(case.fails(), TdxRejection::SignerExpired { document: TCB_INFO, not_after, at: NOW });
    Case::genuine().signer(|signer| (signer.valid.not_before, signer.valid.not_after) = (now, now)).passes();
}

#[test]
fn a_document_verifies_under_its_signers_key() {
    for flaw in SignatureFlaw::INVALID {
        let info = soft().tcb_info_document(&soft().tcb_info()).with(|document| document.signature = flaw);
        let case = Case::genuine().tcb_info(info.bytes());
        assert_eq!(case.fails(), TdxRejection::DocumentSignature { document: TCB_INFO }, "{flaw:?}");
        let identity = soft().qe_identity_document(&soft().qe_identity()).with(|document| document.signature = flaw);
        let case = Case::genuine().qe_identity(identity.bytes());
        assert_eq!(case.fails(), TdxRejection::DocumentSignature { document: QE_IDENTITY }, "{flaw:?}");
    }
    let other = soft().under(Root::Other).key(Role::TcbSigner);
    let info = soft().tcb_info_document(&soft().tcb_info()).with(|document| document.signer = other);
    assert_eq!(Case::genuine().tcb_info(info.bytes()).fails(), TdxRejection::DocumentSignature { document: TCB_INFO });
    // The other root of the same equation is a good signature.
    let info = soft().tcb_info_document(&soft().tcb_info()).with(|document| document.signature = SignatureFlaw::NegatedS);
    Case::genuine().tcb_info(info.bytes()).passes();
}

#[test]
fn a_document_is_of_the_kind_that_is_asked_for() {
    let id = |document, expected, found: &str| TdxRejection::DocumentId { document, expected, found: found.to_owned() };
    for found in ["SGX", "tdx", "TDX "] {
        assert_eq!(tcb_info(|info| info.id = found.to_owned()).fails(), id(TCB_INFO, "TDX", found));
    }
    for found in ["QE", "QVE", "td_qe"] {
        assert_eq!(qe_identity(|identity| identity.id = found.to_owned()).fails(), id(QE_IDENTITY, "TD_QE", found));
    }
    tcb_info(|info| info.id = "TDX".to_owned()).passes();
    qe_identity(|identity| identity.id = "TD_QE".to_owned()).passes();
}

#[test]
fn a_document_is_of_the_version_that_is_read() {
    for found in [2, 4] {
        let version = TdxRejection::DocumentVersion { document: TCB_INFO, expected: 3, found };
        assert_eq!(tcb_info(|info| info.version = found).fails(), version);
    }
    for found in [1, 3] {
        let version = TdxRejection::DocumentVersion { document: QE_IDENTITY, expected: 2, found };
        assert_eq!(qe_identity(|identity| identity.version = found).fails(), version);
    }
    assert_eq!(tcb_info(|info| info.tcb_type = 1).fails(), TdxRejection::TcbType { found: 1 });
    tcb_info(|info| (info.version, info.tcb_type) = (3, 0)).passes();
    qe_identity(|identity| identity.version = 2).passes();
}

#[test]
fn a_level_has_sixteen_components_of_each_kind() {
    assert_eq!(tcb_info(|info| info.levels[1].sgx.truncate(15)).fails(), TdxRejection::TcbComponents { found: 15 });
    assert_eq!(tcb_info(|info| info.levels[1].tdx.push(0)).fails(), TdxRejection::TcbComponents { found: 17 });
    tcb_info(|info| info.levels[1].sgx.truncate(16)).passes();
}

#[test]
fn no_tcb_has_two_levels() {
    let duplicate = |document| TdxRejection::TcbLevelDuplicate { document };
    let case = tcb_info(|info| {
        let mut again = info.levels[0].clone();
        again.standing.status = "OutOfDate".to_owned();
        info.levels.push(again);
    });
    assert_eq!(case.fails(), duplicate(TCB_INFO));
    let case = tcb_info(|info| info.module_identity("TDX_01").levels.push(IsvLevel::new(6, "UpToDate", tdx::OLDER_TCB)));
    assert_eq!(case.fails(), duplicate(TCB_INFO));
    let case = qe_identity(|identity| identity.levels.push(IsvLevel::new(8, "OutOfDate", tdx::OLDER_TCB)));
    assert_eq!(case.fails(), duplicate(QE_IDENTITY));
    qe_identity(|identity| identity.levels.push(IsvLevel::new(5, "OutOfDate", tdx::OLDER_TCB))).passes();
}

#[test]
fn every_status_in_a_document_is_known_though_nobody_has_it() {
    let unknown = |document, found: &str| TdxRejection::TcbStatusUnknown { document, found: found.to_owned() };
    for found in ["uptodate", "UpToDate ", "", "TDRelaunchAdvised"] {
        let case = tcb_info(|info| info.levels[2].standing.status = found.to_owned());
        assert_eq!(case.fails(), unknown(TCB_INFO, found));
    }
    let case = tcb_info(|info| info.module_identity("TDX_03").levels[0].standing.status = "Fine".to_owned());
    assert_eq!(case.fails(), unknown(TCB_INFO, "Fine"));
    let case = qe_identity(|identity| identity.levels[1].standing.status = "Fine".to_owned());
    assert_eq!(case.fails(), unknown(QE_IDENTITY, "Fine"));
    tcb_info(|info| info.levels[2].standing.status = "Revoked".to_owned()).passes();
}

#[test]
fn documents_have_their_time() {
    let now = NOW.seconds();
    let time = UnixTime::from_seconds;
    let early = |document| TdxRejection::DocumentNotYetIssued { document, issued: time(now + 1), at: NOW };
    assert_eq!(tcb_info(|info| info.issued = now + 1).fails(), early(TCB_INFO));
    assert_eq!(qe_identity(|identity| identity.issued = now + 1).lapsed(Lapsed::Claimed).fails(), early(QE_IDENTITY));
    let late = |document| TdxRejection::DocumentLapsed { document, next_update: time(now - 1), at: NOW };
    assert_eq!(tcb_info(|info| info.next_update = now - 1).fails(), late(TCB_INFO));
    assert_eq!(qe_identity(|identity| identity.next_update = now - 1).fails(), late(QE_IDENTITY));
    let claims = tcb_info(|info| info.next_update = now - 1).lapsed(Lapsed::Claimed).passes();
    assert_eq!(claims.tcb_info.next_update, time(now - 1));
    let claims = tcb_info(|info| (info.issued, info.next_update) = (now, now)).passes();
    assert_eq!((claims.tcb_info.issued, claims.tcb_info.evaluation), (NOW, 20));
}

#[test]
fn the_pceid_is_the_tcb_infos_too() {
    let case = tcb_info(|info| info.pce_id = "0001".to_owned());
    let found = HexBytes::from([0, 1]);
    assert_eq!(case.fails(), TdxRejection::PceidMismatch { expected: HexBytes::from([0, 0]), found });
    let other = Case::of(soft().with(|soft| soft.pce_id = [0, 1]));
    assert_eq!(other.passes().platform.pceid, [0, 1]);
}

#[test]
fn of_several_documents_the_highest_number_that_can_be_used_counts() {
    let now = NOW.seconds();
    let chain = soft().tcb_issuer_chain().into_bytes();
    let info = |number: u32, issued: u64, next_update: u64| {
        let body = soft().tcb_info_body(|info| (info.evaluation, info.issued, info.next_update) = (number, issued, next_update));
        SignedBody { body, issuer_chain: chain.clone() }
    };
    let mut case = Case::genuine();
    let far = now + 1000;
    case.collateral.tcb_infos = vec![info(18, now - 1, far), info(19, now - 9, far), info(19, now - 5, far), info(20, now + 1, far)];
    let claims = case.passes();
    assert_eq!((claims.tcb_info.evaluation, claims.tcb_info.issued.seconds()), (19, now - 5));
    // A higher number that has lapsed counts where the policy judges, so that an old document never hides a newer one.
    case.collateral.tcb_infos.push(info(20, now - 9, now - 1));
    assert_eq!(case.passes().tcb_info.evaluation, 19);
    assert_eq!(case.clone().lapsed(Lapsed::Claimed).passes().tcb_info.evaluation, 20);
    // A bad one is left alone beside a good one, and listed.
    let mut forged = info(21, now - 1, far);
    forged.body[40] ^= 1;
    case.collateral.tcb_infos.push(forged);
    assert_eq!(case.passes().tcb_info.evaluation, 19);
    let prepared = case.prepared(&anchors());
    assert_eq!(prepared.problems().map(|(piece, _)| piece).collect::<Vec<_>>(), ["TDX TCB info 5"]);
}

#[test]
fn what_is_held_is_listed_with_its_dates() {
    let case = Case::genuine();
    let prepared = case.prepared(&anchors());
    assert_eq!(prepared.problems().count(), 0);
    let pieces = prepared.tdx_pieces();
    let kinds: Vec<TdxPieceKind> = pieces.iter().map(|piece| piece.kind).collect();
    assert_eq!(kinds, [TdxPieceKind::TcbInfo, TdxPieceKind::QeIdentity, TdxPieceKind::RootCrl, TdxPieceKind::PckCrl]);
    assert_eq!(pieces[0].fmspc, Some(soft().fmspc));
    assert_eq!(pieces[3].authority, Some(attestation::PckAuthority::Platform));
    assert_eq!(pieces[2].next_update.seconds(), soft().validity.root_list.not_after);
    assert!(pieces.iter().all(|piece| piece.signature == TdxSignature::Verified), "{pieces:?}");
    // Under other anchors nothing of it is trusted, and every piece says why.
    let other = case.prepared(&attestation::Anchors::vendor());
    let unproven: Vec<_> = other.tdx_pieces().iter().map(|piece| (piece.kind, piece.signature)).collect();
    assert_eq!(unproven, [(TdxPieceKind::PckCrl, TdxSignature::NotJudged)]);
    let problems: Vec<String> = other.problems().map(|(piece, rejection)| format!("{piece}: {}", rejection.code())).collect();
    assert_eq!(problems[..2], ["TDX TCB info 0: tdx-signer-root", "TDX QE identity 0: tdx-signer-root"]);
    assert!(pem::chain(&[]).is_empty());
}

#[test]
fn a_list_whose_authority_is_not_at_hand_is_one_that_was_not_judged() {
    let mut case = Case::genuine();
    let signatures = |case: &Case| {
        let prepared = case.prepared(&anchors());
        let lists = prepared.tdx_pieces().into_iter().filter(|piece| piece.kind == TdxPieceKind::PckCrl);
        (lists.map(|piece| piece.signature).collect::<Vec<_>>(), prepared.problems().count())
    };
    assert_eq!(signatures(&case), (vec![TdxSignature::Verified], 0));
    let authorities = std::mem::take(&mut case.collateral.certificates);
    let not_judged = (vec![TdxSignature::NotJudged], 0);
    let pck = case.collateral.crls.len() - 1;
    assert_eq!(signatures(&case), not_judged, "a genuine one too: nobody can tell");
    case.collateral.crls[pck] = soft().under(Root::Other).collateral().pck_list;
    assert_eq!(signatures(&case), not_judged);
    case.collateral.certificates = authorities;
    assert_eq!(signatures(&case), (vec![], 1), "its authority says that it is none of its");
}
