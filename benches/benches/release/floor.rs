//! What a release cannot do without.

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::agreement::{EphemeralPrivateKey, PrivateKey, UnparsedPublicKey as Peer, X25519, agree_ephemeral};
use aws_lc_rs::digest::{SHA3_256, digest};
use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, ED25519,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey, UnparsedPublicKey,
};
use portcullis_benches::clock;
use portcullis_benches::rounds::{Contender, print, side_by_side};
use protocol::ids::Platform;

use crate::installation::Wish;

/// Bytes of a report that are signed.
const REPORT: [u8; 0x2a0] = [7; 0x2a0];
/// Bytes of a version 4 quote that are signed, and of the quoting enclave's report.
const QUOTE: [u8; 48 + 584] = [7; 48 + 584];
const QE_REPORT: [u8; 384] = [6; 384];
/// Bytes of a signed request with a report and a certificate table in base64.
const REQUEST: [u8; 12 * 1024] = [8; 12 * 1024];
/// Bytes of a token that are signed.
const TOKEN: [u8; 400] = [5; 400];
/// Bytes of a signed answer.
const ANSWER: [u8; 6 * 1024] = [9; 6 * 1024];

/// The sum of its parts, in CPU time, for one answer to a guest of this kind.
pub fn measure(platform: Platform, wish: Wish) -> Duration {
    let random = SystemRandom::new();
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
    let report = p384.sign(&random, &REPORT).expect("a signature");
    let p384 = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, p384.public_key().as_ref()).expect("a key");
    let signer = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key");
    let (quote, qe_report) = (signer.sign(&random, &QUOTE).expect("a signature"), signer.sign(&random, &QE_REPORT).expect("a signature"));
    let p256 = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.public_key().as_ref()).expect("a key");
    let evidence = match platform {
        Platform::SevSnp => {
            Contender::new("P-384 verify of a report", || p384.verify_sig(black_box(&REPORT), report.as_ref()).expect("good"))
        }
        Platform::Tdx => Contender::new("P-256 verifies of a quote and of its quoting enclave's report", || {
            p256.verify_sig(black_box(&QUOTE), quote.as_ref()).expect("good");
            p256.verify_sig(black_box(&QE_REPORT), qe_report.as_ref()).expect("good");
        }),
    };
    let ed25519 = Ed25519KeyPair::generate().expect("a key");
    let request = ed25519.sign(&REQUEST);
    let guest = UnparsedPublicKey::new(&ED25519, ed25519.public_key().as_ref());
    let ml_kem = DecapsulationKey::generate(&ML_KEM_768).expect("a key").encapsulation_key().expect("a key");
    let ml_kem = ml_kem.key_bytes().expect("bytes").as_ref().to_vec();
    let x25519 = PrivateKey::generate(&X25519).expect("a key").compute_public_key().expect("a key");
    let x_wing = || {
        let (ciphertext, secret) = EncapsulationKey::new(&ML_KEM_768, black_box(&ml_kem)).expect("a key").encapsulate().expect("a secret");
        let ephemeral = EphemeralPrivateKey::generate(&X25519, &random).expect("a key");
        let public = ephemeral.compute_public_key().expect("a key");
        let peer = Peer::new(&X25519, x25519.as_ref());
        let shared = agree_ephemeral(ephemeral, peer, "no agreement", |shared| {
            Ok(digest(&SHA3_256, &[secret.as_ref(), shared, public.as_ref(), x25519.as_ref(), br"\.//^\"].concat()))
        });
        black_box((ciphertext, shared.expect("a secret")));
    };
    let mut parts = vec![
        evidence,
        Contender::new("X-Wing encapsulation", x_wing),
        Contender::new("Ed25519 verify of a request", || guest.verify(black_box(&REQUEST), request.as_ref()).expect("good")),
        Contender::new("Ed25519 sign of an answer", || {
            black_box(ed25519.sign(black_box(&ANSWER)));
        }),
    ];
    if let Wish::Token = wish {
        let sign = || {
            black_box(signer.sign(&random, black_box(&TOKEN)).expect("a signature"));
        };
        parts.push(Contender::new("P-256 sign of a token", sign));
    }
    let results = side_by_side(&mut parts, 41, 50, clock::thread);
    print("the floor", &results);
    let sum = results.iter().map(|part| part.median).sum();
    println!("| sum | {:.1} | | |", Duration::as_secs_f64(&sum) * 1e6);
    sum
}
