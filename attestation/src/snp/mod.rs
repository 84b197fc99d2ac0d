//! AMD SEV-SNP evidence, judged from top to bottom in [`judge`].

mod certificate_table;
pub(crate) mod chain;
mod crl;
mod leaf;
mod oid;
pub(crate) mod pieces;
mod product;
mod pss;
mod report;
pub(crate) mod roots;
mod second_opinion;
mod signature;
mod tcb;
#[cfg(test)]
mod vectors;

use std::sync::Arc;

use protocol::limits;
use protocol::time::UnixTime;

use self::chain::{Question, SnpChain};
use self::report::Report;
use crate::anchors::Anchors;
use crate::chains::{ChainCache, ChainKey, Origin, VerifiedChain};
use crate::claims::{GuestPolicy, ProductSource, SecondOpinion, SigningKeyKind, SnpClaims, Tcb};
use crate::collateral::SnpCollateral;
use crate::evidence::{ReportDataRule, SnpEvidence};
use crate::rejection::{HexBytes, Rejection};
use crate::steps::Steps;
use crate::x509::{Certificate, Malformed};

/// POLICY bits 26 to 63.
const POLICY_RESERVED: u64 = !0 << 26;

/// PLATFORM_INFO bits that are documented: 0 SMT_EN, 1 TSME_EN, 2 ECC_EN, 3 RAPL_DIS, 4 CIPHERTEXT_HIDING_DRAM_EN,
/// 5 ALIAS_CHECK_COMPLETE, 6 IOMMU_WRITE_SAFE (Turin sets it; early revisions of AMD 56860 have it reserved), 7 TIO_EN.
const PLATFORM_INFO_KNOWN: u64 = 0xff;

impl SnpEvidence {
    /// Evidence as Linux hands it out: a report, and the host's certificate table (empty where the host has none).
    ///
    /// # Errors
    /// [`Rejection::CertificateTable`] where the table breaks its format.
    pub fn from_certificate_table(report: Vec<u8>, table: &[u8]) -> Result<Self, Rejection> {
        let certificate_table::Table { certificates, crls } = certificate_table::parse(table)?;
        Ok(Self { report, certificates, crls })
    }
}

/// All steps of the crate's header, in order. Only evidence that passed every one leaves its chain in the cache.
pub(crate) fn judge(
    evidence: &SnpEvidence,
    collateral: &SnpCollateral,
    anchors: &Anchors,
    expected: &ReportDataRule,
    cache: &dyn ChainCache,
    at: UnixTime,
    steps: &mut Steps,
) -> Result<SnpClaims, Rejection> {
    // 1. Format: exact length, a known version, zero in every reserved field.
    counts(evidence, collateral)?;
    let report = Report::parse(&evidence.report)?;
    steps.passed(1, || format!("{} bytes, version {}, VMPL {}, reserved fields zero", report.bytes.len(), report.version, report.vmpl));

    // 2. Signature algorithm and signing key: ECDSA P-384, by a VCEK or a VLEK, not masked.
    let kind = report.signing_key()?;
    steps.passed(2, || format!("ECDSA P-384 with SHA-384 by a {kind}"));

    // 3. Product line: by CPUID. Version 2 has none: there the certificate names the line, at step 4.
    let line = report.cpuid.map(|(family, model)| product::from_cpuid(family, model)).transpose()?;
    if let Some(line) = line {
        anchors.root(line)?;
    }
    steps.passed(3, || match (line, report.cpuid) {
        (Some(line), Some((family, model))) => format!("{line} by CPUID family {family:#x} model {model:#x}"),
        _ => "version 2 has no CPUID: the certificate names the line".to_owned(),
    });

    // 4 to 6. Leaf certificate, chain and revocation; or all three from the cache, where they hold at this time.
    let question = Question { report: &report, kind, line, evidence, collateral, anchors };
    let key = ChainKey::of_snp(&question);
    let kept = cache.find(&key).and_then(|kept| kept.snp()).filter(|chain| chain.answers(&key, at));
    let (chain, origin) = match kept {
        Some(chain) => (chain, Origin::Cache),
        None => (Arc::new(SnpChain::establish(&question, key, at, steps)?), Origin::New),
    };
    let leaf = chain.leaf();

    // 7. Signature over the received bytes.
    signature::verify(&report, &leaf.key, kind)?;
    steps.passed(7, || format!("bytes 0 to {:#x} under the {kind}", report.signed.len()));

    // 8. TCB of the signing key: what the certificate says is what the report says, part by part.
    let tcb = |raw, field| tcb::decode(raw, leaf.line, field);
    let reported_tcb = tcb(report.reported_tcb, "REPORTED_TCB")?;
    let current_tcb = tcb(report.current_tcb, "CURRENT_TCB")?;
    let committed_tcb = tcb(report.committed_tcb, "COMMITTED_TCB")?;
    let launch_tcb = tcb(report.launch_tcb, "LAUNCH_TCB")?;
    leaf.check_reserved()?;
    if reported_tcb != leaf.tcb {
        return Err(Rejection::TcbMismatch { report: reported_tcb, certificate: leaf.tcb });
    }
    steps.passed(8, || format!("reported and certified: {reported_tcb}"));

    // 9. Chip identity: a VCEK is of one chip, the report's. A report that names no chip gives no claim of one.
    let chip_id = (!report.chip_id_is_masked()).then_some(report.chip_id);
    chip(chip_id, leaf.hwid)?;
    steps.passed(9, || match (kind, chip_id) {
        (SigningKeyKind::Vcek, Some(id)) => format!("reported and certified: {}", HexBytes::from(id)),
        (SigningKeyKind::Vcek, None) => "the report names no chip".to_owned(),
        (SigningKeyKind::Vlek, _) => format!("a VLEK of {}", leaf.csp_id.as_deref().unwrap_or_default()),
    });

    // 10. Report data: what the session asks for.
    report_data(expected, report.report_data)?;
    steps.passed(10, || match expected {
        ReportDataRule::Exactly(_) => format!("expected and found: {}", HexBytes::from(report.report_data)),
        ReportDataRule::NotCompared => format!("not compared: {}", HexBytes::from(report.report_data)),
    });

    // 11. Guest policy, structure.
    guest_policy(report.policy)?;
    steps.passed(11, || format!("{:#x}: bit 17 set, bits 26 to 63 clear", report.policy));

    // 12. TCB relations: the firmware runs at least what it reports, and committed to no more than it runs.
    tcb_relations(current_tcb, reported_tcb, committed_tcb)?;
    steps.passed(12, || format!("current {current_tcb}; not below reported, nor below committed {committed_tcb}"));

    // 13. Platform info, structure.
    platform_info(report.platform_info)?;
    steps.passed(13, || format!("{:#x}: no unknown bit", report.platform_info));

    // 14. Second opinion: on the claims as a policy will read them.
    let mut claims = SnpClaims {
        version: report.version,
        product: leaf.line,
        product_from: if line.is_some() { ProductSource::Cpuid } else { ProductSource::Certificate },
        stepping: leaf.stepping.clone(),
        guest_svn: report.guest_svn,
        guest_policy: decode_policy(report.policy),
        family_id: report.family_id,
        image_id: report.image_id,
        vmpl: report.vmpl,
        platform_info: report.platform_info,
        signing_key: kind,
        author_key_enabled: report.author_key_enabled(),
        report_data: report.report_data,
        measurement: report.measurement,
        host_data: report.host_data,
        id_key_digest: report.id_key_digest,
        author_key_digest: report.author_key_enabled().then_some(report.author_key_digest),
        report_id: report.report_id,
        report_id_ma: report.report_id_ma,
        chip_id,
        csp_id: leaf.csp_id.clone(),
        current_tcb,
        reported_tcb,
        committed_tcb,
        launch_tcb,
        current_version: report.current_version,
        committed_version: report.committed_version,
        launch_mitigations: report.mitigations.map(|(launch, _)| launch),
        current_mitigations: report.mitigations.map(|(_, current)| current),
        revocation: chain.revocation(at),
        second_opinion: SecondOpinion::Unavailable { why: "not asked" },
    };
    claims.second_opinion = second_opinion::ask(&report, &claims)?;
    steps.passed(14, || claims.second_opinion.to_string());

    if origin == Origin::New {
        cache.keep(key, Arc::new(VerifiedChain::of_snp(chain)));
    }
    Ok(claims)
}

/// What is wrong with the operator's certificates and lists, as far as that can be seen without evidence.
pub(crate) fn problems(collateral: &SnpCollateral, anchors: &Anchors) -> Vec<(String, Rejection)> {
    let certificates = collateral.certificates.iter().enumerate().filter_map(|(index, der)| {
        let Malformed(what) = Certificate::parse(der).err()?;
        Some((format!("SNP certificate {index}"), Rejection::CertificateMalformed { place: "collateral", index, what }))
    });
    let lists = collateral.crls.iter().enumerate().filter_map(|(index, list)| {
        let rejection = crl::check(index, list, anchors).err()?;
        Some((format!("SNP revocation list {index}"), rejection))
    });
    certificates.chain(lists).collect()
}

/// That no more certificates and lists came than anybody needs.
fn counts(evidence: &SnpEvidence, collateral: &SnpCollateral) -> Result<(), Rejection> {
    let limit = limits::CERTIFICATES;
    let lists = [
        ("certificates in the evidence", evidence.certificates.len()),
        ("revocation lists in the evidence", evidence.crls.len()),
        ("certificates in the collateral", collateral.certificates.len()),
        ("revocation lists in the collateral", collateral.crls.len()),
    ];
    match lists.into_iter().find(|(_, found)| *found > limit) {
        Some((what, found)) => Err(Rejection::TooMany { what, limit, found }),
        None => Ok(()),
    }
}

fn chip(chip_id: Option<[u8; 64]>, hwid: Option<[u8; 64]>) -> Result<(), Rejection> {
    match (chip_id, hwid) {
        (Some(report), Some(certificate)) if report != certificate => {
            Err(Rejection::ChipIdMismatch { report: HexBytes::from(report), certificate: HexBytes::from(certificate) })
        }
        _ => Ok(()),
    }
}

fn report_data(rule: &ReportDataRule, found: [u8; 64]) -> Result<(), Rejection> {
    match rule {
        ReportDataRule::Exactly(expected) if *expected != found => {
            Err(Rejection::ReportData { expected: HexBytes::from(*expected), found: HexBytes::from(found) })
        }
        _ => Ok(()),
    }
}

fn guest_policy(raw: u64) -> Result<(), Rejection> {
    if !bit(raw, 17) {
        return Err(Rejection::PolicyBit17 { found: raw });
    }
    if raw & POLICY_RESERVED != 0 {
        return Err(Rejection::PolicyReserved { found: raw });
    }
    Ok(())
}

fn tcb_relations(current: Tcb, reported: Tcb, committed: Tcb) -> Result<(), Rejection> {
    if !current.is_at_least(&reported) {
        return Err(Rejection::CurrentBelowReported { current, reported });
    }
    if !current.is_at_least(&committed) {
        return Err(Rejection::CommittedAboveCurrent { committed, current });
    }
    Ok(())
}

fn platform_info(found: u64) -> Result<(), Rejection> {
    match found & !PLATFORM_INFO_KNOWN {
        0 => Ok(()),
        unknown => Err(Rejection::PlatformInfoUnknown { found, unknown }),
    }
}

/// Bits 7:0 ABI_MINOR, 15:8 ABI_MAJOR, then one flag each.
fn decode_policy(raw: u64) -> GuestPolicy {
    let [abi_minor, abi_major, ..] = raw.to_le_bytes();
    GuestPolicy {
        abi_major,
        abi_minor,
        smt: bit(raw, 16),
        migrate_ma: bit(raw, 18),
        debug: bit(raw, 19),
        single_socket: bit(raw, 20),
        cxl: bit(raw, 21),
        mem_aes_256_xts: bit(raw, 22),
        rapl_disabled: bit(raw, 23),
        ciphertext_hiding: bit(raw, 24),
        page_swap_disabled: bit(raw, 25),
        raw,
    }
}

const fn bit(raw: u64, number: u32) -> bool {
    raw >> number & 1 == 1
}
