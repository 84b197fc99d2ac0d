//! What a release cannot do without.

use std::hint::black_box;
use std::time::Duration;

use aws_lc_rs::agreement::{EphemeralPrivateKey, PrivateKey, UnparsedPublicKey as Peer, X25519, agree_ephemeral};
use aws_lc_rs::digest::{SHA3_256, digest};
use aws_lc_rs::kem::{DecapsulationKey, EncapsulationKey, ML_KEM_768};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, ED25519, EcdsaKeyPair, Ed25519KeyPair, KeyPair, ParsedPublicKey,
    UnparsedPublicKey,
};
use portcullis_benches::clock;
use portcullis_benches::rounds::{Contender, print, side_by_side};

/// Bytes of a report that are signed.
const REPORT: [u8; 0x2a0] = [7; 0x2a0];
/// Bytes of a signed request with a report and a certificate table in base64.
const REQUEST: [u8; 12 * 1024] = [8; 12 * 1024];
/// Bytes of a signed answer.
const ANSWER: [u8; 6 * 1024] = [9; 6 * 1024];

/// The sum of the four, for one release, in CPU time.
pub fn measure() -> Duration {
    let random = SystemRandom::new();
    let p384 = EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).expect("a key");
    let report = p384.sign(&random, &REPORT).expect("a signature");
    let p384 = ParsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, p384.public_key().as_ref()).expect("a key");
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
    let mut parts = [
        Contender::new("P-384 verify of a report", || p384.verify_sig(black_box(&REPORT), report.as_ref()).expect("good")),
        Contender::new("X-Wing encapsulation", x_wing),
        Contender::new("Ed25519 verify of a request", || guest.verify(black_box(&REQUEST), request.as_ref()).expect("good")),
        Contender::new("Ed25519 sign of an answer", || {
            black_box(ed25519.sign(black_box(&ANSWER)));
        }),
    ];
    let results = side_by_side(&mut parts, 41, 50, clock::thread);
    print("the floor", &results);
    let sum = results.iter().map(|part| part.median).sum();
    println!("| sum | {:.1} | | |", Duration::as_secs_f64(&sum) * 1e6);
    sum
}
