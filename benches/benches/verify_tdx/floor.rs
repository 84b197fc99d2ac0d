//! The signatures that no verification of a TD quote can do without, cut out of the same bytes and checked alone.

use std::hint::black_box;

use attestation::{SignedBody, TdxCollateral};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ParsedPublicKey, VerificationAlgorithm};
use protocol::encoding::{from_base64, from_hex};

/// Nine signatures with their keys, everything parsed before.
pub struct Floor {
    /// Of the quoting enclave's report and of the quote: these two are of this TD alone.
    quote: [Signature; 2],
    /// Of PCK certificate and authority, both revocation lists, the documents' signer and both documents.
    rest: [Signature; 7],
}

struct Signature {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Signature {
    fn new(algorithm: &'static dyn VerificationAlgorithm, key: &[u8], message: &[u8], signature: &[u8]) -> Self {
        let key = ParsedPublicKey::new(algorithm, key).expect("a P-256 key");
        let one = Self { key, message: message.to_vec(), signature: signature.to_vec() };
        one.check();
        one
    }

    /// r and s, 32 bytes each.
    fn fixed(key: &[u8], message: &[u8], signature: &[u8]) -> Self {
        Self::new(&ECDSA_P256_SHA256_FIXED, key, message, signature)
    }

    /// A certificate or revocation list.
    fn of(der: &[u8], issuer: &[u8]) -> Self {
        let (content, _) = element(der);
        let (_, length) = element(content);
        let (message, rest) = content.split_at(length);
        let (_, length) = element(rest);
        let (bits, _) = element(&rest[length..]);
        Self::new(&ECDSA_P256_SHA256_ASN1, point(issuer), message, &bits[1..])
    }

    /// A document and its signer's certificate.
    fn document(document: &SignedBody, signer: &[u8]) -> Self {
        let text = std::str::from_utf8(&document.body).expect("text");
        let (value, signature) = text.rsplit_once(",\"signature\":\"").expect("a signature");
        let (_, value) = value.split_once(':').expect("a value");
        let signature: [u8; 64] = from_hex(&signature[..128].to_lowercase()).expect("64 bytes");
        Self::fixed(point(signer), value.as_bytes(), &signature)
    }

    fn check(&self) {
        self.key.verify_sig(black_box(&self.message), black_box(&self.signature)).expect("a good signature");
    }
}

impl Floor {
    /// Of a quote and the collateral of its platform, which has one of each.
    pub fn of(quote: &[u8], collateral: &TdxCollateral, root: &[u8]) -> Self {
        let [pck, authority, _]: [Vec<u8>; 3] = chain(quote).try_into().expect("three certificates");
        let (data, signed) = signature_data(quote);
        let attestation_key = [&[4], &data[64..128]].concat();
        let [signer, _]: [Vec<u8>; 2] = pem(&collateral.tcb_infos[0].issuer_chain).try_into().expect("two certificates");
        let own = |list: &Vec<u8>| contains(list, b"PCK Platform CA") || contains(list, b"PCK Processor CA");
        let list = |wanted: bool| collateral.crls.iter().find(|list| own(list) == wanted).expect("both lists");
        Self {
            quote: [
                Signature::fixed(point(&pck), &data[134..518], &data[518..582]),
                Signature::fixed(&attestation_key, signed, &data[..64]),
            ],
            rest: [
                Signature::of(&pck, &authority),
                Signature::of(&authority, root),
                Signature::of(list(false), root),
                Signature::of(list(true), &authority),
                Signature::of(&signer, root),
                Signature::document(&collateral.tcb_infos[0], &signer),
                Signature::document(&collateral.qe_identities[0], &signer),
            ],
        }
    }

    /// What is left where collateral is prepared and the chain known.
    pub fn two(&self) {
        self.quote.iter().for_each(Signature::check);
    }

    /// Everything.
    pub fn nine(&self) {
        self.quote.iter().chain(&self.rest).for_each(Signature::check);
    }
}

/// What follows the length of a quote's signature data, and what the quote's signature is over. The quote signature stands at 0, the
/// attestation key at 64, the quoting enclave's report at 134, its signature at 518, the length of the authentication data at 582.
fn signature_data(quote: &[u8]) -> (&[u8], &[u8]) {
    let length = |at: usize| u32::from_le_bytes(quote[at..at + 4].try_into().expect("four bytes")) as usize;
    let signed = if quote[0] == 5 { 54 + length(50) } else { 48 + 584 };
    (&quote[signed + 4..signed + 4 + length(signed)], &quote[..signed])
}

/// The certificates in a quote, DER: PCK certificate, authority, root.
pub fn chain(quote: &[u8]) -> Vec<Vec<u8>> {
    let (data, _) = signature_data(quote);
    let authentication = usize::from(u16::from_le_bytes([data[582], data[583]]));
    pem(&data[584 + authentication + 6..])
}

fn pem(bytes: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(bytes);
    let parts = text.split("-----BEGIN CERTIFICATE-----").skip(1).filter_map(|part| part.split("-----END").next());
    parts.map(|part| from_base64(&part.split_whitespace().collect::<String>()).expect("base64")).collect()
}

/// Content and whole length of the DER element at the start.
fn element(der: &[u8]) -> (&[u8], usize) {
    let (header, length) = match der[1] {
        short @ 0..=0x7f => (2, usize::from(short)),
        0x81 => (3, usize::from(der[2])),
        _ => (4, usize::from(u16::from_be_bytes([der[2], der[3]]))),
    };
    (&der[header..header + length], header + length)
}

/// The point of a certificate's key: its one BIT STRING of 66 bytes that begins with an uncompressed point.
fn point(certificate: &[u8]) -> &[u8] {
    let at = certificate.windows(4).position(|window| window == [0x03, 0x42, 0x00, 0x04]).expect("a P-256 key") + 3;
    &certificate[at..at + 65]
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
