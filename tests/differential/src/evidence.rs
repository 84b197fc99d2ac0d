//! Real quotes with real collateral, where there is a folder of evidence.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::ours::{Bundle, Case, Root};

/// The folder of evidence, where there is one.
#[must_use]
pub fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence"));
    if folder.join("vectors.json").is_file() {
        return Some(folder);
    }
    println!("skipped: no folder of evidence (set PORTCULLIS_EVIDENCE)");
    None
}

/// A file's bytes.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn read(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Every quote beside every collateral of its platform at that collateral's time, as `tdx-verdicts.csv` lists them.
///
/// # Panics
/// When the folder is not as its index says.
#[must_use]
pub fn cases(folder: &Path) -> Vec<Case> {
    let text = String::from_utf8(read(folder, "tdx-verdicts.csv")).expect("text");
    let rows = text.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    rows.map(|row| {
        let [quote, collateral, at, ..] = row[..] else { panic!("a row of {row:?}") };
        let bundle = bundle(folder, collateral);
        let name = format!("{} {}", quote.trim_start_matches("tdx/"), collateral.trim_start_matches("tdx/collateral/"));
        Case { name, quote: read(folder, quote), bundle, root: Root::Vendor, at: at.parse().expect("seconds") }
    })
    .collect()
}

/// Collateral in the one-file form.
fn bundle(folder: &Path, collateral: &str) -> Bundle {
    let json: Value = serde_json::from_slice(&read(folder, &format!("{collateral}/bundle.json"))).expect("JSON");
    let text = |key: &str| json[key].as_str().unwrap_or_else(|| panic!("{collateral}: {key}")).to_owned();
    let bytes = |key: &str| hex::decode(text(key)).expect("hex");
    Bundle {
        tcb_info: text("tcb_info"),
        tcb_info_signature: bytes("tcb_info_signature"),
        tcb_info_issuer_chain: text("tcb_info_issuer_chain"),
        qe_identity: text("qe_identity"),
        qe_identity_signature: bytes("qe_identity_signature"),
        qe_identity_issuer_chain: text("qe_identity_issuer_chain"),
        root_list: bytes("root_ca_crl"),
        pck_list: bytes("pck_crl"),
        pck_list_issuer_chain: text("pck_crl_issuer_chain"),
    }
}
