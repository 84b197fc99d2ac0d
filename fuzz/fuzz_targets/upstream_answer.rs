//! Answers of the vendors' services: bodies in DER, PEM and hex digits, and issuer chains in percent-encoded headers.
//!
//! Input: a byte that chooses what was asked for, a byte that says where the header's value ends, then that value and the body.

#![no_main]

use attestation::{PckAuthority, ProductLine, SigningKeyKind, VcekName};
use broker::collateral::{PieceKey, RawPiece};
use broker::feed::upstream;
use hyper::header::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use testbed::tdx::pem;

fuzz_target!(|data: &[u8]| {
    let [choice, at, rest @ ..] = data else { return };
    let (value, body) = rest.split_at(rest.len() * usize::from(*at) / 256);
    let (key, header) = asked(*choice);
    let headers = |value: &[u8]| -> HeaderMap {
        header.zip(HeaderValue::from_bytes(value).ok()).map(|(name, value)| (name.parse().expect("a name"), value)).into_iter().collect()
    };
    let read = |value: &[u8], body: &[u8]| upstream::read(&key, &headers(value), body.to_vec());
    let Ok(RawPiece { bytes, issuer_chain }) = read(value, body) else { return };
    assert!(!body.is_empty());
    // Whatever its header says in escapes, it says in other escapes.
    if !issuer_chain.is_empty() {
        let escaped: String = issuer_chain.iter().map(|byte| format!("%{byte:02x}")).collect();
        assert_eq!(read(escaped.as_bytes(), body).map(|again| again.issuer_chain), Ok(issuer_chain.clone()));
        assert!(value.contains(&b'%') || value == issuer_chain);
    }
    match key {
        // What was signed, and DER that nobody writes otherwise, are as they came.
        PieceKey::TcbInfo(_) | PieceKey::QeIdentity | PieceKey::AmdCrl(_) | PieceKey::Vcek(_) => assert_eq!(bytes, body),
        PieceKey::AmdAuthority(..) => {
            let again = read(&[], pem::chain(&[body.to_vec()]).as_bytes());
            assert_eq!(again.map(|piece| piece.bytes).as_deref(), Ok(body));
        }
        // A list is the same in each of its forms.
        PieceKey::PckCrl(_) | PieceKey::RootCrl => {
            let hex: String = body.iter().map(|byte| format!("{byte:02X}")).collect();
            let in_pem = pem::chain(&[body.to_vec()]).replace("CERTIFICATE", "X509 CRL");
            for text in [hex.clone(), hex.to_lowercase(), format!("\"{hex}\"\n"), in_pem] {
                assert_eq!(read(&[], text.as_bytes()).map(|piece| piece.bytes).as_deref(), Ok(body));
            }
        }
    }
});

/// What a byte of input stands for, and the header in which its issuer chain comes.
fn asked(choice: u8) -> (PieceKey, Option<&'static str>) {
    match choice % 9 {
        0 => (PieceKey::TcbInfo([0; 6]), Some("tcb-info-issuer-chain")),
        1 => (PieceKey::TcbInfo([1; 6]), Some("sgx-tcb-info-issuer-chain")),
        2 => (PieceKey::QeIdentity, Some("sgx-enclave-identity-issuer-chain")),
        3 => (PieceKey::QeIdentity, Some("sgx-qe-identity-issuer-chain")),
        4 => (PieceKey::PckCrl(PckAuthority::Platform), Some("sgx-pck-crl-issuer-chain")),
        5 => (PieceKey::RootCrl, None),
        6 => (PieceKey::AmdAuthority(ProductLine::Milan, SigningKeyKind::Vcek), None),
        7 => (PieceKey::AmdCrl(ProductLine::Genoa), None),
        _ => (PieceKey::Vcek(VcekName::new(ProductLine::Milan, [7; 64], [0; 8]).expect("a name")), None),
    }
}
