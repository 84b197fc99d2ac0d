//! What can be wrong with a P-256 signature of 64 bytes.

use p256::elliptic_curve::bigint::{ArrayEncoding, U256};

/// Order of P-256's group (SEC 2 version 2, section 2.4.2), big-endian.
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17,
    0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// What becomes of a signature after it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFlaw {
    /// Nothing.
    None,
    /// The lowest bit of r is flipped.
    FlippedR,
    /// The lowest bit of s is flipped.
    FlippedS,
    /// r is zero.
    ZeroR,
    /// s is zero.
    ZeroS,
    /// r is the order of the group.
    OrderR,
    /// s is the order of the group.
    OrderS,
    /// The whole field is zero.
    Empty,
    /// r and s are little-endian.
    LittleEndian,
    /// s is replaced by the order minus s: another valid signature of the same message.
    NegatedS,
}

impl SignatureFlaw {
    /// Every flaw that makes the signature invalid: all but [`Self::None`] and [`Self::NegatedS`].
    pub const INVALID: [Self; 8] =
        [Self::FlippedR, Self::FlippedS, Self::ZeroR, Self::ZeroS, Self::OrderR, Self::OrderS, Self::Empty, Self::LittleEndian];

    pub(super) fn apply(self, mut signature: [u8; 64]) -> [u8; 64] {
        let (r, s) = signature.split_at_mut(32);
        match self {
            Self::None => {}
            Self::FlippedR => r[31] ^= 1,
            Self::FlippedS => s[31] ^= 1,
            Self::ZeroR => r.fill(0),
            Self::ZeroS => s.fill(0),
            Self::OrderR => r.copy_from_slice(&ORDER),
            Self::OrderS => s.copy_from_slice(&ORDER),
            Self::Empty => signature.fill(0),
            Self::LittleEndian => {
                r.reverse();
                s.reverse();
            }
            Self::NegatedS => {
                let negated = U256::from_be_slice(&ORDER).wrapping_sub(&U256::from_be_slice(s));
                s.copy_from_slice(&negated.to_be_byte_array());
            }
        }
        signature
    }
}
