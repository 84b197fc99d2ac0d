//! `cargo demo`: it tells its story, takes what it says that it takes, and leaves nothing behind, however it ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use portcullis_tests::demo::{Afterwards, Page, Style, Wishes, agent, tell};
use portcullis_tests::machine::Tee;
use rustix::process::{Pid, Signal, kill_process};

const DEMO: &str = env!("CARGO_BIN_EXE_portcullis-demo");

/// The story of this kind of confidential VM, in which these refusals stand in this order.
fn told(tee: Tee, refusals: &[&str]) -> String {
    let mut story = Vec::new();
    let wishes = Wishes { tee, model: None, after: Afterwards::Remove, size: None };
    tell(&wishes, Path::new(DEMO), std::sync::Arc::default(), &mut Page::new(&mut story, Style::Plain)).unwrap();
    let story = String::from_utf8(story).unwrap();
    let mut rest = story.as_str();
    for part in ["initialised acme at broker, anchor class test", "RELEASED  and opened"]
        .iter()
        .chain(refusals)
        .chain(&["the log is whole", "Everything went as told."])
    {
        let (_, after) = rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} behind what came before in:\n{story}"));
        rest = after;
    }
    assert!(!story.contains('\u{1b}'), "colours where there is no terminal");
    // What the front page shows of it is what it prints.
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).unwrap();
    let blocks = readme.split("```").filter(|block| block.contains("RELEASED  and opened") || block.contains("DENIED  by check"));
    let shown: Vec<_> = blocks.filter(|block| block.contains("by check tdx-") == (tee == Tee::Tdx)).collect();
    assert_eq!(shown.len(), 1, "{shown:?}");
    for line in
        shown.iter().flat_map(|block| block.lines()).filter(|line| line.contains("DENIED") || line.contains("RELEASED") || is_heading(line))
    {
        assert!(story.contains(line), "README.md shows {line:?}, which the demo does not print");
    }
    story
}

#[test]
fn the_demo_tells_its_story_for_tdx_too() {
    let refusals = [
        "DENIED  by check tdx-measurement",
        "DENIED  by check tdx-debug",
        "DENIED  by check tdx-tcb-status",
        "DENIED  by check tdx-rtmr2-events",
        "DENIED  by check tdx-rtmr2-events",
        "DENIED  by check configuration",
        "REJECTED  by check challenge-replayed",
        "REJECTED  by check tdx-report-data",
        "DENIED  by check record-revoked",
    ];
    let story = told(Tee::Tdx, &refusals);
    assert!(!story.contains("AMD") && !story.contains("snp"), "{story}");
}

#[test]
fn the_demo_tells_its_story_from_beginning_to_end() {
    let refusals = [
        "DENIED  by check snp-measurement",
        "DENIED  by check snp-debug",
        "DENIED  by check snp-tcb-committed",
        "DENIED  by check configuration",
        "REJECTED  by check challenge-replayed",
        "REJECTED  by check snp-report-data",
        "DENIED  by check record-revoked",
    ];
    told(Tee::Snp, &refusals);
}

#[test]
fn the_agents_story_is_told_for_both() {
    for (tee, code) in [(Tee::Snp, "snp-measurement"), (Tee::Tdx, "tdx-measurement")] {
        let mut story = Vec::new();
        let wishes = Wishes { tee, model: None, after: Afterwards::Remove, size: None };
        agent::tell(&wishes, Path::new(DEMO), std::sync::Arc::default(), &mut Page::new(&mut story, Style::Plain)).unwrap();
        let story = String::from_utf8(story).unwrap();
        let mut rest = story.as_str();
        let denied = format!("DENIED  by check {code}");
        for part in [
            "I am  spiffe://acme.example/agents/research",
            "the tool answered  13 results",
            "REFUSED  by the tool: it is spiffe://acme.example/agents/search",
            &denied,
            "DENIED  by check identity-audience",
            "ENDED  the agent",
            "NOBODY  no identity",
            "the log is whole",
            "Everything went as told.",
        ] {
            rest = rest.split_once(part).unwrap_or_else(|| panic!("no {part:?} behind what came before in:\n{story}")).1;
        }
        assert!(!story.contains("sk-acme"), "the key is nowhere");
    }
    let told = Command::new(DEMO).args(["agent", "--size", "1G"]).output().unwrap();
    assert_eq!(told.status.code(), Some(2), "an agent has no size");
}

#[test]
fn rates_are_shown_beside_cp_where_there_is_room_for_them() {
    let told = Command::new(DEMO).args(["--size", "24M"]).output().unwrap();
    let story = String::from_utf8(told.stdout).unwrap();
    let said = String::from_utf8(told.stderr).unwrap();
    if said.contains("no memory file system has room") {
        println!("skipped: no memory file system with room for 72 MiB and without swap");
    } else {
        assert!(told.status.success(), "{story}{said}");
        let (_, rates) = story.split_once("How fast that is on this machine").unwrap();
        for line in ["cp -r", "seal ", "open "] {
            assert!(rates.lines().any(|found| found.contains(line) && found.ends_with("times as fast")), "{rates}");
        }
        assert!(rates.contains("Everything went as told."), "{rates}");
    }
    let told = Command::new(DEMO).args(["--size", "1024G"]).output().unwrap();
    assert_eq!((told.status.code(), told.stdout.len()), (Some(1), 0), "it is known before the story begins");
    let said = String::from_utf8(told.stderr).unwrap();
    assert!(said.contains("no memory file system has room for 3298.5 GB") && said.contains("hint: a smaller --size"), "{said}");
    assert_eq!(Command::new(DEMO).args(["--size", "4T"]).output().unwrap().status.code(), Some(2));
}

/// `6. A genuine guest asks`.
fn is_heading(line: &str) -> bool {
    line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok())
}

#[test]
fn the_demo_says_what_it_takes_and_refuses_what_it_does_not() {
    let run = |argument: &str| Command::new(DEMO).arg(argument).output().unwrap();
    let help = run("--help");
    assert!(help.status.success());
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("--model") && help.contains("--keep") && help.contains("--tee") && help.contains("[default: snp]"), "{help}");
    assert_eq!(run("--no-such-flag").status.code(), Some(2));
    assert_eq!(Command::new(DEMO).args(["--tee", "sgx"]).output().unwrap().status.code(), Some(2));
    for wrong in [
        &["machine"][..],
        &["machine", "--at", "soft", "--keep"],
        &["machine", "--at", "soft", "--size", "1G"],
        &["agent", "--at", "soft"],
        &["--workload", "vllm"],
        &["machine", "--at", "soft", "--workload", "../vllm"],
    ] {
        let ended = Command::new(DEMO).args(wrong).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{wrong:?}");
    }
    let missing = Command::new(DEMO).args(["--model", "no-such-folder"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8(missing.stderr).unwrap().contains("no-such-folder"));
}

#[test]
fn a_machine_serves_evidence_until_it_is_interrupted() {
    for (kind, root, policy) in [("snp", "Milan=", "[snp.measurements]"), ("tdx", "Intel=", "[tdx.measurements]")] {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().join("machine");
        let mut command = Command::new(DEMO);
        command.args(["machine", "--tee", kind, "--workload", "vllm", "--at"]).arg(&at).stdout(Stdio::piped());
        let mut machine = command.spawn().unwrap();
        let mut lines = BufReader::new(machine.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.by_ref().any(|line| line.contains(root)));
        assert!(lines.by_ref().any(|line| line.contains("evidence = ")));
        let evidence = Command::new(DEMO)
            .args([
                "--as",
                "portcullis-guest",
                "evidence",
                "--unpinned",
                "--evidence",
                &format!("agent:{}", at.join("agent.sock").display()),
            ])
            .arg("--report")
            .arg(folder.path().join("evidence"))
            .output()
            .unwrap();
        assert!(evidence.status.success(), "{}", String::from_utf8_lossy(&evidence.stderr));
        let text = fs::read_to_string(at.join("policy.toml")).unwrap();
        assert!(text.contains(policy) && text.contains("role = \"workload:vllm\""), "{text}");
        kill_process(Pid::from_child(&machine), Signal::INT).unwrap();
        assert_eq!((machine.wait().unwrap().code(), at.join("agent.sock").exists()), (Some(0), false));
    }
}

#[test]
fn a_model_of_ones_own_is_sealed_and_opened_and_the_folder_stays_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("my model");
    fs::create_dir_all(own.join("sub")).unwrap();
    let header = br#"{"w":{"dtype":"U8","shape":[100000],"data_offsets":[0,100000]}}"#;
    let weights = [&u64::try_from(header.len()).unwrap().to_le_bytes()[..], header, &[7; 100_000]].concat();
    fs::write(own.join("weights.safetensors"), weights).unwrap();
    fs::write(own.join("sub/empty"), b"").unwrap();
    let temporary = folder.path().join("temporary");
    fs::create_dir(&temporary).unwrap();
    let told = Command::new(DEMO).arg("--keep").arg("--model").arg(&own).env("TMPDIR", &temporary).output().unwrap();
    let story = String::from_utf8(told.stdout).unwrap();
    assert!(told.status.success(), "{story}{}", String::from_utf8_lossy(&told.stderr));
    assert!(story.contains("2 files") && story.contains("weights.safetensors"), "{story}");
    let kept = fs::read_dir(&temporary).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    assert_eq!(kept.len(), 1, "{kept:?}");
    assert!(kept[0].join("broker/store.sqlite").exists() && kept[0].join("sealed/weights.safetensors").exists());
    assert!(!opened_at(&story).exists());
}

#[test]
fn whoever_interrupts_it_finds_no_process_and_no_file_of_it() {
    for signal in [Signal::INT, Signal::TERM] {
        // On a busy machine the story may be over before the signal comes; then it is told again.
        let code = (0..20).map(|_| interrupt_behind("RELEASED", signal)).find(|code| *code != Some(0));
        assert_eq!(code, Some(Some(130)), "{signal:?}");
    }
}

/// Sends `signal` to a demo that has just printed `part`: its exit code, once it is sure that nothing of it is left.
fn interrupt_behind(part: &str, signal: Signal) -> Option<i32> {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(DEMO);
    command.env("TMPDIR", temporary.path()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = command.spawn().unwrap();
    let mut story = String::new();
    let mut lines = BufReader::new(demo.stdout.take().unwrap()).lines().map_while(Result::ok);
    for line in lines.by_ref() {
        story += &format!("{line}\n");
        if line.contains(part) {
            break;
        }
    }
    assert!(story.contains(part), "{story}");
    kill_process(Pid::from_child(&demo), signal).unwrap();
    // Read on: a demo that cannot print ends for another reason.
    lines.for_each(drop);
    let ended = demo.wait().unwrap();
    assert_eq!(fs::read_dir(temporary.path()).unwrap().count(), 0);
    assert!(!opened_at(&story).exists());
    let (_, url) = story.split_once("listening at http://").unwrap();
    assert!(TcpStream::connect(url.lines().next().unwrap()).is_err(), "the broker still listens");
    ended.code()
}

/// The folder in which the story opens the model.
fn opened_at(story: &str) -> PathBuf {
    let (_, to) = story.split_once(" --to ").unwrap();
    Path::new(to.lines().next().unwrap().trim_matches('\'')).parent().unwrap().to_owned()
}
