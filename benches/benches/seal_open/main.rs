//! Sealing and opening a model on tmpfs, beside `cp -r` and the tools that people would take instead, in one run; and reading through the library
//! beside the bare cipher.
//!
//! Goals, of docs and issue: two threads open at least 2 times, and seal at least 1.7 times as fast as `cp -r` of the plaintext; onto huge pages open at
//! least 4 times; `rage -d` and `age -d` at least 6 times, `openssl enc -d` 2.5 times, gocryptfs 4 times slower than opening; reading with the tree
//! root not checked at least 0.95 of the bare cipher. One thread: at least 3 times `rage -d`, and not slower than `cp`.
//!
//! `GIB=4` says how large the model is, `ROUNDS=5` how many rounds, `WHAT=cp,seal,open,huge,read,age,rage,openssl,gocryptfs` who takes part (all
//! who are installed, by default), `THREADS=1,2` with how many threads, `HUGE=within_size` how the tmpfs with huge pages is mounted. Every contender makes new files of the same model on the same file system in each
//! round, and they are removed outside the clock. Before each, also outside the clock, as much memory is touched and given back: under a hypervisor
//! that takes idle pages away, whoever writes first would otherwise pay for fetching them back, and which contender that is depends on the order.

mod huge;
mod model;
mod peers;
mod read;

use std::collections::BTreeMap;
use std::fs;
use std::num::NonZero;
use std::path::Path;
use std::time::{Duration, Instant};

use models_manifest::{ModelKey, Opening, Silent, Workers, open_folder, seal_folder};
use portcullis_benches::rounds::median;
use portcullis_benches::{insist_on_release, process};

use huge::HugePages;
use model::{Model, copy};
use peers::Peer;

fn main() {
    insist_on_release();
    let number = |name: &str, default: usize| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (gib, rounds) = (number("GIB", 4), number("ROUNDS", 5));
    let list = |name: &str, default: &str| -> Vec<String> {
        std::env::var(name).unwrap_or_else(|_| default.to_owned()).split(',').map(str::to_owned).collect()
    };
    let bench = Bench {
        what: list("WHAT", "cp,seal,open,huge,read,age,rage,openssl,gocryptfs"),
        threads: list("THREADS", "1,2").iter().map(|text| text.parse().expect("THREADS: numbers")).collect(),
        gib,
    };
    println!("{}; {gib} GiB in /dev/shm, {rounds} rounds after one to warm up", process::machine());
    let folder = tempfile::Builder::new().prefix("seal-bench-").tempdir_in("/dev/shm").expect("a folder on tmpfs");
    let model = Model::new(folder.path(), gib);
    let huge = bench.wants("huge").then(|| HugePages::mount(gib)).flatten();
    let peers: Vec<Peer> =
        peers::KINDS.iter().filter(|kind| bench.wants(kind.name())).filter_map(|kind| kind.find(folder.path())).collect();
    let mut times = Times::default();
    for round in 0..=rounds {
        let mut turn = |name: String, time: Duration| {
            if round > 0 {
                times.take(name, time);
            }
        };
        bench.copy_and_seal(folder.path(), &model, &mut turn);
        bench.open(folder.path(), huge.as_ref(), &model, &mut turn);
        for peer in &peers {
            touch(gib);
            peer.round(&model, &mut turn);
        }
        if bench.wants("read") {
            bench.threads.iter().for_each(|threads| read::round(&model, *threads, &mut turn));
        }
    }
    times.print(gib);
}

/// Who takes part.
struct Bench {
    what: Vec<String>,
    threads: Vec<Threads>,
    gib: usize,
}

/// A number of threads.
type Threads = NonZero<usize>;

impl Bench {
    fn wants(&self, name: &str) -> bool {
        self.what.iter().any(|wanted| wanted == name)
    }

    /// Times one contender, on pages that the machine has at hand.
    fn timed(&self, operation: impl FnOnce()) -> Duration {
        touch(self.gib);
        let start = Instant::now();
        operation();
        start.elapsed()
    }

    fn copy_and_seal(&self, folder: &Path, model: &Model, turn: &mut dyn FnMut(String, Duration)) {
        let to = folder.join("made");
        if self.wants("cp") {
            turn("cp -r".to_owned(), self.timed(|| copy(&model.plaintext, &to)));
            fs::remove_dir_all(&to).expect("the copy");
        }
        if self.wants("seal") {
            for threads in &self.threads {
                let order = model.order(&to, Workers::new(*threads));
                let seal = || drop(seal_folder(&order, &model.publisher, &mut Silent).expect("sealed"));
                turn(format!("seal, {threads} threads"), self.timed(seal));
                fs::remove_dir_all(&to).expect("the sealed");
            }
        }
    }

    fn open(&self, folder: &Path, huge: Option<&HugePages>, model: &Model, turn: &mut dyn FnMut(String, Duration)) {
        let places = [
            ("open", self.wants("open").then(|| folder.join("opened"))),
            ("open onto huge pages", huge.map(|huge| huge.path().join("opened"))),
        ];
        for (name, to) in places {
            let Some(to) = to else { continue };
            for threads in &self.threads {
                let opening = Opening { workers: Workers::new(*threads), ..Opening::to(&to) };
                let open = |key: ModelKey| drop(open_folder(model.opening(), key, opening, &mut Silent).expect("opened"));
                turn(format!("{name}, {threads} threads"), self.timed(|| open(model.key())));
                fs::remove_dir_all(&to).expect("the opened");
            }
        }
    }
}

/// Touches so many GiB of memory, and gives them back.
pub(crate) fn touch(gib: usize) {
    let mut pages = vec![0_u8; gib << 30];
    pages.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
    std::hint::black_box(&pages);
}

/// Seconds of each contender in each round.
#[derive(Default)]
struct Times {
    names: Vec<String>,
    seconds: BTreeMap<String, Vec<f64>>,
}

impl Times {
    fn take(&mut self, name: String, time: Duration) {
        if !self.names.contains(&name) {
            self.names.push(name.clone());
        }
        self.seconds.entry(name).or_default().push(time.as_secs_f64());
    }

    /// With each the median of the ratios, round by round, to everybody that others are compared with.
    fn print(&self, gib: usize) {
        let bases = ["cp -r", "age -d", "rage -d", "openssl enc -d", "gocryptfs, copied out", "bare cipher"];
        let present: Vec<&str> = bases.into_iter().filter(|base| self.names.iter().any(|name| name.starts_with(base))).collect();
        println!("\n| what | median s | GB/s | {} |", present.iter().map(|base| format!("x {base}")).collect::<Vec<_>>().join(" | "));
        println!("| --- | ---: | ---: |{}", " ---: |".repeat(present.len()));
        for name in &self.names {
            let own = &self.seconds[name];
            let seconds = median(own.clone());
            // What was measured with so many threads is compared with what was measured with as many, if it was.
            let threads = name.rsplit_once(", ").map_or("", |(_, threads)| threads);
            let ratios: Vec<String> = present
                .iter()
                .map(|base| {
                    let other = self.seconds.get(&format!("{base}, {threads}")).or_else(|| self.seconds.get(*base));
                    let ratio = other.map(|other| median(other.iter().zip(own).map(|(other, own)| other / own).collect()));
                    ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"))
                })
                .collect();
            println!("| {name} | {seconds:.2} | {:.2} | {} |", gib as f64 * 1.073_741_824 / seconds, ratios.join(" | "));
        }
    }
}
