//! Object identifiers of the extensions that the profiles know (AMD 57230, tables of X.509 extensions).

use der::asn1::ObjectIdentifier;

/// All of AMD's extensions stand below this.
const AMD: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1");

pub(super) const STRUCT_VERSION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.1");
pub(super) const PRODUCT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.2");
pub(super) const BOOTLOADER_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.1");
pub(super) const TEE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.2");
pub(super) const SNP_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.3");
pub(super) const RESERVED_SPLS: [ObjectIdentifier; 4] = [
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.4"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.5"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.6"),
    ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.7"),
];
pub(super) const MICROCODE_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.8");
pub(super) const FMC_SPL: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.3.9");
pub(super) const HWID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.4");
pub(super) const CSP_ID: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.3704.1.5");

/// The names that AMD gives its extensions.
pub(super) const NAMES: [(ObjectIdentifier, &str); 13] = {
    let [spl4, spl5, spl6, spl7] = RESERVED_SPLS;
    [
        (STRUCT_VERSION, "structVersion"),
        (PRODUCT_NAME, "productName"),
        (BOOTLOADER_SPL, "blSPL"),
        (TEE_SPL, "teeSPL"),
        (SNP_SPL, "snpSPL"),
        (spl4, "spl4"),
        (spl5, "spl5"),
        (spl6, "spl6"),
        (spl7, "spl7"),
        (MICROCODE_SPL, "ucodeSPL"),
        (FMC_SPL, "fmcSPL"),
        (HWID, "hwID"),
        (CSP_ID, "cspID"),
    ]
};

/// AMD's name for an extension of its own.
pub(super) fn name(id: ObjectIdentifier) -> Option<&'static str> {
    NAMES.into_iter().find(|(known, _)| *known == id).map(|(_, name)| name)
}

/// Whether an extension stands in AMD's arc.
pub(super) fn is_of_amd(id: ObjectIdentifier) -> bool {
    id.as_bytes().starts_with(AMD.as_bytes())
}
