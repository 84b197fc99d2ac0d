//! `identity`: who this guest is, once: a certificate and its key to files, or a token.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use protocol::encoding::to_base64;
use protocol::messages::Identified;
use protocol::tokens::EcKey;
use zeroize::Zeroizing;

use super::args::{IdentityArguments, plaintext};
use super::decide::exchange;
use super::failure::{Failure, Stream};
use crate::config::{Config, Overrides, Plaintext, Stdout};
use crate::exchange::AskFor;
use crate::identity::bundles::Bundles;
use crate::report::Report;
use crate::{destination, secret_file};

/// `identity`.
pub fn identity(arguments: &IdentityArguments) -> Result<(), Failure> {
    if arguments.token_file.is_some() && arguments.token_audience().is_none() {
        return Err(Failure::Usage("--token-file takes the token that --audience or --result-audience asks for"));
    }
    let to_stdout = arguments.token_audience().is_some() && arguments.token_file.is_none();
    let stdout = to_stdout.then_some(Stdout::Allowed);
    let config = arguments.common.effective(Overrides { plaintext: plaintext(arguments.to_disk), stdout, ..Overrides::default() })?;
    can_write(arguments, &config, to_stdout)?;
    let key = arguments.out.is_some().then(EcKey::generate).transpose().map_err(|error| Failure::Keys(error.to_string()))?;
    let audiences: Vec<String> = arguments.audience.iter().cloned().collect();
    let ask = AskFor { x509: key.as_ref(), jwt_audiences: &audiences, result_audience: arguments.result_audience.as_deref() };
    let stream = match (to_stdout, arguments.common.json) {
        (true, _) => Stream::Error,
        (false, true) => Stream::Json,
        (false, false) => Stream::Text,
    };
    let answered = exchange(&config, &arguments.persistence, stream, |session| session.identify(&arguments.policy, &[], &ask))?;
    let report = Report::of_decision(answered.outcome(), answered.entry());
    // What was refused has been reported by now.
    let Ok((identified, bundles)) = answered.into_identity() else { return Err(Failure::Keys("the answer names no identity".to_owned())) };
    if let (Some(folder), Some(key)) = (&arguments.out, &key) {
        write_certificate(folder, &identified, &bundles, key)?;
    }
    write_token(arguments, &identified)?;
    match stream {
        Stream::Json => println!("{}", report.to_json()),
        Stream::Text => print!("{}", report.to_text()),
        Stream::Error => {}
    }
    Ok(())
}

/// What can be known to fail does so before anything is asked for.
fn can_write(arguments: &IdentityArguments, config: &Config, to_stdout: bool) -> Result<(), Failure> {
    if to_stdout && io::stdout().is_terminal() {
        return Err(Failure::Usage("a token is not written to a terminal; --token-file names a file"));
    }
    if config.plaintext == Plaintext::Memory {
        for path in [&arguments.out, &arguments.token_file].into_iter().flatten() {
            destination::in_memory(path)?;
        }
    }
    Ok(())
}

/// `svid.pem`, `key.pem`, `bundle.pem`, `bundle.json`. The key is written before the certificate that it belongs to.
fn write_certificate(folder: &Path, identified: &Identified, bundles: &Bundles, key: &EcKey) -> Result<(), Failure> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| Failure::Write { path, error }
    };
    secret_file::make_folder(folder).map_err(failed(folder))?;
    let chain = identified.x509.iter().flat_map(|x509| &x509.certificates);
    let pkcs8 = key.to_pkcs8().map_err(|error| Failure::Keys(error.to_string()))?;
    let files: [(&str, Zeroizing<String>); 4] = [
        ("key.pem", pem("PRIVATE KEY", &pkcs8)),
        ("svid.pem", chain.map(|der| pem("CERTIFICATE", der)).fold(Zeroizing::default(), joined)),
        ("bundle.pem", bundles.own().x509_authorities().iter().map(|der| pem("CERTIFICATE", der)).fold(Zeroizing::default(), joined)),
        ("bundle.json", Zeroizing::new(identified.bundle.clone())),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        secret_file::write(&path, text.as_bytes()).map_err(failed(&path))?;
    }
    Ok(())
}

/// RFC 7468.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(to_base64(der));
    let mut text = Zeroizing::new(format!("-----BEGIN {label}-----\n"));
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

fn joined(mut all: Zeroizing<String>, one: Zeroizing<String>) -> Zeroizing<String> {
    all.push_str(&one);
    all
}

/// The one token that was asked for, to its file or to standard output.
fn write_token(arguments: &IdentityArguments, identified: &Identified) -> Result<(), Failure> {
    let result = identified.result.as_ref().map(String::as_bytes);
    let Some(token) = identified.jwt.first().map(|jwt| jwt.token.expose()).or(result) else { return Ok(()) };
    match &arguments.token_file {
        Some(path) => secret_file::write(path, token).map_err(|error| Failure::Write { path: path.clone(), error }),
        None => {
            let failed = |error| Failure::Write { path: PathBuf::from("standard output"), error };
            let mut stdout = io::stdout().lock();
            stdout.write_all(token).map_err(failed)?;
            stdout.write_all(b"\n").and_then(|()| stdout.flush()).map_err(failed)
        }
    }
}
