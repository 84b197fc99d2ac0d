//! That each claim about a TD and its platform is the field of its name: quotes and certificates in which no two fields are alike.

mod soft_tdx;

use attestation::{PckAuthority, TdBody, TdExtended, TdxClaims};
use soft_tdx::Case;
use testbed::tdx::{self, SoftTdx, TdReport, TdReportKind};

/// Bytes that no other field has: consecutive from a number on.
fn bytes<const N: usize>(from: u8) -> [u8; N] {
    std::array::from_fn(|index| from.wrapping_add(u8::try_from(index).unwrap()))
}

fn number(from: u8) -> u64 {
    u64::from_le_bytes(bytes(from))
}

/// Of the module of major version 1, newer than any level asks for.
fn svn(minor: u8, from: u8) -> [u8; 16] {
    let mut svn = bytes(from);
    (svn[0], svn[1]) = (minor, 1);
    svn
}

/// A machine of which everything that its PCK certificate says is its own.
fn machine() -> SoftTdx {
    SoftTdx::new().with(|machine| {
        machine.fmspc = bytes(1);
        machine.pce_id = bytes(11);
        machine.ppid = bytes(21);
        machine.components = bytes(41);
        machine.pce_svn = 0x1234;
        machine.platform_instance = bytes(61);
        machine.qe_isv_svn = 0x0908;
    })
}

/// Every field is its own but SEAMATTRIBUTES, which are zero in every quote that is accepted.
fn report(report: &mut TdReport) {
    report.tee_tcb_svn = svn(21, 100);
    report.mrseam = bytes(2);
    report.mrsignerseam = bytes(3);
    report.td_attributes = number(5);
    report.xfam = number(6);
    report.mrtd = bytes(7);
    report.mrconfigid = bytes(8);
    report.mrowner = bytes(9);
    report.mrownerconfig = bytes(10);
    report.rtmrs = [bytes(11), bytes(12), bytes(13), bytes(14)];
    report.report_data = bytes(15);
    report.tee_tcb_svn_2 = svn(22, 120);
    report.mrservicetd = bytes(17);
    report.extended = tdx::TdExtended {
        vm_id: 18,
        td_id: bytes(19),
        device_info: bytes(20),
        initial_service_td_hash: bytes(21),
        initial_service_td_attributes: number(22),
        initial_cpu_svn: bytes(23),
        initial_tee_tcb_svn: bytes(24),
        initial_fmspc: bytes(25),
        current_service_td_hash: bytes(26),
        current_service_td_attributes: number(27),
    };
}

/// The claims of such a quote, under a TCB info that knows the signer of its module.
fn claims(version: u16, kind: TdReportKind) -> TdxClaims {
    let info = machine().tcb_info_body(|info| info.module_identity("TDX_01").mrsigner = bytes(3));
    let case = Case::of(machine()).tcb_info(info).quote(|quote| {
        report(&mut quote.body);
        (quote.header.version, quote.body.kind) = (version, kind);
    });
    case.passes()
}

#[test]
fn each_claim_of_a_td_is_the_field_of_its_name() {
    for (version, kind, body) in [
        (4, TdReportKind::Td10, TdBody::Td10),
        (5, TdReportKind::Td10, TdBody::Td10),
        (5, TdReportKind::Td15, TdBody::Td15),
        (5, TdReportKind::Td15Ex, TdBody::Td15Ex),
    ] {
        let claims = claims(version, kind);
        assert_eq!((claims.quote_version, claims.body), (version, body));
        assert_eq!(claims.tee_tcb_svn, svn(21, 100));
        assert_eq!((claims.mrseam, claims.mrsignerseam, claims.seam_attributes), (bytes(2), bytes(3), 0));
        assert_eq!((claims.td_attributes.raw, claims.xfam), (number(5), number(6)));
        assert_eq!([claims.mrtd, claims.mrconfigid, claims.mrowner, claims.mrownerconfig], [7, 8, 9, 10].map(bytes));
        assert_eq!(claims.rtmrs, [11, 12, 13, 14].map(bytes));
        assert_eq!(claims.report_data, bytes(15));
        let newer = body != TdBody::Td10;
        assert_eq!(claims.tee_tcb_svn_2, newer.then_some(svn(22, 120)));
        assert_eq!(claims.mrservicetd, newer.then_some(bytes(17)));
        let extended = TdExtended {
            vm_id: 18,
            td_id: bytes(19),
            device_info: bytes(20),
            initial_service_td_hash: bytes(21),
            initial_service_td_attributes: number(22),
            initial_cpu_svn: bytes(23),
            initial_tee_tcb_svn: bytes(24),
            initial_fmspc: bytes(25),
            current_service_td_hash: bytes(26),
            current_service_td_attributes: number(27),
        };
        assert_eq!(claims.extended, (body == TdBody::Td15Ex).then_some(extended));
        assert_eq!(claims.qe_isv_svn, 0x0908);
    }
}

#[test]
fn each_claim_of_a_platform_is_the_part_of_its_name() {
    let platform = claims(4, TdReportKind::Td10).platform;
    assert_eq!(platform.authority, PckAuthority::Platform);
    assert_eq!((platform.fmspc, platform.pceid, platform.ppid), (bytes(1), bytes(11), bytes(21)));
    assert_eq!((platform.components, platform.pce_svn), (bytes(41), 0x1234));
    assert_eq!(platform.platform_instance, Some(bytes(61)));
}

#[test]
fn each_flag_of_a_platform_is_its_own() {
    let flags = |dynamic_platform, cached_keys, smt_enabled| {
        let machine = SoftTdx::new().with(|machine| {
            (machine.dynamic_platform, machine.cached_keys, machine.smt_enabled) = (dynamic_platform, cached_keys, smt_enabled);
        });
        let found = Case::of(machine).passes().platform;
        (found.dynamic_platform.unwrap(), found.cached_keys.unwrap(), found.smt_enabled.unwrap())
    };
    for set in [(false, false, false), (true, false, false), (false, true, false), (false, false, true), (true, true, true)] {
        assert_eq!(flags(set.0, set.1, set.2), set);
    }
}
