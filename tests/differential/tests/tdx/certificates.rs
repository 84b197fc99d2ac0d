//! Soft certificates, each wrong or unusual in one thing and signed by the right authority; machines of all kinds; and what a PCK certificate
//! says of its platform.

use differential::ours::{Case, NOW};
use differential::peers::WHOLE_VERIFIER;
use differential::{Row, Table};
use testbed::der;
use testbed::tdx::{BasicConstraints, Certificate, PckAuthority, Role, SgxExtension, SoftTdx, oid, pem};

use crate::rules::{CHAIN, COMPONENTS, PARTS, PCEID, PROFILE, ROLE, WIDTH};
use crate::{compare_whole, finish};

pub const ROWS: &[Row] = &[
    Row::accepted(
        WHOLE_VERIFIER,
        "No matching TCB level found",
        COMPONENTS,
        &["PCK: a component above the CPUSVN's, which is below every level"],
    ),
    Row::accepted(WHOLE_VERIFIER, "PceSvn length mismatch", WIDTH, &["PCK: PCESVN 0x8000"]),
    Row::read(WHOLE_VERIFIER, "advisories", ["", "INTEL-SA-90001 INTEL-SA-90002"], COMPONENTS, &["PCK: a component above the CPUSVN's"]),
    Row::read(WHOLE_VERIFIER, "advisories", ["INTEL-SA-90001 INTEL-SA-90002", ""], COMPONENTS, &["PCK: a component below the CPUSVN's"]),
    Row::read(
        WHOLE_VERIFIER,
        "components",
        ["03040202040100050000000000000000", "04040202040100050000000000000000"],
        COMPONENTS,
        &["PCK: a component below the CPUSVN's"],
    ),
    Row::read(
        WHOLE_VERIFIER,
        "components",
        ["04040202040100050000000000000000", "03040202040100050000000000000000"],
        COMPONENTS,
        &["PCK: a component above the CPUSVN's"],
    ),
    Row::read(WHOLE_VERIFIER, "date", ["1710288000", "1755043200"], COMPONENTS, &["PCK: a component below the CPUSVN's"]),
    Row::read(WHOLE_VERIFIER, "date", ["1755043200", "1710288000"], COMPONENTS, &["PCK: a component above the CPUSVN's"]),
    Row::read(WHOLE_VERIFIER, "platform-date", ["1710288000", "1755043200"], COMPONENTS, &["PCK: a component below the CPUSVN's"]),
    Row::read(WHOLE_VERIFIER, "platform-date", ["1755043200", "1710288000"], COMPONENTS, &["PCK: a component above the CPUSVN's"]),
    Row::refused(WHOLE_VERIFIER, "tdx-certificate-name", PROFILE, &["PCK certificate: another name"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pceid-mismatch", PCEID, &["PCK: another PCEID"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-chain-count", CHAIN, &["chain no root", "chain with a fourth certificate"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-extension", PARTS, &["PCK: a part of an unknown kind"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-extension-duplicate", PARTS, &["PCK: a second FMSPC", "PCK: a second PPID"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-extension-forbidden", PARTS, &["PCK: a platform's part under the processor authority"]),
    Row::refused(WHOLE_VERIFIER, "tdx-pck-extension-missing", PARTS, &["PCK: 15 components", "PCK: nothing of the platform"]),
    Row::refused(
        WHOLE_VERIFIER,
        "tdx-pck-extension-value",
        PARTS,
        &["PCK: SGX type 3", "PCK: a PCEID of 3 bytes", "PCK: a component of two bytes"],
    ),
    Row::refused(WHOLE_VERIFIER, "tdx-root-mismatch", CHAIN, &["chain with another root"]),
    Row::refused(WHOLE_VERIFIER, "tdx-signer-name", ROLE, &["QE identity's signer: another name", "TCB signer: another name"]),
    Row::refused(WHOLE_VERIFIER, "tdx-tcb-not-supported", COMPONENTS, &["PCK: a component below the CPUSVN's and every level"]),
    Row::read(WHOLE_VERIFIER, "status", ["OutOfDate", "UpToDate"], COMPONENTS, &["PCK: a component below the CPUSVN's"]),
    Row::read(WHOLE_VERIFIER, "status", ["UpToDate", "OutOfDate"], COMPONENTS, &["PCK: a component above the CPUSVN's"]),
];

/// A change in a certificate before it is signed.
type CertificateChange = (&'static str, fn(&mut Certificate));
/// A change in a machine before anything is issued for it.
type MachineChange = (&'static str, fn(&mut SoftTdx));

/// The machine's quote with another chain.
fn quoted(platform: &SoftTdx, chain: &[Vec<u8>]) -> Vec<u8> {
    let certification = [pem::chain(chain).as_bytes(), &[0]].concat();
    platform.quote().with(|quote| quote.certification = certification).bytes()
}

#[test]
fn verdicts_under_changed_certificates_differ_only_as_listed() {
    let (mut table, platform) = (Table::new(ROWS), SoftTdx::new());
    let genuine = Case::soft("genuine", &platform);
    let quoted = |chain: &[Vec<u8>]| quoted(&platform, chain);
    let changes: [CertificateChange; 6] = [
        ("out of date", |certificate| certificate.valid.not_after = certificate.valid.not_before + 1),
        ("not valid yet", |certificate| certificate.valid.not_before = NOW + 86_400),
        ("another name", |certificate| certificate.subject.common_name.push_str(" 2")),
        ("another issuer", |certificate| certificate.issuer.common_name.push_str(" 2")),
        ("an authority of path length 0", |certificate| certificate.set_basic_constraints(BasicConstraints::PathLength(0))),
        ("no authority", |certificate| certificate.set_basic_constraints(BasicConstraints::NotAuthority)),
    ];
    for (name, change) in changes {
        let chain = |place: usize, der: Vec<u8>| {
            let mut chain = platform.pck_chain();
            chain[place] = der;
            quoted(&chain)
        };
        let pck = chain(0, platform.pck_with(change));
        compare_whole(&mut table, &genuine.with(&format!("PCK certificate: {name}"), |case| case.quote = pck));
        let authority = chain(1, platform.pck_authority_with(change));
        compare_whole(&mut table, &genuine.with(&format!("PCK authority: {name}"), |case| case.quote = authority));
        let signer = pem::chain(&[platform.tcb_signer_with(change), platform.root_der()]);
        compare_whole(&mut table, &genuine.with(&format!("TCB signer: {name}"), |case| case.bundle.tcb_info_issuer_chain = signer.clone()));
        compare_whole(
            &mut table,
            &genuine.with(&format!("QE identity's signer: {name}"), |case| case.bundle.qe_identity_issuer_chain = signer),
        );
    }
    let [pck, authority, root] = platform.pck_chain().try_into().unwrap();
    let chains: [(&str, Vec<Vec<u8>>); 6] = [
        ("no root", vec![pck.clone(), authority.clone()]),
        ("no authority", vec![pck.clone(), root.clone()]),
        ("the leaf alone", vec![pck.clone()]),
        ("in another order", vec![authority.clone(), pck.clone(), root.clone()]),
        ("with a fourth certificate", vec![pck.clone(), authority.clone(), root.clone(), root.clone()]),
        ("with another root", vec![pck, authority, SoftTdx::new().under(testbed::tdx::Root::Other).root_der()]),
    ];
    for (name, chain) in chains {
        let quote = quoted(&chain);
        compare_whole(&mut table, &genuine.with(&format!("chain {name}"), |case| case.quote = quote));
    }
    // Documents that a PCK certificate's key signed, under a chain that is genuine.
    let by_pck = platform.tcb_info_document(&platform.tcb_info()).with(|document| document.signer = platform.key(Role::Pck)).bytes();
    let chain = pem::chain(&platform.pck_chain());
    let signed = genuine.with("TCB info by the PCK", |case| {
        case.bundle.set_tcb_info(&by_pck);
        case.bundle.tcb_info_issuer_chain = chain;
    });
    compare_whole(&mut table, &signed);
    let by_root = platform.tcb_info_document(&platform.tcb_info()).with(|document| document.signer = platform.key(Role::Root)).bytes();
    let chain = pem::chain(&[platform.root_der()]);
    let signed = genuine.with("TCB info by the root", |case| {
        case.bundle.set_tcb_info(&by_root);
        case.bundle.tcb_info_issuer_chain = chain;
    });
    compare_whole(&mut table, &signed);
    let impostor = SoftTdx::new().under(testbed::tdx::Root::Other);
    let forged = Case::soft("everything under another root", &impostor)
        .with("everything under another root", |case| case.root = genuine.root.clone());
    compare_whole(&mut table, &forged);
    machines(&mut table);
    extensions(&mut table, &platform, &genuine);
    finish(&table);
}

/// Machines with genuine certificates of their own.
fn machines(table: &mut Table) {
    let machines: [MachineChange; 5] = [
        ("a machine of one package", |machine| machine.authority = PckAuthority::Processor),
        ("a machine of yesterday", |machine| machine.components[0] -= 1),
        ("a machine whose first component alone is newer", |machine| (machine.components[0], machine.components[1]) = (255, 3)),
        ("a machine of PCESVN 10", |machine| machine.pce_svn = 10),
        ("a machine of another family", |machine| machine.fmspc = [0x80, 1, 2, 3, 4, 0xff]),
    ];
    for (name, change) in machines {
        compare_whole(table, &Case::soft(name, &SoftTdx::new().with(change)));
    }
    for flags in 0..8u8 {
        let flag = |bit: u8| flags >> bit & 1 == 1;
        let machine = SoftTdx::new()
            .with(|machine| [machine.dynamic_platform, machine.cached_keys, machine.smt_enabled] = [flag(0), flag(1), flag(2)]);
        compare_whole(table, &Case::soft(&format!("configuration {flags:03b}"), &machine));
    }
}

fn drop_last<T>(items: &mut Vec<T>) {
    items.truncate(items.len() - 1);
}

/// A change in what a PCK certificate says of its platform, before it is signed.
type ExtensionChange = (&'static str, fn(&mut SgxExtension));

const EXTENSIONS: &[ExtensionChange] = &[
    ("genuine", |_| ()),
    ("a component below the CPUSVN's", |pck| pck.components[0] -= 1),
    ("a component below the CPUSVN's and every level", |pck| pck.components[0] = 0),
    ("a component above the CPUSVN's", |pck| pck.cpu_svn[0] -= 1),
    ("a component above the CPUSVN's, which is below every level", |pck| pck.cpu_svn[0] = 0),
    ("the highest component", |pck| (pck.components[15], pck.cpu_svn[15]) = (255, 255)),
    ("a component of two bytes", |pck| pck.components[0] = 256),
    ("15 components", |pck| drop_last(&mut pck.components)),
    ("17 components", |pck| pck.components.push(0)),
    ("a CPUSVN of 15 bytes", |pck| drop_last(&mut pck.cpu_svn)),
    ("PCESVN 10", |pck| pck.pce_svn = 10),
    ("PCESVN 0", |pck| pck.pce_svn = 0),
    ("PCESVN 0x80", |pck| pck.pce_svn = 0x80),
    ("PCESVN 0x100", |pck| pck.pce_svn = 0x100),
    ("PCESVN 0x7fff", |pck| pck.pce_svn = 0x7fff),
    ("PCESVN 0x8000", |pck| pck.pce_svn = 0x8000),
    ("PCESVN 0x10000", |pck| pck.pce_svn = 0x1_0000),
    ("another FMSPC", |pck| pck.fmspc[5] ^= 1),
    ("an FMSPC of 5 bytes", |pck| drop_last(&mut pck.fmspc)),
    ("another PCEID", |pck| pck.pce_id = vec![0, 1]),
    ("a PCEID of 3 bytes", |pck| pck.pce_id.push(0)),
    ("another PPID", |pck| pck.ppid = [0xff; 16]),
    ("another platform instance", |pck| pck.platform.as_mut().unwrap().instance = [0xff; 16]),
    ("a platform instance of zeros", |pck| pck.platform.as_mut().unwrap().instance = [0; 16]),
    ("a platform that cannot grow", |pck| pck.platform.as_mut().unwrap().dynamic_platform = false),
    ("keys that are not kept", |pck| pck.platform.as_mut().unwrap().cached_keys = false),
    ("one thread a core", |pck| pck.platform.as_mut().unwrap().smt_enabled = false),
    ("nothing of the platform", |pck| pck.platform = None),
    ("SGX type 0", |pck| pck.sgx_type = 0),
    ("SGX type 2", |pck| pck.sgx_type = 2),
    ("SGX type 3", |pck| pck.sgx_type = 3),
    ("a second PPID", |pck| pck.more.push(SgxExtension::element("1", &der::octet_string(&[7; 16])))),
    ("a second FMSPC", |pck| pck.more.push(SgxExtension::element("4", &der::octet_string(&[7; 6])))),
    ("a part of an unknown kind", |pck| pck.more.push(SgxExtension::element("8", &der::octet_string(&[7; 6])))),
];

/// PCK certificates that say something else of the platform, under either authority.
fn extensions(table: &mut Table, platform: &SoftTdx, genuine: &Case) {
    let certified = |platform: &SoftTdx, extension: &SgxExtension| {
        let mut chain = platform.pck_chain();
        chain[0] = platform.pck_with(|certificate| certificate.set(oid::SGX, extension.der()));
        quoted(platform, &chain)
    };
    for (name, change) in EXTENSIONS {
        let mut extension = platform.sgx_extension();
        change(&mut extension);
        let quote = certified(platform, &extension);
        compare_whole(table, &genuine.with(&format!("PCK: {name}"), |case| case.quote = quote));
    }
    let processor = SoftTdx::new().certified_by(PckAuthority::Processor);
    let mut extension = processor.sgx_extension();
    extension.platform = platform.sgx_extension().platform;
    let quote = certified(&processor, &extension);
    let case = Case::soft("PCK: a platform's part under the processor authority", &processor);
    let name = case.name.clone();
    compare_whole(table, &case.with(&name, |case| case.quote = quote));
}
