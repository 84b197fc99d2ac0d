//! The certificate table that a host hands its guest with an extended report (GHCB specification, AMD 56421, section "SNP Extended Guest Request").

/// Name of a blob in the table: 16 bytes in textual order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guid(pub [u8; 16]);

impl Guid {
    /// VCEK certificate, DER.
    pub const VCEK: Self = Self(0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes());
    /// VLEK certificate, DER.
    pub const VLEK: Self = Self(0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes());
    /// ASK or ASVK certificate, DER.
    pub const ASK: Self = Self(0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes());
    /// ARK certificate, DER.
    pub const ARK: Self = Self(0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes());
    /// Revocation list, DER.
    pub const CRL: Self = Self(0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea_u128.to_be_bytes());
    /// A blob that go-sev-guest defines and others skip.
    pub const EXTRA_PLATFORM_INFO: Self = Self(0xecae0c0f_9502_43b1_afa2_0ae2e0d565b6_u128.to_be_bytes());
}

/// Bytes of one entry: GUID, offset, length.
const ENTRY_LENGTH: usize = 24;

/// The table of these blobs, in order: entries, the terminating zero entry, then the blobs without gaps.
///
/// # Panics
/// When the table would exceed 4 GiB.
#[must_use]
pub fn certificate_table(blobs: &[(Guid, &[u8])]) -> Vec<u8> {
    let mut offset = (blobs.len() + 1) * ENTRY_LENGTH;
    let mut entries = Vec::new();
    for (guid, blob) in blobs {
        entries.push((*guid, u32::try_from(offset).expect("a small table"), u32::try_from(blob.len()).expect("a small blob")));
        offset += blob.len();
    }
    let mut tail = vec![0; ENTRY_LENGTH];
    tail.extend(blobs.iter().flat_map(|(_, blob)| blob.iter()));
    raw_certificate_table(&entries, &tail)
}

/// Entries exactly as given (GUID, offset, length), then `tail`: nothing is added, not even the terminating entry.
#[must_use]
pub fn raw_certificate_table(entries: &[(Guid, u32, u32)], tail: &[u8]) -> Vec<u8> {
    let mut table = Vec::new();
    for (guid, offset, length) in entries {
        table.extend_from_slice(&guid.0);
        table.extend_from_slice(&offset.to_le_bytes());
        table.extend_from_slice(&length.to_le_bytes());
    }
    table.extend_from_slice(tail);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guid_stands_in_textual_order_and_blobs_follow_the_terminator() {
        let table = certificate_table(&[(Guid::VCEK, b"leaf"), (Guid::ASK, b"ca")]);
        assert_eq!(table[..4], [0x63, 0xda, 0x75, 0x8d]);
        assert_eq!(table[16..24], [72, 0, 0, 0, 4, 0, 0, 0]);
        assert_eq!(table[40..48], [76, 0, 0, 0, 2, 0, 0, 0]);
        assert_eq!(table[48..72], [0; 24]);
        assert_eq!(&table[72..], b"leafca");
    }
}
