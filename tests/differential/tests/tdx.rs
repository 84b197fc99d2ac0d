//! TDX quotes: ours beside `dcap-qvl`, which judges collateral too, and `tdx-quote`, which judges the quote alone.

use attestation::TdxRejection;
use differential::evidence::{cases, folder};
use differential::ours::{Case, Root};
use differential::peers::{DCAP_QVL, TDX_QUOTE, dcap_qvl, tdx_quote};
use differential::{ACCEPTED, Row, Table};
use testbed::tdx::{
    BasicConstraints, Certificate, IsvLevel, ModuleIdentity, NEWEST_TCB, OLDEST_TCB, PckAuthority, Quote, QeIdentity, Role, SignatureFlaw, SoftTdx,
    Standing, TcbInfo, TdAttributes, TdReportKind, TdShape, coordinates, pem,
};

const ROWS: &[Row] = &[];

/// Both peers beside ours.
fn compare(table: &mut Table, case: &Case) {
    let ours = case.judge();
    table.compare(&case.name, DCAP_QVL, &ours, &dcap_qvl(case));
    compare_quote(table, case, &ours);
}

/// The peer that knows no collateral.
fn compare_quote(table: &mut Table, case: &Case, ours: &differential::Verdict) {
    let key = coordinates(&SoftTdx::new().key(Role::Pck));
    let soft = matches!(case.root, Root::Soft(_)).then_some(&key);
    table.compare(&case.name, TDX_QUOTE, ours, &tdx_quote(case, soft));
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
    ("31 bytes of QE authentication data", |quote| drop(quote.qe_auth_data.pop())),
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
    ("a chain without its NUL", |quote| drop(quote.certification.pop())),
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
            ("another descriptor type", |quote| quote.descriptor = Some((1, quote.body.bytes_len()))),
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
