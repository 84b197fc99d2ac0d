//! Every refusal that the demo shows and some that it does not, by its exact code, each beside a near miss that passes.

mod world;

use portcullis_tests::arguments;
use portcullis_tests::installation::MODEL;
use portcullis_tests::machine::{Machine, Tee};
use portcullis_tests::outsider::{Answer, Keys, Outsider};
use portcullis_tests::policy::Draft;
use portcullis_tests::programs::Ended;
use portcullis_tests::recorder::Recorder;
use protocol::admin::Ending;
use protocol::documents::Kind;
use protocol::ids::Digest;
use protocol::messages::{Item, ItemOutcome};
use protocol::time::UnixTime;
use testbed::snp::{Authority, Line, Root, SoftPlatform};
use world::{GENUINE, World, assert_exit, plaintext, text};

/// A guest on this machine is denied by exactly these checks, learns the first, and leaves nothing behind.
fn assert_denied(world: &World, machine: Machine, codes: &[&str]) {
    let denied = world.check_on(&machine);
    assert_exit(&denied, 3);
    assert_eq!(text(&denied, "/result"), "denied");
    assert_eq!(text(&denied, "/code"), codes[0]);
    assert_eq!(world.failed_checks(&denied), codes);
}

fn assert_permitted(world: &World, machine: Machine) {
    assert_exit(&world.check_on(&machine), 0);
}

fn changed(change: impl FnOnce(&mut Machine)) -> Machine {
    Machine::default().with(change)
}

#[test]
fn another_image_is_denied_by_its_measurement() {
    let world = World::with_model();
    assert_denied(&world, changed(|machine| machine.measurement[47] ^= 1), &["snp-measurement"]);
    assert_permitted(&world, Machine::default());
}

#[test]
fn a_guest_that_can_be_debugged_is_denied_and_one_that_is_bound_more_is_not() {
    let world = World::with_model();
    assert_denied(&world, changed(|machine| machine.policy |= Machine::DEBUG), &["snp-debug"]);
    let single_socket = 1 << 20;
    assert_permitted(&world, changed(|machine| machine.policy |= single_socket));
    let migration_agent = 1 << 18;
    assert_denied(&world, changed(|machine| machine.policy |= migration_agent), &["snp-migration"]);
}

#[test]
fn firmware_below_the_minimum_is_denied_and_at_or_above_it_is_not() {
    let world = World::with_model();
    let tcb = ["snp-tcb-committed", "snp-tcb-reported", "snp-tcb-launch"];
    assert_denied(&world, changed(|machine| machine.firmware -= 1), &tcb);
    assert_permitted(&world, Machine::default());
    assert_permitted(&world, changed(|machine| machine.firmware += 1));
}

#[test]
fn less_privileged_code_and_a_hosts_own_data_are_denied() {
    let world = World::with_model();
    assert_denied(&world, changed(|machine| machine.vmpl = 1), &["snp-vmpl"]);
    assert_denied(&world, changed(|machine| machine.host_data[0] = 1), &["snp-host-data"]);
    assert_denied(&world, changed(|machine| (machine.vmpl, machine.host_data[31]) = (3, 1)), &["snp-vmpl", "snp-host-data"]);
}

#[test]
fn a_workload_cannot_ask_for_what_is_the_whole_machines_nor_the_reverse() {
    let world = World::with_model();
    let workload = || changed(|machine| machine.role = "workload:vllm".parse().unwrap());
    assert_denied(&world, workload(), &["role"]);
    let digest = world.installation.config_digest("guest.toml").unwrap();
    world.installation.put_policy(20, &Draft::accepting(&workload(), &[&digest])).unwrap();
    assert_permitted(&world, workload());
    assert_denied(&world, Machine::default(), &["role"]);
    assert_denied(&world, changed(|machine| machine.role = "workload:vllm2".parse().unwrap()), &["role"]);
}

#[test]
fn a_configuration_that_the_host_changed_is_denied_unless_the_change_matters_to_nobody() {
    let world = World::with_model();
    let guest = world.installation.read("guest.toml").unwrap();
    let check = |more: &str| {
        world.installation.write("changed.toml", format!("{guest}{more}\n").as_bytes()).unwrap();
        world.check_as("changed.toml", GENUINE, MODEL)
    };
    for weaker in ["stdout = \"allowed\"", "plain-http = \"anywhere\"", "covers = [\"/etc/hostname\"]"] {
        let denied = check(weaker);
        assert_exit(&denied, 3);
        assert_eq!((text(&denied, "/code"), world.failed_checks(&denied)), ("configuration".into(), vec!["configuration".into()]));
    }
    // Where evidence comes from and how long a call may take decide nothing about trust.
    for harmless in ["", "timeout-seconds = 60", "evidence = \"device\"", "# a comment"] {
        assert_exit(&check(harmless), 0);
    }
}

#[test]
fn a_platform_under_other_roots_proves_nothing() {
    let world = World::with_model();
    let rejected = world.check_on(&changed(|machine| machine.root = Root::Other));
    assert_exit(&rejected, 3);
    assert_eq!(text(&rejected, "/code"), "snp-chain-signature");
    assert_permitted(&world, Machine::default());
}

#[test]
fn a_recorded_request_is_good_once_and_never_again() {
    let world = World::with_model();
    let recorder = Recorder::before(world.installation.url()).unwrap();
    world.installation.write_guest_of("recorded.toml", &recorder.url(), plaintext(&world.room)).unwrap();
    assert_exit(&world.check_as("recorded.toml", GENUINE, MODEL), 0);
    let outsider = Outsider::new(world.installation.url(), world.installation.root().unwrap()).unwrap();
    let recorded = recorder.last_posted("/v1/release").unwrap();
    for _ in 0..2 {
        let problem = outsider.send_bytes(recorded.clone()).unwrap().refusal().unwrap();
        assert_eq!((problem.status, problem.code.as_str()), (403, "challenge-replayed"));
        let explained = world.installation.explain(&problem.decision.unwrap().to_string()).unwrap();
        assert!(matches!(explained.ending, Ending::Rejected { code, .. } if code == "challenge-replayed"));
    }
    // The guest itself, with a challenge of its own, is welcome.
    assert_exit(&world.check_as("recorded.toml", GENUINE, MODEL), 0);
}

#[test]
fn a_replayed_request_is_refused_by_a_broker_that_was_restarted_too() {
    let mut world = World::with_model();
    let recorder = Recorder::before(world.installation.url()).unwrap();
    world.installation.write_guest_of("recorded.toml", &recorder.url(), plaintext(&world.room)).unwrap();
    assert_exit(&world.check_as("recorded.toml", GENUINE, MODEL), 0);
    world.installation.stop().unwrap();
    world.installation.start().unwrap();
    let outsider = Outsider::new(world.installation.url(), world.installation.root().unwrap()).unwrap();
    let problem = outsider.send_bytes(recorder.last_posted("/v1/release").unwrap()).unwrap().refusal().unwrap();
    assert_eq!(problem.code, "challenge-replayed");
}

#[test]
fn evidence_serves_only_the_keys_and_the_challenge_that_it_was_made_for() {
    let world = World::with_model();
    let outsider = Outsider::new(world.installation.url(), world.installation.root().unwrap()).unwrap();
    let configuration: Digest = world.installation.config_digest("guest.toml").unwrap().parse().unwrap();
    let socket = world.installation.path(GENUINE);
    let item = Item { kind: Kind::Model, name: MODEL.parse().unwrap(), version: None };
    let (own, thief) = (Keys::generate().unwrap(), Keys::generate().unwrap());
    let challenge = outsider.challenge().unwrap();
    let attested = outsider.attest(&socket, &challenge, &own, configuration).unwrap();
    let refused = |request: &protocol::messages::ReleaseRequest, keys: &Keys| outsider.send(request, keys).unwrap().refusal().unwrap().code;

    // Another guest's evidence, with keys of one's own; and one's own, with one of the two keys another's.
    let request = |keys: &Keys| outsider.request(&attested, &challenge, keys, item.clone()).unwrap();
    assert_eq!(refused(&request(&thief), &thief), "snp-report-data");
    let mut one_other = request(&own);
    one_other.hpke_key = thief.hpke.public().clone();
    assert_eq!(refused(&one_other, &own), "snp-report-data");
    // Signed by another key than the request names: not even the request is one.
    assert_eq!(refused(&request(&own), &thief), "request-form");
    // Everything one's own, but for a later challenge, another role, another configuration.
    let later = outsider.request(&attested, &outsider.challenge().unwrap(), &own, item.clone()).unwrap();
    assert_eq!(refused(&later, &own), "snp-report-data");
    let mut other_role = request(&own);
    other_role.role = "workload:vllm".parse().unwrap();
    assert_eq!(refused(&other_role, &own), "snp-report-data");
    let mut other_configuration = request(&own);
    other_configuration.configuration = Digest::from([7; 32]);
    assert_eq!(refused(&other_configuration, &own), "snp-report-data");

    // The very same evidence with all that it was made for: released, to these keys and no others.
    let honest = request(&own);
    let Answer::Sealed(answer) = outsider.send(&honest, &own).unwrap() else { panic!("refused") };
    let digest = protocol::dsse::SignedDocument::sign(&honest, &own.signing).unwrap().digest();
    let (root, at) = (world.installation.root().unwrap(), UnixTime::from_seconds(now()));
    assert!(answer.open(&digest, &root, &thief.hpke, at).is_err());
    let outcome = answer.open(&digest, &root, &own.hpke, at).unwrap();
    assert!(matches!(outcome.items.as_slice(), [ItemOutcome::Granted { .. }]));
}

#[test]
fn a_revoked_version_is_denied_to_everybody_and_its_neighbours_are_not() {
    let world = World::with_model();
    world.publish(MODEL, 2, "sealed-2", 2);
    world.publish("acme/other", 1, "sealed-3", 3);
    let (first, second) = (format!("{MODEL}@1"), format!("{MODEL}@2"));
    assert_exit(&world.check_as("guest.toml", GENUINE, &first), 0);
    world.installation.revoke(&first, "withdrawn").unwrap();
    let revoked = |target: &str| {
        let denied = world.check_as("guest.toml", GENUINE, target);
        assert_exit(&denied, 3);
        assert_eq!(world.failed_checks(&denied), ["record-revoked"]);
    };
    revoked(&first);
    assert_exit(&world.check_as("guest.toml", GENUINE, &second), 0);
    // Without a version: all of them, also later ones.
    world.installation.revoke(MODEL, "all of it").unwrap();
    world.publish(MODEL, 3, "sealed-4", 4);
    for target in [second, format!("{MODEL}@3")] {
        revoked(&target);
    }
    assert_exit(&world.check_as("guest.toml", GENUINE, "acme/other"), 0);
}

#[test]
fn a_model_without_its_policy_waits() {
    let world = World::with_model();
    // Another policy than the one in force, which its authority has not put.
    let source = world.installation.path("sealed.plain");
    let seal = arguments!["seal", source, "--model", "acme/early", "--version", "1", "--out", "early", "--policy", "later"];
    let whose = arguments!["--authority", "authority.pub", "--publisher-key", "publisher.key"];
    assert_exit(&world.installation.command(seal.into_iter().chain(whose)).unwrap(), 0);
    world.installation.publish("early.record.json").unwrap();
    let denied = world.check_as("guest.toml", GENUINE, "acme/early");
    assert_exit(&denied, 3);
    assert_eq!(world.failed_checks(&denied), ["policy-present"]);
    let put = arguments!["policy", "put", "policy.toml", "--name", "later", "--version", "1", "--authority-key", "authority.key"];
    assert_exit(&world.installation.command(put).unwrap(), 0);
    assert_exit(&world.check_as("guest.toml", GENUINE, "acme/early"), 0);
}

#[test]
fn revocation_lists_of_the_vendor_are_needed_and_obeyed() {
    let mut world = World::with_collateral(Tee::Snp, Vec::new());
    let platform = SoftPlatform::new(Line::Milan);
    let code = |ended: &Ended| if ended.code == 0 { String::new() } else { text(ended, "/code") };
    let ended = world.check();
    assert_eq!((ended.code, code(&ended)), (3, "revocation-age".into()));
    // Once a list was there, it is kept: an older one does not take its place, nor does none.
    let mut check_with = |content: Vec<u8>| {
        world.installation.stop().unwrap();
        world.installation.write("collateral/milan.crl", &content).unwrap();
        world.installation.start().unwrap();
        world.follow_broker();
        let ended = world.check();
        (ended.code, code(&ended))
    };
    let stale = platform.crl_with(|list| (list.this_update, list.next_update) = (1_703_980_800, Some(1_704_060_000)));
    assert_eq!(check_with(stale.clone()), (3, "revocation-age".into()));
    assert_eq!(check_with(platform.crl_der(&[platform.serial(Authority::Ask)])), (3, "snp-authority-revoked".into()));
    assert_eq!(check_with(platform.crl_der(&[platform.serial(Authority::Asvk)])), (0, String::new()));
    assert_eq!(check_with(stale), (0, String::new()));
}

/// Seconds since 1970-01-01 UTC.
fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}
