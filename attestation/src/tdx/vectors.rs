//! Real quotes under real collateral. `tdx-verdicts.csv` says what independent evaluators made of each pair at a time; every row must
//! get its verdict here.

use std::path::Path;

use protocol::time::UnixTime;

use super::rejection::TdxRejection;
use crate::anchors::Anchors;
use crate::claims::{PlatformClaims, Revocation, TcbStatus, TdBody, TdxClaims};
use crate::collateral::{Collateral, Lapsed, PreparedCollateral, SignedBody, TdxCollateral, TdxPieceKind};
use crate::evidence::{Evidence, ReportDataRule, TdxEvidence};
use crate::rejection::Rejection;
use crate::vectors::{folder, read};
use crate::{TDX_STEPS, judge_with_steps};

/// What stands in one folder of collateral.
fn collateral(folder: &Path, name: &str) -> Collateral {
    let file = |file: &str| read(folder, &format!("{name}/{file}"));
    let certificates = rustls_pki_types::pem::PemObject::pem_slice_iter(&file("pck_crl_issuer_chain.pem"))
        .map(|der: Result<rustls_pki_types::CertificateDer<'_>, _>| der.unwrap().to_vec())
        .collect();
    let tdx = TdxCollateral {
        tcb_infos: vec![SignedBody { body: file("tcb_info.json"), issuer_chain: file("tcb_signing_chain.pem") }],
        qe_identities: vec![SignedBody { body: file("qe_identity.json"), issuer_chain: file("qe_identity_signing_chain.pem") }],
        crls: vec![file("root_ca_crl.der"), file("pck_crl_platform.der")],
        certificates,
        ..TdxCollateral::default()
    };
    Collateral { tdx, ..Collateral::default() }
}

fn judge(quote: Vec<u8>, collateral: Collateral, lapsed: Lapsed, at: u64) -> Result<TdxClaims, TdxRejection> {
    let anchors = Anchors::vendor();
    let collateral = PreparedCollateral::prepare(collateral, &anchors);
    let evidence = Evidence::Tdx(TdxEvidence { quote, event_log: None });
    match judge_with_steps(&evidence, &collateral, &anchors, ReportDataRule::NotCompared, lapsed, UnixTime::from_seconds(at)) {
        Ok(genuine) => {
            assert_eq!(genuine.steps().iter().map(|step| step.name).collect::<Vec<_>>(), TDX_STEPS);
            let PlatformClaims::Tdx(claims) = genuine.platform() else { panic!("not of TDX") };
            Ok(claims.clone())
        }
        Err(rejected) => {
            assert_eq!(rejected.passed.len() + 1, usize::from(rejected.rejection.step()), "{}", rejected.rejection);
            let Rejection::Tdx(rejection) = rejected.rejection else { panic!("not of TDX") };
            Err(rejection)
        }
    }
}

/// A row of `tdx-verdicts.csv`.
struct Row<'a> {
    quote: &'a str,
    collateral: &'a str,
    at: u64,
    /// What the reference library says where it looks at nothing but TCB and time; it knows of relaunching.
    library: &'a str,
    /// What the independent evaluator says, which does not.
    evaluator: &'a str,
    detail: &'a str,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Self {
        let fields: Vec<&str> = line.splitn(7, ',').collect();
        let [quote, collateral, at, _, library, evaluator, detail] = fields.as_slice() else { panic!("{line}") };
        Self { quote, collateral, at: at.parse().unwrap(), library, evaluator, detail: detail.trim_matches('"') }
    }

    /// `UpToDate/2024-03-13` of `plat`, `mod`, `qe`.
    fn part(&self, name: &str) -> &'a str {
        let detail = self.detail.trim_start_matches('[').split(']').next().unwrap();
        let words: Vec<&str> = detail.split(' ').collect();
        words.iter().position(|word| *word == name).map(|at| words[at + 1]).unwrap_or_else(|| panic!("no {name} in {detail:?}"))
    }

    /// Where the table lists them.
    fn advisories(&self) -> Option<Vec<&'a str>> {
        self.detail.split_once("advisories ").map(|(_, names)| names.split(',').collect())
    }
}

#[test]
fn every_real_quote_gets_its_expected_verdict() {
    let Some(folder) = folder() else { return };
    let table = String::from_utf8(read(&folder, "tdx-verdicts.csv")).unwrap();
    let (mut accepted, mut relaunched, mut advised) = (0, 0, 0);
    for line in table.lines().skip(1) {
        let row = Row::parse(line);
        let verdict = judge(read(&folder, row.quote), collateral(&folder, row.collateral), Lapsed::Rejected, row.at);
        match row.evaluator {
            "NotSupported" => {
                assert_eq!(verdict.unwrap_err(), TdxRejection::TcbNotSupported { part: "platform" }, "{line}");
                continue;
            }
            "ERR:cert-not-valid-at-time" => {
                let found = verdict.unwrap_err();
                assert!(matches!(found, TdxRejection::CertificateNotYetValid { certificate: "PCK certificate", .. }), "{line}: {found}");
                continue;
            }
            _ => {}
        }
        let claims = verdict.unwrap_or_else(|rejection| panic!("{line}: {rejection}"));
        let relaunch = row.library == TcbStatus::RelaunchAdvised.as_str();
        let expected = if relaunch { row.library } else { row.evaluator };
        assert_eq!(claims.tcb.status.as_str(), expected, "{line}");
        let (status, date) = row.part("plat").split_once('/').unwrap();
        assert_eq!(claims.tcb.platform.status.as_str(), status, "{line}");
        assert!(claims.tcb.platform.date.to_string().starts_with(date), "{line}");
        let module = claims.tcb.module.as_ref().map_or("None", |module| module.status.as_str());
        assert_eq!(module, row.part("mod"), "{line}");
        assert_eq!(claims.tcb.qe.status.as_str(), row.part("qe"), "{line}");
        if let Some(advisories) = row.advisories() {
            assert_eq!(claims.tcb.advisories, advisories, "{line}");
            advised += 1;
        }
        assert!(matches!(claims.revocation, Revocation::Checked { .. }), "{line}");
        assert_eq!(claims.tcb.superseded.is_some(), claims.tcb.status != TcbStatus::UpToDate, "{line}");
        accepted += 1;
        relaunched += usize::from(relaunch);
    }
    assert!(accepted >= 30 && relaunched == 2 && advised >= 8, "{accepted} accepted, {relaunched} to be relaunched, {advised} advised");
}

#[test]
fn every_real_folder_of_collateral_prepares_without_a_problem() {
    let Some(folder) = folder() else { return };
    let anchors = Anchors::vendor();
    let mut folders = 0;
    for entry in std::fs::read_dir(folder.join("tdx/collateral")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with("PARTIAL") {
            continue;
        }
        let prepared = PreparedCollateral::prepare(collateral(&folder, &format!("tdx/collateral/{name}")), &anchors);
        assert_eq!(prepared.problems().map(|(piece, problem)| format!("{piece}: {problem}")).collect::<Vec<_>>(), [""; 0], "{name}");
        let pieces = prepared.tdx_pieces();
        let kinds: Vec<TdxPieceKind> = pieces.iter().map(|piece| piece.kind).collect();
        assert_eq!(kinds, [TdxPieceKind::TcbInfo, TdxPieceKind::QeIdentity, TdxPieceKind::RootCrl, TdxPieceKind::PckCrl], "{name}");
        let evaluation = name.rsplit_once("eval").unwrap().1.parse().ok();
        assert_eq!(pieces[0].fmspc.map(hex::encode).as_deref(), name.split('-').next());
        assert!(pieces.iter().take(2).all(|piece| piece.evaluation == evaluation), "{name}");
        folders += 1;
    }
    assert!(folders >= 12);
}

/// A quote and collateral of one platform, with a time at which both hold.
const SAMPLE: (&str, &str, u64) = ("tdx/v4-dcapqvl-sample-b0c06f.quote.bin", "tdx/collateral/b0c06f000000-20250619-eval17", 1_750_415_547);

#[test]
fn collateral_has_its_time() {
    let Some(folder) = folder() else { return };
    let rows = [
        (SAMPLE.0, SAMPLE.1, 1_752_919_235, 1_750_242_747),
        ("tdx/v4-phala-gastest-20a06f.quote.bin", "tdx/collateral/20a06f000000-20250902-eval17", 1_759_388_631, 1_756_712_519),
        ("tdx/v5-trustee5-90c06f.quote.bin", "tdx/collateral/90c06f000000-20260218-eval18", 1_774_003_275, 1_771_325_931),
    ];
    for (quote, name, last, before) in rows {
        let judge = |lapsed, at| judge(read(&folder, quote), collateral(&folder, name), lapsed, at).map(|claims| claims.revocation);
        let last_second = judge(Lapsed::Rejected, last);
        assert!(!matches!(last_second, Err(TdxRejection::CrlLapsed { .. })), "{quote}: {last_second:?}");
        let lapsed = judge(Lapsed::Rejected, last + 1).unwrap_err();
        assert!(matches!(lapsed, TdxRejection::CrlLapsed { issuer: "Intel SGX PCK Platform CA", .. }), "{quote}: {lapsed}");
        assert!(matches!(judge(Lapsed::Claimed, last + 1), Ok(Revocation::Stale { .. }) | Err(TdxRejection::TcbNotSupported { .. })));
        let early = judge(Lapsed::Claimed, before).unwrap_err();
        assert!(matches!(early, TdxRejection::DocumentNotYetIssued { document: "tcb-info", .. }), "{quote}: {early}");
    }
}

#[test]
fn zero_bytes_behind_a_quote_are_no_part_of_it() {
    let Some(folder) = folder() else { return };
    let name = "tdx/collateral/00806f050000-20250121-eval17";
    let judge = |quote: Vec<u8>| judge(quote, collateral(&folder, name), Lapsed::Rejected, 1_737_550_719);
    let exact = judge(read(&folder, "tdx/v4-google-cos113-00806f.quote.bin")).unwrap();
    let padded = read(&folder, "tdx/raw-google-cos113-padded-8000B.bin");
    assert_eq!(judge(padded.clone()).unwrap(), exact);
    let offset = padded.len() - 1;
    let mut other = padded.clone();
    other[offset] = 1;
    assert_eq!(judge(other).unwrap_err(), TdxRejection::PaddingNotZero { offset });
    let parsed = super::quote::Quote::parse(&padded).unwrap();
    assert_eq!(parsed.bytes, read(&folder, "tdx/v4-google-cos113-00806f.quote.bin"));
    super::quote::Quote::parse(&read(&folder, "tdx/raw-oasis-trailing-5006B.bin")).unwrap();
}

#[test]
fn every_real_quote_is_read_to_its_end() {
    let Some(folder) = folder() else { return };
    let mut bodies = Vec::new();
    for entry in std::fs::read_dir(folder.join("tdx")).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(entry.path()).unwrap();
        let quote = super::quote::Quote::parse(&bytes).unwrap_or_else(|rejection| panic!("{:?}: {rejection}", entry.path()));
        assert!(super::p256::verifies(quote.attestation_key, quote.signed, quote.signature), "{:?}", entry.path());
        bodies.push(quote.report.body);
        for length in 0..quote.bytes.len() {
            let cut = super::quote::Quote::parse(&bytes[..length]).unwrap_err();
            assert!(matches!(cut, TdxRejection::QuoteTruncated { .. }), "{:?} cut at {length}: {cut}", entry.path());
        }
    }
    assert!(bodies.len() >= 31 && [TdBody::Td10, TdBody::Td15, TdBody::Td15Ex].iter().all(|body| bodies.contains(body)));
}

#[test]
fn a_quote_of_a_preproduction_platform_is_rejected() {
    let Some(folder) = folder() else { return };
    let quote = read(&folder, "tdx/v4-trustee4-PREPROD-30806f.quote.bin");
    let found = judge(quote, collateral(&folder, SAMPLE.1), Lapsed::Rejected, SAMPLE.2).unwrap_err();
    assert_eq!(found, TdxRejection::RootMismatch {});
}

#[test]
fn a_flipped_bit_anywhere_in_a_quote_is_rejected() {
    let Some(folder) = folder() else { return };
    let quote = read(&folder, SAMPLE.0);
    let genuine = judge(quote.clone(), collateral(&folder, SAMPLE.1), Lapsed::Rejected, SAMPLE.2).unwrap();
    let anchors = Anchors::vendor();
    let prepared = PreparedCollateral::prepare(collateral(&folder, SAMPLE.1), &anchors);
    for place in (0..quote.len()).step_by(7) {
        let mut quote = quote.clone();
        quote[place] ^= 1 << (place % 8);
        let evidence = Evidence::Tdx(TdxEvidence { quote, event_log: None });
        let at = UnixTime::from_seconds(SAMPLE.2);
        match crate::judge(&evidence, &prepared, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, at) {
            Err(_) => {}
            // White space and line ends of PEM, and what the root in a chain says beside name and key, are nobody's word.
            Ok(other) => assert_eq!(*other.platform(), PlatformClaims::Tdx(genuine.clone()), "byte {place}"),
        }
    }
}
