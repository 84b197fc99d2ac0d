//! `mount` and `mount-server`: the model's key from the broker, and the sealed model, wherever it lies, mounted with it by a process of
//! its own.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use models_manifest::Silent;

use super::args::{MountArguments, MountServerArguments, SealedModelArguments, Serving};
use super::failure::Failure;
use super::unseal::Grant;
use super::watch::Interrupt;
use crate::config::{Config, Overrides, Plaintext, RequiredModelSigner};
use crate::mount::chunks::Limits;
use crate::mount::events::{Event, tell};
use crate::mount::order::Order;
use crate::mount::place::{self, Place};
use crate::mount::server::{Parent, Reasons, Tuning};
use crate::mount::storage::{self, Believed};
use crate::mount::supervised::{MountServer, Plan, Stopper, absolute};
use crate::mount::{server, supervised};
use crate::sources::{Reached, SealedLocation};
use crate::{destination, isolation};

impl Serving {
    /// As the server takes it. What is fetched is fetched ahead and not decrypted ahead: the network is what is waited for. And as many
    /// threads wait for it as there are connections, so that one object that does not come holds up no other.
    fn tuning(self, order: &Order) -> Tuning {
        let default = Tuning::default();
        let held = usize::from(self.held) << 20;
        let (threads, limits) = match &order.sealed {
            SealedLocation::Folder(_) => {
                (default.threads, Limits { held, ahead: self.ahead().unwrap_or(default.limits.ahead), ..default.limits })
            }
            _ => (order.storage.connections.clamp(default.threads, 16), Limits { held, ahead: 0, threads: 0 }),
        };
        Tuning { threads: self.threads.map_or(threads, usize::from), limits }
    }

    /// In bytes.
    fn ahead(self) -> Option<usize> {
        self.ahead.map(|mib| usize::from(mib) << 20)
    }

    /// As arguments of `mount-server`.
    fn arguments(self) -> Vec<OsString> {
        let mut arguments = vec!["--held".into(), self.held.to_string().into()];
        arguments.extend(self.ahead.into_iter().flat_map(|ahead| ["--ahead".into(), ahead.to_string().into()]));
        arguments.extend(["--linger".into(), format!("{}s", self.linger.0.as_secs()).into()]);
        arguments.extend(self.threads.into_iter().flat_map(|threads| ["--threads".into(), threads.to_string().into()]));
        arguments
    }

    /// What a mount server is started with.
    pub(super) fn plan(self, at: &Path, parent: Parent) -> io::Result<Plan> {
        let mut more = self.arguments();
        if parent == Parent::Outlived {
            more.push("--outlive".into());
        }
        Ok(Plan { at: absolute(at)?, more })
    }
}

/// Checks what can be known before the key is asked for: that memory stays memory, that there is a place, and a sealed model.
pub(super) fn can_mount(config: &Config, sealed: &SealedLocation, at: &Path) -> Result<(), Failure> {
    if config.plaintext == Plaintext::Memory {
        destination::never_swapped()?;
    }
    place::ready(at)?;
    Reached::at(sealed, &config.storage)?;
    Ok(())
}

/// What a mount server is told: what was granted, and where it lies.
pub(super) fn order(config: &Config, sealed: &SealedLocation, grant: Grant) -> io::Result<Order> {
    let sealed = match sealed {
        SealedLocation::Folder(folder) => SealedLocation::Folder(absolute(folder)?),
        elsewhere => elsewhere.clone(),
    };
    let storage = config.storage.clone();
    Ok(Order { sealed, storage, manifest: grant.manifest, publishers: vec![grant.publisher], key: grant.key })
}

/// Starts a mount server, and gives it the key, which is gone from this process then. Where the configuration requires a signer of the
/// model, its signature is verified first: the server then serves what leads to the same roots, or nothing. Nothing is mounted before
/// that, so what waits for the storage ends with the process, by an [`Interrupt`]. `started` learns of the server before it is waited for.
pub(super) fn start(
    plan: &Plan,
    order: &Order,
    signer: Option<&RequiredModelSigner>,
    started: impl FnOnce(Stopper),
) -> Result<MountServer, Failure> {
    if let Some(required) = signer {
        storage::check_signer(order, required, drop, &mut Silent)?;
    }
    Ok(MountServer::start_until(plan, order, |stopper, _| started(stopper))?)
}

/// `mount`: until it is asked to end, or the mount server has.
pub fn mount(arguments: &MountArguments) -> Result<(), Failure> {
    let interrupt = Interrupt::listen();
    let SealedModelArguments { common, model, sealed, .. } = &arguments.asked;
    let config = common.effective(Overrides::default())?;
    can_mount(&config, sealed, &arguments.at)?;
    let (grant, log_entry) = Grant::ask(&config, &arguments.asked)?;
    let parent = if arguments.outlive { Parent::Outlived } else { Parent::Needed };
    let plan = arguments.serving.plan(&arguments.at, parent).map_err(supervised::ServerError::Start)?;
    let order = order(&config, sealed, grant).map_err(supervised::ServerError::Start)?;
    let server = start(&plan, &order, config.model_signer(&model.name), |server| interrupt.starts(server));
    let mut server = server.map_err(|failure| interrupt.asked().map_or(failure, |asked| Failure::Ended(asked, None)))?;
    // The key is the server's alone from now on.
    drop(order);
    // Where signals cannot be listened for, they end this process, and the server ends with it.
    interrupt.asks(server.stopper());
    if common.json {
        println!("{}", server.ready());
    } else {
        println!("mounted: {model} at {} (log entry {log_entry})", plan.at.display());
    }
    while let Ok(Some(event)) = server.next_event() {
        if common.json {
            println!("{event}");
        }
    }
    match server.wait().map_err(supervised::ServerError::Start)? {
        0 => Ok(()),
        code => Err(Failure::ServerEnded(code)),
    }
}

/// `mount-server`: one mount, from its order to its end.
pub fn mount_server(arguments: &MountServerArguments) -> Result<(), Failure> {
    isolation::close_memory();
    // Not the buffered standard input: what it reads ahead would be in nobody's hands, and the key stay in its buffer.
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(|error| Failure::Order(error.into()))?;
    let mut input = File::from(input);
    let order = Order::read(&mut input)?;
    let parent = if arguments.outlive { Parent::Outlived } else { Parent::Needed };
    let reasons = Reasons::listen(input, parent).map_err(supervised::ServerError::Start)?;
    let place = Place::take(&arguments.at)?;
    let (serving, tuning) = (arguments.serving, arguments.serving.tuning(&order));
    let believed = Believed { publishers: &order.publishers, released: &order.manifest };
    let model = storage::unlock((&order.sealed, &order.storage), believed, order.key, serving.ahead(), |fetching| reasons.end(fetching))?;
    let (files, bytes) = (model.contents().files().len(), model.contents().total());
    let mounted = server::mount(model, place, tuning)?;
    reasons.mounted(&mounted);
    let ready = Event::Ready { at: mounted.path().display().to_string(), model: mounted.events().model().to_owned(), files, bytes };
    tell(&ready, &mut io::stdout().lock());
    let _ = mounted.serve(reasons, serving.linger.0);
    tell(&Event::Ended, &mut io::stdout().lock());
    Ok(())
}
