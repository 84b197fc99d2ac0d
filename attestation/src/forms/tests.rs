//! Each form is read into the same pieces, and what is no collateral is named for what it is.

use std::path::{Path, PathBuf};

use protocol::collateral::{CollateralBundleBody, CollateralKind, CollateralPiece};
use protocol::dsse::SignedDocument;
use protocol::encoding::to_base64;
use protocol::keys::SigningKey;
use protocol::time::UnixTime;
use serde_json::json;
use testbed::snp::{Leaf, Line, SoftPlatform};
use testbed::tdx::SoftTdx;

use super::*;
use crate::VcekName;

fn gathered(files: &[(&str, &[u8])]) -> Gathered {
    gather(&files.iter().map(|(name, bytes)| CollateralFile { name, bytes }).collect::<Vec<_>>())
}

fn refusal(bytes: &[u8]) -> FormError {
    let all = gathered(&[("file", bytes)]);
    assert_eq!(all.pieces, []);
    all.files[0].read.clone().unwrap_err()
}

fn kinds(all: &Gathered) -> Vec<CollateralKind> {
    all.pieces.iter().map(|piece| piece.kind).collect()
}

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", to_base64(der))
}

#[test]
fn amds_files_are_sorted_by_what_they_hold_and_not_by_their_names() {
    let platform = SoftPlatform::new(Line::Genoa);
    let chain = pem("CERTIFICATE", &platform.ask_der()) + &pem("CERTIFICATE", &platform.ark_der());
    let list = platform.crl_der(&[]);
    let all = gathered(&[("a", &platform.vcek_der()), ("b.bin", &list), ("cert_chain", chain.as_bytes()), ("again.der", &list)]);
    use CollateralKind::{SnpCertificate, SnpCrl};
    assert_eq!(kinds(&all), [SnpCertificate, SnpCrl, SnpCertificate]);
    let forms: Vec<_> = all.files.iter().map(|file| file.read.clone().unwrap()).collect();
    assert_eq!(forms, [Form::Certificate, Form::RevocationList, Form::Pem, Form::RevocationList]);
    assert_eq!(all.pieces[2].source, "cert_chain");
    let collateral = collateral(&all.pieces);
    assert_eq!(collateral.certificates, [platform.vcek_der(), platform.ask_der()], "a root is nothing that is carried");
    assert_eq!((collateral.crls, collateral.tdx), (vec![list], TdxCollateral::default()));
}

#[test]
fn a_vlek_and_a_pem_list_are_amds_too() {
    let platform = SoftPlatform::new(Line::Milan);
    let certificates = platform.certificates(Leaf::Vlek);
    let files: Vec<_> = certificates.iter().map(|der| ("vlek", der.as_slice())).collect();
    assert!(gathered(&files).pieces.iter().all(|piece| piece.kind == CollateralKind::SnpCertificate));
    let list = pem("X509 CRL", &platform.crl_der(&[7]));
    assert_eq!(kinds(&gathered(&[("crl.pem", list.as_bytes())])), [CollateralKind::SnpCrl]);
}

#[test]
fn what_is_no_collateral_is_named_for_what_it_is() {
    assert_eq!(refusal(b""), FormError::Unknown);
    assert_eq!(refusal(b"1771498731 2026-02-19"), FormError::Unknown);
    assert_eq!(refusal(b"{\"models\":[]}"), FormError::Unknown);
    assert!(matches!(refusal(b"{\"tcbInfo\":"), FormError::BrokenJson(what) if what.contains("line 1 column 11")));
    assert_eq!(refusal(b"HTTP/2 200\r\ntcb-info-issuer-chain: -----BEGIN%20CERTIFICATE-----\r\n\r\n{}"), FormError::HttpAnswer);
    assert_eq!(refusal(b"308201"), FormError::Der);
    assert_eq!(refusal(b"3082010"), FormError::OddHex);
    for unknown in ["deadbeef", "3 pieces", "MIT license", "cafe", "MIXED"] {
        assert_eq!(refusal(unknown.as_bytes()), FormError::Unknown, "{unknown}");
    }
    assert_eq!(refusal(&[0x30, 0x03, 1, 1, 0]), FormError::Der);
    assert_eq!(refusal(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"), FormError::OtherPem);
    assert!(matches!(refusal(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n"), FormError::Pem(_)));
    assert_eq!(refusal(br#"{"tcbInfo":{"id":"SGX","version":3},"signature":"00"}"#), FormError::Sgx);
    assert_eq!(refusal(br#"{"tcbInfo":{"version":2},"signature":"00"}"#), FormError::Sgx);
    assert_eq!(refusal(br#"{"enclaveIdentity":{"id":"QVE"},"signature":"00"}"#), FormError::Sgx);
    assert_eq!(refusal(br#"{"tcbInfo":{"id":"TDX"},"signature":"00"}"#), FormError::NoChain);
    let ark = SoftPlatform::new(Line::Genoa).ark_der();
    assert_eq!(refusal(&ark), FormError::Root);
    assert_eq!(refusal(pem("CERTIFICATE", &ark).as_bytes()), FormError::Root);
    let large = vec![b' '; limits::COLLATERAL_BUNDLE + 1];
    assert_eq!(refusal(&large), FormError::TooLarge { limit: limits::COLLATERAL_BUNDLE, found: large.len() });
    let quote = br#"{"tcb_info":"{}"}"#;
    assert!(matches!(refusal(quote), FormError::Json { form: Form::QuoteCollateral, .. }));
    let client = br#"{"collaterals":{"rootcacrl":"zz"}}"#;
    assert!(matches!(refusal(client), FormError::Json { form: Form::PlatformCollaterals, .. }));
}

#[test]
fn certificates_and_lists_are_read_in_every_dress_that_services_and_tools_give_them() {
    use CollateralKind::{SnpCrl, TdxCrl};
    let intel = SoftTdx::new();
    let hex = hex::encode(intel.root_list_der(&[]));
    let base64 = to_base64(&intel.pck_list_der(&[]));
    let lines = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned()).collect::<Vec<_>>().join("\r\n");
    for (text, der) in [
        (hex.clone(), intel.root_list_der(&[])),
        (hex.to_uppercase(), intel.root_list_der(&[])),
        (format!("\"{hex}\"\n"), intel.root_list_der(&[])),
        (base64.clone(), intel.pck_list_der(&[])),
        (lines, intel.pck_list_der(&[])),
        (format!("\u{feff}{hex}"), intel.root_list_der(&[])),
    ] {
        let all = gathered(&[("rootcacrl", text.as_bytes())]);
        assert_eq!((kinds(&all), all.files[0].read.clone()), (vec![TdxCrl], Ok(Form::RevocationList)), "{text}");
        assert_eq!(all.pieces[0].bytes, der);
    }
    let list = SoftPlatform::new(Line::Genoa).crl_der(&[]);
    let text = format!("Certificate Revocation List (CRL):\n    Version 2 (0x1)\n{}", pem("X509 CRL", &list));
    let all = gathered(&[("crl.txt", text.as_bytes())]);
    assert_eq!((kinds(&all), &all.pieces[0].bytes), (vec![SnpCrl], &list));
}

#[test]
fn strangers_platforms_own_certificates_and_pieces_that_break_their_rules_are_named() {
    let intel = SoftTdx::new();
    let of_nobody = SoftPlatform::new(Line::Genoa).ask_with(|ask| ask.issuer = testbed::snp::Name::amd("Somebody"));
    assert_eq!(refusal(&of_nobody), FormError::Issuer { found: "Somebody".to_owned() });
    assert_eq!(refusal(&intel.pck_der()), FormError::PckCertificate);
    assert_eq!(kinds(&gathered(&[("authority", &intel.pck_authority_der())])), [CollateralKind::TdxCertificate]);
    let large = intel.root_list_with(|list| (0..200_000_u32).for_each(|serial| list.revoke(&serial.to_be_bytes())));
    assert!(large.len() > limits::COLLATERAL_PIECE);
    assert_eq!(refusal(&large), FormError::Piece("a piece larger than any"));
}

#[test]
fn a_vcek_is_named_with_its_chip_and_its_tcb() {
    let platform = SoftPlatform::new(Line::Turin);
    let all = gathered(&[("vcek", &platform.vcek_der()), ("ask", &platform.ask_der()), ("vlek", &platform.vlek_der())]);
    let [vcek, ask, vlek] = [0, 1, 2].map(|index| PieceSummary::of(&all.pieces[index]).subject);
    let chip = VcekName::of_certificate(&platform.vcek_der()).unwrap();
    let expected = format!("SEV-VCEK by SEV-Turin, chip {}…, fmc {} ", hex::encode(&chip.chip_id()[..8]), chip.tcb().fmc.unwrap());
    assert!(vcek.starts_with(&expected) && vcek.ends_with(&format!("microcode {}", chip.tcb().microcode)), "{vcek}");
    assert_eq!((ask.as_str(), vlek.as_str()), ("SEV-Turin by ARK-Turin", "SEV-VLEK by SEV-VLEK-Turin"));
}

#[test]
fn a_bundle_is_read_whoever_signed_it() {
    let piece = CollateralPiece { kind: CollateralKind::SnpCrl, bytes: vec![1], issuer_chain: None, source: "here".to_owned() };
    let body = CollateralBundleBody { created: UnixTime::from_seconds(1), pieces: vec![piece.clone()] };
    let key = SigningKey::from_seed(&[1; 32]).unwrap();
    let json = SignedDocument::sign(&body, &key).unwrap().to_json();
    let all = gathered(&[("bundle.json", &json)]);
    assert_eq!((all.pieces, all.files[0].read.clone()), (vec![piece], Ok(Form::Bundle)));
    let marked = [b"\xef\xbb\xbf".as_slice(), &json].concat();
    assert_eq!(gathered(&[("bundle.json", &marked)]).files[0].read, Ok(Form::Bundle));
    let what = refusal(&json[..json.len() - 20]).to_string();
    assert!(what.starts_with("begins as JSON and is none: EOF") && what.contains("line 1 column"), "{what}");
    let other = String::from_utf8(json).unwrap().replace("collateral+json", "policy+json");
    assert!(matches!(refusal(other.as_bytes()), FormError::Json { form: Form::Bundle, .. }));
}

#[test]
fn white_space_goes_from_between_tokens_and_stays_within_strings() {
    let spaced = "{ \"a\" : [ 1,\n 2 ], \"b c\": \"d \\\" e\", \"f\\\\\": \" \" }";
    assert_eq!(json::without_white_space(spaced), "{\"a\":[1,2],\"b c\":\"d \\\" e\",\"f\\\\\":\" \"}");
}

#[test]
fn a_chain_from_an_http_header_is_decoded_and_a_percent_sign_elsewhere_stays() {
    let encoded = b"-----BEGIN%20CERTIFICATE-----%0AAw%3D%3d%0A%zz%";
    assert_eq!(percent_decoded(encoded), b"-----BEGIN CERTIFICATE-----\nAw==\n%zz%");
    assert_eq!(percent_decoded(b"-----BEGIN CERTIFICATE-----\n%0A"), b"-----BEGIN CERTIFICATE-----\n%0A");
}

#[test]
fn pieces_and_collateral_are_two_views_of_one_thing() {
    let signed = |text: &str| SignedBody { body: text.into(), issuer_chain: b"chain".to_vec() };
    let tdx = TdxCollateral {
        tcb_infos: vec![signed("tcb")],
        qe_identities: vec![signed("qe")],
        crls: vec![vec![1]],
        certificates: vec![vec![2]],
        ..TdxCollateral::default()
    };
    let all = Collateral { certificates: vec![vec![3]], crls: vec![vec![4]], tdx };
    assert_eq!(collateral(&pieces(&all, "store")), all);
    assert!(pieces(&all, "store").iter().all(|piece| piece.source == "store"));
}

/// The folder of vectors, where there is one.
fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"));
    if folder.join("vectors.json").is_file() {
        return Some(folder.join("tdx/collateral"));
    }
    println!("skipped: no folder of evidence (set PORTCULLIS_EVIDENCE)");
    None
}

/// The files of one set of real collateral.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn sets() -> Vec<PathBuf> {
    let Some(folder) = folder() else { return Vec::new() };
    let mut sets: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    sets.sort();
    sets.into_iter().filter(|set| set.join("bundle.json").exists()).collect()
}

#[test]
fn a_folder_of_bodies_and_the_json_of_a_quote_give_the_same_pieces() {
    for set in sets() {
        let all = files(&set);
        let read = |wanted: &dyn Fn(&str) -> bool| {
            let files: Vec<_> =
                all.iter().filter(|(name, _)| wanted(name)).map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
            gathered(&files)
        };
        let bodies = read(&|name| name != "bundle.json");
        let quote = read(&|name| name == "bundle.json");
        use CollateralKind::{TdxCrl, TdxQeIdentity, TdxTcbInfo};
        assert_eq!(kinds(&bodies), [TdxCrl, TdxQeIdentity, TdxCrl, TdxTcbInfo], "{}", set.display());
        for piece in &bodies.pieces {
            let same =
                quote.pieces.iter().find(|other| other.bytes == piece.bytes).unwrap_or_else(|| panic!("{}: {piece:?}", set.display()));
            assert_eq!(same.kind, piece.kind);
            let chain = |piece: &CollateralPiece| piece.issuer_chain.as_ref().map(|chain| certificates_of(chain));
            assert_eq!(chain(same), chain(piece), "{}: {:?}", set.display(), piece.source);
        }
        assert_eq!(read(&|_| true).pieces.len(), 4);
        let summary = PieceSummary::of(bodies.pieces.iter().find(|piece| piece.kind == TdxTcbInfo).unwrap());
        let name = set.file_name().unwrap().to_str().unwrap();
        assert!(
            name.starts_with(&summary.subject) && name.ends_with(&format!("eval{}", summary.evaluation.unwrap())),
            "{name}: {summary:?}"
        );
    }
}

/// What the PCS client tool would have written of a set.
fn platform_collaterals(set: &Path) -> Vec<u8> {
    let text = |name: &str| String::from_utf8(std::fs::read(set.join(name)).unwrap()).unwrap();
    let encoded = |name: &str| text(name).replace(' ', "%20").replace('\n', "%0A");
    let hex = |name: &str| hex::encode_upper(std::fs::read(set.join(name)).unwrap());
    // The tool reads the body and writes it again, with a space behind each comma and colon.
    let spaced = text("tcb_info.json").replace("\":", "\": ").replace(",\"", ", \"");
    let all = json!({
        "platforms": [],
        "collaterals": {
            "version": 4,
            "pck_certs": [],
            "tcbinfos": [{ "fmspc": "00", "sgx_tcbinfo": { "tcbInfo": {} }, "tdx_tcbinfo": "@" }],
            "pckcacrl": { "platformCrl": hex("pck_crl_platform.der") },
            "qeidentity": "{}",
            "tdqeidentity": text("qe_identity.json"),
            "certificates": {
                "SGX-PCK-Certificate-Issuer-Chain": { "PLATFORM": encoded("pck_crl_issuer_chain.pem") },
                "TCB-Info-Issuer-Chain": encoded("tcb_signing_chain.pem"),
                "SGX-Enclave-Identity-Issuer-Chain": encoded("qe_identity_signing_chain.pem"),
            },
            "rootcacrl": hex("root_ca_crl.der"),
        }
    });
    all.to_string().replace("\"@\"", &spaced).into_bytes()
}

#[test]
fn what_the_pcs_client_tool_writes_gives_every_signed_byte_back() {
    for set in sets() {
        let all = gathered(&[("platform_collaterals.json", &platform_collaterals(&set))]);
        assert_eq!(all.files[0].read, Ok(Form::PlatformCollaterals));
        for name in ["tcb_info.json", "qe_identity.json", "pck_crl_platform.der", "root_ca_crl.der"] {
            let original = std::fs::read(set.join(name)).unwrap();
            let found = all.pieces.iter().find(|piece| piece.bytes == original.trim_ascii());
            assert!(found.is_some(), "{}: {name}", set.display());
        }
    }
}

/// What the PCS client tool writes of a soft platform, asked for standard and early evaluations, with its lists as `list` has them.
fn both_evaluations(early: bool, list: impl Fn(&[u8]) -> String) -> Vec<u8> {
    let platform = SoftTdx::new();
    let all = platform.collateral();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let next = |number: u32| number + 1;
    let early_info = platform.tcb_info_body(|info| info.evaluation = next(info.evaluation));
    let early_identity = platform.qe_identity_body(|identity| identity.evaluation = next(identity.evaluation));
    let mut json = json!({ "collaterals": {
        "tcbinfos": [{ "fmspc": platform.fmspc_hex(), "tdx_tcbinfo": "@standard" }],
        "tdqeidentity": text(&all.qe_identity),
        "pckcacrl": { "platformCrl": list(&all.pck_list) },
        "rootcacrl": list(&all.root_list),
        "certificates": {
            "SGX-PCK-Certificate-Issuer-Chain": { "PLATFORM": all.pck_list_issuer_chain },
            "TCB-Info-Issuer-Chain": all.issuer_chain,
            "SGX-Enclave-Identity-Issuer-Chain": all.issuer_chain,
        },
    } });
    if early {
        json["collaterals"]["tcbinfos"][0]["tdx_tcbinfo_early"] = json!("@early");
        json["collaterals"]["tdqeidentity_early"] = json!(text(&early_identity));
    }
    let json = json.to_string().replace("\"@standard\"", &text(&all.tcb_info));
    json.replace("\"@early\"", &text(&early_info)).into_bytes()
}

#[test]
fn of_two_evaluations_the_early_one_is_taken() {
    let evaluations = |early| {
        let all = gathered(&[("platform_collaterals.json", &both_evaluations(early, |der| hex::encode(der)))]);
        assert_eq!(all.files[0].read, Ok(Form::PlatformCollaterals));
        all.pieces.iter().filter_map(|piece| PieceSummary::of(piece).evaluation).collect::<Vec<_>>()
    };
    let (standard, early) = (evaluations(false), evaluations(true));
    assert_eq!(standard.len(), 2, "a TCB info and an identity");
    assert_eq!(early, standard.iter().map(|number| number + 1).collect::<Vec<_>>());
}

#[test]
fn lists_within_the_tools_json_are_hex_base64_or_pem() {
    let lists = |list: &dyn Fn(&[u8]) -> String| {
        let all = gathered(&[("platform_collaterals.json", &both_evaluations(false, list))]);
        all.pieces.into_iter().filter(|piece| piece.kind == CollateralKind::TdxCrl).map(|piece| piece.bytes).collect::<Vec<_>>()
    };
    let soft = SoftTdx::new().collateral();
    let expected = vec![soft.pck_list, soft.root_list];
    assert_eq!(lists(&|der| hex::encode(der)), expected);
    assert_eq!(lists(&|der| to_base64(der)), expected);
    assert_eq!(lists(&|der| pem("X509 CRL", der)), expected);
    let broken = both_evaluations(false, |_| "!!".to_owned());
    assert!(matches!(refusal(&broken), FormError::Json { form: Form::PlatformCollaterals, what } if what.starts_with("platformCrl: ")));
}
