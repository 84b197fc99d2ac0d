//! `cargo demo -- machine`: a soft machine to try things on, for whoever has no confidential VM at hand. It serves evidence until it is
//! interrupted, and writes down what a broker and an authority need to believe it: the test root, what its vendor publishes, a policy.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use protocol::ids::Role;

use super::Page;
use crate::failure::Failure;
use crate::machine::{Machine, SoftMachine, Tee};
use crate::policy::{Draft, TdDraft};
use crate::programs::Programs;
use crate::td::TdMachine;

/// The evidence agent's socket, in the machine's folder.
const SOCKET: &str = "agent.sock";
/// The test root.
const ANCHOR: &str = "anchor.der";
/// What the vendor publishes: revocation lists, and documents about firmware.
const COLLATERAL: &str = "collateral";
/// A policy that accepts the machine, and none that is worse.
const POLICY: &str = "policy.toml";
/// Between two looks at whether somebody has interrupted it.
const PULSE: Duration = Duration::from_millis(50);

/// Serves evidence of a soft machine of this kind, for this role, in `folder`, until it is interrupted.
///
/// # Errors
/// [`Failure`]; being interrupted is none.
pub fn serve<W: Write>(
    tee: Tee,
    role: Role,
    folder: &Path,
    executable: &Path,
    interrupted: Arc<AtomicBool>,
    page: &mut Page<W>,
) -> Result<(), Failure> {
    let collateral = folder.join(COLLATERAL);
    fs::create_dir_all(&collateral).map_err(Failure::io(&collateral))?;
    let folder = folder.canonicalize().map_err(Failure::io(folder))?;
    let write = |path: &Path, bytes: &[u8]| fs::write(path, bytes).map_err(Failure::io(path));
    let (name, anchor) = tee.anchor();
    write(&folder.join(ANCHOR), &anchor)?;
    for (name, bytes) in tee.collateral() {
        write(&folder.join(COLLATERAL).join(name), &bytes)?;
    }
    let (machine, policy): (Box<dyn SoftMachine>, _) = match tee {
        Tee::Snp => {
            let machine = Machine::default().with(|machine| machine.role = role);
            let policy = Draft::accepting(&machine, &[]).text();
            (Box::new(machine), policy)
        }
        Tee::Tdx => {
            let machine = TdMachine::default().with(|machine| machine.role = role);
            let policy = TdDraft::accepting(&machine, &[]).text();
            (Box::new(machine), policy)
        }
    };
    write(&folder.join(POLICY), policy.as_bytes())?;
    let programs = Programs::new(executable, &folder).interrupted_by(Arc::clone(&interrupted));
    let agent = machine.start_agent(&programs, SOCKET)?;
    page.heading("A machine whose processor is a program: its evidence is under a test root, and good for nothing but trying")?;
    page.line("")?;
    let at = |file: &str| folder.join(file).display().to_string();
    page.say("For the broker, when it is made, and in broker.toml:")?;
    page.command(&format!("portcullis-broker init --test-anchor {name}={} …", at(ANCHOR)))?;
    page.file(&format!("[collateral]\nfolder = \"{}\"\n", at(COLLATERAL)))?;
    page.say("For the authority: a policy that accepts it.")?;
    page.file(&format!("{}\n", at(POLICY)))?;
    page.say("For the guest, in guest.toml; it serves until Ctrl-C:")?;
    page.file(&format!("evidence = \"agent:{}\"\n", at(SOCKET)))?;
    while !interrupted.load(Ordering::Relaxed) {
        std::thread::sleep(PULSE);
    }
    drop(agent);
    let socket = folder.join(SOCKET);
    fs::remove_file(&socket).map_err(Failure::io(&socket))
}
