//! What the report builder writes, read back by the `sev` crate's parser: every field, every line, every version.

use sev::firmware::guest::AttestationReport;
use sev::firmware::host::TcbVersion;
use sev::parser::ByteParser;
use testbed::snp::{Cpuid, FirmwareVersion, KeyInfo, Line, ReportBuilder, SoftPlatform, Tcb};

/// A report in which no two fields and no two components have the same value.
fn distinct(platform: &SoftPlatform, version: u32) -> ReportBuilder {
    let tcb = |first: u8| Tcb {
        fmc: if platform.line == Line::Turin { first } else { 0 },
        bootloader: first + 1,
        tee: first + 2,
        snp: first + 3,
        microcode: first + 0x80,
    };
    platform.report_of_version(version).with(|report| {
        report.guest_svn = 0x0102_0304;
        report.policy = 0x0101_0000 | 1 << 17 | 0x1234;
        report.family_id = [0x11; 16];
        report.image_id = [0x12; 16];
        report.vmpl = 3;
        report.current_tcb = tcb(0x10);
        report.key_info = KeyInfo::VLEK | KeyInfo::AUTHOR_KEY_EN;
        report.report_data = std::array::from_fn(|index| index as u8);
        report.measurement = [0x21; 48];
        report.host_data = [0x22; 32];
        report.id_key_digest = [0x23; 48];
        report.author_key_digest = [0x24; 48];
        report.report_id = [0x25; 32];
        report.report_id_ma = [0x26; 32];
        report.reported_tcb = tcb(0x20);
        report.committed_tcb = tcb(0x30);
        report.current_version = FirmwareVersion { major: 1, minor: 2, build: 3 };
        report.committed_version = FirmwareVersion { major: 4, minor: 5, build: 6 };
        report.launch_tcb = tcb(0x40);
        if version >= 5 {
            report.launch_mitigations = Some(0x0102_0304_0506_0708);
            report.current_mitigations = Some(0x1112_1314_1516_1718);
        }
    })
}

fn parsed_tcb(tcb: Tcb, line: Line) -> TcbVersion {
    let fmc = (line == Line::Turin).then_some(tcb.fmc);
    TcbVersion { fmc, bootloader: tcb.bootloader, tee: tcb.tee, snp: tcb.snp, microcode: tcb.microcode }
}

#[test]
fn every_field_is_where_an_independent_parser_reads_it() {
    for line in Line::ALL {
        for version in 2..=5 {
            let platform = SoftPlatform::new(line);
            let written = distinct(&platform, version);
            let bytes = platform.sign(&written);
            let read = AttestationReport::from_bytes(&bytes).expect("the parser takes a genuine report");
            let tcb = |tcb| parsed_tcb(tcb, line);
            assert_eq!(read.version, version);
            assert_eq!(read.guest_svn, written.guest_svn);
            assert_eq!(u64::from(read.policy), written.policy);
            assert_eq!((read.family_id, read.image_id), (written.family_id, written.image_id));
            assert_eq!((read.vmpl, read.sig_algo), (3, 1));
            assert_eq!(read.current_tcb, tcb(written.current_tcb));
            assert_eq!(u64::from(read.plat_info), written.platform_info);
            assert_eq!(u32::from(read.key_info), written.key_info);
            assert_eq!(read.report_data, written.report_data);
            assert_eq!(read.measurement, written.measurement);
            assert_eq!(read.host_data, written.host_data);
            assert_eq!(read.id_key_digest, written.id_key_digest);
            assert_eq!(read.author_key_digest, written.author_key_digest);
            assert_eq!((read.report_id, read.report_id_ma), (written.report_id, written.report_id_ma));
            assert_eq!(read.reported_tcb, tcb(written.reported_tcb));
            let cpuid = read.cpuid_fam_id.zip(read.cpuid_mod_id).zip(read.cpuid_step);
            let cpuid = cpuid.map(|((family, model), stepping)| Cpuid { family, model, stepping });
            assert_eq!(cpuid, written.cpuid);
            assert_eq!(read.chip_id, written.chip_id);
            assert_eq!(read.committed_tcb, tcb(written.committed_tcb));
            assert_eq!((read.current.major, read.current.minor, read.current.build), (1, 2, 3));
            assert_eq!((read.committed.major, read.committed.minor, read.committed.build), (4, 5, 6));
            assert_eq!(read.launch_tcb, tcb(written.launch_tcb));
            assert_eq!(read.launch_mit_vector, written.launch_mitigations);
            assert_eq!(read.current_mit_vector, written.current_mitigations);
            // The parser writes its structure again and must arrive at the very same bytes, signature included.
            assert_eq!(read.to_bytes().expect("it parsed")[..], bytes[..], "{line:?} version {version}");
        }
    }
}
