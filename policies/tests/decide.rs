//! Decisions over claims that were really verified: a soft SEV-SNP machine under its own root attests, `attestation` verifies,
//! the policy decides. And over the reports of real machines, where they are at hand.

use std::path::PathBuf;

use attestation::{
    Anchors, Collateral, Evidence, Lapsed, NoCache, PreparedCollateral, ProductLine, ReportDataRule, SnpEvidence, VerifiedClaims,
};
use policies::{Ask, Check, Decision, Policy, Verdict};
use protocol::hpke::RecipientSecret;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::time::UnixTime;
use protocol::transcript::Transcript;
use testbed::snp::{GuestShape, Leaf, Line, SoftGuest, SoftPlatform, Tcb};

/// 2026-11-23T18:00:00Z.
const NOW: UnixTime = UnixTime::from_seconds(1_795_456_800);
const HOUR: u64 = 3600;

fn later(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(NOW.seconds() + seconds)
}

/// A policy for the testbed's image on its Genoa machine.
fn text() -> String {
    let measurement = hex::encode(SoftPlatform::new(Line::Genoa).report().measurement);
    format!(
        r#"
        format = 1
        role = "whole-vm"
        configuration = ["{configuration}"]
        attestation-lifetime = "1 hour"
        [snp]
        vmpl = [0]
        [snp.measurements]
        testbed = ["{measurement}"]
        [snp.guest-policy]
        smt = "allowed"
        [snp.products.genoa]
        minimum-tcb = {{ bootloader = 10, tee = 0, snp = 27, microcode = 88 }}
        "#,
        configuration = "c1".repeat(32),
    )
}

fn policy(changes: &[(&str, &str)]) -> Policy {
    let mut text = text();
    for (from, to) in changes {
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in the policy");
        text = text.replace(from, to);
    }
    Policy::parse(&text).unwrap_or_else(|error| panic!("{error}\nhint: {}", error.hint()))
}

fn transcript() -> Transcript {
    Transcript {
        platform: Platform::SevSnp,
        installation: PublicKey::from_bytes([1; 32]),
        nonce: Nonce::from([2; 32]),
        hpke_key: RecipientSecret::from_seed(&[7; 32]).unwrap().public().clone(),
        signing_key: PublicKey::from_bytes([4; 32]),
        role: Role::WholeVm,
        configuration: Digest::from([0xc1; 32]),
        gpu_evidence: None,
        event_log: None,
    }
}

fn guest(shape: GuestShape) -> SoftGuest {
    SoftPlatform::new(Line::Genoa).guest(shape)
}

enum Lists {
    InForce,
    None,
}

fn verified(guest: &SoftGuest, transcript: &Transcript, lists: &Lists) -> VerifiedClaims {
    let attested = guest.attest(&transcript.report_data());
    let evidence = Evidence::Snp(SnpEvidence::from_certificate_table(attested.report, &attested.certificate_table).unwrap());
    let crls = match lists {
        Lists::InForce => vec![guest.platform.crl_der(&[])],
        Lists::None => Vec::new(),
    };
    let anchors = Anchors::test(vec![(ProductLine::Genoa, guest.platform.ark_der())]).unwrap();
    let collateral = PreparedCollateral::prepare(Collateral { crls, ..Collateral::default() }, &anchors);
    attestation::verify(&evidence, &collateral, &anchors, transcript, &NoCache, NOW).unwrap()
}

fn claims(shape: GuestShape) -> VerifiedClaims {
    verified(&guest(shape), &transcript(), &Lists::InForce)
}

fn ask() -> Ask {
    Ask { record: Digest::from([0x11; 32]), publisher: publisher(5), documents: Digest::from([0x22; 32]) }
}

fn publisher(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn failed(checks: &[Check]) -> Vec<&'static str> {
    checks.iter().filter(|check| check.verdict == Verdict::Failed).map(|check| check.code).collect()
}

/// The codes that `policy` denies for; none where it permits.
#[track_caller]
fn decide(policy: &Policy, claims: &VerifiedClaims, at: UnixTime) -> Vec<&'static str> {
    match policy.decide(claims, &ask(), None, at) {
        Decision::Permit(permit, checks) => {
            assert!(permit.expires() >= at && failed(&checks).is_empty());
            Vec::new()
        }
        Decision::Denial(checks) => {
            assert!(!failed(&checks).is_empty(), "a denial says why");
            failed(&checks)
        }
    }
}

macro_rules! pass {
    ($policy:expr, $claims:expr) => {
        assert_eq!(decide($policy, $claims, NOW), [""; 0])
    };
}

macro_rules! deny {
    ($policy:expr, $claims:expr => $($code:literal),+) => {
        assert_eq!(decide($policy, $claims, NOW), [$($code),+])
    };
}

#[test]
fn a_permit_carries_what_was_asked_and_the_key_that_was_attested() {
    let claims = claims(GuestShape::default());
    let Decision::Permit(permit, checks) = policy(&[]).decide(&claims, &ask(), None, later(600)) else { panic!("a permit") };
    assert_eq!(permit.record(), &ask().record);
    assert_eq!(permit.documents(), &ask().documents);
    assert_eq!(permit.guest_key(), &transcript().hpke_key);
    assert_eq!(permit.expires(), later(HOUR), "counted from the verification, not from the decision");
    assert!(checks.len() > 20 && checks.iter().all(|check| check.verdict == Verdict::Passed));
}

#[test]
fn an_attestation_is_good_for_its_lifetime_and_no_longer() {
    let claims = claims(GuestShape::default());
    let policy = policy(&[]);
    assert_eq!(decide(&policy, &claims, later(HOUR)), [""; 0]);
    assert_eq!(decide(&policy, &claims, later(HOUR + 1)), ["attestation-age"]);
    let before = UnixTime::from_seconds(NOW.seconds() - 1);
    assert_eq!(decide(&policy, &claims, before), ["attestation-age"]);
}

#[test]
fn the_transcript_is_held_to_the_role_and_the_configuration() {
    let of = |transcript: Transcript| verified(&guest(GuestShape::default()), &transcript, &Lists::InForce);
    let workload = of(Transcript { role: "workload:chat".parse().unwrap(), ..transcript() });
    deny!(&policy(&[]), &workload => "role");
    pass!(&policy(&[("\"whole-vm\"", "\"workload:chat\"")]), &workload);
    let other = of(Transcript { configuration: Digest::from([0xc2; 32]), ..transcript() });
    deny!(&policy(&[]), &other => "configuration");
    let list = format!("[\"{}\"]", "c1".repeat(32));
    pass!(&policy(&[(&list, "\"config-is-measured\"")]), &other);
}

#[test]
fn the_guest_is_held_to_its_measurement_and_launch() {
    let policy = policy(&[]);
    pass!(&policy, &claims(GuestShape::default()));
    deny!(&policy, &claims(GuestShape { measurement: Some([9; 48]), ..GuestShape::default() }) => "snp-measurement");
    deny!(&policy, &claims(GuestShape { policy: 0xb_0000, ..GuestShape::default() }) => "snp-debug");
    deny!(&policy, &claims(GuestShape { policy: 0x7_0000, ..GuestShape::default() }) => "snp-migration");
    deny!(&policy, &claims(GuestShape { policy: 0x23_0000, ..GuestShape::default() }) => "snp-cxl");
    pass!(&policy, &claims(GuestShape { policy: 0x2_0000, ..GuestShape::default() }));
    deny!(&policy, &claims(GuestShape { vmpl: 1, ..GuestShape::default() }) => "snp-vmpl");
    deny!(&policy, &claims(GuestShape { policy: 0xb_0000, vmpl: 3, ..GuestShape::default() }) => "snp-debug", "snp-vmpl");
}

#[test]
fn the_record_is_held_to_its_publisher() {
    let claims = claims(GuestShape::default());
    let naming = |key: PublicKey| policy(&[("[snp]", &format!("[record.publishers]\nacme-release = [\"{key}\"]\n[snp]"))]);
    pass!(&naming(publisher(5)), &claims);
    deny!(&naming(publisher(6)), &claims => "record-publisher");
    let Decision::Denial(checks) = naming(publisher(6)).decide(&claims, &ask(), None, NOW) else { panic!("a denial") };
    let check = checks.iter().find(|check| check.code == "record-publisher").unwrap();
    assert_eq!((check.expected.clone(), check.found.clone()), (format!("one of acme-release: {}", publisher(6)), publisher(5).to_string()));
    let Decision::Permit(_, checks) = naming(publisher(5)).decide(&claims, &ask(), None, NOW) else { panic!("a permit") };
    assert!(checks.iter().any(|check| check.found == format!("{} (acme-release)", publisher(5))), "a check that passed names the set");
    assert!(naming(publisher(6)).left_out().contains(&"record-publisher"), "evidence alone says nothing of a record");
    assert!(!policy(&[]).left_out().contains(&"record-publisher"));
}

#[test]
fn host_data_may_be_the_configuration_of_the_transcript() {
    let of = |host_data| claims(GuestShape { host_data, ..GuestShape::default() });
    deny!(&policy(&[]), &of([0xc1; 32]) => "snp-host-data");
    let policy = policy(&[("vmpl = [0]", "vmpl = [0]\nhost-data = \"configuration-digest\"")]);
    pass!(&policy, &of([0xc1; 32]));
    deny!(&policy, &of([0xc2; 32]) => "snp-host-data");
}

#[test]
fn an_id_block_is_held_to_its_keys_and_version() {
    let block = format!(
        "[snp.id-block]\nminimum-guest-svn = 2\nid-keys = {{ release = [\"{}\"] }}\nauthor-keys = {{ owner = [\"{}\"] }}\n[snp.guest-policy]",
        "b1".repeat(48),
        "b2".repeat(48)
    );
    let policy = policy(&[("[snp.guest-policy]", &block)]);
    let shape = GuestShape { guest_svn: 2, id_key_digest: [0xb1; 48], author_key_digest: Some([0xb2; 48]), ..GuestShape::default() };
    pass!(&policy, &claims(shape.clone()));
    deny!(&policy, &claims(GuestShape { guest_svn: 1, ..shape.clone() }) => "snp-guest-svn");
    deny!(&policy, &claims(GuestShape { author_key_digest: None, ..shape.clone() }) => "snp-author-key");
    deny!(&policy, &claims(GuestShape { id_key_digest: [0xb2; 48], ..shape }) => "snp-id-key");
    deny!(&policy, &claims(GuestShape::default()) => "snp-id-key", "snp-author-key", "snp-guest-svn");
}

#[test]
fn the_platform_is_held_to_its_tcb() {
    let old = Tcb { fmc: 0, bootloader: 10, tee: 0, snp: 27, microcode: 87 };
    let guest = SoftPlatform::new(Line::Genoa).with_tcb(old).guest(GuestShape::default());
    let claims = verified(&guest, &transcript(), &Lists::InForce);
    deny!(&policy(&[]), &claims => "snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch");
    pass!(&policy(&[("microcode = 88", "microcode = 87")]), &claims);
    let mut guest = SoftPlatform::new(Line::Genoa).guest(GuestShape::default());
    guest.report.launch_tcb = old;
    let claims = verified(&guest, &transcript(), &Lists::InForce);
    deny!(&policy(&[]), &claims => "snp-tcb-launch");
    guest.report.launch_tcb = guest.platform.tcb;
    guest.report.committed_version.build -= 1;
    let claims = verified(&guest, &transcript(), &Lists::InForce);
    deny!(&policy(&[]), &claims => "snp-provisional-firmware");
    pass!(&policy(&[("vmpl = [0]", "vmpl = [0]\nprovisional-firmware = \"accepted\"")]), &claims);
    let milan = "[snp.products.milan]\nminimum-tcb = { bootloader = 4, tee = 0, snp = 24, microcode = 219 }";
    let genoa = "[snp.products.genoa]\n        minimum-tcb = { bootloader = 10, tee = 0, snp = 27, microcode = 88 }";
    deny!(&policy(&[(genoa, milan)]), &self::claims(GuestShape::default()) => "snp-product");
}

#[test]
fn without_a_revocation_list_nothing_is_permitted() {
    let claims = verified(&guest(GuestShape::default()), &transcript(), &Lists::None);
    deny!(&policy(&[]), &claims => "revocation-age");
    let patient = ("format = 1", "format = 1\nrevocation-max-age = \"800 days\"");
    deny!(&policy(&[patient]), &claims => "revocation-age");
    let platform = SoftPlatform::new(Line::Genoa).dated(NOW.seconds() - 400 * 86400);
    let mut guest = platform.guest(GuestShape::default());
    let claims = verified(&guest, &transcript(), &Lists::InForce);
    deny!(&policy(&[]), &claims => "revocation-age");
    pass!(&policy(&[patient]), &claims);
    guest = SoftPlatform::new(Line::Genoa).dated(NOW.seconds()).guest(GuestShape::default());
    pass!(&policy(&[]), &verified(&guest, &transcript(), &Lists::InForce));
}

#[test]
fn a_vlek_is_held_to_its_provider() {
    let claims = claims(GuestShape { leaf: Leaf::Vlek, ..GuestShape::default() });
    deny!(&policy(&[]), &claims => "snp-signing-key", "snp-csp-allowed");
    let accept =
        |provider: &str| policy(&[("vmpl = [0]", &format!("vmpl = [0]\nsigning-keys = [\"vlek\"]\ncsps.allow = [\"{provider}\"]"))]);
    pass!(&accept("CN=cc-test-region.example"), &claims);
    deny!(&accept("CN=cc-other-region.example"), &claims => "snp-csp-allowed");
}

#[test]
fn a_chip_is_held_to_the_inventory() {
    let genoa = SoftPlatform::new(Line::Genoa);
    let inventory = format!("vmpl = [0]\nchips.allow = [\"{}\"]", hex::encode(genoa.chip_id));
    let policy = policy(&[("vmpl = [0]", &inventory)]);
    pass!(&policy, &claims(GuestShape::default()));
    let other = genoa.with_chip("second").guest(GuestShape::default());
    deny!(&policy, &verified(&other, &transcript(), &Lists::InForce) => "snp-chip-allowed");
}

#[test]
fn a_masked_version_2_report_needs_both_exceptions_by_name() {
    let mut guest = guest(GuestShape { version: Some(2), ..GuestShape::default() });
    pass!(&policy(&[]), &verified(&guest, &transcript(), &Lists::InForce));
    guest.report.chip_id = [0; 64];
    let claims = verified(&guest, &transcript(), &Lists::InForce);
    deny!(&policy(&[]), &claims => "second-opinion", "snp-chip-masked");
    let second_opinion = ("format = 1", "format = 1\nsecond-opinion-exceptions = [\"masked-version-2-report\"]");
    let masked = ("vmpl = [0]", "vmpl = [0]\nmasked-chips = \"accepted\"");
    deny!(&policy(&[second_opinion]), &claims => "snp-chip-masked");
    pass!(&policy(&[second_opinion, masked]), &claims);
}

/// The folder of real evidence; `None` where this checkout has none.
fn real_evidence() -> Option<PathBuf> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence");
    named.or(Some(beside)).filter(|folder| folder.join("snp").is_dir())
}

#[test]
fn reports_of_real_machines_are_judged_for_what_they_say() {
    let Some(folder) = real_evidence() else { return println!("skipped: no folder of real evidence") };
    let examine = |report: &str, leaf: &str, at: &str, policy: &Policy| {
        let read = |name: &str| std::fs::read(folder.join("snp").join(name)).unwrap();
        let evidence = SnpEvidence { report: read(report), certificates: vec![read(leaf)], ..SnpEvidence::default() };
        let anchors = Anchors::vendor();
        let at = UnixTime::parse(at).unwrap();
        let (evidence, collateral) = (Evidence::Snp(evidence), PreparedCollateral::prepare(Collateral::default(), &anchors));
        let judged = attestation::judge(&evidence, &collateral, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, at);
        failed(&policy.examine(judged.unwrap().platform(), None, None, at))
    };
    let line = |table: &str| policy(&[("[snp.products.genoa]", &format!("{table}\n[snp.products.genoa]"))]);
    // Without collateral and with the testbed's measurement, two checks fail on any of them.
    let any = ["revocation-age", "snp-measurement"];
    let at = "2026-03-01T00:00:00Z";
    let debug = examine("milan-v2-gosevguest-DEBUG.report.bin", "milan-v2-gosevguest-DEBUG.vcek.der", at, &policy(&[]));
    assert_eq!(debug, ["revocation-age", "snp-product", "snp-measurement", "snp-debug"]);
    let milan = line("[snp.products.milan]\nminimum-tcb = { bootloader = 3, tee = 0, snp = 20, microcode = 209 }");
    assert_eq!(examine("milan-v2-gcp-parfait.report.bin", "milan-v2-gcp-parfait.vcek.der", at, &milan), any);
    let turin = line("[snp.products.turin]\nminimum-tcb = { fmc = 1, bootloader = 1, tee = 1, snp = 4, microcode = 82 }");
    let turin = examine("turin-v5-azure-tav.report.bin", "turin-v5-azure-tav.vcek.der", at, &turin);
    let tcb = ["snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"];
    assert_eq!(turin, [&any[..], &tcb, &["snp-host-data"]].concat());
    let cloud = include_str!("../examples/cloud-vlek.toml");
    let cloud = Policy::parse(cloud).unwrap();
    let vlek = ("milan-v3-aws-vlek-trustee.report.bin", "milan-v3-aws-vlek-trustee.vlek.der");
    assert_eq!(examine(vlek.0, vlek.1, "2025-06-01T00:00:00Z", &cloud), any);
}
