//! Claims as data, each the least that the full policy of its platform permits.
#![allow(dead_code, reason = "each test uses its own part")]

use attestation::{
    CollateralSource, EventLog, FirmwareVersion, GuestPolicy, MeasuredEvent, PckAuthority, PckClaims, ProductLine, ProductSource,
    Revocation, SecondOpinion, SigningKeyKind, SnpClaims, Tcb, TcbPart, TcbStatus, TcbVerdict, TdAttributes, TdBody, TdExtended, TdxClaims,
};
use protocol::time::UnixTime;

const DAY: u64 = 86400;
/// 2026-11-23T18:00:00Z.
pub const NOW: u64 = 1_795_456_800;

const fn at(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(seconds)
}

/// On a Genoa chip, under a VCEK, every minimum met exactly.
pub fn snp() -> SnpClaims {
    let tcb = |bootloader, snp, microcode| Tcb { fmc: None, bootloader, tee: 0, snp, microcode };
    let firmware = FirmwareVersion { major: 1, minor: 55, build: 40 };
    SnpClaims {
        version: 5,
        product: ProductLine::Genoa,
        product_from: ProductSource::Cpuid,
        stepping: Some("B1".into()),
        guest_svn: 3,
        guest_policy: GuestPolicy {
            abi_major: 1,
            abi_minor: 51,
            smt: false,
            migrate_ma: false,
            debug: false,
            single_socket: true,
            cxl: false,
            mem_aes_256_xts: true,
            rapl_disabled: true,
            ciphertext_hiding: true,
            page_swap_disabled: true,
            raw: 0x3d2_0133,
        },
        family_id: [0xf1; 16],
        image_id: [0xf2; 16],
        vmpl: 0,
        platform_info: 0b10_0100,
        signing_key: SigningKeyKind::Vcek,
        author_key_enabled: true,
        report_data: [0; 64],
        measurement: [0xa1; 48],
        host_data: [0xd1; 32],
        id_key_digest: [0xb1; 48],
        author_key_digest: Some([0xb2; 48]),
        report_id: [1; 32],
        report_id_ma: [0xff; 32],
        chip_id: Some([0xe1; 64]),
        csp_id: None,
        current_tcb: tcb(10, 22, 82),
        reported_tcb: tcb(10, 22, 82),
        committed_tcb: tcb(10, 22, 82),
        launch_tcb: tcb(9, 21, 72),
        current_version: firmware,
        committed_version: firmware,
        launch_mitigations: Some(0x3),
        current_mitigations: Some(0xb),
        revocation: Revocation::Checked {
            this_update: UnixTime::from_seconds(NOW - 30 * DAY),
            next_update: UnixTime::from_seconds(NOW + 300 * DAY),
        },
        second_opinion: SecondOpinion::Agreed,
    }
}

pub fn event(rtmr: u8, kind: u32, digest: u8) -> MeasuredEvent {
    MeasuredEvent { rtmr, kind, digest: [digest; 48], data: None }
}

/// A TD 1.5 Ex report in a quote of version 5, every minimum met exactly.
pub fn tdx() -> TdxClaims {
    let date = UnixTime::parse("2024-03-13T00:00:00Z").unwrap();
    let part = TcbPart { status: TcbStatus::UpToDate, date, advisories: Vec::new() };
    let source = CollateralSource { evaluation: 17, issued: at(NOW - 20 * DAY), next_update: at(NOW + 10 * DAY) };
    TdxClaims {
        quote_version: 5,
        body: TdBody::Td15Ex,
        tee_tcb_svn: [1; 16],
        mrseam: [0xa5; 48],
        mrsignerseam: [0; 48],
        seam_attributes: 0,
        td_attributes: TdAttributes { raw: TdAttributes::SEPT_VE_DISABLE },
        xfam: 0x600e7,
        mrtd: [0xa1; 48],
        mrconfigid: [0xd1; 48],
        mrowner: [0xd2; 48],
        mrownerconfig: [0xd3; 48],
        rtmrs: [[0xb0; 48], [0xb1; 48], [0xb2; 48], [0; 48]],
        report_data: [0; 64],
        tee_tcb_svn_2: Some([1; 16]),
        mrservicetd: Some([0xd4; 48]),
        extended: Some(TdExtended {
            vm_id: 1,
            td_id: [0xd5; 32],
            device_info: [0xd6; 48],
            initial_service_td_hash: [0xd4; 48],
            initial_service_td_attributes: 1 << 28,
            initial_cpu_svn: [0; 16],
            initial_tee_tcb_svn: [0; 16],
            initial_fmspc: [0; 12],
            current_service_td_hash: [0xd4; 48],
            current_service_td_attributes: 1 << 28,
        }),
        platform: PckClaims {
            authority: PckAuthority::Platform,
            fmspc: [0xb0, 0xc0, 0x6f, 0, 0, 0],
            pceid: [0; 2],
            ppid: [0xf3; 16],
            components: [1; 16],
            pce_svn: 13,
            platform_instance: Some([0xf1; 16]),
            dynamic_platform: Some(true),
            cached_keys: Some(true),
            smt_enabled: Some(false),
        },
        qe_isv_svn: 4,
        tcb: TcbVerdict {
            status: TcbStatus::UpToDate,
            date,
            advisories: Vec::new(),
            superseded: None,
            platform: part.clone(),
            module: Some(part.clone()),
            qe: part,
        },
        tcb_info: source,
        qe_identity: source,
        revocation: Revocation::Checked { this_update: at(NOW - 30 * DAY), next_update: at(NOW + DAY) },
        root_revocation: Revocation::Checked { this_update: at(NOW - 250 * DAY), next_update: at(NOW + 120 * DAY) },
        event_log: EventLog::Replayed {
            events: vec![
                event(0, 1, 0x77),
                event(1, 0x8000_0003, 0xe1),
                event(2, 13, 0xe4),
                event(1, 4, 0xe2),
                event(2, 13, 0xe5),
                event(1, 4, 0xe2),
            ],
        },
        second_opinion: SecondOpinion::Unavailable { why: "version 5" },
    }
}
