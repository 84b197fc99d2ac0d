//! Real quotes under real collateral. `tdx-verdicts.csv` says what independent evaluators made of each pair at a time, and `vectors.json`
//! what an independent parser read in each quote and in each piece of collateral. Every row must get its verdict here, and a row that no
//! test knows fails.

use std::path::Path;

use protocol::time::UnixTime;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use super::collateral::Content as _;
use super::collateral::tcb_info::TcbInfo;
use super::p256::{SignerKey, verifies};
use super::pck::authority_named;
use super::quote::Quote;
use super::rejection::TdxRejection;
use super::sgx_extension;
use crate::anchors::Anchors;
use crate::claims::{PckClaims, PlatformClaims, Revocation, TcbStatus, TdAttributes, TdBody, TdxClaims};
use crate::collateral::{Collateral, Lapsed, PreparedCollateral, SignedBody, TdxCollateral, TdxPieceKind};
use crate::evidence::{Evidence, ReportDataRule, TdxEvidence};
use crate::rejection::Rejection;
use crate::vectors::{folder, read};
use crate::x509::crl::RevocationList;
use crate::x509::{Certificate, common_name};
use crate::{TDX_STEPS, judge_with_steps};

/// The certificates of a chain in PEM.
fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem).map(|der| der.unwrap().to_vec()).collect()
}

/// What stands in one folder of collateral.
fn collateral(folder: &Path, name: &str) -> Collateral {
    let file = |file: &str| read(folder, &format!("{name}/{file}"));
    let certificates = certificates(&file("pck_crl_issuer_chain.pem"));
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
    let read_elsewhere = vectors(&folder);
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
        let vector = read_elsewhere.iter().find(|vector| vector.files == row.quote).unwrap();
        same_as_independently_read(vector, &Fields::of_claims(&claims));
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
    let time = UnixTime::from_seconds;
    // Whether the collateral covers the TCB of the platform: where it does not, time says nothing of it either.
    let rows = [
        (SAMPLE.0, SAMPLE.1, 1_752_919_235, 1_750_242_747, true),
        ("tdx/v4-phala-gastest-20a06f.quote.bin", "tdx/collateral/20a06f000000-20250902-eval17", 1_759_388_631, 1_756_712_519, true),
        ("tdx/v5-trustee5-90c06f.quote.bin", "tdx/collateral/90c06f000000-20260218-eval18", 1_774_003_275, 1_771_325_931, false),
    ];
    for (quote, name, last, before, covered) in rows {
        let held = collateral(&folder, name);
        let list = |index: usize| RevocationList::parse(&held.tdx.crls[index]).unwrap().window();
        let (this_update, next_update) = (list(1).this_update, list(1).next_update);
        assert_eq!(next_update, time(last), "{quote}");
        assert!(list(0).next_update > next_update, "{quote}: the root's list is the fresher");
        let judge = |lapsed, at| judge(read(&folder, quote), collateral(&folder, name), lapsed, at).map(|claims| claims.revocation);
        let expected = |revocation| if covered { Ok(revocation) } else { Err(TdxRejection::TcbNotSupported { part: "platform" }) };
        assert_eq!(judge(Lapsed::Rejected, last), expected(Revocation::Checked { this_update, next_update }), "{quote}");
        let lapsed = TdxRejection::CrlLapsed { issuer: "Intel SGX PCK Platform CA", next_update, at: time(last + 1) };
        assert_eq!(judge(Lapsed::Rejected, last + 1), Err(lapsed), "{quote}");
        assert_eq!(judge(Lapsed::Claimed, last + 1), expected(Revocation::Stale { this_update, next_update }), "{quote}");
        let issued = tcb_info(&held.tdx.tcb_infos[0].body).source().issued;
        let early = TdxRejection::DocumentNotYetIssued { document: "tcb-info", issued, at: time(before) };
        assert_eq!(judge(Lapsed::Claimed, before), Err(early), "{quote}");
    }
}

/// What a signed TCB info says, its signature unseen.
fn tcb_info(body: &[u8]) -> TcbInfo {
    let signed: std::collections::BTreeMap<String, Box<serde_json::value::RawValue>> = serde_json::from_slice(body).unwrap();
    TcbInfo::read(signed["tcbInfo"].get()).unwrap()
}

/// A row of `vectors.json` on TDX.
struct Vector {
    files: String,
    claims: String,
    verdict: String,
}

fn vectors(folder: &Path) -> Vec<Vector> {
    let json: Vec<Value> = serde_json::from_slice(&read(folder, "vectors.json")).unwrap();
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    json.iter()
        .map(|row| Vector { files: text(row, "files"), claims: text(row, "claims"), verdict: text(row, "verdict") })
        .filter(|row| row.files.trim_start_matches("(derived) ").starts_with("tdx/"))
        .collect()
}

#[test]
fn every_row_on_tdx_gets_its_verdict_and_says_what_is_read_here() {
    let Some(folder) = folder() else { return };
    let (mut quotes, mut folders, mut derived) = (0, 0, 0);
    for row in vectors(&folder) {
        match row.files.as_str() {
            files if files.starts_with("(derived) ") => {
                at_the_edge_of_its_time(&folder, &row);
                derived += 1;
            }
            files if files.ends_with(".quote.bin") => {
                quote_as_independently_read(&folder, &row);
                quotes += 1;
            }
            "tdx/collateral/c0806f000000-20240902-eval17-PARTIAL/" => {
                let found = judge(read(&folder, PARTIAL.0), partial(&folder), Lapsed::Claimed, PARTIAL.1).unwrap();
                assert!(row.verdict.contains(&PARTIAL.1.to_string()) && found.tcb.status == TcbStatus::UpToDate, "{}", row.verdict);
            }
            files if files.starts_with("tdx/collateral/") => {
                collateral_as_independently_read(&folder, &row);
                folders += 1;
            }
            // Quotes as a buffer handed them out, with zero bytes behind: what they are without those.
            "tdx/raw-oasis-trailing-5006B.bin" => padded(&folder, &row.files, "tdx/v4-oasis-trailing-c0806f.quote.bin"),
            "tdx/raw-google-cos113-padded-8000B.bin" => padded(&folder, &row.files, "tdx/v4-google-cos113-00806f.quote.bin"),
            other => panic!("no test knows the row {other:?}"),
        }
    }
    assert!(quotes >= 29 && folders >= 12 && derived == 6, "{quotes} quotes, {folders} folders, {derived} derived");
}

fn padded(folder: &Path, padded: &str, exact: &str) {
    let padded = read(folder, padded);
    assert_eq!(Quote::parse(&padded).unwrap().bytes, read(folder, exact));
}

/// `(derived) QUOTE + FOLDER at SECONDS`.
fn at_the_edge_of_its_time(folder: &Path, row: &Vector) {
    let (quote, rest) = row.files.trim_start_matches("(derived) ").split_once(" + ").unwrap();
    let (name, at) = rest.split_once(" at ").unwrap();
    let held = collateral(folder, &format!("tdx/collateral/{name}"));
    let at: u64 = at.parse().unwrap();
    let (lapsed, expected) = if row.verdict.contains("issue date is in the future") {
        let issued = tcb_info(&held.tdx.tcb_infos[0].body).source().issued;
        // The list of that time is missing too, which would be said first where nobody has a policy on it.
        (Lapsed::Claimed, TdxRejection::DocumentNotYetIssued { document: "tcb-info", issued, at: UnixTime::from_seconds(at) })
    } else {
        assert!(row.verdict.contains("CrlExpired") && row.verdict.ends_with(&format!("UnixTime({}) }}", at - 1)), "{}", row.verdict);
        let next_update = UnixTime::from_seconds(at - 1);
        let issuer = "Intel SGX PCK Platform CA";
        (Lapsed::Rejected, TdxRejection::CrlLapsed { issuer, next_update, at: UnixTime::from_seconds(at) })
    };
    assert_eq!(judge(read(folder, quote), held, lapsed, at), Err(expected), "{}", row.files);
}

/// What is compared with the reading of others, of a quote or of the claims about one.
struct Fields {
    version: u16,
    body: TdBody,
    td_attributes: u64,
    xfam: u64,
    tee_tcb_svn: [u8; 16],
    mrseam: [u8; 48],
    mrtd: [u8; 48],
    rtmrs: [[u8; 48]; 4],
    report_data: [u8; 64],
    mrconfigid: [u8; 48],
    current: Option<([u8; 16], [u8; 48])>,
    pck: PckClaims,
}

impl Fields {
    fn of_quote(quote: &Quote<'_>, pck: PckClaims) -> Self {
        let report = &quote.report;
        Self {
            version: quote.version,
            body: report.body,
            td_attributes: report.td_attributes,
            xfam: report.xfam,
            tee_tcb_svn: report.tee_tcb_svn,
            mrseam: report.mrseam,
            mrtd: report.mrtd,
            rtmrs: report.rtmrs,
            report_data: report.report_data,
            mrconfigid: report.mrconfigid,
            current: report.current,
            pck,
        }
    }

    fn of_claims(claims: &TdxClaims) -> Self {
        Self {
            version: claims.quote_version,
            body: claims.body,
            td_attributes: claims.td_attributes.raw,
            xfam: claims.xfam,
            tee_tcb_svn: claims.tee_tcb_svn,
            mrseam: claims.mrseam,
            mrtd: claims.mrtd,
            rtmrs: claims.rtmrs,
            report_data: claims.report_data,
            mrconfigid: claims.mrconfigid,
            current: claims.tee_tcb_svn_2.zip(claims.mrservicetd),
            pck: claims.platform.clone(),
        }
    }
}

/// Compares with `ver=4 body=2/584 … mrconfigid=0; fmspc=b0c06f000000 pcesvn=11 cpusvn=…`, in which `0` stands for zero bytes.
fn same_as_independently_read(row: &Vector, fields: &Fields) {
    let zero_or_hex = |bytes: &[u8]| if bytes.iter().all(|byte| *byte == 0) { "0".to_owned() } else { hex::encode(bytes) };
    let bit = |mask: u64| if fields.td_attributes & mask == 0 { "False" } else { "True" }.to_owned();
    let (_, read) = row.claims.split_once("ver=").unwrap_or_else(|| panic!("nothing was read of {}", row.files));
    let mut compared = 0;
    for (key, value) in format!("ver={read}").split([' ', ';', '(', ')']).filter_map(|pair| pair.split_once('=')) {
        let found = match key {
            "ver" => fields.version.to_string(),
            "body" => match fields.body {
                TdBody::Td10 => "2/584",
                TdBody::Td15 => "3/648",
                TdBody::Td15Ex => "4/885",
            }
            .to_owned(),
            // Our parser takes no others.
            "cert_data" => "6->5".to_owned(),
            "auth" => "32B".to_owned(),
            "td_attrs" => hex::encode(fields.td_attributes.to_le_bytes()),
            "debug" => bit(TdAttributes::DEBUG),
            "SEPT_VE_DISABLE" => bit(TdAttributes::SEPT_VE_DISABLE),
            "xfam" => hex::encode(fields.xfam.to_le_bytes()),
            "tee_tcb_svn" => hex::encode(fields.tee_tcb_svn),
            "mrseam" => hex::encode(fields.mrseam),
            "mrtd" => hex::encode(fields.mrtd),
            "rtmr0" => hex::encode(fields.rtmrs[0]),
            "rtmr1" => hex::encode(fields.rtmrs[1]),
            "rtmr2" => hex::encode(fields.rtmrs[2]),
            "rtmr3" => hex::encode(fields.rtmrs[3]),
            "report_data" => hex::encode(fields.report_data),
            "mrconfigid" => zero_or_hex(&fields.mrconfigid),
            "tee_tcb_svn2" => hex::encode(fields.current.unwrap().0),
            "mrservicetd" => zero_or_hex(&fields.current.unwrap().1),
            "fmspc" => hex::encode(fields.pck.fmspc),
            "pcesvn" => fields.pck.pce_svn.to_string(),
            "cpusvn" => hex::encode(fields.pck.components),
            other => panic!("{}: nothing here is called {other}", row.files),
        };
        assert_eq!(found, value, "{}: {key}", row.files);
        compared += 1;
    }
    assert_eq!(compared, if fields.current.is_some() { 22 } else { 20 }, "{}", row.files);
}

/// A quote by itself, whether any collateral is at hand that covers it or not: every field, the leaf of its chain, and both signatures.
fn quote_as_independently_read(folder: &Path, row: &Vector) {
    let name = &row.files;
    let bytes = read(folder, name);
    let quote = Quote::parse(&bytes).unwrap_or_else(|rejection| panic!("{name}: {rejection}"));
    let chain = certificates(quote.pck_chain.split(|byte| *byte == 0).next().unwrap());
    let [leaf, authority, root] = chain.as_slice() else { panic!("{name}") };
    let (leaf, authority, root) =
        (Certificate::parse(leaf).unwrap(), Certificate::parse(authority).unwrap(), Certificate::parse(root).unwrap());
    let kind = authority_named(authority.common_name()).unwrap();
    let pck = sgx_extension::read(&leaf, kind).unwrap_or_else(|rejection| panic!("{name}: {rejection}"));
    same_as_independently_read(row, &Fields::of_quote(&quote, pck));
    let day = |time: UnixTime| time.to_string()[..10].to_owned();
    let issued = format!("pck {} {}..{}", common_name(leaf.issuer).unwrap(), day(leaf.not_before), day(leaf.not_after));
    assert!(row.claims.ends_with(&issued), "{name}: {issued}");
    let key = SignerKey::of(leaf.key).unwrap();
    let ours = Anchors::vendor().intel().unwrap().is(&root);
    assert!(verifies(quote.attestation_key, quote.signed, quote.signature) && key.verifies(quote.qe.bytes, quote.qe_signature), "{name}");
    let found = format!("py: quote_sig=True, qe_sig=True, ak_bind=True, chain=True, intel_root={}", if ours { "True" } else { "False" });
    assert!(row.verdict.starts_with(&found), "{name}: {}", row.verdict);
}

/// Compares with `tcbInfo FROM..UNTIL modules=['TDX_03', 'TDX_01']; qeIdentity FROM..UNTIL eval 17; pckCrl DAY..DAY (44 revoked); rootCrl
/// DAY..DAY`.
fn collateral_as_independently_read(folder: &Path, row: &Vector) {
    let name = row.files.split('/').nth(2).unwrap();
    let held = collateral(folder, &format!("tdx/collateral/{name}"));
    let info = tcb_info(&held.tdx.tcb_infos[0].body);
    let modules: Vec<String> = info.modules.iter().map(|module| format!("'TDX_{:02X}'", module.version)).collect();
    let list = |index: usize| RevocationList::parse(&held.tdx.crls[index]).unwrap();
    let day = |time: UnixTime| time.to_string()[..10].to_owned();
    let days = |index: usize| format!("{}..{}", day(list(index).this_update), day(list(index).next_update));
    let pieces = PreparedCollateral::prepare(held.clone(), &Anchors::vendor()).tdx_pieces();
    let time = |time: UnixTime| time.to_string().replace('Z', "+00:00");
    let identity = pieces.iter().find(|piece| piece.kind == TdxPieceKind::QeIdentity).unwrap();
    let found = format!(
        "tcbInfo {}..{} modules=[{}]; qeIdentity {}..{} eval {}; pckCrl {} ({} revoked); rootCrl {}",
        info.source().issued,
        info.source().next_update,
        modules.join(", "),
        time(identity.issued),
        time(identity.next_update),
        identity.evaluation.unwrap(),
        days(1),
        list(1).revoked.len(),
        days(0),
    );
    assert_eq!(found, row.claims, "{name}");
    assert!(row.verdict.starts_with("all signatures verified"), "{name}: {}", row.verdict);
}

/// A quote whose platform has only half of its collateral, and the time at which its source judges it.
const PARTIAL: (&str, u64) = ("tdx/v4-oasis-c0806f.quote.bin", 1_725_263_032);

/// Its documents, under the signer's chain as another platform's came with it, and no revocation list.
fn partial(folder: &Path) -> Collateral {
    let file = |name: &str| read(folder, &format!("tdx/collateral/{name}"));
    let issuer_chain = file("00806f050000-20250121-eval17/tcb_signing_chain.pem");
    let signed = |name: &str| {
        let body = file(&format!("c0806f000000-20240902-eval17-PARTIAL/{name}"));
        vec![SignedBody { body, issuer_chain: issuer_chain.clone() }]
    };
    let tdx = TdxCollateral { tcb_infos: signed("tcb_info.json"), qe_identities: signed("qe_identity.json"), ..TdxCollateral::default() };
    Collateral { tdx, ..Collateral::default() }
}

#[test]
fn a_platform_whose_lists_nobody_has_is_judged_by_the_rest_and_the_claims_say_so() {
    let Some(folder) = folder() else { return };
    let found = judge(read(&folder, PARTIAL.0), partial(&folder), Lapsed::Claimed, PARTIAL.1).unwrap();
    assert_eq!(found.tcb.status, TcbStatus::UpToDate);
    assert_eq!(found.revocation, Revocation::Unknown);
    assert_eq!((found.tcb_info.evaluation, found.qe_identity.evaluation), (17, 17));
    let (issued, at) = (found.tcb_info.issued, UnixTime::from_seconds(found.tcb_info.issued.seconds() - 1));
    let early = judge(read(&folder, PARTIAL.0), partial(&folder), Lapsed::Claimed, at.seconds());
    assert_eq!(early, Err(TdxRejection::DocumentNotYetIssued { document: "tcb-info", issued, at }));
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
    let parsed = Quote::parse(&padded).unwrap();
    assert_eq!(parsed.bytes, read(&folder, "tdx/v4-google-cos113-00806f.quote.bin"));
    Quote::parse(&read(&folder, "tdx/raw-oasis-trailing-5006B.bin")).unwrap();
}

#[test]
fn every_real_quote_is_read_to_its_end() {
    let Some(folder) = folder() else { return };
    let mut bodies = Vec::new();
    for entry in std::fs::read_dir(folder.join("tdx")).unwrap().map(Result::unwrap).filter(|entry| entry.path().is_file()) {
        let bytes = std::fs::read(entry.path()).unwrap();
        let quote = Quote::parse(&bytes).unwrap_or_else(|rejection| panic!("{:?}: {rejection}", entry.path()));
        assert!(verifies(quote.attestation_key, quote.signed, quote.signature), "{:?}", entry.path());
        bodies.push(quote.report.body);
        for length in 0..quote.bytes.len() {
            let cut = Quote::parse(&bytes[..length]).unwrap_err();
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
