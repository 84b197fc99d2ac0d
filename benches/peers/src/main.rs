//! `attestation::verify` beside other verifiers on the same bytes: the `sev` crate on SNP reports, `dcap-qvl` on TD quotes.
//!
//! Goals: at least 4 times faster than `sev`; at least 4 times faster than `dcap-qvl` with collateral prepared and the chain cached, and
//! not slower with everything cold. `cargo run --release` in this folder; a name (`snp`, `tdx`) runs that one alone.

mod snp;
mod tdx;

use portcullis_benches::{insist_on_release, process};

const ROUNDS: usize = 21;
const OPERATIONS: u32 = 10;

fn main() {
    insist_on_release();
    println!("{}", process::machine());
    let named: Vec<String> = std::env::args().skip(1).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|argument| argument == name);
    if wanted("snp") {
        snp::measure();
    }
    if wanted("tdx") {
        tdx::measure();
    }
}
