//! The little of a TD quote that its own guest reads (Intel TDX DCAP quoting library API, "TD Quote Format"): where it ends, and over which
//! report data it is. Judging it is the broker's.
//!
//! | offset | version 4 | version 5 |
//! | --- | --- | --- |
//! | 0 | header, 48 bytes; begins with the version, little-endian | the same |
//! | 48 | TD report 1.0, 584 bytes | body type, 2 bytes; body size, 4 bytes |
//! | 54 | | TD report of that size; each begins as a TD report 1.0 |
//! | behind | length of the signature data, 4 bytes; the data | the same |

use protocol::limits;

use super::EvidenceError;

/// Bytes of the header.
const HEADER: usize = 48;
/// Bytes of version 5's body type and size.
const DESCRIPTOR: usize = 6;
/// Bytes of a TD report 1.0, the shortest.
const TD_10: usize = 584;
/// Where REPORTDATA stands in every TD report.
const REPORT_DATA: std::ops::Range<usize> = 520..584;

/// The most that is read of a quote before its padding is cut off (bytes): the kernel's buffer, which the host fills.
pub const BUFFER: usize = 128 * 1024;

/// A quote's TD report and what stands behind it.
fn body(quote: &[u8]) -> Result<(&[u8], &[u8]), EvidenceError> {
    let cut = || EvidenceError::QuoteCut { found: quote.len() };
    let (header, behind) = quote.split_at_checked(HEADER).ok_or_else(cut)?;
    let version = header.first_chunk().map_or(0, |version| u16::from_le_bytes(*version));
    let (size, behind) = match version {
        4 => (TD_10, behind),
        5 => {
            let (descriptor, behind) = behind.split_at_checked(DESCRIPTOR).ok_or_else(cut)?;
            let size = descriptor.last_chunk().map_or(0, |size| u32::from_le_bytes(*size));
            (usize::try_from(size).unwrap_or(usize::MAX), behind)
        }
        found => return Err(EvidenceError::QuoteVersion { found }),
    };
    behind.split_at_checked(size).ok_or_else(cut)
}

/// That a quote has its size and is over these 64 bytes.
pub fn check(quote: &[u8], report_data: &[u8; 64]) -> Result<(), EvidenceError> {
    if quote.len() > limits::TD_QUOTE {
        return Err(EvidenceError::TooLarge { what: "the quote", limit: limits::TD_QUOTE });
    }
    let (report, _) = body(quote)?;
    let found = report.get(REPORT_DATA).ok_or(EvidenceError::QuoteCut { found: quote.len() })?;
    if found == report_data { Ok(()) } else { Err(EvidenceError::ReportData) }
}

/// The quote without the zeros behind it. One whose lengths do not add up stays as it is.
pub fn trimmed(mut buffer: Vec<u8>) -> Vec<u8> {
    let behind = body(&buffer).ok().and_then(|(_, signature)| {
        let (length, data) = signature.split_first_chunk()?;
        data.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
    });
    if let Some(padding) = behind
        && padding.iter().all(|byte| *byte == 0)
    {
        let end = buffer.len() - padding.len();
        buffer.truncate(end);
    }
    buffer
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A quote of this version whose report has this many bytes and is over `[7; 64]`, with 10 bytes of signature data.
    fn quote(version: u16, size: usize) -> Vec<u8> {
        let mut quote = vec![0; HEADER];
        quote[..2].copy_from_slice(&version.to_le_bytes());
        if version == 5 {
            quote.extend_from_slice(&[2, 0]);
            quote.extend_from_slice(&u32::try_from(size).unwrap().to_le_bytes());
        }
        let mut report = vec![1; size];
        report.get_mut(REPORT_DATA).into_iter().for_each(|part| part.fill(7));
        [quote, report, 10_u32.to_le_bytes().to_vec(), vec![0; 10]].concat()
    }

    #[test]
    fn report_data_is_found_in_every_kind_of_quote() {
        for quote in [quote(4, 584), quote(5, 584), quote(5, 648), quote(5, 885)] {
            assert!(check(&quote, &[7; 64]).is_ok());
            assert!(matches!(check(&quote, &[8; 64]), Err(EvidenceError::ReportData)));
        }
    }

    #[test]
    fn a_quote_has_a_version_and_a_size() {
        for found in [3, 6, 0x01a4] {
            let refused = check(&quote(found, 584), &[7; 64]);
            assert!(matches!(refused, Err(EvidenceError::QuoteVersion { found: version }) if version == found));
        }
        for cut in [0, 47, 48 + 583] {
            assert!(matches!(check(&quote(4, 584)[..cut], &[7; 64]), Err(EvidenceError::QuoteCut { found }) if found == cut));
        }
        assert!(matches!(check(&quote(5, 583), &[7; 64]), Err(EvidenceError::QuoteCut { .. })), "a report without its report data");
        let mut largest = quote(4, 584);
        largest.resize(limits::TD_QUOTE, 0);
        assert!(check(&largest, &[7; 64]).is_ok());
        largest.push(0);
        assert!(matches!(check(&largest, &[7; 64]), Err(EvidenceError::TooLarge { what: "the quote", .. })));
    }

    #[test]
    fn zeros_behind_a_quote_are_cut_off_and_nothing_else_is() {
        for quote in [quote(4, 584), quote(5, 648)] {
            assert_eq!(trimmed(quote.clone()), quote);
            assert_eq!(trimmed([quote.as_slice(), &[0; 5000]].concat()), quote, "the signature's own zeros stay");
            let other = [quote.as_slice(), &[0; 10], &[1]].concat();
            assert_eq!(trimmed(other.clone()), other);
            let cut = quote[..quote.len() - 1].to_vec();
            assert_eq!(trimmed(cut.clone()), cut);
        }
        assert_eq!(trimmed(vec![0; 9]), vec![0; 9]);
    }
}
