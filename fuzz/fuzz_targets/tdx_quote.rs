//! TD quotes, through the whole path of `attestation::judge` under genuine collateral.
//!
//! Input: a byte that chooses the machine, then the quote.

#![no_main]

use attestation::{Rejection, SecondOpinion, TdBody, TdxClaims, TdxRejection};
use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::tdx::{TdMachine, claims};

fuzz_target!(|data: &[u8]| {
    let Some((choice, quote)) = data.split_first() else { return };
    let machine = TdMachine::chosen(*choice);
    match machine.judge(quote) {
        Ok(genuine) => {
            assert_eq!(genuine.steps().len(), 13);
            let claims = claims(&genuine);
            says_what_the_quote_says(quote, claims);
            // Nobody signed another header and body than a machine's own; and a bit less is not signed at all.
            let signed = signed(quote, claims);
            assert!(TdMachine::all().iter().any(|machine| machine.quote.starts_with(&quote[..signed])), "another body");
            let mut other = quote.to_vec();
            other[signed - 1 - usize::from(*choice) % 64] ^= 1;
            assert_eq!(machine.judge(&other).map(drop), Err(TdxRejection::QuoteSignature {}.into()));
        }
        Err(Rejection::Tdx(rejection)) if (7..=9).contains(&rejection.step()) => {
            let signed = machine.sign(quote).expect("it could be read");
            match machine.judge(&signed) {
                Ok(genuine) => says_what_the_quote_says(&signed, claims(&genuine)),
                // What is signed well gets past the signatures; and two verifiers that share no code read the same in whatever the first
                // one accepts.
                Err(Rejection::Tdx(again)) => {
                    assert!((7..13).contains(&again.step()), "{again}");
                    let signatures =
                        [TdxRejection::QuoteSignature {}, TdxRejection::AttestationKeyBinding {}, TdxRejection::QeReportSignature {}];
                    assert!(!signatures.contains(&again), "{again}");
                }
                Err(other) => panic!("{other}"),
            }
        }
        Err(_) => {}
    }
});

/// Bytes of header, descriptor and body.
fn signed(quote: &[u8], claims: &TdxClaims) -> usize {
    let header = if quote[0] == 5 { 54 } else { 48 };
    header
        + match claims.body {
            TdBody::Td10 => 584,
            TdBody::Td15 => 648,
            TdBody::Td15Ex => 885,
        }
}

/// Every field, by its offset in Intel's "TD Quote Format".
fn says_what_the_quote_says(quote: &[u8], claims: &TdxClaims) {
    let body = &quote[if quote[0] == 5 { 54 } else { 48 }..];
    let bytes = |offset: usize, length: usize| &body[offset..offset + length];
    let number = |offset: usize| bytes(offset, 8).iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    assert_eq!((claims.quote_version, quote[1]), (u16::from(quote[0]), 0));
    let texts: [(&[u8], usize); 13] = [
        (&claims.tee_tcb_svn, 0),
        (&claims.mrseam, 16),
        (&claims.mrsignerseam, 64),
        (&claims.mrtd, 136),
        (&claims.mrconfigid, 184),
        (&claims.mrowner, 232),
        (&claims.mrownerconfig, 280),
        (&claims.rtmrs[0], 328),
        (&claims.rtmrs[1], 376),
        (&claims.rtmrs[2], 424),
        (&claims.rtmrs[3], 472),
        (&claims.report_data[..32], 520),
        (&claims.report_data[32..], 552),
    ];
    for (field, offset) in texts {
        assert_eq!(field, bytes(offset, field.len()), "at {offset}");
    }
    assert_eq!([claims.seam_attributes, claims.td_attributes.raw, claims.xfam], [112, 120, 128].map(number));
    let newer = claims.body != TdBody::Td10;
    assert_eq!(claims.tee_tcb_svn_2.as_ref().map(<[u8; 16]>::as_slice), newer.then(|| bytes(584, 16)));
    assert_eq!(claims.mrservicetd.as_ref().map(<[u8; 48]>::as_slice), newer.then(|| bytes(600, 48)));
    assert_eq!(claims.extended.is_some(), claims.body == TdBody::Td15Ex);
    if let Some(more) = &claims.extended {
        let texts: [(&[u8], usize); 7] = [
            (&more.td_id, 649),
            (&more.device_info, 681),
            (&more.initial_service_td_hash, 729),
            (&more.initial_cpu_svn, 785),
            (&more.initial_tee_tcb_svn, 801),
            (&more.initial_fmspc, 817),
            (&more.current_service_td_hash, 829),
        ];
        for (field, offset) in texts {
            assert_eq!(field, bytes(offset, field.len()), "at {offset}");
        }
        assert_eq!(bytes(648, 1), [more.vm_id]);
        assert_eq!([more.initial_service_td_attributes, more.current_service_td_attributes], [777, 877].map(number));
    }
    assert_eq!(claims.second_opinion == SecondOpinion::Agreed, claims.quote_version == 4);
}
