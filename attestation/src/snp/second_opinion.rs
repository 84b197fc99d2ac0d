//! A second opinion on the report: the `sev` crate's parser, which shares no code with ours, must read the same in every field
//! that a policy can read. It is given only what our parser accepted, and none of its verification is used.

use sev::Generation;
use sev::firmware::guest::{AttestationReport, Version};
use sev::firmware::host::TcbVersion;
use sev::parser::ByteParser;

use super::report::Report;
use crate::claims::{FirmwareVersion, ProductLine, SecondOpinion, SigningKeyKind, SnpClaims, Tcb};
use crate::rejection::Rejection;

/// Why there is none on a version 2 report that does not name its chip: the parser guesses the TCB layout from the chip id.
const MASKED_VERSION_2: &str = "the independent parser cannot read version 2 reports without chip id";

/// Compares `claims`, as a policy would read them, with what the independent parser reads in the same bytes.
pub(super) fn ask(report: &Report<'_>, claims: &SnpClaims) -> Result<SecondOpinion, Rejection> {
    if report.version == 2 && report.chip_id_is_masked() {
        return Ok(SecondOpinion::Unavailable { why: MASKED_VERSION_2 });
    }
    let second = AttestationReport::from_bytes(report.bytes).map_err(|error| Rejection::SecondOpinionRefused { why: error.to_string() })?;
    match difference(claims, &second) {
        Some(field) => Err(Rejection::SecondOpinion { field }),
        None => Ok(SecondOpinion::Agreed),
    }
}

/// The first field that differs.
fn difference(claims: &SnpClaims, second: &AttestationReport) -> Option<&'static str> {
    let same = [
        ("VERSION", claims.version == second.version),
        ("product line", line(second).is_none_or(|line| line == Some(claims.product))),
        ("GUEST_SVN", claims.guest_svn == second.guest_svn),
        ("POLICY", policy(claims, second)),
        ("FAMILY_ID", claims.family_id == second.family_id),
        ("IMAGE_ID", claims.image_id == second.image_id),
        ("VMPL", claims.vmpl == second.vmpl),
        ("PLATFORM_INFO", claims.platform_info == u64::from(second.plat_info)),
        ("SIGNING_KEY", signing_key(second) == Some(claims.signing_key)),
        ("AUTHOR_KEY_EN", claims.author_key_enabled == second.key_info.author_key_en()),
        ("REPORT_DATA", claims.report_data == second.report_data),
        ("MEASUREMENT", claims.measurement == second.measurement),
        ("HOST_DATA", claims.host_data == second.host_data),
        ("ID_KEY_DIGEST", claims.id_key_digest == second.id_key_digest),
        ("AUTHOR_KEY_DIGEST", claims.author_key_digest == second.key_info.author_key_en().then_some(second.author_key_digest)),
        ("REPORT_ID", claims.report_id == second.report_id),
        ("REPORT_ID_MA", claims.report_id_ma == second.report_id_ma),
        ("CHIP_ID", claims.chip_id == (second.chip_id != [0; 64]).then_some(second.chip_id)),
        ("CURRENT_TCB", claims.current_tcb == tcb(second.current_tcb)),
        ("REPORTED_TCB", claims.reported_tcb == tcb(second.reported_tcb)),
        ("COMMITTED_TCB", claims.committed_tcb == tcb(second.committed_tcb)),
        ("LAUNCH_TCB", claims.launch_tcb == tcb(second.launch_tcb)),
        ("CURRENT_VERSION", claims.current_version == version(second.current)),
        ("COMMITTED_VERSION", claims.committed_version == version(second.committed)),
        ("LAUNCH_MIT_VECTOR", claims.launch_mitigations == second.launch_mit_vector),
        ("CURRENT_MIT_VECTOR", claims.current_mitigations == second.current_mit_vector),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}

/// The line by CPUID: `None` where the report has none, `Some(None)` where it is no line of ours.
fn line(second: &AttestationReport) -> Option<Option<ProductLine>> {
    let generation = Generation::identify_cpu(second.cpuid_fam_id?, second.cpuid_mod_id?);
    Some(match generation {
        Ok(Generation::Milan) => Some(ProductLine::Milan),
        Ok(Generation::Genoa) => Some(ProductLine::Genoa),
        Ok(Generation::Turin) => Some(ProductLine::Turin),
        Ok(Generation::Venice) | Err(_) => None,
    })
}

/// Every bit of POLICY that a policy can read by name, then all of them.
fn policy(claims: &SnpClaims, second: &AttestationReport) -> bool {
    let (own, other) = (&claims.guest_policy, &second.policy);
    u64::from(own.abi_major) == other.abi_major()
        && u64::from(own.abi_minor) == other.abi_minor()
        && own.smt == other.smt_allowed()
        && own.migrate_ma == other.migrate_ma_allowed()
        && own.debug == other.debug_allowed()
        && own.single_socket == other.single_socket_required()
        && own.cxl == other.cxl_allowed()
        && own.mem_aes_256_xts == other.mem_aes_256_xts()
        && own.rapl_disabled == other.rapl_dis()
        && own.ciphertext_hiding == other.ciphertext_hiding()
        && own.page_swap_disabled == other.page_swap_disabled()
        && own.raw == u64::from(*other)
}

fn signing_key(second: &AttestationReport) -> Option<SigningKeyKind> {
    match second.key_info.signing_key() {
        0 => Some(SigningKeyKind::Vcek),
        1 => Some(SigningKeyKind::Vlek),
        _ => None,
    }
}

const fn tcb(second: TcbVersion) -> Tcb {
    let TcbVersion { fmc, bootloader, tee, snp, microcode } = second;
    Tcb { fmc, bootloader, tee, snp, microcode }
}

const fn version(second: Version) -> FirmwareVersion {
    let Version { major, minor, build } = second;
    FirmwareVersion { major, minor, build }
}
