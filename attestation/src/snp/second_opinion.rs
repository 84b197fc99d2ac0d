//! A second opinion on the report: the `sev` crate's parser, which shares no code with ours, must read the same in every field of it
//! that a policy can read. It is given only what our parser accepted, and none of its verification is used.

use std::panic::{AssertUnwindSafe, catch_unwind};

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
    contained(|| {
        let refused = |why: String| Rejection::SecondOpinionRefused { why };
        let second = AttestationReport::from_bytes(report.bytes).map_err(|error| refused(error.to_string()))?;
        match difference(claims, &second) {
            Some(field) => Err(Rejection::SecondOpinion { field }),
            None => Ok(SecondOpinion::Agreed),
        }
    })
}

/// Runs somebody else's code on the attester's bytes: a panic in it is a rejection. Nothing that it touches is used after one.
fn contained<T>(work: impl FnOnce() -> Result<T, Rejection>) -> Result<T, Rejection> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(Rejection::SecondOpinionPanicked {}))
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

#[cfg(test)]
mod tests {
    use testbed::snp::{Cpuid, Line, SoftPlatform};

    use super::*;
    use crate::anchors::Anchors;
    use crate::collateral::{Collateral, Lapsed, PreparedCollateral};
    use crate::evidence::{Evidence, ReportDataRule, SnpEvidence};
    use crate::{PlatformClaims, judge};
    use protocol::time::UnixTime;

    /// A genuine report in which no field is the other's default, and what a policy would read in it.
    fn genuine(line: Line, product: ProductLine) -> (Vec<u8>, SnpClaims) {
        let platform = SoftPlatform::new(line);
        let report = platform.sign(&platform.report_of_version(5).with(|report| report.key_info |= 1));
        let anchors = Anchors::test(vec![(product, platform.ark_der())]).unwrap();
        let certificates = platform.certificates(testbed::snp::Leaf::Vcek);
        let evidence = Evidence::Snp(SnpEvidence { report: report.clone(), certificates, crls: Vec::new() });
        let at = UnixTime::from_seconds(1_795_392_000);
        let collateral = PreparedCollateral::prepare(Collateral::default(), &anchors);
        let genuine = judge(&evidence, &collateral, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, at).unwrap();
        let PlatformClaims::Snp(claims) = genuine.platform() else { panic!("not of SNP") };
        (report, claims.clone())
    }

    /// A field, and a change in the claim that stands for it.
    type Change = (&'static str, fn(&mut SnpClaims));

    const CHANGES: [Change; 37] = [
        ("VERSION", |claims| claims.version = 4),
        ("product line", |claims| claims.product = ProductLine::Genoa),
        ("GUEST_SVN", |claims| claims.guest_svn += 1),
        ("POLICY", |claims| claims.guest_policy.abi_major += 1),
        ("POLICY", |claims| claims.guest_policy.abi_minor += 1),
        ("POLICY", |claims| claims.guest_policy.smt ^= true),
        ("POLICY", |claims| claims.guest_policy.migrate_ma ^= true),
        ("POLICY", |claims| claims.guest_policy.debug ^= true),
        ("POLICY", |claims| claims.guest_policy.single_socket ^= true),
        ("POLICY", |claims| claims.guest_policy.cxl ^= true),
        ("POLICY", |claims| claims.guest_policy.mem_aes_256_xts ^= true),
        ("POLICY", |claims| claims.guest_policy.rapl_disabled ^= true),
        ("POLICY", |claims| claims.guest_policy.ciphertext_hiding ^= true),
        ("POLICY", |claims| claims.guest_policy.page_swap_disabled ^= true),
        ("POLICY", |claims| claims.guest_policy.raw ^= 1),
        ("FAMILY_ID", |claims| claims.family_id[15] ^= 1),
        ("IMAGE_ID", |claims| claims.image_id[0] ^= 1),
        ("VMPL", |claims| claims.vmpl += 1),
        ("PLATFORM_INFO", |claims| claims.platform_info ^= 1 << 6),
        ("SIGNING_KEY", |claims| claims.signing_key = SigningKeyKind::Vlek),
        ("AUTHOR_KEY_EN", |claims| claims.author_key_enabled ^= true),
        ("REPORT_DATA", |claims| claims.report_data[63] ^= 1),
        ("MEASUREMENT", |claims| claims.measurement[47] ^= 1),
        ("HOST_DATA", |claims| claims.host_data[31] ^= 1),
        ("ID_KEY_DIGEST", |claims| claims.id_key_digest[47] ^= 1),
        ("AUTHOR_KEY_DIGEST", |claims| claims.author_key_digest = None),
        ("REPORT_ID", |claims| claims.report_id[31] ^= 1),
        ("REPORT_ID_MA", |claims| claims.report_id_ma[31] ^= 1),
        ("CHIP_ID", |claims| claims.chip_id = None),
        ("CURRENT_TCB", |claims| claims.current_tcb.snp += 1),
        ("REPORTED_TCB", |claims| claims.reported_tcb.fmc = None),
        ("COMMITTED_TCB", |claims| claims.committed_tcb.tee += 1),
        ("LAUNCH_TCB", |claims| claims.launch_tcb.microcode += 1),
        ("CURRENT_VERSION", |claims| claims.current_version.minor += 1),
        ("COMMITTED_VERSION", |claims| claims.committed_version.build += 1),
        ("LAUNCH_MIT_VECTOR", |claims| claims.launch_mitigations = None),
        ("CURRENT_MIT_VECTOR", |claims| claims.current_mitigations = Some(0)),
    ];

    #[test]
    fn a_difference_in_any_field_is_named() {
        let (bytes, genuine) = genuine(Line::Turin, ProductLine::Turin);
        let report = Report::parse(&bytes).unwrap();
        assert_eq!(ask(&report, &genuine), Ok(SecondOpinion::Agreed));
        for (field, change) in CHANGES {
            let mut claims = genuine.clone();
            change(&mut claims);
            assert_eq!(ask(&report, &claims), Err(Rejection::SecondOpinion { field }));
        }
    }

    #[test]
    fn what_the_other_parser_refuses_is_refused_but_for_the_known_exception() {
        let (_, claims) = genuine(Line::Milan, ProductLine::Milan);
        let platform = SoftPlatform::new(Line::Milan);
        let unknown = platform.report().with(|report| report.cpuid = Some(Cpuid { family: 0x17, model: 1, stepping: 0 })).bytes();
        let refused = ask(&Report::parse(&unknown).unwrap(), &claims);
        assert_eq!(refused, Err(Rejection::SecondOpinionRefused { why: Generation::identify_cpu(0x17, 1).err().unwrap().to_string() }));
        let masked = platform.report_of_version(2).with(|report| report.chip_id = [0; 64]).bytes();
        let unavailable = ask(&Report::parse(&masked).unwrap(), &claims);
        assert_eq!(unavailable, Ok(SecondOpinion::Unavailable { why: MASKED_VERSION_2 }));
    }

    #[test]
    fn a_panic_in_the_other_parser_is_a_rejection_of_its_own() {
        assert_eq!(contained(|| -> Result<(), _> { panic!("anything") }), Err(Rejection::SecondOpinionPanicked {}));
        let refused = || Rejection::SecondOpinionRefused { why: "anything".to_owned() };
        assert_eq!(contained(|| -> Result<(), _> { Err(refused()) }), Err(refused()));
        assert_eq!(contained(|| Ok(7)), Ok(7));
    }

    #[test]
    fn venice_is_no_line_of_ours_to_the_other_parser_either() {
        let (bytes, mut claims) = genuine(Line::Turin, ProductLine::Turin);
        let mut venice = bytes;
        venice[0x189] = 0x50;
        claims.version = 5;
        let difference = ask(&Report::parse(&venice).unwrap(), &claims);
        assert_eq!(difference, Err(Rejection::SecondOpinion { field: "product line" }));
    }
}
