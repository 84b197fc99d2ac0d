//! The report's signature: ECDSA P-384 with SHA-384 over the received bytes, r and s little-endian in 72 bytes each
//! (AMD 56860, table "Signature format for ECDSA P-384 with SHA-384").

use aws_lc_rs::signature::ParsedPublicKey;

use super::report::Report;
use crate::claims::SigningKeyKind;
use crate::rejection::Rejection;

/// Order n of P-384 (FIPS 186-5, section 3.2.1.4), big-endian.
#[rustfmt::skip]
const ORDER: [u8; 48] = [
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xc7, 0x63, 0x4d, 0x81, 0xf4, 0x37, 0x2d, 0xdf,
    0x58, 0x1a, 0x0d, 0xb2, 0x48, 0xb0, 0xa7, 0x7a, 0xec, 0xec, 0x19, 0x6a, 0xcc, 0xc5, 0x29, 0x73,
];

/// Checks the signature under the leaf's key. Every one of its 512 bytes is accounted for. (ECDSA itself leaves a second form, with n - s
/// for s: the bytes of a report identify nothing, and nothing here or in the broker takes them for an identity.)
pub(super) fn verify(report: &Report<'_>, key: &ParsedPublicKey, kind: SigningKeyKind) -> Result<(), Rejection> {
    let (r, s, reserved) = report.signature;
    let (r, s) = (scalar(r, "r")?, scalar(s, "s")?);
    if reserved != &[0; 368] {
        return Err(Rejection::SignaturePadding { part: "reserved" });
    }
    let mut fixed = [0; 96];
    let (first, second) = fixed.split_at_mut(48);
    first.copy_from_slice(&r);
    second.copy_from_slice(&s);
    key.verify_sig(report.signed, &fixed).map_err(|_| Rejection::Signature { kind })
}

/// A scalar of 1 to n - 1 in 72 little-endian bytes, as 48 big-endian ones.
fn scalar(stored: &[u8; 72], part: &'static str) -> Result<[u8; 48], Rejection> {
    let (low, high) = stored.split_first_chunk::<48>().ok_or(Rejection::SignaturePadding { part })?;
    if high != [0; 24] {
        return Err(Rejection::SignaturePadding { part });
    }
    let mut scalar = *low;
    scalar.reverse();
    if scalar == [0; 48] || scalar >= ORDER {
        return Err(Rejection::SignatureRange { part });
    }
    Ok(scalar)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(mut big_endian: [u8; 48]) -> [u8; 72] {
        big_endian.reverse();
        let mut stored = [0; 72];
        stored[..48].copy_from_slice(&big_endian);
        stored
    }

    #[test]
    fn a_scalar_is_within_1_and_n_minus_1() {
        let mut last = ORDER;
        last[47] -= 1;
        assert_eq!(scalar(&stored(last), "r"), Ok(last));
        assert_eq!(scalar(&stored(ORDER), "r"), Err(Rejection::SignatureRange { part: "r" }));
        assert_eq!(scalar(&stored([0; 48]), "s"), Err(Rejection::SignatureRange { part: "s" }));
        let mut one = [0; 48];
        one[47] = 1;
        assert_eq!(scalar(&stored(one), "s"), Ok(one));
    }

    #[test]
    fn the_upper_24_bytes_of_a_scalar_are_zero() {
        let mut one = [0; 48];
        one[47] = 1;
        for unused in 48..72 {
            let mut padded = stored(one);
            padded[unused] = 1;
            assert_eq!(scalar(&padded, "r"), Err(Rejection::SignaturePadding { part: "r" }));
        }
    }
}
