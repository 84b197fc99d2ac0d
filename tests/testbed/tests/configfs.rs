//! The fake configfs through the kernel: ordinary file operations on a real mount. Skipped with a line where FUSE is not to be had.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use testbed::configfs::{FakeConfigfs, Fault, Mounted, serve};
use testbed::snp::{GuestShape, Line, SoftGuest, SoftPlatform};

/// A folder and what is mounted on it, in the order in which they must go.
struct Place {
    mounted: Mounted,
    _folder: tempfile::TempDir,
}

fn guest() -> SoftGuest {
    SoftPlatform::new(Line::Milan).guest(GuestShape::default())
}

fn mounted(configfs: FakeConfigfs) -> Option<Place> {
    let folder = tempfile::tempdir().unwrap();
    match configfs.mount(folder.path()) {
        Ok(mounted) => Some(Place { mounted, _folder: folder }),
        Err(reason) => {
            println!("{reason}");
            None
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn a_report_is_collected_as_from_the_kernel() {
    let Some(place) = mounted(FakeConfigfs::new(guest())) else { return };
    let report = place.mounted.path().join("mine");
    fs::create_dir(&report).unwrap();
    assert_eq!(place.mounted.instances(), ["mine"]);
    let mut names: Vec<_> = fs::read_dir(&report).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["auxblob", "generation", "inblob", "outblob", "privlevel", "privlevel_floor", "provider"]);
    assert_eq!(text(&report.join("provider")), "sev_guest\n");
    assert_eq!(text(&report.join("privlevel_floor")), "0\n");
    assert_eq!(text(&report.join("generation")), "0\n");
    fs::write(report.join("privlevel"), "0").unwrap();
    fs::write(report.join("inblob"), [7; 64]).unwrap();
    assert_eq!(text(&report.join("generation")), "2\n");
    let expected = guest().attest(&[7; 64]);
    assert_eq!(fs::read(report.join("outblob")).unwrap(), expected.report);
    assert_eq!(fs::read(report.join("auxblob")).unwrap(), expected.certificate_table);
    assert_eq!(fs::read(report.join("outblob")).unwrap(), expected.report);
    assert_eq!(text(&report.join("generation")), "2\n");
    assert_eq!(place.mounted.generated(), 1);
    fs::remove_dir(&report).unwrap();
    assert_eq!(fs::read(report.join("outblob")).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(place.mounted.instances().is_empty());
}

#[test]
fn an_inblob_is_delivered_when_it_is_closed() {
    let Some(place) = mounted(FakeConfigfs::new(guest())) else { return };
    let report = place.mounted.path().join("mine");
    fs::create_dir(&report).unwrap();
    let mut inblob = OpenOptions::new().write(true).open(report.join("inblob")).unwrap();
    inblob.write_all(&[1; 32]).unwrap();
    assert_eq!(text(&report.join("generation")), "0\n");
    inblob.write_all(&[2; 32]).unwrap();
    assert_eq!(errno(inblob.write(&[3])), Some(libc::EFBIG));
    drop(inblob);
    assert_eq!(text(&report.join("generation")), "1\n");
    let written = [[1; 32], [2; 32]].concat();
    assert_eq!(fs::read(report.join("outblob")).unwrap()[0x50..0x90], written);
    fs::write(report.join("inblob"), [4; 63]).expect("closing tells nothing of the driver's refusal");
    assert_eq!(errno(fs::read(report.join("outblob"))), Some(libc::EINVAL));
}

#[test]
fn refusals_have_the_kernels_error_numbers() {
    let Some(place) = mounted(FakeConfigfs::new(guest())) else { return };
    let report = place.mounted.path().join("mine");
    fs::create_dir(&report).unwrap();
    assert_eq!(errno(fs::create_dir(&report)), Some(libc::EEXIST));
    assert_eq!(errno(fs::create_dir(report.join("inner"))), Some(libc::EPERM));
    assert_eq!(errno(fs::read(report.join("outblob"))), Some(libc::EINVAL));
    assert_eq!(errno(fs::read(report.join("inblob"))), Some(libc::EACCES));
    assert_eq!(errno(fs::write(report.join("outblob"), [0; 64])), Some(libc::EACCES));
    assert_eq!(errno(fs::write(report.join("privlevel"), "4")), Some(libc::EINVAL));
    assert_eq!(errno(fs::write(report.join("privlevel"), [0])), Some(libc::EINVAL));
    assert_eq!(errno(fs::remove_file(report.join("outblob"))), Some(libc::EPERM));
    place.mounted.add_fault(Fault::NoProvider);
    assert_eq!(errno(fs::create_dir(place.mounted.path().join("other"))), Some(libc::ENXIO));
}

#[test]
fn a_rival_between_two_reads_shows_in_the_generation() {
    let Some(place) = mounted(FakeConfigfs::new(guest()).with(Fault::RivalAfterOutblob { times: 1 })) else { return };
    let report = place.mounted.path().join("mine");
    fs::create_dir(&report).unwrap();
    fs::write(report.join("inblob"), [7; 64]).unwrap();
    assert_eq!(text(&report.join("generation")), "1\n");
    assert_eq!(fs::read(report.join("outblob")).unwrap()[0x50..0x90], [7; 64]);
    assert_eq!(text(&report.join("generation")), "2\n");
    assert_ne!(fs::read(report.join("outblob")).unwrap()[0x50..0x90], [7; 64]);
}

#[test]
fn blobs_are_wrong_on_request() {
    let configfs = FakeConfigfs::new(guest()).with(Fault::NoAuxblob).with(Fault::OutblobPadded(16)).with(Fault::OtherReportData);
    let Some(place) = mounted(configfs.with(Fault::ReadFails { errno: libc::EIO, times: 1 })) else { return };
    let report = place.mounted.path().join("mine");
    fs::create_dir(&report).unwrap();
    fs::write(report.join("inblob"), [7; 64]).unwrap();
    assert_eq!(errno(fs::read(report.join("outblob"))), Some(libc::EIO));
    let outblob = fs::read(report.join("outblob")).unwrap();
    assert_eq!(outblob.len(), 1184 + 16);
    assert_ne!(outblob[0x50..0x90], [7; 64]);
    assert_eq!(fs::read(report.join("auxblob")).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn dropping_it_unmounts_even_under_an_open_file() {
    let folder = tempfile::tempdir().unwrap();
    let mounted = match FakeConfigfs::new(guest()).mount(folder.path()) {
        Ok(mounted) => mounted,
        Err(reason) => return println!("{reason}"),
    };
    fs::create_dir(folder.path().join("mine")).unwrap();
    let mut provider = File::open(folder.path().join("mine/provider")).unwrap();
    drop(mounted);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let mut name = String::new();
    provider.read_to_string(&mut name).unwrap();
    assert_eq!(name, "sev_guest\n", "whoever still has a file open is served until it is closed");
}

/// What the test below runs in a process of its own.
const SERVED: &str = "the_fake_runs_as_a_process_that_ends_with_its_parents_pipe";

#[test]
fn the_fake_runs_as_a_process_that_ends_with_its_parents_pipe() {
    if let Ok(folder) = std::env::var("TESTBED_SERVE") {
        let arguments = ["mount", &folder, "line", "turin", "vmpl", "1", "fault", "no-auxblob"].map(str::to_owned);
        if let Err(reason) = serve(arguments) {
            println!("{reason}");
        }
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", SERVED, "--nocapture"])
        .env("TESTBED_SERVE", folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let said = lines.find_map(|line| line.ok().filter(|line| line.ends_with("ready") || line.contains("skipped:"))).unwrap();
    if said.ends_with("ready") {
        let report = folder.path().join("mine");
        fs::create_dir(&report).unwrap();
        assert_eq!(text(&report.join("privlevel_floor")), "1\n");
        fs::write(report.join("privlevel"), "1").unwrap();
        fs::write(report.join("inblob"), [7; 64]).unwrap();
        let shape = GuestShape { vmpl: 1, ..GuestShape::default() };
        let expected = SoftPlatform::new(Line::Turin).guest(shape).attest(&[7; 64]);
        assert_eq!(fs::read(report.join("outblob")).unwrap(), expected.report);
        assert!(!report.join("auxblob").exists());
    } else {
        println!("{said}");
    }
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "it has unmounted");
}
