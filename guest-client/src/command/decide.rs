//! `check` and `release`: exchanges with a broker, and what becomes of their outcome.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use protocol::credential::CredentialBody;
use protocol::documents::Kind;
use protocol::messages::{Item, ItemOutcome, Outcome, Purpose, Secret};

use super::args::{CheckArguments, Persistence, ReleaseArguments, ReleaseDestination, plaintext};
use super::failure::{Failure, Stream, exit_of};
use crate::config::{Config, Overrides, Plaintext, Stdout};
use crate::credentials::{Unusable, files};
use crate::exchange::{Answered, Class, ExchangeError, Session};
use crate::report::Report;
use crate::retry::{Attempt, Reason, SystemPace, persist};
use crate::{clock, destination, secret_file};
use connection::Client;

/// `check`: the whole exchange, with nothing released.
pub fn check(arguments: &CheckArguments) -> Result<(), Failure> {
    let config = arguments.common.effective(Overrides { plaintext: plaintext(arguments.to_disk), ..Overrides::default() })?;
    let stream = arguments.common.stream();
    let answered = decide(&config, &arguments.persistence, Purpose::Check, &arguments.asks.items(), stream)?;
    let report = Report::of_decision(answered.outcome(), answered.entry());
    if arguments.common.json {
        println!("{}", report.to_json());
    } else {
        println!("broker         {} under root {}", config.broker.url, config.root);
        println!("configuration  {}", config.digest()?);
        println!("log            entry {} of {}, receipt verified", answered.entry(), answered.log_size());
        print!("{}", report.to_text());
    }
    Ok(())
}

/// `release`: secrets to files or standard output, all of them or none.
pub fn release(arguments: &ReleaseArguments) -> Result<(), Failure> {
    let stdout = arguments.destination.stdout.then_some(Stdout::Allowed);
    let config = arguments.common.effective(Overrides { plaintext: plaintext(arguments.to_disk), stdout, ..Overrides::default() })?;
    let items = arguments.asks.items();
    let places = Places::of(&arguments.destination, &items, config.plaintext)?;
    let stream = match (&places, arguments.common.json) {
        (Places::Stdout, _) => Stream::Error,
        (Places::Files(_), true) => Stream::Json,
        (Places::Files(_), false) => Stream::Text,
    };
    let answered = decide(&config, &arguments.persistence, Purpose::Release, &items, stream)?;
    let report = Report::of_decision(answered.outcome(), answered.entry());
    places.write(answered.into_outcome())?;
    match stream {
        Stream::Json => println!("{}", report.to_json()),
        Stream::Text => print!("{}", report.to_text()),
        Stream::Error => {}
    }
    Ok(())
}

/// One exchange about `items`, tried as often as patience says. A denial or a failure is reported here, also to the termination log.
pub fn decide(config: &Config, persistence: &Persistence, purpose: Purpose, items: &[Item], stream: Stream) -> Result<Answered, Failure> {
    exchange(config, persistence, stream, |session| session.release(purpose, items))
}

/// The same of any exchange.
pub fn exchange(
    config: &Config,
    persistence: &Persistence,
    stream: Stream,
    mut once: impl FnMut(&mut Session<'_>) -> Result<Answered, ExchangeError>,
) -> Result<Answered, Failure> {
    let client = Client::new(&config.broker)?;
    let attester = config.evidence.attester(&config.interfaces)?;
    let mut session = Session::new(&client, &*attester, config.terms()?);
    let attempt = || match once(&mut session) {
        Ok(answered) if answered.is_permitted() => Attempt::Finished(Ok(answered)),
        Ok(answered) => Attempt::Denied(Ok(answered)),
        Err(error) => match error.class() {
            Class::Outage(after) => Attempt::Outage(Err(error), after),
            Class::Denied => Attempt::Denied(Err(error)),
            Class::Untrusted | Class::NoEvidence | Class::Local => Attempt::Finished(Err(error)),
        },
    };
    let result = persist(&SystemPace::start(), &persistence.patience(), attempt, |result, reason, wait| {
        let report = report_of(result);
        if reason == Reason::Denial {
            report.leave(persistence.termination_log.as_deref());
        }
        eprintln!("{}: {} ({}); trying again in {:.1} s", report.result, report.message, report.code, wait.as_secs_f64());
    });
    match result {
        Ok(answered) if answered.is_permitted() => Ok(answered),
        result => {
            let report = report_of(&result);
            report.leave(persistence.termination_log.as_deref());
            let exit = result.as_ref().map_or_else(exit_of, |_| super::Exit::Denied);
            Err(Failure::Reported(exit, Box::new(report), stream))
        }
    }
}

fn report_of(result: &Result<Answered, ExchangeError>) -> Report {
    match result {
        Ok(answered) => Report::of_decision(answered.outcome(), answered.entry()),
        Err(error) => Report::of_error(error),
    }
}

/// Where secrets go. Judged before anything is asked for.
enum Places {
    Stdout,
    /// One path an item, in their order.
    Files(Vec<PathBuf>),
}

impl Places {
    fn of(destination: &ReleaseDestination, items: &[Item], plaintext: Plaintext) -> Result<Self, Failure> {
        let paths = match (&destination.out, &destination.out_dir) {
            (Some(path), _) if items.len() == 1 => vec![path.clone()],
            (Some(_), _) => return Err(Failure::Usage("--out takes one secret; use --out-dir for several")),
            (None, Some(folder)) => items.iter().map(|item| folder.join(item.kind.as_str()).join(item.name.as_str())).collect(),
            (None, None) if items.len() != 1 => return Err(Failure::Usage("--stdout takes one secret; use --out-dir for several")),
            (None, None) if io::stdout().is_terminal() => return Err(Failure::Usage("--stdout does not write a secret to a terminal")),
            (None, None) => return Ok(Self::Stdout),
        };
        if plaintext == Plaintext::Memory {
            let judged: Vec<&Path> = match &destination.out_dir {
                Some(folder) => vec![folder],
                None => paths.iter().map(PathBuf::as_path).collect(),
            };
            judged.into_iter().try_for_each(destination::in_memory)?;
        }
        Ok(Self::Files(paths))
    }

    fn write(&self, outcome: Outcome) -> Result<(), Failure> {
        let secrets: Vec<Secret> = outcome.items.into_iter().filter_map(|item| value(item).transpose()).collect::<Result<_, _>>()?;
        match self {
            Self::Stdout => {
                let failed = |error| Failure::Write { path: PathBuf::from("standard output"), error };
                let mut stdout = io::stdout().lock();
                secrets.iter().try_for_each(|secret| stdout.write_all(secret.expose())).map_err(failed)?;
                stdout.flush().map_err(failed)
            }
            Self::Files(paths) => write_all(paths, &secrets),
        }
    }
}

/// What was released, if it was: of a credential its value, as long as it may be used.
fn value(outcome: ItemOutcome) -> Result<Option<Secret>, Unusable> {
    let ItemOutcome::Granted { item, secret, .. } = outcome else { return Ok(None) };
    let (Kind::Credential, Some(version)) = (item.kind, item.version) else { return Ok(Some(secret)) };
    let body = CredentialBody::read(secret.expose()).map_err(|error| Unusable::Form { version, error })?;
    match body.expires {
        Some(expires) if body.is_over(clock::now()) => Err(Unusable::Expired { version, expires }),
        _ => Ok(Some(Secret::new(files::bytes(&body)))),
    }
}

/// Writes each secret to its path. Where one cannot be written, those before it are removed.
fn write_all(paths: &[PathBuf], secrets: &[Secret]) -> Result<(), Failure> {
    let write = |path: &PathBuf, secret: &Secret| {
        if let (true, Some(folder)) = (paths.len() > 1, path.parent()) {
            secret_file::make_folder(folder)?;
        }
        secret_file::write(path, secret.expose())
    };
    for (done, (path, secret)) in paths.iter().zip(secrets).enumerate() {
        if let Err(error) = write(path, secret) {
            for written in paths.iter().take(done) {
                // What cannot be removed was written whole, to where it was asked for.
                let _ = std::fs::remove_file(written);
            }
            return Err(Failure::Write { path: path.clone(), error });
        }
    }
    Ok(())
}
