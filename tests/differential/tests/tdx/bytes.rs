//! Genuine quotes with bytes changed, cut and added. A case is named by where it is changed.

use differential::evidence::{cases, folder};
use differential::ours::Case;
use differential::peers::{QUOTE_VERIFIER, QUOTE_VERIFIER_BY_KEY, WHOLE_VERIFIER};
use differential::{Row, Table};
use testbed::tdx::{SoftTdx, TdReportKind, TdShape};

use crate::rules::{ALONE, CHAIN, LENGTHS, PADDING};
use crate::{compare, finish};

/// Under a soft root.
pub const SOFT: &[Row] = &[
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-certificate-issuer", ALONE, &["v4: PCK authority", "v4: PCK certificate"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-certificate-malformed", ALONE, &["v4: PCK authority", "v4: PCK certificate", "v4: root"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-certificate-name", ALONE, &["v4: PCK authority", "v4: PCK certificate"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-certificate-not-an-authority", ALONE, &["v4: PCK authority"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-certificate-profile", ALONE, &["v4: PCK authority", "v4: PCK certificate"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-certificate-signature", ALONE, &["v4: PCK authority", "v4: PCK certificate"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-certification-length", LENGTHS, &["v4: inner size"]),
    Row::refused(
        QUOTE_VERIFIER_BY_KEY,
        "tdx-padding-not-zero",
        PADDING,
        &["v4: 1 other bytes behind", "v4: 3000 other bytes behind", "v4: 70 other bytes behind"],
    ),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-pck-chain-count", ALONE, &["v4: PCK certificate", "v4: root"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-pck-chain-malformed", ALONE, &["v4: PCK authority", "v4: PCK certificate", "v4: root"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-quote-truncated", LENGTHS, &["v4: section size"]),
    Row::refused(QUOTE_VERIFIER_BY_KEY, "tdx-root-mismatch", ALONE, &["v4: root"]),
    Row::refused(WHOLE_VERIFIER, "tdx-certificate-malformed", CHAIN, &["v4: root", "v5: root"]),
    Row::refused(WHOLE_VERIFIER, "tdx-certification-length", LENGTHS, &["v4: inner size"]),
    Row::refused(WHOLE_VERIFIER, "tdx-certification-type", LENGTHS, &["v4: outer type", "v5: outer type"]),
    Row::refused(
        WHOLE_VERIFIER,
        "tdx-padding-not-zero",
        PADDING,
        &[
            "v4: 1 other bytes behind",
            "v4: 3000 other bytes behind",
            "v4: 70 other bytes behind",
            "v5: 1 other bytes behind",
            "v5: 3000 other bytes behind",
            "v5: 70 other bytes behind",
        ],
    ),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-chain-count", CHAIN, &["v4: root", "v5: PCK authority"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-chain-malformed", CHAIN, &["v4: root", "v5: root"]),
    Row::refused(WHOLE_VERIFIER, "tdx-root-mismatch", CHAIN, &["v4: root", "v5: root"]),
];

/// Under Intel's.
pub const REAL: &[Row] = &[
    Row::accepted(QUOTE_VERIFIER, "Cannot parse PCK certificate", CHAIN, &["v4: root"]),
    Row::accepted(QUOTE_VERIFIER, "Cannot verify PCK certificate", CHAIN, &["v4: root"]),
    Row::refused(QUOTE_VERIFIER, "tdx-certification-length", LENGTHS, &["v4: inner size"]),
    Row::refused(
        QUOTE_VERIFIER,
        "tdx-padding-not-zero",
        PADDING,
        &["v4: 1 other bytes behind", "v4: 3000 other bytes behind", "v4: 70 other bytes behind", "v4: section size"],
    ),
    Row::refused(QUOTE_VERIFIER, "tdx-pck-chain-count", CHAIN, &["v4: root"]),
    Row::refused(QUOTE_VERIFIER, "tdx-pck-chain-malformed", CHAIN, &["v4: root"]),
    Row::refused(QUOTE_VERIFIER, "tdx-quote-truncated", LENGTHS, &["v4: section size"]),
    Row::refused(WHOLE_VERIFIER, "tdx-certificate-malformed", CHAIN, &["v4: root", "v5: root"]),
    Row::refused(WHOLE_VERIFIER, "tdx-certification-length", LENGTHS, &["v4: inner size"]),
    Row::refused(WHOLE_VERIFIER, "tdx-certification-type", LENGTHS, &["v4: outer type", "v5: outer type"]),
    Row::refused(
        WHOLE_VERIFIER,
        "tdx-padding-not-zero",
        PADDING,
        &[
            "v4: 1 other bytes behind",
            "v4: 3000 other bytes behind",
            "v4: 70 other bytes behind",
            "v5: 1 other bytes behind",
            "v5: 3000 other bytes behind",
            "v5: 70 other bytes behind",
        ],
    ),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-chain-count", CHAIN, &["v4: root", "v5: PCK authority"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-chain-malformed", CHAIN, &["v4: root", "v5: root"]),
    Row::refused(WHOLE_VERIFIER, "tdx-root-mismatch", CHAIN, &["v4: root", "v5: root"]),
];

#[test]
fn verdicts_on_changed_bytes_of_soft_quotes_differ_only_as_listed() {
    let (mut table, platform) = (Table::new(SOFT), SoftTdx::new());
    for shape in [TdShape::default(), TdShape::version_5(TdReportKind::Td15)] {
        let quote = platform.guest(shape).attest(&[7; 64]).quote;
        bytes(&mut table, &Case::soft("genuine", &platform).with("genuine", |case| case.quote = quote));
    }
    finish(&table);
}

#[test]
fn verdicts_on_changed_bytes_of_real_quotes_differ_only_as_listed() {
    let Some(folder) = folder() else { return };
    let mut table = Table::new(REAL);
    let genuine = |part: &str| cases(&folder).into_iter().find(|case| case.name.contains(part) && case.judge().is_accepted()).unwrap();
    bytes(&mut table, &genuine("v4-google-cos113"));
    bytes(&mut table, &genuine("v5-openenclave"));
    finish(&table);
}

/// The parts of a quote, each by its first byte.
fn parts(quote: &[u8]) -> Vec<(usize, &'static str)> {
    let body = if quote[0] == 5 { 54 } else { 48 };
    let length = if quote[0] == 5 { u32::from_le_bytes(quote[50..54].try_into().unwrap()) as usize } else { 584 };
    let section = body + length + 4;
    let chain = section + 134 + 384 + 64 + 2 + 32 + 6;
    let end = section + u32::from_le_bytes(quote[section - 4..section].try_into().unwrap()) as usize;
    let mut parts = vec![
        (0, "header"),
        (body, "report"),
        (section - 4, "section size"),
        (section, "quote signature"),
        (section + 64, "attestation key"),
        (section + 128, "outer type"),
        (section + 130, "outer size"),
        (section + 134, "QE report"),
        (section + 518, "QE signature"),
        (section + 582, "authentication size"),
        (section + 584, "authentication data"),
        (chain - 6, "inner type"),
        (chain - 4, "inner size"),
    ];
    let marker = b"-----BEGIN CERTIFICATE-----";
    let text = quote.windows(marker.len()).enumerate().filter(|(_, window)| window == marker).map(|(place, _)| place);
    parts.extend(text.zip(["PCK certificate", "PCK authority", "root"]));
    parts.push((end, "padding"));
    parts
}

/// Every byte of the quote changed in one bit up to the chain, some of the chain's; and the quote cut at every field's end and elsewhere.
fn bytes(table: &mut Table, genuine: &Case) {
    let (length, version, parts) = (genuine.quote.len(), genuine.quote[0], parts(&genuine.quote));
    let part = |position: usize| parts.iter().rev().find(|(first, _)| *first <= position).unwrap().1;
    compare(table, genuine);
    for position in (0..1300).chain((1300..length).step_by(13)) {
        let name = format!("v{version}: {} @ byte {position:#x}", part(position));
        compare(table, &genuine.with(&name, |case| case.quote[position] ^= 1 << (position % 8)));
    }
    for cut in (0..1300).step_by(11).chain((1300..length).step_by(97)).chain([47, 48, 49, 631, 632, 633, 636, 637, length - 1]) {
        let name = format!("v{version}: cut in {} @ {cut}", part(cut));
        compare(table, &genuine.with(&name, |case| case.quote.truncate(cut)));
    }
    for more in [1, 70, 3000] {
        let name = format!("v{version}: {more} zero bytes behind");
        compare(table, &genuine.with(&name, |case| case.quote.resize(length + more, 0)));
        let name = format!("v{version}: {more} other bytes behind");
        compare(table, &genuine.with(&name, |case| case.quote.resize(length + more, 7)));
    }
}
