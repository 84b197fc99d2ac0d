//! Event types, and what the digest of each is a digest of (TCG PC Client Platform Firmware Profile, section 10.4.1).
//!
//! A replay proves digests, and neither an event's data nor its type. Data is handed on only where the digest is the SHA-384 of these very
//! bytes, and never for a type whose digest is of something else than its data: there, data that happens to fit would be an image, a table or
//! a firmware volume that somebody made to look like an event.

use aws_lc_rs::digest;

/// EV_NO_ACTION: a remark that is not extended.
pub(super) const NO_ACTION: u32 = 0x3;

/// What a digest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Measured {
    /// The event's data.
    Data,
    /// A UEFI_VARIABLE_DATA structure's last field, or the whole structure: firmware does either.
    Variable,
    /// A text: the data, with or without the zero byte behind it and the label and ": " before it (GRUB, shim).
    Text,
    /// Something that the log does not hold: an image, a table, a firmware volume.
    Other,
}

/// Type, name, what is measured. A type that is not here is an application's: the data, if it fits.
const KINDS: [(u32, &str, Measured); 33] = [
    (0x0, "EV_PREBOOT_CERT", Measured::Other),
    (0x1, "EV_POST_CODE", Measured::Other),
    (0x3, "EV_NO_ACTION", Measured::Other),
    (0x4, "EV_SEPARATOR", Measured::Data),
    (0x5, "EV_ACTION", Measured::Data),
    (0x6, "EV_EVENT_TAG", Measured::Data),
    (0x7, "EV_S_CRTM_CONTENTS", Measured::Other),
    (0x8, "EV_S_CRTM_VERSION", Measured::Data),
    (0x9, "EV_CPU_MICROCODE", Measured::Other),
    (0xa, "EV_PLATFORM_CONFIG_FLAGS", Measured::Other),
    (0xb, "EV_TABLE_OF_DEVICES", Measured::Other),
    (0xc, "EV_COMPACT_HASH", Measured::Other),
    (0xd, "EV_IPL", Measured::Text),
    (0xe, "EV_IPL_PARTITION_DATA", Measured::Other),
    (0xf, "EV_NONHOST_CODE", Measured::Other),
    (0x10, "EV_NONHOST_CONFIG", Measured::Other),
    (0x11, "EV_NONHOST_INFO", Measured::Other),
    (0x12, "EV_OMIT_BOOT_DEVICE_EVENTS", Measured::Data),
    (0x13, "EV_POST_CODE2", Measured::Other),
    (0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG", Measured::Variable),
    (0x8000_0002, "EV_EFI_VARIABLE_BOOT", Measured::Variable),
    (0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION", Measured::Other),
    (0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER", Measured::Other),
    (0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER", Measured::Other),
    (0x8000_0006, "EV_EFI_GPT_EVENT", Measured::Data),
    (0x8000_0007, "EV_EFI_ACTION", Measured::Data),
    (0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB", Measured::Other),
    (0x8000_0009, "EV_EFI_HANDOFF_TABLES", Measured::Other),
    (0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2", Measured::Other),
    (0x8000_000b, "EV_EFI_HANDOFF_TABLES2", Measured::Other),
    (0x8000_000c, "EV_EFI_VARIABLE_BOOT2", Measured::Variable),
    (0x8000_000d, "EV_EFI_GPT_EVENT2", Measured::Data),
    (0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY", Measured::Variable),
];

fn known(kind: u32) -> Option<&'static (u32, &'static str, Measured)> {
    KINDS.iter().find(|(known, ..)| *known == kind)
}

/// The name of a type.
pub(crate) fn name(kind: u32) -> Option<&'static str> {
    known(kind).map(|(_, name, _)| *name)
}

/// The bytes of `data` whose SHA-384 is `digest`, where the type's digest is of its data.
pub(super) fn proven(kind: u32, digest: &[u8; 48], data: &[u8]) -> Option<Vec<u8>> {
    let (part, other) = match known(kind).map_or(Measured::Data, |(.., measured)| *measured) {
        Measured::Data => (None, None),
        Measured::Variable => (variable_data(data), None),
        Measured::Text => (Some(behind_label(without_zero(data))), Some(without_zero(data))),
        Measured::Other => return None,
    };
    [Some(data), part, other].into_iter().flatten().find(|bytes| sha384(&[bytes]) == *digest).map(<[u8]>::to_vec)
}

/// The last field of a UEFI_VARIABLE_DATA structure: a GUID, two lengths, a name of two-byte characters, the data.
fn variable_data(data: &[u8]) -> Option<&[u8]> {
    let (_guid, rest) = data.split_first_chunk::<16>()?;
    let (characters, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let name = usize::try_from(u64::from_le_bytes(*characters)).ok()?.checked_mul(2)?;
    let value = rest.get(name..)?;
    (u64::try_from(value.len()).ok()? == u64::from_le_bytes(*length)).then_some(value)
}

/// What stands behind the first ": ", or everything.
fn behind_label(text: &[u8]) -> &[u8] {
    text.windows(2).position(|pair| pair == b": ").and_then(|at| text.get(at.saturating_add(2)..)).unwrap_or(text)
}

/// The text of a string that ends in one zero byte, or everything.
fn without_zero(text: &[u8]) -> &[u8] {
    text.strip_suffix(&[0]).unwrap_or(text)
}

/// SHA-384 over the parts, one behind the other.
pub(super) fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    let mut context = digest::Context::new(&digest::SHA384);
    parts.iter().for_each(|part| context.update(part));
    let mut bytes = [0; 48];
    bytes.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    bytes
}
