//! TCB_VERSION: eight bytes whose meaning depends on the processor line (AMD 56860, section "TCB_VERSION").

use crate::claims::{ProductLine, Tcb};
use crate::rejection::Rejection;

/// Decodes the layout of `line`. A byte that the line does not use must be zero: otherwise the layout is another line's.
///
/// ```text
/// byte           0           1           2     3     4  5  6     7
/// Milan, Genoa   bootloader  tee         0     0     0  0  snp   microcode
/// Turin          fmc         bootloader  tee   snp   0  0  0     microcode
/// ```
pub(super) fn decode(raw: [u8; 8], line: ProductLine, field: &'static str) -> Result<Tcb, Rejection> {
    let (tcb, unused) = match line {
        ProductLine::Milan | ProductLine::Genoa => {
            let [bootloader, tee, a, b, c, d, snp, microcode] = raw;
            (Tcb { fmc: None, bootloader, tee, snp, microcode }, [a, b, c, d])
        }
        ProductLine::Turin => {
            let [fmc, bootloader, tee, snp, a, b, c, microcode] = raw;
            (Tcb { fmc: Some(fmc), bootloader, tee, snp, microcode }, [a, b, c, 0])
        }
    };
    if unused == [0; 4] { Ok(tcb) } else { Err(Rejection::TcbLayout { field, line }) }
}

/// The bytes that [`decode`] reads.
pub(super) const fn encode(tcb: Tcb, line: ProductLine) -> [u8; 8] {
    let Tcb { fmc, bootloader, tee, snp, microcode } = tcb;
    match (line, fmc) {
        (ProductLine::Turin, Some(fmc)) => [fmc, bootloader, tee, snp, 0, 0, 0, microcode],
        (ProductLine::Turin, None) => [0, bootloader, tee, snp, 0, 0, 0, microcode],
        (ProductLine::Milan | ProductLine::Genoa, _) => [bootloader, tee, 0, 0, 0, 0, snp, microcode],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_layout_and_zero_in_the_bytes_it_does_not_use() {
        let old = Tcb { fmc: None, bootloader: 4, tee: 1, snp: 24, microcode: 219 };
        assert_eq!(decode([4, 1, 0, 0, 0, 0, 24, 219], ProductLine::Milan, "t"), Ok(old));
        assert_eq!(decode([4, 1, 0, 0, 0, 0, 24, 219], ProductLine::Genoa, "t"), Ok(old));
        let new = Tcb { fmc: Some(1), bootloader: 2, tee: 3, snp: 4, microcode: 81 };
        assert_eq!(decode([1, 2, 3, 4, 0, 0, 0, 81], ProductLine::Turin, "t"), Ok(new));
        assert_eq!(encode(old, ProductLine::Milan), [4, 1, 0, 0, 0, 0, 24, 219]);
        assert_eq!(encode(new, ProductLine::Turin), [1, 2, 3, 4, 0, 0, 0, 81]);
        for unused in 2..6 {
            let mut raw = [4, 1, 0, 0, 0, 0, 24, 219];
            raw[unused] = 1;
            assert_eq!(decode(raw, ProductLine::Genoa, "t"), Err(Rejection::TcbLayout { field: "t", line: ProductLine::Genoa }));
        }
        for unused in 4..7 {
            let mut raw = [1, 2, 3, 4, 0, 0, 0, 81];
            raw[unused] = 1;
            assert_eq!(decode(raw, ProductLine::Turin, "t"), Err(Rejection::TcbLayout { field: "t", line: ProductLine::Turin }));
        }
    }

    #[test]
    fn parts_are_compared_one_by_one() {
        let floor = Tcb { fmc: None, bootloader: 4, tee: 0, snp: 24, microcode: 219 };
        assert!(floor.is_at_least(&floor));
        assert!(!Tcb { bootloader: 3, microcode: 255, ..floor }.is_at_least(&floor), "a higher part does not make up for a lower one");
        assert!(!Tcb { fmc: Some(1), ..floor }.is_at_least(&floor), "Turin's and Milan's cannot be compared");
    }
}
