//! Which processor line a report is of: from CPUID in the report, or from the product name in the certificate.

use crate::claims::ProductLine;
use crate::rejection::Rejection;

/// The line of a processor by its combined family and model (AMD 57230, table "Product Name").
///
/// Venice (family 0x1a, models 0x50 to 0x57, 0x90 to 0xaf, 0xc0 to 0xc7) has no published root and is unknown here.
pub(super) fn from_cpuid(family: u8, model: u8) -> Result<ProductLine, Rejection> {
    match (family, model) {
        (0x19, 0x00..=0x0f) => Ok(ProductLine::Milan),
        (0x19, 0x10..=0x1f | 0xa0..=0xaf) => Ok(ProductLine::Genoa),
        (0x1a, 0x00..=0x11) => Ok(ProductLine::Turin),
        _ => Err(Rejection::ProductUnknown { family, model }),
    }
}

/// The line and the stepping in a certificate's product name: `Milan-B0`, or the line alone.
pub(super) fn from_name(name: &str) -> Option<(ProductLine, Option<&str>)> {
    let (line, stepping) = match name.split_once('-') {
        Some((line, stepping)) => (line, Some(stepping)),
        None => (name, None),
    };
    let stepping_is_one = |text: &str| matches!(text.as_bytes(), [b'A'..=b'Z', b'0'..=b'9']);
    if !stepping.is_none_or(stepping_is_one) {
        return None;
    }
    ProductLine::ALL.into_iter().find(|known| known.as_str() == line).map(|known| (known, stepping))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_its_families_and_models_and_venice_has_none() {
        for (family, model, line) in [
            (0x19, 0x01, ProductLine::Milan),
            (0x19, 0x0f, ProductLine::Milan),
            (0x19, 0x11, ProductLine::Genoa),
            (0x19, 0xa0, ProductLine::Genoa),
            (0x1a, 0x02, ProductLine::Turin),
            (0x1a, 0x11, ProductLine::Turin),
        ] {
            assert_eq!(from_cpuid(family, model), Ok(line));
        }
        for (family, model) in
            [(0x19, 0x20), (0x19, 0xb0), (0x1a, 0x12), (0x1a, 0x50), (0x1a, 0x90), (0x1a, 0xa0), (0x1a, 0xc7), (0x17, 0x31), (0, 0)]
        {
            assert_eq!(from_cpuid(family, model), Err(Rejection::ProductUnknown { family, model }));
        }
    }

    #[test]
    fn a_product_name_is_a_line_with_or_without_stepping() {
        assert_eq!(from_name("Milan-B0"), Some((ProductLine::Milan, Some("B0"))));
        assert_eq!(from_name("Turin"), Some((ProductLine::Turin, None)));
        for bad in ["", "milan", "Milan-", "Milan-B", "Milan-B00", "Milan-b0", "Venice", "Venice-A0", "Milan B0"] {
            assert_eq!(from_name(bad), None, "{bad:?}");
        }
    }
}
