//! Attestation reports, through the whole path of `attestation::judge` under a genuine chain.
//!
//! Input: a byte that chooses the machine, then the report.

#![no_main]

use attestation::{Collateral, SnpClaims};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::snp::{Machine, claims};

fuzz_target!(|data: &[u8]| {
    let Some((choice, report)) = data.split_first() else { return };
    let machine = Machine::chosen(*choice);
    let judge = |report: &[u8]| machine.judge(machine.evidence(report), &Collateral::default());
    match judge(report) {
        Ok(genuine) => {
            assert_eq!(genuine.steps().len(), 14);
            says_what_the_report_says(report, claims(&genuine));
            // What passes, passes under any good signature of its key, and under no signature over other bytes.
            assert!(judge(&machine.sign(report)).is_ok());
            let mut other = report.to_vec();
            other[0x90 + usize::from(*choice) % 48] ^= 1;
            assert_eq!(judge(&other).map(drop).unwrap_err().step(), 7);
        }
        Err(rejection) if rejection.step() == 7 => {
            let signed = machine.sign(report);
            match judge(&signed) {
                Ok(genuine) => says_what_the_report_says(&signed, claims(&genuine)),
                // Two parsers that share no code must read the same in whatever the first one accepts.
                Err(rejection) => assert!((8..14).contains(&rejection.step()), "{rejection}"),
            }
        }
        Err(_) => {}
    }
});

/// Every field, by its offset in AMD 56860, table "ATTESTATION_REPORT Structure".
fn says_what_the_report_says(report: &[u8], claims: &SnpClaims) {
    let bytes = |offset: usize, length: usize| &report[offset..offset + length];
    let number = |offset: usize, length: usize| bytes(offset, length).iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    let policy = number(0x08, 8);
    let bit = |at: u32| policy >> at & 1 == 1;
    let guest = &claims.guest_policy;
    assert!((2..=5).contains(&claims.version) && claims.vmpl <= 3 && bit(17) && policy >> 26 == 0);
    assert_eq!((u64::from(claims.version), u64::from(claims.guest_svn)), (number(0, 4), number(4, 4)));
    assert_eq!((guest.raw, u64::from(guest.abi_minor), u64::from(guest.abi_major)), (policy, policy & 0xff, policy >> 8 & 0xff));
    assert_eq!([guest.smt, guest.migrate_ma, guest.debug, guest.single_socket, guest.cxl], [16, 18, 19, 20, 21].map(bit));
    assert_eq!([guest.mem_aes_256_xts, guest.rapl_disabled, guest.ciphertext_hiding, guest.page_swap_disabled], [22, 23, 24, 25].map(bit));
    assert_eq!((claims.family_id.as_slice(), claims.image_id.as_slice()), (bytes(0x10, 16), bytes(0x20, 16)));
    assert_eq!((u64::from(claims.vmpl), claims.platform_info), (number(0x30, 4), number(0x40, 8)));
    assert_eq!((claims.report_data.as_slice(), claims.measurement.as_slice()), (bytes(0x50, 64), bytes(0x90, 48)));
    assert_eq!((claims.host_data.as_slice(), claims.id_key_digest.as_slice()), (bytes(0xc0, 32), bytes(0xe0, 48)));
    assert_eq!(claims.author_key_enabled, number(0x48, 4) & 1 == 1);
    assert_eq!(claims.author_key_digest.as_ref().map(<[u8; 48]>::as_slice), claims.author_key_enabled.then(|| bytes(0x110, 48)));
    assert_eq!((claims.report_id.as_slice(), claims.report_id_ma.as_slice()), (bytes(0x140, 32), bytes(0x160, 32)));
    let chip = bytes(0x1a0, 64);
    assert_eq!(claims.chip_id.as_ref().map(<[u8; 64]>::as_slice), chip.iter().any(|byte| *byte != 0).then_some(chip));
    assert_eq!(claims.launch_mitigations, (claims.version >= 5).then(|| number(0x1f8, 8)));
    assert_eq!(claims.current_mitigations, (claims.version >= 5).then(|| number(0x200, 8)));
}
