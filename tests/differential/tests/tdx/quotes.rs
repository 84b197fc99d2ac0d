//! Soft quotes, each wrong or unusual in one thing and signed all the same.

use differential::ours::Case;
use differential::peers::{QUOTE_VERIFIER_BY_KEY, WHOLE_VERIFIER};
use differential::{Row, Table};
use testbed::tdx::{Quote, SignatureFlaw, SoftTdx, TdAttributes, TdReportKind, TdShape};

use crate::rules::{ALONE, BOUND, LENGTHS, PADDING, POLICY, TAIL};
use crate::{compare, finish};

pub const ROWS: &[Row] = &[
    Row::refused(
        QUOTE_VERIFIER_BY_KEY,
        "tdx-certification-length",
        LENGTHS,
        &["bytes behind the inner data", "bytes behind the outer data", "inner size too small"],
    ),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-certification-type", LENGTHS, &["inner type 1", "inner type 4"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-module-attributes", ALONE, &["SEAM attributes"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-module-signer", ALONE, &["a module's signer"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-module-unknown", ALONE, &["module of unknown major version"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-padding-not-zero", PADDING, &["other padding", "section size too small"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-pck-chain-count", ALONE, &["no chain"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-qe-attributes", ALONE, &["QE under debug"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-qe-miscselect", ALONE, &["QE MISCSELECT"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-qe-product", ALONE, &["QE of another product"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-qe-report-data-tail", TAIL, &["a tail in the QE report data"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-qe-signer", ALONE, &["QE of another signer"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-qe-vendor", ALONE, &["another vendor"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-quote-too-long", PADDING, &["much zero padding"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-quote-truncated", LENGTHS, &["section size too large"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-tcb-not-supported", ALONE, &["QE of SVN 5", "late microcode of the past", "module of SVN 1"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-tcb-revoked", ALONE, &["revoked module"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-tee-type", ALONE, &["TEE type SGX"]),
    Row::accepted(
        WHOLE_VERIFIER,
        "Invalid QE auth data length",
        BOUND,
        &[
            "31 bytes of QE authentication data",
            "31 bytes of QE authentication data, version 5",
            "64 bytes of QE authentication data",
            "64 bytes of QE authentication data, version 5",
            "no QE authentication data",
            "no QE authentication data, version 5",
        ],
    ),
    Row::accepted(
        WHOLE_VERIFIER,
        "Reserved bits in TD attributes are set",
        POLICY,
        &["an unknown TD attribute", "an unknown TD attribute, version 5"],
    ),
    Row::accepted(WHOLE_VERIFIER, "SEPT_VE_DISABLE is not enabled", POLICY, &["no SEPT_VE_DISABLE", "no SEPT_VE_DISABLE, version 5"]),
    Row::accepted(WHOLE_VERIFIER, "TD migration is enabled", POLICY, &["migratable", "migratable, version 5"]),
    Row::refused(
        WHOLE_VERIFIER,
        "tdx-certification-length",
        LENGTHS,
        &[
            "bytes behind the inner data",
            "bytes behind the inner data, version 5",
            "bytes behind the outer data",
            "bytes behind the outer data, version 5",
        ],
    ),
    Row::refused(WHOLE_VERIFIER, "tdx-certification-type", LENGTHS, &["outer type 5", "outer type 5, version 5"]),
    Row::refused(WHOLE_VERIFIER, "tdx-padding-not-zero", PADDING, &["other padding", "other padding, version 5"]),
    Row::refused(
        WHOLE_VERIFIER,
        "tdx-qe-report-data-tail",
        TAIL,
        &["a tail in the QE report data", "a tail in the QE report data, version 5"],
    ),
    Row::refused(WHOLE_VERIFIER, "tdx-quote-too-long", PADDING, &["much zero padding", "much zero padding, version 5"]),
];

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
    let own = platform.quote().with(distinct).bytes();
    compare(&mut table, &genuine.with("every field of its own value", |case| case.quote = own));
    for kind in TdReportKind::ALL {
        let newer = |change: fn(&mut Quote)| platform.guest(TdShape::version_5(kind)).quote.with(change).bytes();
        let changes: [QuoteChange; 6] = [
            ("genuine", |_| ()),
            ("another descriptor type", |quote| quote.descriptor = Some((1, 384))),
            ("another descriptor size", |quote| quote.descriptor = Some((quote.body.kind.body_type(), 1))),
            ("service TD", |quote| quote.body.mrservicetd = [7; 48]),
            ("updated under the TD", |quote| (quote.body.tee_tcb_svn[0], quote.body.tee_tcb_svn_2[0]) = (7, 11)),
            ("every field of its own value", distinct),
        ];
        for (name, change) in changes {
            let quote = newer(change);
            compare(&mut table, &genuine.with(&format!("{name}, {kind:?}"), |case| case.quote = quote));
        }
    }
    finish(&table);
}

/// No two neighbours among the bytes of any field alike, and none zero, as far as the TCB allows.
fn distinct(quote: &mut Quote) {
    let mut number = 0u8;
    let mut fill = |fields: &mut [&mut [u8]]| {
        for byte in fields.iter_mut().flat_map(|field| field.iter_mut()) {
            number = number % 251 + 1;
            *byte = number;
        }
    };
    let mut numbers = [[0; 8]; 3];
    fill(&mut [&mut quote.header.user_data]);
    let body = &mut quote.body;
    fill(&mut [&mut body.mrseam, &mut body.mrtd, &mut body.mrconfigid, &mut body.mrowner, &mut body.mrownerconfig]);
    fill(&mut body.rtmrs.each_mut().map(<[u8; 48]>::as_mut_slice));
    fill(&mut [&mut body.report_data, &mut body.tee_tcb_svn[3..], &mut body.tee_tcb_svn_2[3..], &mut body.mrservicetd]);
    fill(&mut numbers.each_mut().map(<[u8; 8]>::as_mut_slice));
    let more = &mut body.extended;
    fill(&mut [std::slice::from_mut(&mut more.vm_id), &mut more.td_id, &mut more.device_info]);
    fill(&mut [&mut more.initial_service_td_hash, &mut more.current_service_td_hash]);
    fill(&mut [&mut more.initial_cpu_svn, &mut more.initial_tee_tcb_svn, &mut more.initial_fmspc]);
    let [xfam, initial, current] = numbers.map(u64::from_le_bytes);
    body.td_attributes |= TdAttributes::PKS | TdAttributes::PERFMON;
    body.xfam = xfam;
    (more.initial_service_td_attributes, more.current_service_td_attributes) = (initial, current);
}
