//! How mounts begin and end: refusals before there is one, signals, parents that go, servers that are killed.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};

use guest_client::mount::order::Order;
use guest_client::mount::place::{Place, PlaceError, ready};
use models_manifest::ModelKey;
use protocol::ids::Digest;
use rustix::process::Signal;
use zeroize::Zeroizing;

use crate::support::{CHUNK, Model, Server, can_mount, errno, read};

const EIO: i32 = 5;
const ENOTCONN: i32 = 107;

#[test]
fn what_is_not_the_released_model_is_not_mounted() {
    if !can_mount() {
        return;
    }
    let model = Model::new(1);
    let refused = |order: &Order, code: &str| {
        let (status, said) = Server::start(&model.at(), order, &[]).err().unwrap();
        assert_eq!(status.code(), Some(1));
        assert!(said.contains(&format!("({code})")) && said.contains("hint: "), "{said}");
        assert!(!model.at().exists(), "nothing is left behind");
    };
    refused(&Order { key: ModelKey::from_bytes(Zeroizing::new([9; 32])), ..model.order() }, "wrong-key");
    refused(&Order { manifest: Digest::from([9; 32]), ..model.order() }, "manifest-not-released");
    refused(&Order { publishers: Vec::new(), ..model.order() }, "manifest-signer");
    fs::write(model.sealed("more.bin"), "x").unwrap();
    refused(&model.order(), "unlisted");
    fs::remove_file(model.sealed("more.bin")).unwrap();
    let manifest = model.sealed("portcullis-manifest.json");
    fs::rename(&manifest, model.at().with_extension("manifest")).unwrap();
    refused(&model.order(), "manifest-missing");
    fs::rename(model.at().with_extension("manifest"), &manifest).unwrap();
    assert!(Server::start(&model.at(), &model.order(), &[]).is_ok());
}

#[test]
fn a_place_that_cannot_be_a_mount_point_is_refused_by_name() {
    if !can_mount() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::create_dir(path("full")).unwrap();
    fs::write(path("full/file"), "x").unwrap();
    assert!(matches!(ready(&path("full")), Err(PlaceError::NotEmpty { .. })));
    assert!(matches!(ready(&path("full/file")), Err(PlaceError::NotAFolder { .. })));
    assert!(matches!(ready(&path("no/parent")), Err(PlaceError::Unusable { .. })));
    fs::create_dir(path("empty")).unwrap();
    assert_eq!(ready(&path("empty")).unwrap().detached, 0);
    drop(Place::take(&path("empty")).unwrap());
    assert!(path("empty").exists(), "what was there stays");
    drop(Place::take(&path("new")).unwrap());
    assert!(!path("new").exists(), "what was made goes");
    // A live mount is not empty.
    let model = Model::new(2);
    let Some(server) = model.mount() else { return };
    assert!(matches!(ready(&server.at), Err(PlaceError::NotEmpty { .. })));
}

#[test]
fn a_signal_unmounts_and_ends_also_while_a_file_is_open() {
    let model = Model::new(3);
    for signal in [Signal::TERM, Signal::INT] {
        let Some(mut server) = model.mount() else { return };
        server.signal(signal);
        assert_eq!(server.event().unwrap()["event"], "ended");
        assert!(server.end().0.success());
        assert!(!model.at().exists(), "the folder was the server's");
    }
    let Some(mut server) = model.mount() else { return };
    let file = File::open(server.path("a.bin")).unwrap();
    let mut page = [0; 4096];
    file.read_exact_at(&mut page, 0).unwrap();
    server.signal(Signal::TERM);
    assert!(server.end().0.success());
    assert!(!model.at().exists());
    assert_eq!(file.read_at(&mut page, 8 * CHUNK).unwrap_err().raw_os_error(), Some(ENOTCONN));
}

#[test]
fn who_has_a_file_open_is_served_on_while_the_server_lingers() {
    let model = Model::new(4);
    let Some(mut server) = model.mount_with(&["--ahead", "0", "--linger", "60s"]) else { return };
    let file = File::open(server.path("a.bin")).unwrap();
    server.signal(Signal::TERM);
    // Its name goes at once, so that another version can be mounted there.
    while model.at().join("a.bin").exists() {
        std::thread::yield_now();
    }
    let mut bytes = vec![0; 4096];
    file.read_exact_at(&mut bytes, 8 * CHUNK).unwrap();
    let start = usize::try_from(8 * CHUNK).unwrap();
    assert!(bytes == model.plain("a.bin")[start..start + 4096]);
    drop(file);
    assert_eq!(server.event().unwrap()["event"], "ended");
    assert!(server.end().0.success());
}

#[test]
fn a_server_ends_with_its_parent_unless_it_is_told_to_outlive_it() {
    let model = Model::new(5);
    let Some(mut server) = model.mount() else { return };
    drop(server.orders.take());
    assert_eq!(server.event().unwrap()["event"], "ended");
    assert!(server.end().0.success());
    assert!(!model.at().exists());

    let Some(mut server) = model.mount_with(&["--outlive"]) else { return };
    drop(server.orders.take());
    assert!(fs::read(server.path("a.bin")).unwrap() == model.plain("a.bin"));
    server.signal(Signal::TERM);
    assert!(server.end().0.success());
}

#[test]
fn somebody_elses_unmounting_ends_the_server() {
    let model = Model::new(6);
    let Some(mut server) = model.mount() else { return };
    rustix::mount::unmount(&server.at, rustix::mount::UnmountFlags::empty()).unwrap();
    assert_eq!(server.event().unwrap()["event"], "ended");
    assert!(server.end().0.success());
}

#[test]
fn the_key_stands_in_no_argument_and_no_variable() {
    let model = Model::new(7);
    let Some(server) = model.mount() else { return };
    let key = *model.order().key.as_bytes();
    let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    for file in ["cmdline", "environ"] {
        let bytes = fs::read(format!("/proc/{}/{file}", server.child.id())).unwrap();
        assert!(!bytes.is_empty() || file == "environ");
        assert!(!bytes.windows(32).any(|window| window == key) && !String::from_utf8_lossy(&bytes).contains(&hex), "{file}");
    }
}

/// Another process of this test, which maps a file: whoever touches a page that cannot be had dies.
struct MappedReader {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// Where the other process finds its file.
const MAPPED: &str = "PORTCULLIS_TEST_MAPPED";

#[test]
fn mapped_reader() {
    // Without the variable this is not the other process, and there is nothing to do.
    if let Some(path) = std::env::var_os(MAPPED) {
        testbed::mapped::serve(Path::new(&path)).unwrap();
    }
}

impl MappedReader {
    fn start(path: PathBuf) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "ending::mapped_reader", "--nocapture", "--test-threads", "1"]).env(MAPPED, path);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (questions, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let mut reader = Self { child, questions, answers };
        reader.until("mapped");
        reader
    }

    /// The next line that ends with this, or has it in it; what stands before is the test runner's. `None` when the process has ended.
    fn until(&mut self, word: &str) -> Option<String> {
        let mut line = String::new();
        while self.answers.read_line(&mut line).unwrap() > 0 {
            if let Some(at) = line.find(word) {
                return Some(line[at..].trim().to_owned());
            }
            line.clear();
        }
        None
    }

    /// The byte at an offset; how the process ended where there is none.
    fn byte(&mut self, offset: u64) -> Result<u8, ExitStatus> {
        writeln!(self.questions, "{offset}").unwrap();
        match self.until("byte ") {
            Some(line) => Ok(line["byte ".len()..].parse().unwrap()),
            None => Err(self.child.wait().unwrap()),
        }
    }
}

impl Drop for MappedReader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn after_a_kill_mapped_pages_that_were_touched_stay_and_others_are_a_bus_error_until_it_is_mapped_anew() {
    let model = Model::new(8);
    let Some(server) = model.mount() else { return };
    let plain = model.plain("a.bin");
    let (touched, untouched) = (3 * CHUNK + 7, 11 * CHUNK + 7);
    let at = |offset: u64| plain[usize::try_from(offset).unwrap()];
    let mut reader = MappedReader::start(server.path("a.bin"));
    assert_eq!(reader.byte(touched), Ok(at(touched)));
    let open = File::open(server.path("a.bin")).unwrap();
    let path = server.path("a.bin");
    server.kill();

    // The mount is dead: nothing can be opened, untouched pages are gone, touched pages stay, for maps and for open files.
    assert_eq!(File::open(&path).unwrap_err().raw_os_error(), Some(ENOTCONN));
    assert_eq!(fs::read_dir(model.at()).unwrap_err().raw_os_error(), Some(ENOTCONN));
    assert_eq!(reader.byte(touched), Ok(at(touched)));
    let mut byte = [0];
    open.read_exact_at(&mut byte, touched).unwrap();
    assert_eq!(byte[0], at(touched));
    assert_eq!(open.read_at(&mut byte, untouched).unwrap_err().raw_os_error(), Some(ENOTCONN));

    // A new server mounts at the same place. Who opens anew sees everything; old maps see what they saw.
    assert!(matches!(ready(&model.at()), Ok(readied) if readied.detached == 1));
    let Some(again) = model.mount() else { return };
    assert!(fs::read(again.path("a.bin")).unwrap() == plain);
    assert_eq!(reader.byte(touched), Ok(at(touched)));
    assert_eq!(open.read_at(&mut byte, untouched).unwrap_err().raw_os_error(), Some(ENOTCONN));
    let mut anew = MappedReader::start(again.path("a.bin"));
    assert_eq!(anew.byte(untouched), Ok(at(untouched)));
    let died = reader.byte(untouched).unwrap_err();
    assert_eq!(died.signal(), Some(Signal::BUS.as_raw()), "{died}");
}

#[test]
fn a_server_that_is_started_again_detaches_the_dead_mount_itself() {
    let model = Model::new(9);
    for _ in 0..3 {
        let Some(server) = model.mount() else { return };
        assert!(read(&server.path("config.json"), 0, 10).unwrap() == b"{}\n");
        server.kill();
    }
    let Some(mut server) = model.mount() else { return };
    server.signal(Signal::TERM);
    assert!(server.end().0.success());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(model.at().to_str().unwrap()), "{mounts}");
}

#[test]
fn a_mapped_page_of_a_tampered_chunk_is_a_bus_error_and_the_others_are_not() {
    let model = Model::new(10);
    let Some(server) = model.mount() else { return };
    let sealed = File::options().write(true).open(model.sealed("a.bin")).unwrap();
    sealed.write_all_at(&[0; 64], 9 * CHUNK).unwrap();
    let plain = model.plain("a.bin");
    let mut reader = MappedReader::start(server.path("a.bin"));
    assert_eq!(reader.byte(2 * CHUNK), Ok(plain[usize::try_from(2 * CHUNK).unwrap()]));
    assert_eq!(errno(&server.path("a.bin"), 9 * CHUNK), Some(EIO));
    let died = reader.byte(9 * CHUNK + 5).unwrap_err();
    assert_eq!(died.signal(), Some(Signal::BUS.as_raw()), "{died}");
}
