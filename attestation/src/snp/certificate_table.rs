//! The certificate table that a host hands out beside a report (GHCB specification, AMD 56421, section "SNP Extended Guest Request").
//! All of it is the host's word: a cache of certificates, never trusted.
//!
//! ```text
//! entry, 24 bytes:   0  16  GUID, bytes in the order of its text
//!                   16   4  offset of the content from the start of the table, little-endian
//!                   20   4  length of the content, little-endian
//! then an entry of zeros, then the contents in any order
//! ```

use protocol::limits;

use crate::rejection::Rejection;

/// What a table holds, in the table's order. Entries of unknown GUIDs are left out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// VCEK, VLEK, ASK or ASVK, ARK.
    pub(super) certificates: Vec<Vec<u8>>,
    /// Revocation lists.
    pub(super) crls: Vec<Vec<u8>>,
}

/// Bytes of one entry.
const ENTRY: usize = 24;

const VCEK: [u8; 16] = 0x63da758d_e664_4564_adc5_f4b93be8accd_u128.to_be_bytes();
const VLEK: [u8; 16] = 0xa8074bc2_a25a_483e_aae6_39c045a0b8a1_u128.to_be_bytes();
const ASK: [u8; 16] = 0x4ab7b379_bbac_4fe4_a02f_05aef327c782_u128.to_be_bytes();
const ARK: [u8; 16] = 0xc0b406a4_a803_4952_9743_3fb6014cd0ae_u128.to_be_bytes();
const CRL: [u8; 16] = 0x92f81bc3_5811_4d3d_97ff_d19f88dc67ea_u128.to_be_bytes();

/// Reads a table. No bytes at all are a table without entries: a host that has none to give.
pub(super) fn parse(bytes: &[u8]) -> Result<Table, Rejection> {
    let bad = |what| Rejection::CertificateTable { what };
    if bytes.is_empty() {
        return Ok(Table::default());
    }
    if bytes.len() > limits::SNP_CERTIFICATE_TABLE {
        return Err(bad("longer than the kernel hands out"));
    }
    let entries = entries(bytes).ok_or(bad("no entry of zeros ends its header"))?;
    let header = entries.len().saturating_add(1).saturating_mul(ENTRY);
    let mut table = Table::default();
    let mut seen: Vec<&[u8; 16]> = Vec::with_capacity(entries.len());
    for Entry { guid, offset, length } in &entries {
        if seen.contains(&guid) {
            return Err(bad("two entries of one GUID"));
        }
        seen.push(guid);
        if *offset < header {
            return Err(bad("a content within the header"));
        }
        let content = offset.checked_add(*length).and_then(|end| bytes.get(*offset..end));
        let content = content.ok_or(bad("a content beyond the end"))?;
        match *guid {
            VCEK | VLEK | ASK | ARK if !content.is_empty() => table.certificates.push(content.to_vec()),
            CRL if !content.is_empty() => table.crls.push(content.to_vec()),
            VCEK | VLEK | ASK | ARK | CRL => return Err(bad("an empty content")),
            _ => {}
        }
    }
    Ok(table)
}

struct Entry {
    guid: [u8; 16],
    offset: usize,
    length: usize,
}

/// The entries before the entry of zeros; `None` where there is none.
fn entries(bytes: &[u8]) -> Option<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut rest = bytes;
    loop {
        let (entry, behind) = rest.split_first_chunk::<ENTRY>()?;
        if entry == &[0; ENTRY] {
            return Some(entries);
        }
        let (guid, numbers) = entry.split_first_chunk()?;
        let (offset, length) = numbers.split_first_chunk()?;
        entries.push(Entry {
            guid: *guid,
            offset: usize::try_from(u32::from_le_bytes(*offset)).ok()?,
            length: usize::try_from(u32::from_le_bytes(length.try_into().ok()?)).ok()?,
        });
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(guid: [u8; 16], offset: u32, length: u32) -> Vec<u8> {
        [&guid[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
    }

    fn bad(table: &[u8]) -> &'static str {
        match parse(table) {
            Err(Rejection::CertificateTable { what }) => what,
            other => panic!("{other:?}"),
        }
    }

    const END: [u8; ENTRY] = [0; ENTRY];

    #[test]
    fn known_contents_are_taken_in_the_tables_order_and_unknown_ones_left_out() {
        let header = [entry(ASK, 125, 2), entry([7; 16], 120, 8), entry(VCEK, 120, 5), entry(CRL, 127, 1), END.to_vec()].concat();
        let table = [&header[..], b"vcekxasC"].concat();
        let expected = Table { certificates: vec![b"as".to_vec(), b"vcekx".to_vec()], crls: vec![b"C".to_vec()] };
        assert_eq!(parse(&table), Ok(expected));
        assert_eq!(parse(&END), Ok(Table::default()));
        assert_eq!(parse(&[]), Ok(Table::default()));
    }

    #[test]
    fn the_header_must_end() {
        let table = entry(VCEK, 24, 0);
        assert_eq!(bad(&table), "no entry of zeros ends its header");
        assert_eq!(bad(&[&table[..], &END[..23]].concat()), "no entry of zeros ends its header");
        assert_eq!(bad(b"x"), "no entry of zeros ends its header");
    }

    #[test]
    fn a_content_lies_behind_the_header_and_before_the_end() {
        let with = |offset, length| [entry(VCEK, offset, length), END.to_vec(), b"1234".to_vec()].concat();
        assert!(parse(&with(48, 4)).is_ok());
        assert_eq!(bad(&with(47, 4)), "a content within the header");
        assert_eq!(bad(&with(49, 4)), "a content beyond the end");
        assert_eq!(bad(&with(48, 5)), "a content beyond the end");
        assert_eq!(bad(&with(u32::MAX, u32::MAX)), "a content beyond the end");
        assert_eq!(bad(&with(48, 0)), "an empty content");
    }

    #[test]
    fn one_guid_stands_once() {
        let table = [entry([7; 16], 72, 0), entry([7; 16], 72, 0), END.to_vec()].concat();
        assert_eq!(bad(&table), "two entries of one GUID");
    }

    #[test]
    fn a_table_is_at_most_as_long_as_the_kernels_own_limit() {
        assert!(parse(&vec![0; limits::SNP_CERTIFICATE_TABLE]).is_ok());
        assert_eq!(bad(&vec![0; limits::SNP_CERTIFICATE_TABLE + 1]), "longer than the kernel hands out");
    }
}
