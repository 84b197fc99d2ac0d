//! Models that are mounted from a web server: what is fetched for what is read, and what readers get from a server that fails or lies.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use guest_client::mount::order::Order;
use guest_client::sources::Storage;
use models_manifest::{MANIFEST_NAME, ModelKey};
use protocol::ids::Digest;
use rustix::process::{Pid, Signal, kill_process};
use testbed::services::storage::{Storage as Web, Trick};
use zeroize::Zeroizing;

use crate::support::{CHUNK, Model, SIZE, Server, can_mount, errno, noise, read};

const EIO: i32 = 5;
/// Chunks of the large file.
const CHUNKS: u64 = 256;

/// Little patience: what does not come at once does not come.
fn settings() -> Storage {
    Storage {
        connections: 4,
        range: 1 << 20,
        memory: 8 << 20,
        idle: Duration::from_millis(300),
        patience: Duration::ZERO,
        ..Storage::default()
    }
}

/// A web server over a sealed model, and a mount of it.
struct World {
    model: Model,
    web: Web,
    server: Server,
}

fn order(model: &Model, web: &Web, storage: Storage) -> Order {
    Order { sealed: web.url().parse().unwrap(), storage, ..model.order() }
}

fn world_of(model: Model, storage: Storage, more: &[&str]) -> Option<World> {
    if !can_mount() {
        return None;
    }
    let web = Web::start(&model.sealed(""));
    let server =
        Server::start(&model.at(), &order(&model, &web, storage), more).unwrap_or_else(|(status, said)| panic!("{status}: {said}"));
    Some(World { model, web, server })
}

fn world(seed: u64) -> Option<World> {
    world_of(Model::new(seed), settings(), &[])
}

/// One large file and a small one.
fn large(seed: u64) -> Model {
    Model::of(&[("config.json", b"{}\n".to_vec()), ("weights.bin", noise(seed, CHUNKS * CHUNK))])
}

impl World {
    /// First byte and the byte behind the last of each range that was asked for of a file, within its size.
    fn fetched(&self, path: &str) -> Vec<(u64, u64)> {
        let size = fs::metadata(self.model.sealed(path)).unwrap().len();
        let of_it = self.web.asked().into_iter().filter(|asked| asked.path == path);
        of_it.filter_map(|asked| asked.range).map(|(first, last)| (first, size.min(last + 1))).collect()
    }

    fn fetched_bytes(&self, path: &str) -> u64 {
        self.fetched(path).iter().map(|(first, end)| end - first).sum()
    }

    #[track_caller]
    fn reads(&self, path: &str) {
        assert!(fs::read(self.server.path(path)).unwrap() == self.model.plain(path), "{path}");
    }

    /// The page at `offset` of a file is an I/O error, and the next event says why.
    #[track_caller]
    fn fails(&self, path: &str, offset: u64, event: &str, reason: &str) {
        assert_eq!(errno(&self.server.path(path), offset), Some(EIO), "{reason}");
        let said = self.server.event().unwrap();
        assert_eq!((&said["event"], &said["reason"]), (&event.into(), &reason.into()), "{said}");
        assert_eq!((&said["file"], said["chunk"].as_u64()), (&path.into(), Some(offset / CHUNK)), "{said}");
    }
}

#[test]
fn a_server_that_waits_for_its_storage_ends_with_who_started_it_and_when_it_is_asked_to() {
    if !can_mount() {
        return;
    }
    let asked = |child: &Child| kill_process(Pid::from_child(child), Signal::TERM).unwrap();
    // A server that may outlive who started it may do so with a mount.
    for (by_signal, more) in [(true, None), (false, None), (true, Some("--outlive")), (false, Some("--outlive"))] {
        let model = Model::new(55);
        let web = Web::start(&model.sealed(""));
        web.next(MANIFEST_NAME, vec![Trick::StallsAfter(10); 9]);
        let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis-guest"));
        command
            .arg("mount-server")
            .args(more)
            .arg("--at")
            .arg(model.at())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut server = command.spawn().unwrap();
        // It would wait for ten minutes.
        let patient = Storage { idle: Duration::from_secs(600), patience: Duration::from_secs(600), ..settings() };
        let mut orders = server.stdin.take().unwrap();
        order(&model, &web, patient).write(&mut orders).unwrap();
        let until = Instant::now() + Duration::from_secs(30);
        while web.asked().is_empty() {
            assert!(Instant::now() < until && server.try_wait().unwrap().is_none(), "it asks for the manifest");
            thread::sleep(Duration::from_millis(5));
        }
        if by_signal {
            asked(&server);
        } else {
            drop(orders);
        }
        let until = Instant::now() + Duration::from_secs(30);
        while server.try_wait().unwrap().is_none() {
            assert!(Instant::now() < until, "it does not end, by a signal: {by_signal}, {more:?}");
            thread::sleep(Duration::from_millis(5));
        }
        let output = server.wait_with_output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn a_model_on_a_web_server_is_the_plaintext_and_only_what_is_read_is_fetched() {
    let Some(mut world) = world(50) else { return };
    assert!(world.web.asked().iter().all(|asked| asked.path == MANIFEST_NAME), "mounting reads nothing else");
    let names: BTreeSet<_> =
        fs::read_dir(&world.server.at).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(names, ["a.bin", "b.bin", "config.json", "empty.txt", "nested"].map(str::to_owned).into());
    assert_eq!(fs::metadata(world.server.path("a.bin")).unwrap().len(), SIZE);
    assert!(world.web.asked().iter().all(|asked| asked.path == MANIFEST_NAME), "the manifest knows names and sizes");
    for path in ["a.bin", "config.json", "empty.txt", "nested/deep/c.bin"] {
        world.reads(path);
    }
    assert!(world.fetched("b.bin").is_empty());
    world.reads("b.bin");
    world.server.signal(Signal::TERM);
    let (status, said) = world.server.end();
    assert!(status.success() && said.is_empty(), "{said}");
    assert!(!world.model.at().exists());
}

#[test]
fn pages_here_and_there_cost_their_chunks_and_the_table_and_no_more() {
    let Some(world) = world_of(large(51), settings(), &[]) else { return };
    let plain = world.model.plain("weights.bin");
    let file = File::open(world.server.path("weights.bin")).unwrap();
    // As far from each other as the next is from the one before, forwards and backwards.
    let picks: Vec<u64> = (0..24).map(|pick| (pick * 89 + 40) % CHUNKS).collect();
    for pick in &picks {
        let (offset, mut page) = (pick * CHUNK + 8192, vec![0; 4096]);
        file.read_exact_at(&mut page, offset).unwrap();
        let start = usize::try_from(offset).unwrap();
        assert!(page == plain[start..start + 4096]);
    }
    let fetched = world.fetched_bytes("weights.bin");
    println!("{} bytes fetched for {} pages in {} chunks of {CHUNK} bytes", fetched, picks.len(), picks.len());
    // The table of 12 KiB lies in one piece of its own.
    assert!(fetched <= (24 + 1) * CHUNK, "{fetched} bytes");
    assert!(world.fetched("weights.bin").iter().all(|(first, end)| end - first <= CHUNK), "nobody reads on");
}

#[test]
fn a_short_walk_costs_twice_its_bytes_at_most() {
    let Some(world) = world_of(large(52), settings(), &[]) else { return };
    let plain = world.model.plain("weights.bin");
    let walked = 20 * CHUNK;
    let bytes = read(&world.server.path("weights.bin"), 100 * CHUNK, usize::try_from(walked).unwrap()).unwrap();
    let start = usize::try_from(100 * CHUNK).unwrap();
    assert!(bytes == plain[start..start + bytes.len()]);
    let fetched = world.fetched_bytes("weights.bin");
    // The kernel reads ahead too: 256 KiB where it was told to, else 128.
    let asked = walked + (256 << 10);
    println!("{fetched} bytes fetched for a walk of {walked}");
    assert!(fetched >= walked && fetched <= 2 * asked + 2 * CHUNK, "{fetched} bytes");
}

#[test]
fn a_whole_file_is_fetched_once_in_large_ranges_over_several_connections_in_little_memory() {
    let Some(world) = world_of(large(53), Storage { patience: Duration::from_secs(60), ..settings() }, &[]) else { return };
    world.web.always(Trick::Slow(64 * 1024, Duration::from_millis(2)));
    world.reads("weights.bin");
    let mut fetched = world.fetched("weights.bin");
    let requests = fetched.len();
    // The table lies behind the chunks, and may be wanted again by a thread that has not read it.
    fetched.retain(|(first, _)| *first < CHUNKS * CHUNK);
    fetched.sort_unstable();
    assert!(fetched.windows(2).all(|pair| pair[0].1 <= pair[1].0), "nothing twice: {fetched:?}");
    println!("{requests} requests, {} at once", world.web.most_at_once());
    assert!(requests < 100, "{requests} requests for {CHUNKS} chunks");
    assert!(fetched.iter().any(|(first, end)| end - first == 1 << 20), "a whole range at once");
    assert!((2..=4).contains(&world.web.most_at_once()), "{} at once", world.web.most_at_once());
    let status = fs::read_to_string(format!("/proc/{}/status", world.server.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB").parse::<u64>().unwrap();
    println!("peak memory of the mount server: {} MiB", peak >> 10);
    assert!(peak < 128 << 10, "{peak} KiB");
}

#[test]
fn nothing_is_fetched_ahead_where_that_is_switched_off() {
    let Some(world) = world_of(large(54), settings(), &["--ahead", "0"]) else { return };
    world.reads("weights.bin");
    assert!(world.fetched("weights.bin").iter().all(|(first, end)| end - first <= CHUNK));
}

#[test]
fn many_readers_of_any_ranges_get_them_all_right_through_little_memory() {
    let little = Storage { range: 128 << 10, memory: 512 << 10, ..settings() };
    let Some(world) = world_of(Model::new(55), little, &["--held", "1"]) else { return };
    thread::scope(|scope| {
        for reader in 0..8_u64 {
            let (model, server) = (&world.model, &world.server.at);
            scope.spawn(move || {
                let picks = noise(reader + 1, 200);
                for pick in picks.chunks_exact(8) {
                    let path = ["a.bin", "b.bin"][usize::from(pick[0] & 1)];
                    let offset = u64::from(u32::from_le_bytes([pick[1], pick[2], pick[3], 0])) % SIZE;
                    let length = usize::from(u16::from_le_bytes([pick[4], pick[5]])) * 3;
                    let plain = model.plain(path);
                    let start = usize::try_from(offset).unwrap();
                    assert!(read(&server.join(path), offset, length).unwrap() == plain[start..(start + length).min(plain.len())]);
                }
            });
        }
    });
}

#[test]
fn a_lie_is_an_error_and_an_event_and_is_forgotten_when_the_server_is_right_again() {
    let Some(mut world) = world_of(large(56), settings(), &[]) else { return };
    let page = |chunk: u64| chunk * CHUNK + 4096;
    // Before the table was checked, and after.
    world.web.always(Trick::Flipped);
    world.fails("weights.bin", page(9), "tampered", "tree-root");
    world.web.always(Trick::Well);
    assert!(read(&world.server.path("weights.bin"), page(9), 4096).is_ok());
    world.web.always(Trick::Flipped);
    world.fails("weights.bin", page(80), "tampered", "chunk-hash");
    // Also somebody who reads on, for whom wrong bytes were fetched ahead.
    assert!(read(&world.server.path("weights.bin"), 100 * CHUNK, 1 << 20).is_err());
    // What the kernel asked for ahead has failed too.
    thread::sleep(Duration::from_millis(500));
    world.web.always(Trick::Well);
    world.reads("weights.bin");
    writeln!(world.server.orders.as_mut().unwrap(), "counters").unwrap();
    let counted = std::iter::repeat_with(|| world.server.event().unwrap()).find(|event| event["event"] == "counters").unwrap();
    assert!(counted["tampered"].as_u64() >= Some(3) && counted["unreadable"].as_u64() == Some(0), "{counted}");
    world.server.signal(Signal::TERM);
    let said = world.server.end().1;
    assert!(said.contains("\"tampered\"") && said.contains("tree-root") && said.contains("chunk-hash"), "{said}");
}

#[test]
fn a_server_that_fails_is_an_error_and_an_event_and_is_read_again_when_it_serves() {
    let Some(world) = world_of(large(57), settings(), &[]) else { return };
    world.reads("config.json");
    let failures = [
        (Trick::Status(503, None), "storage-busy"),
        (Trick::Status(403, None), "storage-forbidden"),
        (Trick::Status(400, None), "storage-status"),
        (Trick::HangsUp, "storage-unreachable"),
        (Trick::Garbage, "storage-unreachable"),
        (Trick::CutAfter(100), "storage-unreachable"),
        (Trick::Halved, "storage-cut-short"),
        (Trick::StallsAfter(100), "storage-idle"),
        (Trick::Whole, "storage-no-ranges"),
        (Trick::OtherRange, "storage-wrong-range"),
        (Trick::Coded("gzip"), "storage-coded"),
    ];
    let plain = world.model.plain("weights.bin");
    for (index, (trick, reason)) in (1..).zip(failures) {
        println!("{trick:?}");
        let offset = index * 20 * CHUNK;
        world.web.always(trick);
        world.fails("weights.bin", offset, "unreadable", reason);
        // What is in the page cache is the guest's.
        world.reads("config.json");
        world.web.always(Trick::Well);
        let start = usize::try_from(offset).unwrap();
        assert!(read(&world.server.path("weights.bin"), offset, 4096).unwrap() == plain[start..start + 4096], "{reason}");
    }
    world.reads("weights.bin");
}

#[test]
fn an_outage_that_passes_is_waited_out() {
    let patient = Storage { patience: Duration::from_secs(60), ..settings() };
    let Some(world) = world_of(Model::new(58), patient, &[]) else { return };
    world.web.next("a.bin", [Trick::Status(503, None), Trick::CutAfter(100), Trick::HangsUp, Trick::Shorter(1000), Trick::StallsAfter(10)]);
    world.reads("a.bin");
}

#[test]
fn an_object_of_another_size_or_of_none_is_tampering_until_it_is_put_right() {
    let Some(world) = world_of(Model::new(59), settings(), &[]) else { return };
    let sealed = world.model.sealed("a.bin");
    let whole = fs::read(&sealed).unwrap();
    world.web.always(Trick::OtherTotal);
    world.fails("a.bin", 0, "tampered", "file-size");
    world.web.always(Trick::Well);
    assert!(read(&world.server.path("a.bin"), 0, 4096).is_ok());
    // Cut so that the range is behind its end, within the range, and before it; and longer.
    for (chunk, length) in [(2, 10), (4, 4 * CHUNK + 9), (6, 16 * CHUNK)] {
        fs::write(&sealed, &whole[..usize::try_from(length).unwrap()]).unwrap();
        world.fails("a.bin", chunk * CHUNK, "tampered", "file-size");
    }
    fs::write(&sealed, [whole.as_slice(), b"more"].concat()).unwrap();
    world.fails("a.bin", 8 * CHUNK, "tampered", "file-size");
    fs::write(&sealed, "").unwrap();
    world.fails("a.bin", 10 * CHUNK, "tampered", "file-size");
    fs::remove_file(&sealed).unwrap();
    world.fails("a.bin", 12 * CHUNK, "tampered", "file-missing");
    // Another model's file of the same size.
    let other = Model::new(60);
    fs::copy(other.sealed("a.bin"), &sealed).unwrap();
    world.fails("a.bin", 14 * CHUNK, "tampered", "chunk-hash");
    fs::write(&sealed, &whole).unwrap();
    world.reads("a.bin");
}

#[test]
fn the_near_miss_the_same_bytes_under_another_tag_are_read() {
    let Some(mut world) = world_of(Model::new(61), settings(), &["--ahead", "0"]) else { return };
    world.web.next("a.bin", [Trick::Tagged("\"a\""), Trick::Tagged("\"b\""), Trick::Tagged("\"c\"")]);
    world.reads("a.bin");
    world.server.signal(Signal::TERM);
    assert!(world.server.end().1.is_empty());
}

#[test]
fn what_is_not_the_released_model_is_not_mounted_wherever_it_lies() {
    if !can_mount() {
        return;
    }
    let model = Model::new(62);
    let web = Web::start(&model.sealed(""));
    let refused = |order: &Order, code: &str| {
        let (status, said) = Server::start(&model.at(), order, &[]).err().unwrap();
        assert_eq!(status.code(), Some(1));
        assert!(said.contains(&format!("({code})")) && said.contains("hint: "), "{said}");
        assert!(!model.at().exists(), "nothing is left behind");
        assert!(web.asked().iter().all(|asked| asked.path.ends_with(MANIFEST_NAME)), "no file was asked for");
    };
    let order = || order(&model, &web, settings());
    refused(&Order { key: ModelKey::from_bytes(Zeroizing::new([9; 32])), ..order() }, "wrong-key");
    refused(&Order { manifest: Digest::from([9; 32]), ..order() }, "manifest-not-released");
    refused(&Order { publishers: Vec::new(), ..order() }, "manifest-signer");
    refused(&Order { sealed: format!("{}/elsewhere", web.url()).parse().unwrap(), ..order() }, "storage-missing");
    web.next(MANIFEST_NAME, [Trick::Status(503, None)]);
    refused(&order(), "storage-busy");
    // A server or bucket is not listed: what else lies there is never asked for, and does no harm.
    fs::write(model.sealed("evil.py"), "import os").unwrap();
    assert!(Server::start(&model.at(), &order(), &[]).is_ok());
    assert!(web.asked().iter().all(|asked| asked.path != "evil.py"));
}
