//! TDX from end to end, in real processes: what a genuine guest gets, and every refusal by its exact code beside a near miss.

mod world;

use portcullis_tests::arguments;
use portcullis_tests::installation::MODEL;
use portcullis_tests::machine::{SoftMachine, Tee};
use portcullis_tests::outsider::{Answer, Keys, Outsider};
use portcullis_tests::policy::TdDraft;
use portcullis_tests::recorder::Recorder;
use portcullis_tests::td::{self, Log, TdMachine};
use protocol::admin::Ending;
use protocol::documents::Kind;
use protocol::dsse::SignedDocument;
use protocol::ids::{Digest, Platform};
use protocol::messages::{EvidenceMessage, Item, ItemOutcome, ReleaseRequest};
use protocol::time::UnixTime;
use testbed::configfs::{FakeConfigfs, ccel};
use testbed::model;
use testbed::snp::Root;
use testbed::tdx::{Role, SoftTdx};
use world::{GENUINE, World, assert_exit, plaintext, text};

fn world() -> World {
    World::with_model_of(Tee::Tdx)
}

fn changed(change: impl FnOnce(&mut TdMachine)) -> TdMachine {
    TdMachine::default().with(change)
}

/// A guest on this machine is denied by exactly these checks, and learns the first.
fn assert_denied(world: &World, machine: TdMachine, codes: &[&str]) {
    let denied = world.check_on(&machine);
    assert_exit(&denied, 3);
    assert_eq!((text(&denied, "/result"), text(&denied, "/code")), ("denied".into(), codes[0].into()));
    assert_eq!(world.failed_checks(&denied), codes);
}

fn assert_permitted(world: &World, machine: TdMachine) {
    assert_exit(&world.check_on(&machine), 0);
}

/// A guest on this machine proves nothing: this check rejects its evidence.
fn assert_rejected(world: &World, machine: TdMachine, code: &str) {
    let rejected = world.check_on(&machine);
    assert_exit(&rejected, 3);
    assert_eq!(text(&rejected, "/code"), code);
    let explained = world.installation.explain(&text(&rejected, "/decision")).unwrap();
    assert!(matches!(explained.ending, Ending::Rejected { code: found, .. } if found == code));
}

#[test]
fn a_genuine_guest_opens_its_model_and_the_log_says_on_what() {
    let world = World::of(Tee::Tdx);
    let files = world.publish(MODEL, 1, "sealed", 1);
    let to = world.to("model");
    assert_exit(&world.installation.unseal("guest.toml", GENUINE, MODEL, "sealed", &to).unwrap(), 0);
    assert_eq!(model::read(&to).unwrap(), files);
    let checked = world.check();
    assert_exit(&checked, 0);
    let explained = world.installation.explain(&text(&checked, "/decision")).unwrap();
    let Ending::Decided { platform, claims, .. } = explained.ending else { panic!("{explained:?}") };
    assert_eq!(platform, Platform::Tdx);
    let mrtd: String = TdMachine::default().mrtd.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(claims.iter().any(|claim| claim.value.contains(&mrtd)), "{claims:?}");
    assert_exit(&world.installation.command(arguments!["audit", "verify"]).unwrap(), 0);
}

#[test]
fn another_image_is_denied_by_its_measurement() {
    let world = world();
    assert_denied(&world, changed(|machine| machine.mrtd[47] ^= 1), &["tdx-measurement"]);
    assert_permitted(&world, TdMachine::default());
}

#[test]
fn a_guest_that_can_be_debugged_or_moved_is_denied_and_one_without_more_is_not() {
    let world = world();
    assert_denied(&world, changed(|machine| machine.attributes |= TdMachine::DEBUG), &["tdx-debug"]);
    let migratable = 1 << 29;
    assert_denied(&world, changed(|machine| machine.attributes |= migratable), &["tdx-migratable"]);
    assert_permitted(&world, TdMachine::default());
}

#[test]
fn a_platform_behind_intels_newest_is_denied_and_one_ahead_of_it_is_not() {
    let world = world();
    assert_denied(&world, changed(|machine| machine.microcode -= 1), &["tdx-tcb-status"]);
    assert_permitted(&world, changed(|machine| machine.microcode += 1));
}

#[test]
fn what_was_booted_is_denied_event_by_event() {
    let world = world();
    assert_denied(&world, changed(|machine| machine.command_line = b"init=/bin/sh\0".to_vec()), &["tdx-rtmr2-events"]);
    // A log that is kept back proves nothing of what it would show; the registers without event rules are right all the same.
    assert_denied(&world, changed(|machine| machine.log = Log::Withheld), &["tdx-rtmr2-events"]);
    assert_permitted(&world, TdMachine::default());
    // A policy that asks for no event takes both.
    let digest = world.installation.config_digest("guest.toml").unwrap();
    let text = TdDraft::accepting(&TdMachine::default(), &[&digest]).text();
    let (rules, _) = text.split_once("[tdx.events").unwrap();
    let without_events = rules.replace("[tdx.rtmrs]\n", "[tdx.rtmrs]\nrtmr2 = \"not-checked\"\n");
    world.installation.put_policy_text(30, &without_events).unwrap();
    assert_permitted(&world, changed(|machine| machine.log = Log::Withheld));
    assert_permitted(&world, changed(|machine| machine.command_line = b"init=/bin/sh\0".to_vec()));
}

#[test]
fn a_hosts_own_word_at_launch_is_denied() {
    let world = world();
    assert_denied(&world, changed(|machine| machine.mrconfigid[0] = 1), &["tdx-mrconfigid"]);
    assert_permitted(&world, TdMachine::default());
}

#[test]
fn a_workload_cannot_ask_for_what_is_the_whole_machines_nor_the_reverse() {
    let world = world();
    let workload = || changed(|machine| machine.role = "workload:vllm".parse().unwrap());
    assert_denied(&world, workload(), &["role"]);
    let digest = world.installation.config_digest("guest.toml").unwrap();
    world.installation.put_policy_text(20, &TdDraft::accepting(&workload(), &[&digest]).text()).unwrap();
    assert_permitted(&world, workload());
    assert_denied(&world, TdMachine::default(), &["role"]);
}

#[test]
fn a_platform_under_another_root_proves_nothing_nor_does_one_of_another_vendor() {
    let world = world();
    assert_rejected(&world, changed(|machine| machine.root = Root::Other), "tdx-root-mismatch");
    // An installation that trusts no root of AMD's.
    let amd = world.check_on(&portcullis_tests::machine::Machine::default());
    assert_exit(&amd, 3);
    assert_eq!(text(&amd, "/code"), "snp-product-not-anchored");
    assert_permitted(&world, TdMachine::default());
}

#[test]
fn a_recorded_request_is_good_once_and_never_again() {
    let world = world();
    let recorder = Recorder::before(world.installation.url()).unwrap();
    world.installation.write_guest_of("recorded.toml", &recorder.url(), plaintext(&world.room)).unwrap();
    assert_exit(&world.check_as("recorded.toml", GENUINE, MODEL), 0);
    let outsider = Outsider::new(world.installation.url(), world.installation.root().unwrap()).unwrap();
    let problem = outsider.send_bytes(recorder.last_posted("/v1/release").unwrap()).unwrap().refusal().unwrap();
    assert_eq!((problem.status, problem.code.as_str()), (403, "challenge-replayed"));
    assert_exit(&world.check_as("recorded.toml", GENUINE, MODEL), 0);
}

/// An outsider of a world, and what it needs to speak for the genuine guest.
struct Session {
    outsider: Outsider,
    configuration: Digest,
    socket: std::path::PathBuf,
}

impl Session {
    fn of(world: &World) -> Self {
        let outsider = Outsider::new(world.installation.url(), world.installation.root().unwrap()).unwrap();
        let configuration = world.installation.config_digest("guest.toml").unwrap().parse().unwrap();
        Self { outsider, configuration, socket: world.installation.path(GENUINE) }
    }

    /// A fresh request of the genuine guest under these keys.
    fn request(&self, keys: &Keys) -> ReleaseRequest {
        let challenge = self.outsider.challenge().unwrap();
        let attested = self.outsider.attest(&self.socket, &challenge, keys, self.configuration).unwrap();
        let item = Item { kind: Kind::Model, name: MODEL.parse().unwrap(), version: None };
        self.outsider.request(&attested, &challenge, keys, item).unwrap()
    }

    fn refusal(&self, request: &ReleaseRequest, keys: &Keys) -> String {
        self.outsider.send(request, keys).unwrap().refusal().unwrap().code
    }

    /// What is granted to `keys` for this request.
    fn outcome(&self, world: &World, request: &ReleaseRequest, keys: &Keys) -> protocol::messages::Outcome {
        let Answer::Sealed(answer) = self.outsider.send(request, keys).unwrap() else { panic!("refused") };
        let digest = SignedDocument::sign(request, &keys.signing).unwrap().digest();
        answer.open(&digest, &world.installation.root().unwrap(), &keys.hpke, now()).unwrap()
    }
}

#[test]
fn evidence_serves_only_what_it_was_made_for() {
    let world = world();
    let session = Session::of(&world);
    let (own, thief) = (Keys::generate().unwrap(), Keys::generate().unwrap());
    let honest = session.request(&own);

    // Another guest's evidence under keys of one's own, with a challenge of one's own.
    let signed = SignedDocument::sign(&honest, &own.signing).unwrap().to_json();
    let stolen = Outsider::adopt(&signed, &session.outsider.challenge().unwrap(), &thief).unwrap();
    assert_eq!(session.refusal(&stolen, &thief), "tdx-report-data");
    // One's own, with one thing changed.
    let changed = |change: &dyn Fn(&mut ReleaseRequest)| {
        let mut request = honest.clone();
        change(&mut request);
        session.refusal(&request, &own)
    };
    assert_eq!(changed(&|request| request.hpke_key = thief.hpke.public().clone()), "tdx-report-data");
    assert_eq!(changed(&|request| request.role = "workload:vllm".parse().unwrap()), "tdx-report-data");
    assert_eq!(changed(&|request| request.configuration = Digest::from([7; 32])), "tdx-report-data");
    assert_eq!(changed(&|request| request.platform = Platform::SevSnp), "platform-mismatch");
    // The event log is bound as well: not without it, not with one byte more of padding, though both would replay.
    let log = |change: &dyn Fn(&mut Option<Vec<u8>>)| {
        changed(&|request| {
            let EvidenceMessage::Tdx { event_log, .. } = &mut request.evidence else { panic!("TDX") };
            change(event_log);
        })
    };
    assert_eq!(log(&|log| *log = None), "tdx-report-data");
    assert_eq!(log(&|log| log.as_mut().unwrap().push(0xff)), "tdx-report-data");

    // All as it was made: released, to these keys.
    let outcome = session.outcome(&world, &honest, &own);
    assert!(matches!(outcome.items.as_slice(), [ItemOutcome::Granted { .. }]));
}

#[test]
fn a_guest_renews_by_the_evidence_that_the_broker_holds_and_by_no_other() {
    let mut world = world();
    let session = Session::of(&world);
    let keys = Keys::generate().unwrap();
    let first = session.request(&keys);
    let renewal = |session: &Session| {
        let challenge = session.outsider.challenge().unwrap().as_bytes().to_vec();
        ReleaseRequest {
            request: protocol::ids::RequestId::random().unwrap(),
            challenge,
            evidence: EvidenceMessage::Held {},
            ..first.clone()
        }
    };
    assert_eq!(session.refusal(&renewal(&session), &keys), "attest-again");
    assert!(matches!(session.outcome(&world, &first, &keys).items.as_slice(), [ItemOutcome::Granted { .. }]));
    for _ in 0..2 {
        assert!(matches!(session.outcome(&world, &renewal(&session), &keys).items.as_slice(), [ItemOutcome::Granted { .. }]));
    }
    let other = ReleaseRequest { configuration: Digest::from([7; 32]), ..renewal(&session) };
    assert_eq!(session.refusal(&other, &keys), "attest-again");
    let other = ReleaseRequest { platform: Platform::SevSnp, ..renewal(&session) };
    assert_eq!(session.refusal(&other, &keys), "attest-again");
    // What is held is held in memory.
    world.installation.stop().unwrap();
    world.installation.start().unwrap();
    let session = Session::of(&world);
    assert_eq!(session.refusal(&renewal(&session), &keys), "attest-again");
}

#[test]
fn intels_collateral_is_needed_and_obeyed() {
    let genuine = td::collateral(&td::today());
    let check_with = |files: Vec<(&'static str, Vec<u8>)>| {
        let ended = World::with_collateral(Tee::Tdx, files).check();
        let code = if ended.code == 0 { String::new() } else { text(&ended, "/code") };
        (ended.code, code)
    };
    let without = |name: &str| genuine.iter().filter(|(file, _)| *file != name).cloned().collect::<Vec<_>>();
    let with = |name: &'static str, bytes: Vec<u8>| without(name).into_iter().chain([(name, bytes)]).collect::<Vec<_>>();
    let today = td::today();
    assert_eq!(check_with(without("tcb_info.json")), (3, "tdx-collateral-missing".into()));
    assert_eq!(check_with(without("qe_identity.json")), (3, "tdx-collateral-missing".into()));
    assert_eq!(check_with(without("root_ca_crl.der")), (3, "tdx-root-revocation-age".into()));
    assert_eq!(check_with(without("pck_crl_platform.der")), (3, "revocation-age".into()));
    // What another root's signer says is not taken in, under the chain of the right one or under its own.
    let other = SoftTdx::new().under(Root::Other);
    let by_another = with("tcb_info.json", other.tcb_info_body(|_| ()));
    assert_eq!(check_with(by_another.clone()), (3, "tdx-collateral-missing".into()));
    let chain = other.tcb_issuer_chain().into_bytes();
    let under_its_own =
        by_another.into_iter().map(|(name, bytes)| (name, if name == "tcb_signing_chain.pem" { chain.clone() } else { bytes }));
    assert_eq!(check_with(under_its_own.collect()), (3, "tdx-collateral-missing".into()));
    let revoked = today.pck_list_der(&[today.serial(Role::Pck)]);
    assert_eq!(check_with(with("pck_crl_platform.der", revoked)), (3, "tdx-pck-revoked".into()));
    let late = today.tcb_info_body(|info| info.levels[0].standing.status = "OutOfDate".to_owned());
    assert_eq!(check_with(with("tcb_info.json", late)), (3, "tdx-tcb-status".into()));
    assert_eq!(check_with(genuine.clone()), (0, String::new()));
}

#[test]
fn a_guest_collects_its_own_quote_and_event_log() {
    let world = world();
    let folder = world.installation.path("configfs");
    std::fs::create_dir(&folder).unwrap();
    let mounted = match FakeConfigfs::new(TdMachine::default().guest()).mount(&folder) {
        Ok(mounted) => mounted,
        Err(skipped) => return println!("{skipped}"),
    };
    let area = world.installation.path("CCEL");
    std::fs::write(&area, ccel(&TdMachine::default().event_log())).unwrap();
    let check = |event_log: &str| {
        let more = format!(
            "evidence = \"configfs\"\nconfigfs = \"{}\"\nevent-log = \"{event_log}\"\n{}",
            folder.display(),
            plaintext(&world.room)
        );
        world.installation.write_guest("configfs.toml", &more).unwrap();
        let how = arguments!["check", "--config", "configfs.toml", "--json", "--retry-for", "0", "--model", MODEL];
        world.installation.guest(how).unwrap()
    };
    assert_exit(&check(&area.display().to_string()), 0);
    let denied = check("none");
    assert_exit(&denied, 3);
    assert_eq!(world.failed_checks(&denied), ["tdx-rtmr2-events"]);
    assert!(mounted.instances().is_empty(), "a report instance was left behind");
}

#[test]
fn the_evidence_agent_serves_a_workload_of_a_trust_domain() {
    let world = world();
    let machine = changed(|machine| machine.role = "workload:vllm".parse().unwrap());
    let _agent = machine.start_agent(world.installation.programs(), "vllm.sock").unwrap();
    let digest = world.installation.config_digest("guest.toml").unwrap();
    world.installation.put_policy_text(20, &TdDraft::accepting(&machine, &[&digest]).text()).unwrap();
    let to = world.to("model");
    assert_exit(&world.installation.unseal("guest.toml", "vllm.sock", MODEL, "sealed", &to).unwrap(), 0);
    assert!(to.join("config.json").exists());
}

fn now() -> UnixTime {
    UnixTime::from_seconds(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}
