//! The certificate table that a host hands out beside a report.

#![no_main]

use attestation::SnpEvidence;
use libfuzzer_sys::fuzz_target;
use testbed::snp::{Guid, certificate_table};

fuzz_target!(|table: &[u8]| {
    let Ok(evidence) = SnpEvidence::from_certificate_table(b"report".to_vec(), table) else { return };
    assert_eq!(evidence.report, b"report");
    assert!(evidence.certificates.len() <= 4 && evidence.crls.len() <= 1);
    for content in evidence.certificates.iter().chain(&evidence.crls) {
        assert!(!content.is_empty() && table.windows(content.len()).any(|window| window == content), "content from nowhere");
    }
    // Written as a table again, it reads the same.
    let guids = [Guid::VCEK, Guid::VLEK, Guid::ASK, Guid::ARK];
    let named = guids.into_iter().zip(evidence.certificates.iter().map(Vec::as_slice));
    let blobs: Vec<_> = named.chain(evidence.crls.iter().map(|crl| (Guid::CRL, crl.as_slice()))).collect();
    let written = certificate_table(&blobs);
    if written.len() <= protocol::limits::SNP_CERTIFICATE_TABLE {
        assert_eq!(SnpEvidence::from_certificate_table(b"report".to_vec(), &written), Ok(evidence));
    }
});
