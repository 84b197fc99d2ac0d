//! TDX quotes: ours beside `dcap-qvl`, which judges collateral too, and `tdx-quote`, which judges the quote alone.

use attestation::TdxRejection;
use differential::evidence::{cases, folder};
use differential::ours::{Case, Root};
use differential::peers::{DCAP_QVL, TDX_QUOTE, TDX_QUOTE_5, dcap_qvl, tdx_quote};
use differential::{ACCEPTED, Row, Table, rules_are_written};
use testbed::tdx::{
    BasicConstraints, Certificate, IsvLevel, ModuleIdentity, NEWEST_TCB, OLDEST_TCB, PckAuthority, QeIdentity, Quote, Role, SignatureFlaw,
    SoftTdx, Standing, TcbInfo, TdAttributes, TdReportKind, TdShape, coordinates, pem,
};

const PROFILE: &str =
    "every certificate of a chain has the exact name, the profile and the issuer of its role, and is valid at the time of judging";
const VERSION_5: &str = "a version 5 quote gets no second opinion; a policy must say that it does without";
const ALONE: &str = "a quote is judged with its certificates, their validity and Intel's collateral, never alone";
const POLICY: &str = "TD attributes are claims that a policy judges, and by default it refuses every bit that it does not know";
const LISTS: &str = "that no revocation list is at hand is a claim, which a policy judges by its maximum age";
const SORTED: &str = "TCB levels are tried from the highest down, whatever their order in the document";
const ONCE: &str = "a document has one level for one TCB, one identity for one module, and each key once";
const EXACT: &str = "a document has exactly the id, version and type that this verifier was written for";
const PCEID: &str = "TCB info is of the PCK certificate's FMSPC and of its PCEID";
const ROLE: &str = "the signer of collateral is Intel's TCB signer by its exact name, issued by the root itself";
const MASK: &str = "a masked field of the quoting enclave equals the identity's value, which has no bit outside its mask";
const TAIL: &str = "the second half of the quoting enclave's report data is zero";
const LENGTHS: &str = "every length in a quote is the true one, and its certification data is of types 6 and 5";
const PADDING: &str = "only zero bytes may follow a quote, and not many";
const CHAIN: &str =
    "a quote brings three certificates, and the last has the pinned root's name and key; whatever else that one says counts for nothing";
const PART: &str = "a quoting enclave or TDX module that is neither UpToDate nor OutOfDate is refused";
const BOUND: &str = "the quoting enclave's authentication data may have any length within a limit, since its signed report binds it";

/// On soft quotes and collateral, each wrong in one thing and signed all the same.
const ROWS: &[Row] = &[
    Row::new(DCAP_QVL, ACCEPTED, "UnknownRevocationStatus", LISTS),
    Row::new(DCAP_QVL, ACCEPTED, "Invalid QE auth data length", BOUND),
    Row::new(DCAP_QVL, ACCEPTED, "Reserved bits in TD attributes are set", POLICY),
    Row::new(DCAP_QVL, ACCEPTED, "SEPT_VE_DISABLE is not enabled", POLICY),
    Row::new(DCAP_QVL, ACCEPTED, "TD migration is enabled", POLICY),
    Row::new(DCAP_QVL, ACCEPTED, "TCB status is invalid: Revoked", SORTED),
    Row::new(DCAP_QVL, "advisories", ACCEPTED, SORTED),
    Row::new(DCAP_QVL, "status", ACCEPTED, SORTED),
    Row::new(DCAP_QVL, "tdx-quote-too-long", ACCEPTED, PADDING),
    Row::new(DCAP_QVL, "tdx-padding-not-zero", ACCEPTED, PADDING),
    Row::new(DCAP_QVL, "tdx-certification-length", ACCEPTED, LENGTHS),
    Row::new(DCAP_QVL, "tdx-certification-type", ACCEPTED, LENGTHS),
    Row::new(DCAP_QVL, "tdx-certificate-name", ACCEPTED, PROFILE),
    Row::new(DCAP_QVL, "tdx-pck-chain-count", ACCEPTED, CHAIN),
    Row::new(DCAP_QVL, "tdx-root-mismatch", ACCEPTED, CHAIN),
    Row::new(DCAP_QVL, "tdx-signer-name", ACCEPTED, ROLE),
    Row::new(DCAP_QVL, "tdx-document-malformed", ACCEPTED, ONCE),
    Row::new(DCAP_QVL, "tdx-tcb-level-duplicate", ACCEPTED, ONCE),
    Row::new(DCAP_QVL, "tdx-document-version", ACCEPTED, EXACT),
    Row::new(DCAP_QVL, "tdx-tcb-type", ACCEPTED, EXACT),
    Row::new(DCAP_QVL, "tdx-pceid-mismatch", ACCEPTED, PCEID),
    Row::new(DCAP_QVL, "tdx-qe-attributes", ACCEPTED, MASK),
    Row::new(DCAP_QVL, "tdx-qe-report-data-tail", ACCEPTED, TAIL),
    Row::new(DCAP_QVL, "tdx-tcb-part-status", ACCEPTED, PART),
    Row::new(TDX_QUOTE_5, ACCEPTED, "Cannot parse quote", VERSION_5),
    Row::new(TDX_QUOTE_5, ACCEPTED, "Signature is invalid", VERSION_5),
    Row::new(TDX_QUOTE, "tdx-quote-too-long", ACCEPTED, PADDING),
    Row::new(TDX_QUOTE, "tdx-padding-not-zero", ACCEPTED, PADDING),
    Row::new(TDX_QUOTE, "tdx-quote-truncated", ACCEPTED, LENGTHS),
    Row::new(TDX_QUOTE, "tdx-certification-length", ACCEPTED, LENGTHS),
    Row::new(TDX_QUOTE, "tdx-certification-type", ACCEPTED, LENGTHS),
    Row::new(TDX_QUOTE, "tdx-tee-type", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-qe-vendor", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-certificate-expired", ACCEPTED, PROFILE),
    Row::new(TDX_QUOTE, "tdx-certificate-not-yet-valid", ACCEPTED, PROFILE),
    Row::new(TDX_QUOTE, "tdx-certificate-is-an-authority", ACCEPTED, PROFILE),
    Row::new(TDX_QUOTE, "tdx-certificate-not-an-authority", ACCEPTED, PROFILE),
    Row::new(TDX_QUOTE, "tdx-certificate-issuer", ACCEPTED, PROFILE),
    Row::new(TDX_QUOTE, "tdx-certificate-name", ACCEPTED, PROFILE),
    Row::new(TDX_QUOTE, "tdx-pck-chain-count", ACCEPTED, CHAIN),
    Row::new(TDX_QUOTE, "tdx-root-mismatch", ACCEPTED, CHAIN),
    Row::new(TDX_QUOTE, "tdx-module-attributes", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-module-signer", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-module-unknown", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-qe-attributes", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-qe-miscselect", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-qe-product", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-qe-signer", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-qe-report-data-tail", ACCEPTED, TAIL),
    Row::new(TDX_QUOTE, "tdx-tcb-not-supported", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-tcb-revoked", ACCEPTED, ALONE),
];

/// On genuine quotes with bytes changed.
const BYTES: &[Row] = &[
    Row::new(DCAP_QVL, "tdx-certification-length", ACCEPTED, LENGTHS),
    Row::new(DCAP_QVL, "tdx-certification-type", ACCEPTED, LENGTHS),
    Row::new(DCAP_QVL, "tdx-padding-not-zero", ACCEPTED, PADDING),
    Row::new(DCAP_QVL, "tdx-certificate-malformed", ACCEPTED, CHAIN),
    Row::new(DCAP_QVL, "tdx-pck-chain-count", ACCEPTED, CHAIN),
    Row::new(DCAP_QVL, "tdx-pck-chain-malformed", ACCEPTED, CHAIN),
    Row::new(DCAP_QVL, "tdx-root-mismatch", ACCEPTED, CHAIN),
    Row::new(TDX_QUOTE, ACCEPTED, "Cannot parse PCK certificate", CHAIN),
    Row::new(TDX_QUOTE, ACCEPTED, "Cannot verify PCK certificate", CHAIN),
    Row::new(TDX_QUOTE_5, ACCEPTED, "Signature is invalid", VERSION_5),
    Row::new(TDX_QUOTE, "tdx-quote-truncated", ACCEPTED, LENGTHS),
    Row::new(TDX_QUOTE, "tdx-certification-length", ACCEPTED, LENGTHS),
    Row::new(TDX_QUOTE, "tdx-padding-not-zero", ACCEPTED, PADDING),
    Row::new(TDX_QUOTE, "tdx-pck-chain-malformed", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-pck-chain-count", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-root-mismatch", ACCEPTED, CHAIN),
    Row::new(TDX_QUOTE, "tdx-certificate-malformed", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-certificate-name", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-certificate-issuer", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-certificate-profile", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-certificate-not-an-authority", ACCEPTED, ALONE),
    Row::new(TDX_QUOTE, "tdx-certificate-signature", ACCEPTED, ALONE),
];

/// On real quotes.
const REAL: &[Row] = &[
    Row::new(DCAP_QVL, ACCEPTED, "SEPT_VE_DISABLE is not enabled", POLICY),
    Row::new(TDX_QUOTE_5, ACCEPTED, "Cannot parse quote", VERSION_5),
    Row::new(TDX_QUOTE_5, ACCEPTED, "Signature is invalid", VERSION_5),
    Row::new(TDX_QUOTE, "tdx-certificate-not-yet-valid", ACCEPTED, PROFILE),
    Row::new(TDX_QUOTE, "tdx-tcb-not-supported", ACCEPTED, ALONE),
];

/// Both peers beside ours.
fn compare(table: &mut Table, case: &Case) {
    let ours = case.judge();
    table.compare(&case.name, DCAP_QVL, &ours, &dcap_qvl(case));
    compare_quote(table, case, &ours);
}

/// The peer that judges collateral.
fn compare_collateral(table: &mut Table, case: &Case) {
    table.compare(&case.name, DCAP_QVL, &case.judge(), &dcap_qvl(case));
}

/// The peer that judges none.
fn compare_quote(table: &mut Table, case: &Case, ours: &differential::Verdict) {
    let key = coordinates(&SoftTdx::new().key(Role::Pck));
    let soft = matches!(case.root, Root::Soft(_)).then_some(&key);
    let peer = if case.quote.first() == Some(&5) { TDX_QUOTE_5 } else { TDX_QUOTE };
    table.compare(&case.name, peer, ours, &tdx_quote(case, soft));
}

fn finish(table: &Table) {
    println!("{} pairs of verdicts, {} accepted by both", table.compared, table.accepted);
}

/// A change in a quote before it is signed.
type QuoteChange = (&'static str, fn(&mut Quote));

const QUOTES: &[QuoteChange] = &[
    ("genuine", |_| ()),
    ("version 3", |quote| quote.header.version = 3),
    ("version 6", |quote| quote.header.version = 6),
    ("key type 3", |quote| quote.header.key_type = 3),
    ("TEE type SGX", |quote| quote.header.tee_type = 0),
    ("another vendor", |quote| quote.header.vendor[0] ^= 1),
    ("reserved header bytes", |quote| quote.header.reserved = [1; 4]),
    ("user data", |quote| quote.header.user_data = [7; 20]),
    ("debug", |quote| quote.body.td_attributes |= TdAttributes::DEBUG),
    ("no SEPT_VE_DISABLE", |quote| quote.body.td_attributes = 0),
    ("migratable", |quote| quote.body.td_attributes |= 1 << 29),
    ("an unknown TD attribute", |quote| quote.body.td_attributes |= 1 << 40),
    ("SEAM attributes", |quote| quote.body.seam_attributes = 1),
    ("a module's signer", |quote| quote.body.mrsignerseam[0] = 1),
    ("module of unknown major version", |quote| quote.body.tee_tcb_svn[1] = 2),
    ("module of major version 0", |quote| quote.body.tee_tcb_svn[1] = 0),
    ("module of SVN 1", |quote| quote.body.tee_tcb_svn[0] = 1),
    ("revoked module", |quote| quote.body.tee_tcb_svn[0] = 3),
    ("older module", |quote| quote.body.tee_tcb_svn[0] = 7),
    ("late microcode of yesterday", |quote| quote.body.tee_tcb_svn[2] -= 1),
    ("late microcode of the past", |quote| quote.body.tee_tcb_svn[2] = 0),
    ("measurements", |quote| {
        quote.body.mrtd = [1; 48];
        quote.body.mrconfigid = [2; 48];
        quote.body.mrowner = [3; 48];
        quote.body.mrownerconfig = [4; 48];
        quote.body.rtmrs = [[5; 48], [6; 48], [7; 48], [8; 48]];
        quote.body.report_data = [9; 64];
    }),
    ("another key stated", |quote| quote.stated_key = Some([7; 64])),
    ("QE report data of another key", |quote| quote.qe_report.report_data = Some([7; 64])),
    ("a tail in the QE report data", |quote| {
        let mut binding = quote.binding();
        binding[63] = 1;
        quote.qe_report.report_data = Some(binding);
    }),
    ("no QE authentication data", |quote| quote.qe_auth_data.clear()),
    ("31 bytes of QE authentication data", |quote| {
        let _ = quote.qe_auth_data.pop();
    }),
    ("64 bytes of QE authentication data", |quote| quote.qe_auth_data = vec![3; 64]),
    ("QE of SVN 7", |quote| quote.qe_report.isv_svn = 7),
    ("QE of SVN 5", |quote| quote.qe_report.isv_svn = 5),
    ("QE of another product", |quote| quote.qe_report.isv_prod_id = 1),
    ("QE of another signer", |quote| quote.qe_report.mrsigner[0] ^= 1),
    ("QE under debug", |quote| quote.qe_report.attributes[0] |= 2),
    ("QE MISCSELECT", |quote| quote.qe_report.misc_select = 1),
    ("QE report by another key", |quote| quote.qe_signer = quote.attestation_key.clone()),
    ("outer type 5", |quote| quote.outer.kind = 5),
    ("inner type 4", |quote| quote.inner.kind = 4),
    ("inner type 1", |quote| quote.inner.kind = 1),
    ("inner size too small", |quote| quote.inner.size = Some(100)),
    ("inner size too large", |quote| quote.inner.size = Some(100_000)),
    ("outer size too small", |quote| quote.outer.size = Some(500)),
    ("outer size too large", |quote| quote.outer.size = Some(100_000)),
    ("section size too small", |quote| quote.section_size = Some(600)),
    ("section size too large", |quote| quote.section_size = Some(100_000)),
    ("authentication size too large", |quote| quote.qe_auth_size = Some(60_000)),
    ("bytes behind the inner data", |quote| quote.behind_inner = vec![0; 4]),
    ("bytes behind the outer data", |quote| quote.behind_outer = vec![0; 4]),
    ("zero padding", |quote| quote.padding = vec![0; 70]),
    ("other padding", |quote| quote.padding = vec![1; 70]),
    ("much zero padding", |quote| quote.padding = vec![0; 15_000]),
    ("a chain without its NUL", |quote| {
        let _ = quote.certification.pop();
    }),
    ("a chain with two NULs", |quote| quote.certification.push(0)),
    ("a chain with text before it", |quote| drop(quote.certification.splice(0..0, *b"text\n"))),
    ("no chain", |quote| quote.certification.clear()),
];

const SIGNATURES: [SignatureFlaw; 4] = [SignatureFlaw::None, SignatureFlaw::FlippedR, SignatureFlaw::FlippedS, SignatureFlaw::ZeroR];

#[test]
fn verdicts_on_soft_quotes_differ_only_as_listed() {
    let mut table = Table::new(ROWS);
    let platform = SoftTdx::new();
    let genuine = Case::soft("genuine", &platform);
    for (name, change) in QUOTES {
        let quote = platform.quote().with(change).bytes();
        compare(&mut table, &genuine.with(name, |case| case.quote = quote));
        // The same in a version 5 quote with a TD 1.5 report, where the header's version is not what is changed.
        let newer = platform.quote().with(|quote| (quote.header.version, quote.body.kind) = (5, TdReportKind::Td15)).with(change).bytes();
        compare(&mut table, &genuine.with(&format!("{name}, version 5"), |case| case.quote = newer));
    }
    for flaw in SIGNATURES {
        let quote = platform.quote().with(|quote| quote.signature = flaw).bytes();
        compare(&mut table, &genuine.with(&format!("quote signature {flaw:?}"), |case| case.quote = quote));
        let quote = platform.quote().with(|quote| quote.qe_signature = flaw).bytes();
        compare(&mut table, &genuine.with(&format!("QE report signature {flaw:?}"), |case| case.quote = quote));
    }
    for kind in [TdReportKind::Td10, TdReportKind::Td15, TdReportKind::Td15Ex] {
        let newer = |change: fn(&mut Quote)| platform.guest(TdShape::version_5(kind)).quote.with(change).bytes();
        let changes: [QuoteChange; 5] = [
            ("genuine", |_| ()),
            ("another descriptor type", |quote| quote.descriptor = Some((1, 384))),
            ("another descriptor size", |quote| quote.descriptor = Some((quote.body.kind.body_type(), 1))),
            ("service TD", |quote| quote.body.mrservicetd = [7; 48]),
            ("updated under the TD", |quote| (quote.body.tee_tcb_svn[0], quote.body.tee_tcb_svn_2[0]) = (7, 11)),
        ];
        for (name, change) in changes {
            let quote = newer(change);
            compare(&mut table, &genuine.with(&format!("{name}, {kind:?}"), |case| case.quote = quote));
        }
    }
    collateral(&mut table, &platform, &genuine);
    certificates(&mut table, &platform, &genuine);
    finish(&table);
    table.close();
}

/// A change in a document before it is signed.
type InfoChange = (&'static str, fn(&mut TcbInfo));
type IdentityChange = (&'static str, fn(&mut QeIdentity));

const INFOS: &[InfoChange] = &[
    ("genuine", |_| ()),
    ("id SGX", |info| info.id = "SGX".to_owned()),
    ("version 2", |info| info.version = 2),
    ("version 4", |info| info.version = 4),
    ("issued tomorrow", |info| info.issued = differential::ours::NOW + 86_400),
    ("lapsed yesterday", |info| info.next_update = differential::ours::NOW - 86_400),
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
    ("issued tomorrow", |identity| identity.issued = differential::ours::NOW + 86_400),
    ("lapsed yesterday", |identity| identity.next_update = differential::ours::NOW - 86_400),
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

/// Documents and lists with one thing wrong, signed by whoever should.
fn collateral(table: &mut Table, platform: &SoftTdx, genuine: &Case) {
    for (name, change) in INFOS {
        let body = platform.tcb_info_body(change);
        compare_collateral(table, &genuine.with(&format!("TCB info: {name}"), |case| case.bundle.set_tcb_info(&body)));
    }
    for (name, change) in IDENTITIES {
        let body = platform.qe_identity_body(change);
        compare_collateral(table, &genuine.with(&format!("QE identity: {name}"), |case| case.bundle.set_qe_identity(&body)));
    }
    for flaw in SIGNATURES {
        let body = platform.tcb_info_document(&platform.tcb_info()).with(|document| document.signature = flaw).bytes();
        compare_collateral(table, &genuine.with(&format!("TCB info signature {flaw:?}"), |case| case.bundle.set_tcb_info(&body)));
        let body = platform.qe_identity_document(&platform.qe_identity()).with(|document| document.signature = flaw).bytes();
        compare_collateral(table, &genuine.with(&format!("QE identity signature {flaw:?}"), |case| case.bundle.set_qe_identity(&body)));
    }
    // The text broken before it is signed.
    let texts = [
        ("a key twice", "\"version\":3", "\"version\":3,\"version\":3"),
        ("an unknown key", "\"version\":3", "\"version\":3,\"unheard\":[1]"),
        ("space between", "\"version\":3", "\"version\" : 3"),
        ("a number as text", "\"version\":3", "\"version\":\"3\""),
        ("a time with fractions", "\"issueDate\":\"", "\"issueDate\":\" "),
    ];
    for (name, part, by) in texts {
        let body = platform.tcb_info_document(&platform.tcb_info()).replacing(part, by).bytes();
        compare_collateral(table, &genuine.with(&format!("TCB info: {name}"), |case| case.bundle.set_tcb_info(&body)));
    }
    let (root, authority) = (Role::Root, Role::PckAuthority(PckAuthority::Platform));
    let lists: [(&str, fn(&mut Case, Vec<u8>), Vec<u8>); 8] = [
        ("the PCK certificate revoked", |case, list| case.bundle.pck_list = list, platform.pck_list_der(&[platform.serial(Role::Pck)])),
        ("another PCK certificate revoked", |case, list| case.bundle.pck_list = list, platform.pck_list_der(&[vec![7; 20]])),
        ("the authority revoked", |case, list| case.bundle.root_list = list, platform.root_list_der(&[platform.serial(authority)])),
        ("the TCB signer revoked", |case, list| case.bundle.root_list = list, platform.root_list_der(&[platform.serial(Role::TcbSigner)])),
        ("the root revoked", |case, list| case.bundle.root_list = list, platform.root_list_der(&[platform.serial(root)])),
        ("the root's list lapsed", |case, list| case.bundle.root_list = list, platform.root_list_with(lapsed)),
        ("the authority's list lapsed", |case, list| case.bundle.pck_list = list, platform.pck_list_with(lapsed)),
        ("the root's list in the authority's place", |case, list| case.bundle.pck_list = list, platform.root_list_der(&[])),
    ];
    for (name, place, list) in lists {
        compare_collateral(table, &genuine.with(name, |case| place(case, list)));
    }
}

fn lapsed(list: &mut testbed::tdx::RevocationList) {
    list.next_update = Some(differential::ours::NOW - 86_400);
}

/// Certificates of the right authority with one thing wrong.
fn certificates(table: &mut Table, platform: &SoftTdx, genuine: &Case) {
    let quoted = |chain: &[Vec<u8>]| {
        let certification = [pem::chain(chain).as_bytes(), &[0]].concat();
        platform.quote().with(|quote| quote.certification = certification).bytes()
    };
    let changes: [(&str, fn(&mut Certificate)); 6] = [
        ("out of date", |certificate| certificate.valid.not_after = certificate.valid.not_before + 1),
        ("not valid yet", |certificate| certificate.valid.not_before = differential::ours::NOW + 86_400),
        ("another name", |certificate| certificate.subject.common_name.push_str(" 2")),
        ("another issuer", |certificate| certificate.issuer.common_name.push_str(" 2")),
        ("an authority of path length 0", |certificate| certificate.set_basic_constraints(BasicConstraints::PathLength(0))),
        ("no authority", |certificate| certificate.set_basic_constraints(BasicConstraints::NotAuthority)),
    ];
    for (name, change) in changes {
        let chain = |place: usize, der: Vec<u8>| {
            let mut chain = platform.pck_chain();
            chain[place] = der;
            quoted(&chain)
        };
        let pck = chain(0, platform.pck_with(change));
        compare(table, &genuine.with(&format!("PCK certificate: {name}"), |case| case.quote = pck));
        let authority = chain(1, platform.pck_authority_with(change));
        compare(table, &genuine.with(&format!("PCK authority: {name}"), |case| case.quote = authority));
        let signer = pem::chain(&[platform.tcb_signer_with(change), platform.root_der()]);
        compare_collateral(table, &genuine.with(&format!("TCB signer: {name}"), |case| case.bundle.tcb_info_issuer_chain = signer.clone()));
        compare_collateral(
            table,
            &genuine.with(&format!("QE identity's signer: {name}"), |case| case.bundle.qe_identity_issuer_chain = signer),
        );
    }
    let [pck, authority, root] = platform.pck_chain().try_into().unwrap();
    let chains: [(&str, Vec<Vec<u8>>); 6] = [
        ("no root", vec![pck.clone(), authority.clone()]),
        ("no authority", vec![pck.clone(), root.clone()]),
        ("the leaf alone", vec![pck.clone()]),
        ("in another order", vec![authority.clone(), pck.clone(), root.clone()]),
        ("with a fourth certificate", vec![pck.clone(), authority.clone(), root.clone(), root.clone()]),
        ("with another root", vec![pck, authority, SoftTdx::new().under(testbed::tdx::Root::Other).root_der()]),
    ];
    for (name, chain) in chains {
        let quote = quoted(&chain);
        compare(table, &genuine.with(&format!("chain {name}"), |case| case.quote = quote));
    }
    // Documents that a PCK certificate's key signed, under a chain that is genuine.
    let by_pck = platform.tcb_info_document(&platform.tcb_info()).with(|document| document.signer = platform.key(Role::Pck)).bytes();
    let chain = pem::chain(&platform.pck_chain());
    let signed = genuine.with("TCB info by the PCK", |case| {
        case.bundle.set_tcb_info(&by_pck);
        case.bundle.tcb_info_issuer_chain = chain;
    });
    compare_collateral(table, &signed);
    let by_root = platform.tcb_info_document(&platform.tcb_info()).with(|document| document.signer = platform.key(Role::Root)).bytes();
    let chain = pem::chain(&[platform.root_der()]);
    let signed = genuine.with("TCB info by the root", |case| {
        case.bundle.set_tcb_info(&by_root);
        case.bundle.tcb_info_issuer_chain = chain;
    });
    compare_collateral(table, &signed);
    let impostor = SoftTdx::new().under(testbed::tdx::Root::Other);
    let forged = Case::soft("everything under another root", &impostor)
        .with("everything under another root", |case| case.root = genuine.root.clone());
    compare(table, &forged);
    for processor in [SoftTdx::new().certified_by(PckAuthority::Processor), SoftTdx::new().with(|machine| machine.components[0] -= 1)] {
        let case = Case::soft("another machine", &processor);
        compare_collateral(table, &case);
    }
}

#[test]
fn verdicts_on_changed_bytes_differ_only_as_listed() {
    let mut table = Table::new(BYTES);
    let platform = SoftTdx::new();
    for shape in [TdShape::default(), TdShape::version_5(TdReportKind::Td15)] {
        let quote = platform.guest(shape).attest(&[7; 64]).quote;
        let genuine = Case::soft("genuine", &platform).with("genuine", |case| case.quote = quote);
        bytes(&mut table, &genuine);
    }
    let folder = folder();
    if let Some(folder) = &folder {
        let genuine = |part: &str| cases(folder).into_iter().find(|case| case.name.contains(part) && case.judge().is_accepted()).unwrap();
        bytes(&mut table, &genuine("v4-google-cos113"));
        bytes(&mut table, &genuine("v5-openenclave"));
    }
    finish(&table);
    table.explained();
    if folder.is_some() {
        table.close();
    }
}

/// Every byte of the quote changed in one bit up to the chain, some of the chain's; and the quote cut at every field's end and elsewhere.
fn bytes(table: &mut Table, genuine: &Case) {
    compare(table, genuine);
    let length = genuine.quote.len();
    for position in (0..1300).chain((1300..length).step_by(13)) {
        let changed = genuine.with(&format!("byte {position:#x}"), |case| case.quote[position] ^= 1 << (position % 8));
        compare(table, &changed);
    }
    for cut in (0..1300).step_by(11).chain((1300..length).step_by(97)).chain([47, 48, 49, 631, 632, 633, 636, 637, length - 1]) {
        compare(table, &genuine.with(&format!("cut to {cut}"), |case| case.quote.truncate(cut)));
    }
    for more in [1, 70, 3000] {
        compare(table, &genuine.with(&format!("{more} zero bytes behind"), |case| case.quote.resize(length + more, 0)));
        compare(table, &genuine.with(&format!("{more} other bytes behind"), |case| case.quote.resize(length + more, 7)));
    }
}

#[test]
fn verdicts_on_real_quotes_differ_only_as_listed() {
    let Some(folder) = folder() else { return };
    let mut table = Table::new(REAL);
    for case in cases(&folder) {
        compare(&mut table, &case);
    }
    finish(&table);
    table.close();
}

#[test]
fn a_row_names_a_code_of_ours_or_acceptance_or_a_field_and_a_rule_of_the_page() {
    [ROWS, BYTES, REAL].into_iter().for_each(rules_are_written);
    for row in ROWS.iter().chain(BYTES).chain(REAL) {
        let known = row.ours == ACCEPTED || TdxRejection::CODES.contains(&row.ours) || ["status", "advisories"].contains(&row.ours);
        assert!(known, "{row:?}");
    }
}
