//! The rows of the matrix.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use portcullis_tests::installation::MODEL;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::process::{Pid, Signal, kill_process};

use crate::container::{Container, Privilege, Propagation, assert_served, can_contain, ended, engine, guest};
use crate::world::{GENUINE, World};

/// A folder that is a shared mount of this machine, as the kubelet makes of a volume.
struct SharedVolume(PathBuf);

impl SharedVolume {
    fn new(path: PathBuf) -> Self {
        fs::create_dir(&path).unwrap();
        mount_bind(&path, &path).unwrap();
        mount_change(&path, MountPropagationFlags::SHARED).unwrap();
        Self(path)
    }
}

impl Drop for SharedVolume {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Words of a guest command, for the genuine guest.
fn as_genuine(command: &str) -> String {
    format!("{command} --config guest.toml --evidence agent:{GENUINE} --retry-for 0")
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn mounts_below(path: &Path) -> Vec<String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter(|line| line.contains(path.to_str().unwrap())).map(str::to_owned).collect()
}

#[test]
fn row_1_a_privileged_mount_reaches_the_engines_container_by_propagation() {
    if !can_contain() {
        return;
    }
    let world = World::new();
    let files = world.publish(MODEL, 1, "sealed", 1);
    world.open_to_all();
    let volume = SharedVolume::new(world.installation.path("volume"));
    let at = volume.0.join("llama");
    // Engines that started before there is a mount: one as another user, one as root of a user namespace of its own.
    let engines: Vec<_> = [Privilege::None, Privilege::UserNamespace]
        .map(|privilege| Container::new(privilege, Propagation::Slave).start(&world, &["sh", "-c", &engine(&at)]))
        .into_iter()
        .collect();
    let words = format!("{} --model {MODEL} --sealed sealed --at {}", as_genuine("mount"), at.display());
    let server = Container::new(Privilege::All, Propagation::Shared).start(&world, &strs(&guest(&world, &words)));
    for engine in engines {
        assert_served(&ended(engine), &files);
    }
    assert!(mounts_below(&at).iter().any(|mount| mount.contains(" - fuse portcullis ro,")), "{:?}", mounts_below(&at));
    // The container's first process is `mount`; when it is killed, its whole PID namespace is, and the mount is dead everywhere, unless
    // the server has had the time to see its parent end, and to unmount.
    drop(server);
    until("served by nobody", || lookup(&at) == Some(ENOTCONN) || mounts_below(&at).is_empty());
    // A restarted one finds it, detaches it and mounts again; the engine's container sees that too.
    let again = Container::new(Privilege::All, Propagation::Shared).start(&world, &strs(&guest(&world, &words)));
    until("served again", || lookup(&at) == Some(ENOENT) && at.join("config.json").exists());
    let container = Container::new(Privilege::None, Propagation::Slave);
    assert_served(&container.run(&world, &["sh", "-c", &engine(&at)]), &files);
    drop(again);
    let _ = unmount(&at, UnmountFlags::DETACH);
}

const ENOENT: i32 = 2;
const ENOTCONN: i32 = 107;

/// Waits until `holds`.
fn until(what: &str, holds: impl Fn() -> bool) {
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(std::time::Instant::now() < until, "not yet: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How looking for what is not there fails. What is there may be answered from the kernel's caches, whoever serves it.
fn lookup(at: &Path) -> Option<i32> {
    fs::metadata(at.join("not-there")).unwrap_err().raw_os_error()
}

/// An engine's container with no privilege, `/dev/fuse`, and room in memory.
fn unprivileged(world: &World) -> Container {
    Container::new(Privilege::None, Propagation::Private)
        .with_fuse(&world.installation.path("device"))
        .with_tmpfs(&world.installation.path("models"), "")
}

fn exec(world: &World, script: &str) -> Vec<String> {
    let at = world.installation.path("models").join("llama");
    let mut words = guest(world, &format!("{} --mount {MODEL}={} --sealed sealed -- sh -c", as_genuine("exec"), at.display()));
    words.push(script.to_owned());
    words
}

#[test]
fn row_2_exec_mounts_in_the_engines_own_container_without_privilege() {
    if !can_contain() {
        return;
    }
    let world = World::new();
    let files = world.publish(MODEL, 1, "sealed", 1);
    world.open_to_all();
    let at = world.installation.path("models").join("llama");
    let container = unprivileged(&world);
    // What the engine sees, that nobody else does, and that its exit code is what comes out.
    let script = format!("{}; id -u; exit 7", engine(&at));
    let served = container.run(&world, &strs(&exec(&world, &script)));
    assert_served(&served, &files);
    assert_eq!((served.code, served.stdout.lines().last()), (7, Some("1000")), "{}", served.stderr);
    assert_eq!(mounts_below(&at), Vec::<String>::new());

    // The key is out of the engine's reach: the mount server's memory is closed to it, though both are one user.
    let peek = "for p in /proc/[0-9]*; do if grep -qs mount-server $p/cmdline; then head -c 1 $p/mem 2>&1 || echo closed; cat $p/environ; fi; done";
    let peeked = container.clone().setup("mount -t proc proc /proc").run(&world, &strs(&exec(&world, peek)));
    assert!(peeked.stdout.contains("Permission denied") && peeked.stdout.contains("closed"), "{}{}", peeked.stdout, peeked.stderr);

    // A signal that ends the engine is an exit code as of shells; no such program is 127.
    assert_eq!(container.run(&world, &strs(&exec(&world, "kill -KILL $$"))).code, 137);
    let mut nothing = exec(&world, "");
    let end = nothing.len() - 3;
    nothing.splice(end.., ["/no-such-engine".to_owned()]);
    let ended = container.run(&world, &strs(&nothing));
    assert_eq!(ended.code, 127, "{}", ended.stderr);
}

#[test]
fn exec_passes_signals_on_to_the_engine() {
    if !can_contain() {
        return;
    }
    let world = World::with_model();
    world.open_to_all();
    let started = world.installation.path("models-started");
    let script = "trap 'echo hup' HUP; trap 'exit 5' TERM; touch started-here; while :; do sleep 0.02; done";
    let script = script.replace("started-here", started.to_str().unwrap());
    let container = unprivileged(&world).setup(&format!("chmod 777 {}", world.installation.programs().folder().display()));
    let mut running = container.start(&world, &strs(&exec(&world, &script)));
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !started.exists() {
        assert!(std::time::Instant::now() < until, "the engine does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    // Below `unshare` is the container's first process: the guest.
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", running.0.id())).unwrap();
    let guest = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(guest, Signal::HUP).unwrap();
    let mut line = String::new();
    BufReader::new(running.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    kill_process(guest, Signal::TERM).unwrap();
    assert_eq!((line.as_str(), ended(running).code), ("hup\n", 5));
}

#[test]
fn exec_ends_when_its_mount_servers_have_and_they_serve_whoever_has_a_file_open_until_then() {
    if !can_contain() {
        return;
    }
    let world = World::with_model();
    world.open_to_all();
    let at = world.installation.path("models").join("llama");
    let path = |name: &str| world.installation.path(&format!("reader.{name}"));
    let container = unprivileged(&world).setup(&format!("chmod 777 {}", world.installation.programs().folder().display()));
    // A reader that the engine leaves behind has a file open, of which nothing was read, sees the mount's name go, and then reads.
    let reader = "touch reader.open; while [ -e \"$file\" ]; do sleep 0.02; done; touch reader.gone; \
                  until [ -e reader.go ]; do sleep 0.02; done; cat <&3 > reader.part && mv reader.part reader.whole";
    let script = format!(
        "file={}/config.json; (exec 3< \"$file\"; {reader}) < /dev/null > /dev/null 2>&1 & \
         until [ -e reader.open ]; do sleep 0.02; done; exit 7",
        at.display()
    );
    let mut words = exec(&world, &script);
    // The near miss: without a time to linger the server waits for nobody, nor does exec; with the container the reader ends.
    let at_once = container.run(&world, &strs(&words));
    assert_eq!((at_once.code, path("whole").exists()), (7, false), "{}", at_once.stderr);
    ["open", "gone"].iter().for_each(|name| drop(fs::remove_file(path(name))));

    let end = words.iter().position(|word| word == "--").unwrap();
    words.splice(end..end, ["--linger", "100s"].map(str::to_owned));
    let mut running = container.start(&world, &strs(&words));
    until("asked to end", || path("gone").exists());
    std::thread::sleep(Duration::from_millis(500));
    assert!(running.0.try_wait().unwrap().is_none(), "its server still serves");
    fs::write(path("go"), "").unwrap();
    let drained = ended(running);
    assert_eq!(drained.code, 7, "{}", drained.stderr);
    assert_eq!(fs::read(path("whole")).unwrap(), fs::read(world.installation.path("sealed.plain/config.json")).unwrap());
}

#[test]
fn row_3_a_model_is_opened_to_tmpfs_without_any_privilege_or_device() {
    if !can_contain() {
        return;
    }
    let world = World::new();
    let files = world.publish(MODEL, 1, "sealed", 1);
    world.open_to_all();
    let memory = world.installation.path("models");
    let to = memory.join("llama");
    let unseal = guest(&world, &format!("{} --model {MODEL} --sealed sealed --to {}", as_genuine("unseal"), to.display()));
    let script = format!("\"$@\" >/dev/null && {}", engine(&to));
    let container = Container::new(Privilege::None, Propagation::Private).with_tmpfs(&memory, "").setup("mount --bind /dev/null /dev/fuse");
    let words: Vec<&str> = ["sh", "-c", &script, "engine"].into_iter().chain(unseal.iter().map(String::as_str)).collect();
    assert_served(&container.run(&world, &words), &files);
}

#[test]
fn what_a_row_needs_and_a_pod_lacks_is_named_before_the_key_is_asked_for() {
    if !can_contain() {
        return;
    }
    let world = World::with_model();
    world.open_to_all();
    let at = world.installation.path("models").join("llama");
    let mount = guest(&world, &format!("{} --model {MODEL} --sealed sealed --at {}", as_genuine("mount"), at.display()));
    let refused = |container: &Container, words: &[String], code: &str| {
        let ended = container.run(&world, &strs(words));
        assert_eq!(ended.code, 1, "{}", ended.stderr);
        assert!(ended.stderr.contains(&format!("({code})")) && ended.stderr.contains("hint: "), "{}", ended.stderr);
    };
    refused(&unprivileged(&world), &mount, "mount-not-permitted");
    let no_device = unprivileged(&world).setup("umount /dev/fuse && mount --bind /dev/null /dev/fuse");
    refused(&no_device, &exec(&world, "true"), "mount-no-device");
    // A node that allows no user namespaces: the limit is one of a user namespace, so the test sets it in one of its own.
    let none = "echo 0 > /proc/sys/user/max_user_namespaces; exec \"$@\"";
    let mut within: Vec<String> = ["unshare", "--user", "--map-root-user", "sh", "-c", none, "node"].map(str::to_owned).to_vec();
    within.extend(exec(&world, "true"));
    refused(&Container::new(Privilege::All, Propagation::Private), &within, "isolation-namespaces");
    // Root without CAP_SETFCAP may not map itself (Linux 5.12); any other user may.
    let mut stripped: Vec<String> = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"].map(str::to_owned).to_vec();
    stripped.extend(exec(&world, "true"));
    refused(&Container::new(Privilege::All, Propagation::Private), &stripped, "isolation-identity");
    let audit = world.installation.command(portcullis_tests::arguments!["audit", "verify", "--json"]).unwrap();
    assert_eq!(audit.json().unwrap()["entries"]["permitted"], 0, "{}", audit.stdout);
}
