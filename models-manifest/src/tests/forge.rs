//! What a holder of the model key can do to a chunk: the reason why tags are not enough.

use crate::cipher::ChunkCipher;
use crate::geometry::{ChunkPosition, Finality};

/// Product in GCM's field (SP 800-38D, section 6.3), bits in GCM's order.
fn multiply(x: u128, y: u128) -> u128 {
    const R: u128 = 0xe1 << 120;
    (0..128)
        .fold((0, y), |(z, v), bit| (if x >> (127 - bit) & 1 == 1 { z ^ v } else { z }, if v & 1 == 1 { (v >> 1) ^ R } else { v >> 1 }))
        .0
}

fn block(bytes: &[u8]) -> u128 {
    u128::from_be_bytes(bytes.try_into().unwrap())
}

/// Changes the first 16 bytes of `ciphertext` so that they decrypt to other plaintext, and bytes 32 to 48 so that the tag stays good.
///
/// The tag is E(nonce) + sum of X[i] H^(n - i) over the blocks X. A change D of block 0 is undone by D H^2 on block 2. H^2 is the
/// difference of the tags of two one-block messages under the same nonce that differ by the field's one.
pub(super) fn same_tag(cipher: &dyn ChunkCipher, ciphertext: &mut [u8], change: [u8; 16]) {
    let position = ChunkPosition { index: 0, finality: Finality::Final };
    let mut one = [0; 16];
    one[0] = 0x80;
    let tags = [[0; 16], one].map(|mut message| block(&cipher.seal(position, &mut message).unwrap()));
    let h2 = tags[0] ^ tags[1];
    let undo = multiply(block(&change), h2).to_be_bytes();
    for at in 0..16 {
        ciphertext[at] ^= change[at];
        ciphertext[32 + at] ^= undo[at];
    }
}
