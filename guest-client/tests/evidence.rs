//! Evidence: the real procedure over a fake configfs, with each of its faults; and the real agent over a soft platform.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use guest_client::agent::wire::{self, Question, Reply, VERSION};
use guest_client::agent::{ServeError, Served, bind, serve};
use guest_client::evidence::{AgentSocket, AttestInputs, Attester, Collected, ConfigfsTsm, EventLogChoice, EvidenceError, Local, Source};
use guest_client::exchange::{Class, ExchangeError};
use guest_client::retry::{Attempt, Pace, Patience, Waiting, persist};
use protocol::encoding::sha256;
use protocol::hpke::RecipientKey;
use protocol::ids::{Digest, Nonce, Platform, Role};
use protocol::keys::PublicKey;
use protocol::limits::{AGENT_CONNECTIONS, AGENT_MESSAGE, SNP_CERTIFICATE_TABLE};
use protocol::messages::EvidenceMessage;
use support::Soft;
use testbed::configfs::{FakeConfigfs, Fault, Mounted, ccel};
use testbed::snp::{GuestShape, Line, SoftPlatform};
use testbed::tdx::{Ending, EventLog, SoftTdx, TdReportKind, TdShape};

/// A fake configfs with these faults; `None`, with a line, where there is no FUSE.
fn configfs(faults: &[Fault], vmpl: u32) -> Option<(Mounted, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let guest = SoftPlatform::new(Line::Milan).guest(GuestShape { vmpl, ..GuestShape::default() });
    let fake = faults.iter().cloned().fold(FakeConfigfs::new(guest), FakeConfigfs::with);
    match fake.mount(folder.path()) {
        Ok(mounted) => Some((mounted, folder)),
        Err(reason) => {
            println!("{reason}");
            None
        }
    }
}

/// Collects over `[7; 64]`; whatever comes of it, no report instance stays behind.
fn collect(faults: &[Fault]) -> Option<Result<Collected, EvidenceError>> {
    let (mounted, _folder) = configfs(faults, 0)?;
    let collected = ConfigfsTsm::at(mounted.path()).collect(&[7; 64]);
    assert_eq!(mounted.instances(), Vec::<String>::new(), "after {faults:?}");
    Some(collected)
}

#[test]
fn configfs_gives_the_report_over_the_report_data_with_its_certificates() {
    let Some(collected) = collect(&[]) else { return };
    let expected = Soft::new().collect(&[7; 64]).unwrap();
    assert_eq!(collected.unwrap(), expected);
}

#[test]
fn a_guest_above_level_0_asks_for_its_own_level() {
    let Some((mounted, _folder)) = configfs(&[], 2) else { return };
    let collected = ConfigfsTsm::at(mounted.path()).collect(&[7; 64]).unwrap();
    assert_eq!(collected.report[0x30], 2);
    assert_eq!(mounted.instances(), Vec::<String>::new());
}

#[test]
fn a_rival_is_outlasted_and_one_that_stays_is_named() {
    for fault in [|times| Fault::RivalAfterInblob { times }, |times| Fault::RivalAfterOutblob { times }] {
        let Some(collected) = collect(&[fault(4)]) else { return };
        assert_eq!(collected.unwrap().report[0x50..0x90], [7; 64]);
        assert!(matches!(collect(&[fault(5)]), Some(Err(EvidenceError::Raced { attempts: 5 }))));
    }
}

#[test]
fn a_report_over_other_bytes_is_not_believed_though_no_counter_tells() {
    let Some(collected) = collect(&[Fault::OtherReportData]) else { return };
    assert!(matches!(collected, Err(EvidenceError::ReportData)));
}

#[test]
fn a_missing_or_foreign_provider_is_named() {
    let Some(collected) = collect(&[Fault::NoProvider]) else { return };
    assert!(matches!(collected, Err(EvidenceError::NoProvider)));
    let collected = collect(&[Fault::Provider("arm_cca_guest".into())]).unwrap();
    assert!(matches!(collected, Err(EvidenceError::OtherProvider { found }) if found == "arm_cca_guest"));
    // The name of one driver before the other's evidence.
    assert!(matches!(collect(&[Fault::Provider("tdx_guest".into())]), Some(Err(EvidenceError::QuoteVersion { .. }))));
    let (mounted, _folder) = configfs(&[Fault::Provider("arm_cca_guest".into())], 0).unwrap();
    assert!(matches!(ConfigfsTsm::at(mounted.path()).platform(), Err(EvidenceError::OtherProvider { .. })));
    assert_eq!(mounted.instances(), Vec::<String>::new());
    assert!(matches!(ConfigfsTsm::at(Path::new("/nonexistent")).collect(&[7; 64]), Err(EvidenceError::NoConfigfs { .. })));
}

#[test]
fn a_report_has_its_size() {
    let Some(collected) = collect(&[Fault::OutblobPadded(1)]) else { return };
    assert!(matches!(collected, Err(EvidenceError::ReportSize { expected: 1184, found: 1185 })));
    assert!(matches!(collect(&[Fault::OutblobCut(1183)]), Some(Err(EvidenceError::ReportSize { found: 1183, .. }))));
    assert!(matches!(collect(&[Fault::OutblobPadded(40_000)]), Some(Err(EvidenceError::TooLarge { .. }))));
}

#[test]
fn a_certificate_table_may_be_missing_or_empty_and_not_too_large() {
    for fault in [Fault::NoAuxblob, Fault::Auxblob(Vec::new())] {
        let Some(collected) = collect(&[fault]) else { return };
        assert_eq!(collected.unwrap().certificate_table, Vec::<u8>::new());
    }
    let full = Fault::Auxblob(vec![1; SNP_CERTIFICATE_TABLE]);
    assert_eq!(collect(&[full]).unwrap().unwrap().certificate_table.len(), SNP_CERTIFICATE_TABLE);
    let over = Fault::Auxblob(vec![1; SNP_CERTIFICATE_TABLE + 1]);
    assert!(matches!(collect(&[over]), Some(Err(EvidenceError::TooLarge { .. }))));
}

#[test]
fn a_write_that_the_kernel_dropped_silently_is_noticed() {
    let Some(collected) = collect(&[Fault::GenerationWrapped]) else { return };
    assert!(matches!(collected, Err(EvidenceError::NotTaken { expected: 1, found: 0 })));
    // With a level to write, the kernel says so itself.
    let (mounted, _folder) = configfs(&[Fault::GenerationWrapped], 1).unwrap();
    assert!(matches!(ConfigfsTsm::at(mounted.path()).collect(&[7; 64]), Err(EvidenceError::Busy { attempts: 5 })));
    assert_eq!(mounted.instances(), Vec::<String>::new());
}

#[test]
fn a_busy_firmware_is_asked_again_and_a_failing_one_is_not() {
    let fails = |errno, times| Fault::ReadFails { errno, times };
    let Some(collected) = collect(&[fails(libc::EBUSY, 2)]) else { return };
    assert!(collected.is_ok());
    assert!(matches!(collect(&[fails(libc::EBUSY, 5)]), Some(Err(EvidenceError::Busy { attempts: 5 }))));
    let (mounted, _folder) = configfs(&[fails(libc::EIO, 1)], 0).unwrap();
    let refused = ConfigfsTsm::at(mounted.path()).collect(&[7; 64]);
    assert!(matches!(refused, Err(EvidenceError::Io { error, .. }) if error.raw_os_error() == Some(libc::EIO)));
    assert_eq!(mounted.generated(), 0, "asked once");
    assert_eq!(mounted.instances(), Vec::<String>::new());
}

/// A fake configfs of this TD with these faults.
fn td_configfs(shape: TdShape, faults: &[Fault]) -> Option<(Mounted, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let fake = faults.iter().cloned().fold(FakeConfigfs::new(SoftTdx::new().guest(shape)), FakeConfigfs::with);
    match fake.mount(folder.path()) {
        Ok(mounted) => Some((mounted, folder)),
        Err(reason) => {
            println!("{reason}");
            None
        }
    }
}

/// Collects a quote over `[7; 64]`; whatever comes of it, no report instance stays behind.
fn quote(shape: TdShape, faults: &[Fault]) -> Option<Result<Collected, EvidenceError>> {
    let (mounted, _folder) = td_configfs(shape, faults)?;
    let collected = ConfigfsTsm::at(mounted.path()).collect(&[7; 64]);
    assert_eq!(mounted.instances(), Vec::<String>::new(), "after {faults:?}");
    Some(collected)
}

#[test]
fn configfs_gives_a_quote_over_the_report_data_without_the_zeros_behind_it() {
    for shape in [TdShape::default(), TdShape::version_5(TdReportKind::Td10), TdShape::version_5(TdReportKind::Td15)] {
        let report = SoftTdx::new().guest(shape.clone()).attest(&[7; 64]).quote;
        let expected = Collected { platform: Platform::Tdx, report, certificate_table: Vec::new() };
        let Some(collected) = quote(shape.clone(), &[]) else { return };
        assert_eq!(collected.unwrap(), expected);
        assert_eq!(quote(TdShape { padded_to: 8000, ..shape }, &[]).unwrap().unwrap(), expected);
    }
}

#[test]
fn a_quote_is_collected_under_the_same_care_as_a_report() {
    let refused = |fault: Fault| quote(TdShape::default(), &[fault]).map(Result::unwrap_err);
    let Some(error) = refused(Fault::OtherReportData) else { return };
    assert!(matches!(error, EvidenceError::ReportData));
    for fault in [|times| Fault::RivalAfterInblob { times }, |times| Fault::RivalAfterOutblob { times }] {
        assert!(matches!(refused(fault(5)), Some(EvidenceError::Raced { attempts: 5 })));
        assert_eq!(quote(TdShape::default(), &[fault(4)]).unwrap().unwrap().report[568..632], [7; 64]);
    }
    assert!(matches!(refused(Fault::GenerationWrapped), Some(EvidenceError::NotTaken { expected: 1, found: 0 })));
    assert!(matches!(refused(Fault::NoProvider), Some(EvidenceError::NoProvider)));
    assert!(matches!(refused(Fault::OutblobCut(631)), Some(EvidenceError::QuoteCut { found: 631 })));
    assert!(matches!(refused(Fault::Provider("sev_guest".into())), Some(EvidenceError::ReportSize { expected: 1184, .. })));
}

#[test]
fn a_host_without_a_quoting_service_is_an_outage_and_a_guest_without_a_report_is_not() {
    let fails = |errno, times| Fault::ReadFails { errno, times };
    for errno in [libc::ETIMEDOUT, libc::EIO] {
        let Some((mounted, _folder)) = td_configfs(TdShape::default(), &[fails(errno, 1)]) else { return };
        let source = ConfigfsTsm::at(mounted.path());
        let error = source.collect(&[7; 64]).unwrap_err();
        assert!(matches!(&error, EvidenceError::NoQuote { error: Some(cause) } if cause.raw_os_error() == Some(errno)), "{error}");
        assert_eq!((error.code(), error.is_outage()), ("evidence-no-quote", true));
        assert!(error.hint().contains("quote generation service"), "{}", error.hint());
        assert_eq!(source.collect(&[7; 64]).unwrap().report[568..632], [7; 64], "the service is back");
        assert_eq!(mounted.instances(), Vec::<String>::new());
    }
    let empty = quote(TdShape::default(), &[Fault::OutblobCut(0)]).unwrap().unwrap_err();
    assert!(matches!(empty, EvidenceError::NoQuote { error: None }) && empty.is_outage());
    // What is another's doing than the host's stays what it was, and so does an SNP guest's.
    let other = quote(TdShape::default(), &[fails(libc::EINVAL, 1)]).unwrap().unwrap_err();
    assert!(matches!(&other, EvidenceError::Io { error, .. } if error.raw_os_error() == Some(libc::EINVAL)) && !other.is_outage());
    let snp = collect(&[fails(libc::ETIMEDOUT, 1)]).unwrap().unwrap_err();
    assert!(matches!(&snp, EvidenceError::Io { .. }) && !snp.is_outage());
}

#[test]
fn an_interface_that_is_not_this_users_is_named() {
    let Some(denied) = quote(TdShape::default(), &[Fault::ReadFails { errno: libc::EACCES, times: 1 }]) else { return };
    assert!(matches!(denied, Err(EvidenceError::Permission { action: "read", path }) if path.ends_with("outblob")));
}

/// The attester of this TD over a fake configfs, with its event log in a file as the kernel shows it.
fn td(shape: TdShape) -> Option<(impl Source, Mounted, tempfile::TempDir, tempfile::NamedTempFile)> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let area = shape.event_log.as_ref().map(ccel).unwrap_or_default();
    std::fs::write(file.path(), area).unwrap();
    let (mounted, folder) = td_configfs(shape, &[])?;
    let source = ConfigfsTsm::at(mounted.path()).with_event_log(EventLogChoice::File(file.path().to_owned()));
    Some((source, mounted, folder, file))
}

#[test]
fn a_quote_binds_the_event_log_that_goes_with_it() {
    let Some((source, mounted, _folder, file)) = td(TdShape::default()) else { return };
    let attested = Local::whole_vm(source).attest(&inputs()).unwrap();
    let EvidenceMessage::Tdx { quote, event_log: Some(log) } = &attested.evidence else { panic!("{:?}", attested.evidence) };
    assert_eq!((attested.transcript.platform, attested.transcript.event_log), (Platform::Tdx, Some(sha256(log))));
    assert_eq!(quote[568..632], attested.transcript.report_data());
    // The records whole, and no more of the padding than shows that they ended.
    let area = std::fs::read(file.path()).unwrap();
    assert!(area.starts_with(log) && log.ends_with(&[0xff; 16]) && log.len() < 1024, "{}", log.len());
    let records = log.len() - 16;
    assert_eq!(EventLog::boot().with(|log| log.ending = Ending::None).bytes(), log[..records]);
    assert_eq!(mounted.instances(), Vec::<String>::new());
}

#[test]
fn a_td_without_an_event_log_says_so_in_its_transcript() {
    let Some((source, _mounted, _folder, _file)) = td(TdShape { event_log: None, ..TdShape::default() }) else { return };
    let attested = Local::whole_vm(source).attest(&inputs()).unwrap();
    assert_eq!(attested.transcript, inputs().transcript(Platform::Tdx, Role::WholeVm, None));
    assert!(matches!(attested.evidence, EvidenceMessage::Tdx { event_log: None, .. }));
}

#[test]
fn an_event_log_area_that_firmware_never_wrote_to_is_no_log() {
    for byte in [0xff, 0] {
        let Some((source, _mounted, _folder, file)) = td(TdShape { event_log: None, ..TdShape::default() }) else { return };
        std::fs::write(file.path(), vec![byte; 64 * 1024]).unwrap();
        let attested = Local::whole_vm(source).attest(&inputs()).unwrap();
        assert_eq!(attested.transcript, inputs().transcript(Platform::Tdx, Role::WholeVm, None));
        assert!(matches!(attested.evidence, EvidenceMessage::Tdx { event_log: None, .. }));
    }
}

#[test]
fn the_agent_serves_quotes_with_the_event_log_that_it_read() {
    let Some((source, _mounted, _folder, _file)) = td(TdShape::default()) else { return };
    let folder = agent(source, &["vllm"]);
    let attested = AgentSocket::at(&folder.path().join("vllm")).attest(&inputs()).unwrap();
    let log = attested.evidence.event_log_digest();
    assert!(log.is_some());
    assert_eq!(attested.transcript, inputs().transcript(Platform::Tdx, workload("vllm"), log));
}

#[test]
fn an_agents_quote_is_taken_with_the_event_log_that_it_binds_only() {
    let guest = SoftTdx::new().guest(TdShape::default());
    let answer = |platform, bound: Option<&[u8]>, sent: Option<&[u8]>| {
        let transcript = inputs().transcript(Platform::Tdx, workload("vllm"), bound.map(sha256));
        let evidence = EvidenceMessage::Tdx { quote: guest.attest(&transcript.report_data()).quote, event_log: sent.map(<[u8]>::to_vec) };
        let reply = Reply::Attested { platform, role: workload("vllm"), evidence };
        rogue(framed(&serde_json::to_string(&reply).unwrap()))
    };
    let log = Some(b"log".as_slice());
    for honest in [None, log] {
        let (_folder, socket) = answer(Platform::Tdx, honest, honest);
        assert_eq!(socket.attest(&inputs()).unwrap().transcript.event_log, honest.map(sha256));
    }
    for (bound, sent) in [(log, None), (None, log), (log, Some(b"lag".as_slice()))] {
        let (_folder, socket) = answer(Platform::Tdx, bound, sent);
        assert!(matches!(socket.attest(&inputs()), Err(EvidenceError::ReportData)));
    }
    let (_folder, socket) = answer(Platform::SevSnp, None, None);
    let refused = socket.attest(&inputs());
    assert!(matches!(refused, Err(EvidenceError::PlatformChanged { expected: Platform::SevSnp, found: Platform::Tdx })));
}

fn inputs() -> AttestInputs {
    AttestInputs {
        nonce: Nonce::from([1; 32]),
        installation: PublicKey::from_bytes([2; 32]),
        hpke_key: RecipientKey::from_bytes(&[3; 1216]).unwrap(),
        signing_key: PublicKey::from_bytes([4; 32]),
        configuration: Digest::from([5; 32]),
    }
}

fn workload(name: &str) -> Role {
    Role::Workload(name.parse().unwrap())
}

/// An agent over `source` that serves these roles at `ROLE` in the folder.
fn agent(source: impl Source + 'static, roles: &[&str]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let socket = |name: &&str| Served { listener: bind(&folder.path().join(name), 0o600).unwrap(), role: workload(name) };
    // Its threads end with the test's process.
    drop(serve(roles.iter().map(socket).collect(), source).unwrap());
    folder
}

#[test]
fn the_socket_and_not_the_caller_says_for_whom_evidence_speaks() {
    let folder = agent(Soft::new(), &["vllm", "tgi"]);
    let attest = |name: &str| AgentSocket::at(&folder.path().join(name)).attest(&inputs()).unwrap();
    let (vllm, tgi) = (attest("vllm"), attest("tgi"));
    assert_eq!((&vllm.transcript.role, &tgi.transcript.role), (&workload("vllm"), &workload("tgi")));
    let EvidenceMessage::SevSnp { report, .. } = &vllm.evidence else { panic!("{vllm:?}") };
    assert_eq!(report[0x50..0x90], vllm.transcript.report_data());
    assert_ne!(vllm.transcript.report_data(), tgi.transcript.report_data());
    let whole = Local::whole_vm(Soft::new()).attest(&inputs()).unwrap();
    assert_eq!(whole.transcript.role, Role::WholeVm);
}

#[test]
fn the_agent_over_the_fake_configfs_gives_evidence() {
    let Some((mounted, _folder)) = configfs(&[], 0) else { return };
    let folder = agent(ConfigfsTsm::at(mounted.path()), &["vllm"]);
    assert!(AgentSocket::at(&folder.path().join("vllm")).attest(&inputs()).is_ok());
    assert_eq!(mounted.instances(), Vec::<String>::new());
}

/// Sends bytes to an agent's socket and reads its answer.
fn exchange(path: &Path, bytes: &[u8]) -> Reply {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(bytes).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    wire::read(&mut stream).unwrap()
}

fn framed(json: &str) -> Vec<u8> {
    [&u32::try_from(json.len()).unwrap().to_be_bytes(), json.as_bytes()].concat()
}

#[test]
fn the_agent_takes_typed_questions_only() {
    let folder = agent(Soft::new(), &["vllm"]);
    let path = folder.path().join("vllm");
    let good = serde_json::to_string(&Question::new(&inputs())).unwrap();
    assert!(matches!(exchange(&path, &framed(&good)), Reply::Attested { .. }));
    let report_data = format!("{{\"version\":1,\"report_data\":\"{}\"}}", "00".repeat(64));
    let with_role = good.replacen('{', "{\"role\":\"whole-vm\",", 1);
    let old = good.replace(&format!("\"version\":{VERSION}"), "\"version\":2");
    for (bytes, expected) in [
        (framed(&report_data), "agent-message-form"),
        (framed(&with_role), "agent-message-form"),
        (framed("not json"), "agent-message-form"),
        (framed(&old), "agent-version"),
        (u32::MAX.to_be_bytes().to_vec(), "agent-message-size"),
        (framed(&good)[..20].to_vec(), "agent-connection"),
        (Vec::new(), "agent-connection"),
    ] {
        match exchange(&path, &bytes) {
            Reply::Refused { code, .. } => assert_eq!(code, expected),
            other => panic!("{expected}: {other:?}"),
        }
    }
    assert!(matches!(exchange(&path, &framed(&good)), Reply::Attested { .. }), "it serves on");
}

/// A source that fails, or counts how many use it at a time.
struct Counting {
    inside: AtomicUsize,
    most: Arc<AtomicUsize>,
    pause: Duration,
}

impl Source for Counting {
    fn platform(&self) -> Result<Platform, EvidenceError> {
        Ok(Platform::SevSnp)
    }

    fn collect(&self, report_data: &[u8; 64]) -> Result<Collected, EvidenceError> {
        let inside = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        std::thread::sleep(self.pause);
        self.inside.fetch_sub(1, Ordering::SeqCst);
        Soft::new().collect(report_data)
    }
}

#[test]
fn the_interface_serves_one_at_a_time_and_a_crowd_is_told_so() {
    let most = Arc::new(AtomicUsize::new(0));
    let source = Counting { inside: AtomicUsize::new(0), most: Arc::clone(&most), pause: Duration::from_millis(100) };
    let folder = agent(source, &["vllm", "tgi"]);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for index in 0..AGENT_CONNECTIONS * 3 {
            let (results, path) = (&results, folder.path().join(if index % 6 == 0 { "tgi" } else { "vllm" }));
            scope.spawn(move || {
                let result = AgentSocket::at(&path).attest(&inputs());
                results.lock().unwrap().push(result);
            });
        }
    });
    let results = results.into_inner().unwrap();
    let busy = |result: &Result<_, EvidenceError>| matches!(result, Err(EvidenceError::AgentBusy { code, .. }) if code == "agent-busy");
    let (refused, attested) =
        (results.iter().filter(|result| busy(result)).count(), results.iter().filter(|result| result.is_ok()).count());
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert!(attested >= AGENT_CONNECTIONS && refused > 0 && attested + refused == results.len(), "{attested} attested, {refused} refused");
}

#[test]
fn what_is_busy_behind_an_agent_is_an_outage_and_any_other_refusal_is_not() {
    let refused = |code: &str| {
        let reply = Reply::Refused { code: code.to_owned(), what: "words".to_owned() };
        rogue(framed(&serde_json::to_string(&reply).unwrap())).1.attest(&inputs()).unwrap_err()
    };
    for busy in ["agent-busy", "evidence-busy", "evidence-raced", "evidence-no-quote"] {
        let error = refused(busy);
        assert!(matches!(&error, EvidenceError::AgentBusy { code, .. } if code == busy), "{error}");
        assert_eq!((error.is_outage(), ExchangeError::from(error).class()), (true, Class::Outage(None)), "{busy}");
    }
    for other in ["evidence-no-provider", "evidence-busier", "agent-version", ""] {
        let error = refused(other);
        assert!(matches!(&error, EvidenceError::AgentRefused { code, .. } if code == other), "{error}");
        assert_eq!((error.is_outage(), ExchangeError::from(error).class()), (false, Class::NoEvidence), "{other}");
    }
}

/// Time that passes only while somebody sleeps.
#[derive(Default)]
struct Still(Mutex<Duration>);

impl Pace for Still {
    fn elapsed(&self) -> Duration {
        *self.0.lock().unwrap()
    }

    fn sleep(&self, duration: Duration) {
        *self.0.lock().unwrap() += duration;
    }

    fn below(&self, bound: Duration) -> Duration {
        bound
    }
}

#[test]
fn a_guest_outlasts_a_busy_agent_and_a_host_whose_quoting_service_comes_back() {
    // The interface gives up after five attempts, so that the agent answers twice that it is busy before it has a report.
    for fault in [Fault::ReadFails { errno: libc::EBUSY, times: 10 }, Fault::ReadFails { errno: libc::ETIMEDOUT, times: 2 }] {
        let Some((mounted, _folder)) = td_configfs(TdShape::default(), &[fault]) else { return };
        let folder = agent(ConfigfsTsm::at(mounted.path()).with_event_log(EventLogChoice::Without), &["vllm"]);
        let socket = AgentSocket::at(&folder.path().join("vllm"));
        let patience = Patience { outage: Duration::from_secs(60), denial: Waiting::No };
        let mut asked = 0;
        let attempt = || {
            asked += 1;
            match socket.attest(&inputs()).map_err(ExchangeError::from) {
                Err(error) if matches!(error.class(), Class::Outage(_)) => Attempt::Outage(Err(error), None),
                result => Attempt::Finished(result),
            }
        };
        let attested = persist(&Still::default(), &patience, attempt, |_, _, _| {});
        assert!(attested.is_ok(), "{attested:?}");
        assert_eq!(asked, 3);
    }
}

#[test]
fn the_agents_refusal_keeps_the_sources_code() {
    let folder = agent(ConfigfsTsm::at(Path::new("/nonexistent")), &["vllm"]);
    let refused = AgentSocket::at(&folder.path().join("vllm")).attest(&inputs());
    assert!(matches!(refused, Err(EvidenceError::AgentRefused { code, .. }) if code == "evidence-no-configfs"));
}

/// A rogue agent that answers every question with this.
fn rogue(answer: Vec<u8>) -> (tempfile::TempDir, AgentSocket) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut question = [0; 16];
            let _ = stream.read(&mut question);
            let _ = stream.write_all(&answer);
        }
    });
    (folder, AgentSocket::at(&path).with_patience(Duration::from_millis(500)))
}

#[test]
fn an_agents_answer_is_checked_against_what_was_asked() {
    let transcript = inputs().transcript(Platform::SevSnp, workload("vllm"), None);
    let answer = |report_data: [u8; 64]| {
        let Collected { report, certificate_table, .. } = Soft::new().collect(&report_data).unwrap();
        let evidence = EvidenceMessage::SevSnp { report, certificate_table };
        let reply = Reply::Attested { platform: Platform::SevSnp, role: workload("vllm"), evidence };
        framed(&serde_json::to_string(&reply).unwrap())
    };
    assert!(rogue(answer(transcript.report_data())).1.attest(&inputs()).is_ok());
    assert!(matches!(rogue(answer([7; 64])).1.attest(&inputs()), Err(EvidenceError::ReportData)));
    let held = Reply::Attested { platform: Platform::SevSnp, role: Role::WholeVm, evidence: EvidenceMessage::Held {} };
    let (_folder, socket) = rogue(framed(&serde_json::to_string(&held).unwrap()));
    assert!(matches!(socket.attest(&inputs()), Err(EvidenceError::PlatformUnknown { .. })));
    let oversized = u32::try_from(AGENT_MESSAGE + 1).unwrap().to_be_bytes().to_vec();
    assert!(matches!(rogue(oversized).1.attest(&inputs()), Err(EvidenceError::AgentAnswer(_))));
    assert!(matches!(rogue(framed("{}")).1.attest(&inputs()), Err(EvidenceError::AgentAnswer(_))));
}

#[test]
fn an_agent_that_is_gone_or_silent_is_unreachable() {
    let gone = AgentSocket::at(Path::new("/nonexistent/agent.sock")).attest(&inputs());
    assert!(matches!(gone, Err(EvidenceError::AgentUnreachable { .. })));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let _listener = UnixListener::bind(&path).unwrap();
    let silent = AgentSocket::at(&path).with_patience(Duration::from_millis(200)).attest(&inputs());
    assert!(matches!(silent, Err(EvidenceError::AgentUnreachable { error, .. }) if error.kind() == ErrorKind::TimedOut));
}

#[test]
fn a_socket_is_its_owners_and_served_once() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = bind(&path, 0o660).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
    assert!(matches!(bind(&path, 0o660), Err(ServeError::InUse { .. })));
    drop(listener);
    let again = bind(&path, 0o600).expect("what nobody serves is replaced");
    let other = bind(&folder.path().join("other"), 0o600).unwrap();
    let twice = vec![Served { listener: again, role: workload("a") }, Served { listener: other, role: workload("a") }];
    assert!(matches!(serve(twice, Soft::new()), Err(ServeError::Twice { what }) if what == "workload:a"));
    let file = folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(bind(&file, 0o600), Err(ServeError::NotASocket { .. })));
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
}
