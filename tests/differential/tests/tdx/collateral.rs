//! Soft collateral, each document and list wrong or unusual in one thing and signed by whoever should.

use differential::ours::{Case, NOW};
use differential::peers::{WHOLE_VERIFIER, window};
use differential::{Fields, Row, Table, Verdict};
use testbed::tdx::{
    IsvLevel, ModuleIdentity, NEWEST_TCB, OLDEST_TCB, PckAuthority, QeIdentity, RevocationList, Role, SignatureFlaw, SoftTdx, Standing,
    TcbInfo,
};

use crate::rules::{EXACT, ISSUED, MASK, ONCE, PART, PCEID, SORTED, STATUS, WIDTH, WINDOW};
use crate::{compare_whole, finish};

pub const ROWS: &[Row] = &[
    Row::accepted(WHOLE_VERIFIER, "CrlExpired", WINDOW, &["the root's list's last second", "the authority's list's last second"]),
    Row::accepted(WHOLE_VERIFIER, "expected u8", WIDTH, &["TCB info: a module level of SVN 256"]),
    Row::accepted(WHOLE_VERIFIER, "TCB status is invalid: Revoked", SORTED, &["TCB info: module levels in rising order"]),
    Row::read(WHOLE_VERIFIER, "advisories", ["", "INTEL-SA-90004"], SORTED, &["QE identity: levels in rising order"]),
    Row::read(WHOLE_VERIFIER, "date", ["1755043200", "1710288000"], SORTED, &["QE identity: levels in rising order"]),
    Row::read(WHOLE_VERIFIER, "qe-date", ["1755043200", "1710288000"], SORTED, &["QE identity: levels in rising order"]),
    Row::read(WHOLE_VERIFIER, "qe-status", ["UpToDate", "OutOfDate"], SORTED, &["QE identity: levels in rising order"]),
    Row::refused(WHOLE_VERIFIER, "tdx-crl-missing", ISSUED, &["the authority's list of tomorrow", "the root's list of tomorrow"]),
    Row::refused(WHOLE_VERIFIER, "tdx-document-malformed", ONCE, &["TCB info: a module identity twice"]),
    Row::refused(WHOLE_VERIFIER, "tdx-document-version", EXACT, &["QE identity: version 3", "TCB info: version 4"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pceid-mismatch", PCEID, &["TCB info: another PCEID"]),
    Row::refused(
        WHOLE_VERIFIER,
        "tdx-qe-attributes",
        MASK,
        &["QE identity: a mask that lets debug pass", "QE identity: attributes outside the mask"],
    ),
    Row::refused(WHOLE_VERIFIER, "tdx-tcb-level-duplicate", ONCE, &["QE identity: a level twice", "TCB info: a level twice"]),
    Row::refused(WHOLE_VERIFIER, "tdx-tcb-part-status", PART, &["QE identity: QE needs configuration"]),
    Row::refused(WHOLE_VERIFIER, "tdx-tcb-status-unknown", STATUS, &["TCB info: a relaunch status that the machine does not reach"]),
    Row::refused(WHOLE_VERIFIER, "tdx-tcb-type", EXACT, &["TCB info: tcbType 1"]),
    Row::read(WHOLE_VERIFIER, "status", ["UpToDate", "OutOfDate"], SORTED, &["QE identity: levels in rising order"]),
];

const SIGNATURES: [SignatureFlaw; 4] = [SignatureFlaw::None, SignatureFlaw::FlippedR, SignatureFlaw::FlippedS, SignatureFlaw::ZeroR];

/// A change in a document before it is signed.
type InfoChange = (&'static str, fn(&mut TcbInfo));
type IdentityChange = (&'static str, fn(&mut QeIdentity));

const INFOS: &[InfoChange] = &[
    ("genuine", |_| ()),
    ("id SGX", |info| info.id = "SGX".to_owned()),
    ("version 2", |info| info.version = 2),
    ("version 4", |info| info.version = 4),
    ("issued tomorrow", |info| info.issued = NOW + 86_400),
    ("lapsed yesterday", |info| info.next_update = NOW - 86_400),
    ("another FMSPC", |info| info.fmspc = "00806F050000".to_owned()),
    ("FMSPC in lower case", |info| info.fmspc = info.fmspc.to_lowercase()),
    ("another PCEID", |info| info.pce_id = "0001".to_owned()),
    ("tcbType 1", |info| info.tcb_type = 1),
    ("no module", |info| info.module = None),
    ("no module identities", |info| info.module_identities = None),
    ("empty module identities", |info| info.module_identities = Some(Vec::new())),
    ("module identities in lower case", |info| info.module_identity("TDX_01").id = "tdx_01".to_owned()),
    ("another module's signer", |info| info.module_identity("TDX_01").mrsigner[0] = 1),
    ("module attributes that are not zero", |info| info.module_identity("TDX_01").attributes[0] = 1),
    ("a module mask of zero", |info| info.module_identity("TDX_01").attributes_mask = [0; 8]),
    ("module levels in rising order", |info| info.module_identity("TDX_01").levels.reverse()),
    ("module revoked", |info| info.module_identity("TDX_01").levels[0].standing.status = "Revoked".to_owned()),
    ("module out of date", |info| info.module_identity("TDX_01").levels[0].standing.status = "OutOfDate".to_owned()),
    ("module needs configuration", |info| info.module_identity("TDX_01").levels[0].standing.status = "ConfigurationNeeded".to_owned()),
    ("a module level of SVN 256", |info| {
        info.module_identity("TDX_01").levels.insert(0, IsvLevel::new(256, "UpToDate", NEWEST_TCB));
    }),
    ("module of an unknown status", |info| info.module_identity("TDX_01").levels[0].standing.status = "Fine".to_owned()),
    ("no level", |info| info.levels.clear()),
    ("15 components", |info| {
        let _ = info.levels[0].sgx.pop();
    }),
    ("17 components", |info| info.levels[0].sgx.push(0)),
    ("15 TDX components", |info| {
        let _ = info.levels[0].tdx.pop();
    }),
    ("a component of 256", |info| info.levels[1].sgx[0] = 256),
    ("levels in rising order", |info| info.levels.reverse()),
    ("a level twice", |info| info.levels.insert(1, info.levels[0].clone())),
    ("one TCB with two statuses", |info| {
        let mut second = info.levels[0].clone();
        second.standing.status = "Revoked".to_owned();
        info.levels.insert(0, second);
    }),
    ("platform revoked", |info| info.levels[0].standing.status = "Revoked".to_owned()),
    ("platform out of date", |info| info.levels[0].standing.status = "OutOfDate".to_owned()),
    ("platform needs hardening", |info| info.levels[0].standing.status = "SWHardeningNeeded".to_owned()),
    ("platform needs configuration", |info| info.levels[0].standing.status = "ConfigurationNeeded".to_owned()),
    ("platform needs both", |info| info.levels[0].standing.status = "ConfigurationAndSWHardeningNeeded".to_owned()),
    ("platform of a relaunch status", |info| info.levels[0].standing.status = "TDRelaunchAdvised".to_owned()),
    ("a relaunch status that the machine does not reach", |info| info.levels[2].standing.status = "TDRelaunchAdvised".to_owned()),
    ("platform of an unknown status", |info| info.levels[0].standing.status = "Fine".to_owned()),
    ("advisories", |info| info.levels[0].standing = Standing::new("SWHardeningNeeded", NEWEST_TCB).advising(&["INTEL-SA-2", "INTEL-SA-1"])),
    ("a level above the machine", |info| info.levels[0].pce_svn += 1),
    ("the first TDX components above the module", |info| info.levels[0].tdx[0] = 200),
    ("the second TDX component above the module", |info| info.levels[0].tdx[1] = 200),
    ("the third TDX component above the module", |info| info.levels[0].tdx[2] = 200),
    ("every level above the machine", |info| info.levels.iter_mut().for_each(|level| level.sgx[15] = 1)),
    ("a module identity twice", |info| {
        let again = ModuleIdentity::intel("TDX_01", vec![IsvLevel::new(0, "OutOfDate", OLDEST_TCB)]);
        info.module_identities.as_mut().unwrap().push(again);
    }),
];

const IDENTITIES: &[IdentityChange] = &[
    ("id QE", |identity| identity.id = "QE".to_owned()),
    ("version 1", |identity| identity.version = 1),
    ("version 3", |identity| identity.version = 3),
    ("issued tomorrow", |identity| identity.issued = NOW + 86_400),
    ("lapsed yesterday", |identity| identity.next_update = NOW - 86_400),
    ("another signer", |identity| identity.mrsigner[0] ^= 1),
    ("another product", |identity| identity.isv_prod_id = 1),
    ("another evaluation number", |identity| identity.evaluation += 1),
    ("attributes outside the mask", |identity| identity.attributes[8] = 1),
    ("a mask that lets debug pass", |identity| identity.attributes_mask[0] = 0),
    ("MISCSELECT 1", |identity| identity.misc_select = [0, 0, 0, 1]),
    ("no level", |identity| identity.levels.clear()),
    ("levels in rising order", |identity| identity.levels.reverse()),
    ("a level twice", |identity| identity.levels.insert(1, identity.levels[0].clone())),
    ("QE revoked", |identity| identity.levels[0].standing.status = "Revoked".to_owned()),
    ("QE out of date", |identity| identity.levels[0].standing.status = "OutOfDate".to_owned()),
    ("QE needs configuration", |identity| identity.levels[0].standing.status = "ConfigurationNeeded".to_owned()),
    ("QE needs hardening", |identity| identity.levels[0].standing.status = "SWHardeningNeeded".to_owned()),
    ("QE of an unknown status", |identity| identity.levels[0].standing.status = "Fine".to_owned()),
    ("every level above the QE", |identity| identity.levels.iter_mut().for_each(|level| level.isv_svn = 9)),
];

/// A revocation list, and where it is put.
type List = (&'static str, fn(&mut Case, Vec<u8>), Vec<u8>);

#[test]
fn verdicts_under_changed_collateral_differ_only_as_listed() {
    let (mut table, platform) = (Table::new(ROWS), SoftTdx::new());
    let genuine = Case::soft("genuine", &platform);
    for (name, change) in INFOS {
        let body = platform.tcb_info_body(change);
        compare_whole(&mut table, &genuine.with(&format!("TCB info: {name}"), |case| case.bundle.set_tcb_info(&body)));
    }
    for (name, change) in IDENTITIES {
        let body = platform.qe_identity_body(change);
        compare_whole(&mut table, &genuine.with(&format!("QE identity: {name}"), |case| case.bundle.set_qe_identity(&body)));
    }
    for flaw in SIGNATURES {
        let body = platform.tcb_info_document(&platform.tcb_info()).with(|document| document.signature = flaw).bytes();
        compare_whole(&mut table, &genuine.with(&format!("TCB info signature {flaw:?}"), |case| case.bundle.set_tcb_info(&body)));
        let body = platform.qe_identity_document(&platform.qe_identity()).with(|document| document.signature = flaw).bytes();
        compare_whole(&mut table, &genuine.with(&format!("QE identity signature {flaw:?}"), |case| case.bundle.set_qe_identity(&body)));
    }
    // The text broken before it is signed.
    let texts = [
        ("a key twice", "\"version\":3", "\"version\":3,\"version\":3"),
        ("an unknown key", "\"version\":3", "\"version\":3,\"unheard\":[1]"),
        ("space between", "\"version\":3", "\"version\" : 3"),
        ("a number as text", "\"version\":3", "\"version\":\"3\""),
        ("a time with fractions", "00Z\",\"nextUpdate\"", "00.999Z\",\"nextUpdate\""),
        ("a time with an offset", "00Z\",\"nextUpdate\"", "00+02:00\",\"nextUpdate\""),
        ("a time without a zone", "00Z\",\"nextUpdate\"", "00\",\"nextUpdate\""),
        ("a time behind a space", "\"issueDate\":\"", "\"issueDate\":\" "),
    ];
    for (name, part, by) in texts {
        let body = platform.tcb_info_document(&platform.tcb_info()).replacing(part, by).bytes();
        compare_whole(&mut table, &genuine.with(&format!("TCB info: {name}"), |case| case.bundle.set_tcb_info(&body)));
        let part = part.replace('3', "2");
        let body = platform.qe_identity_document(&platform.qe_identity()).replacing(&part, &by.replace('3', "2")).bytes();
        compare_whole(&mut table, &genuine.with(&format!("QE identity: {name}"), |case| case.bundle.set_qe_identity(&body)));
    }
    let (root, authority) = (Role::Root, Role::PckAuthority(PckAuthority::Platform));
    let lists: [List; 14] = [
        ("the PCK certificate revoked", |case, list| case.bundle.pck_list = list, platform.pck_list_der(&[platform.serial(Role::Pck)])),
        ("another PCK certificate revoked", |case, list| case.bundle.pck_list = list, platform.pck_list_der(&[vec![7; 20]])),
        ("the authority revoked", |case, list| case.bundle.root_list = list, platform.root_list_der(&[platform.serial(authority)])),
        ("the TCB signer revoked", |case, list| case.bundle.root_list = list, platform.root_list_der(&[platform.serial(Role::TcbSigner)])),
        ("the root revoked", |case, list| case.bundle.root_list = list, platform.root_list_der(&[platform.serial(root)])),
        ("the root's list lapsed", |case, list| case.bundle.root_list = list, platform.root_list_with(|list| ends(list, NOW - 1))),
        ("the authority's list lapsed", |case, list| case.bundle.pck_list = list, platform.pck_list_with(|list| ends(list, NOW - 1))),
        ("the root's list's last second", |case, list| case.bundle.root_list = list, platform.root_list_with(|list| ends(list, NOW))),
        ("the authority's list's last second", |case, list| case.bundle.pck_list = list, platform.pck_list_with(|list| ends(list, NOW))),
        ("the root's list in force", |case, list| case.bundle.root_list = list, platform.root_list_with(|list| ends(list, NOW + 1))),
        ("the authority's list in force", |case, list| case.bundle.pck_list = list, platform.pck_list_with(|list| ends(list, NOW + 1))),
        (
            "the root's list of tomorrow",
            |case, list| case.bundle.root_list = list,
            platform.root_list_with(|list| list.this_update = NOW + 1),
        ),
        (
            "the authority's list of tomorrow",
            |case, list| case.bundle.pck_list = list,
            platform.pck_list_with(|list| list.this_update = NOW + 1),
        ),
        ("the root's list in the authority's place", |case, list| case.bundle.pck_list = list, platform.root_list_der(&[])),
    ];
    for (name, place, list) in lists {
        compare_whole(&mut table, &genuine.with(name, |case| place(case, list)));
    }
    // Both evaluation numbers, each the lower one once.
    for (info, identity) in [(20, 21), (21, 20), (0, u32::MAX), (u32::MAX, 0)] {
        let (info_body, identity_body) = evaluations(&platform, info, identity);
        let case = genuine.with(&format!("evaluations {info} and {identity}"), |case| {
            case.bundle.set_tcb_info(&info_body);
            case.bundle.set_qe_identity(&identity_body);
        });
        compare_whole(&mut table, &case);
    }
    finish(&table);
}

fn evaluations(platform: &SoftTdx, info: u32, identity: u32) -> (Vec<u8>, Vec<u8>) {
    (platform.tcb_info_body(|document| document.evaluation = info), platform.qe_identity_body(|document| document.evaluation = identity))
}

#[test]
fn the_times_of_a_tcb_info_are_read_alike_where_it_is_issued_last_and_ends_first() {
    let platform = SoftTdx::new();
    let body = platform.tcb_info_body(|info| (info.issued, info.next_update) = (NOW - 77, NOW + 99));
    let case =
        Case::soft("TCB info in force for three minutes", &platform).with("a short TCB info", |case| case.bundle.set_tcb_info(&body));
    let read = Verdict::Accepted(Fields::from([("issued", (NOW - 77).to_string()), ("ends", (NOW + 99).to_string())]));
    assert_eq!(case.window(), read);
    assert_eq!(window(&case), read);
}

fn ends(list: &mut RevocationList, next_update: u64) {
    list.next_update = Some(next_update);
}
