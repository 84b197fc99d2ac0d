//! `proxy`: credential proxies without a sidecar.

use super::args::ProxyArguments;
use super::failure::Failure;
use super::log_to_stderr;
use crate::config::{Overrides, Plaintext};
use crate::credentials::{Credentials, Settings};
use crate::proxy::config::ProxyConfig;
use crate::proxy::{bind_all, run};
use crate::{destination, isolation};

/// `proxy`. Runs until it is asked to end.
pub fn proxy(arguments: &ProxyArguments) -> Result<(), Failure> {
    log_to_stderr(arguments.common.json);
    let config = arguments.common.effective(Overrides::default())?;
    let proxies = ProxyConfig::read(&arguments.proxies)?;
    isolation::close_memory();
    if config.plaintext == Plaintext::Memory {
        destination::never_swapped()?;
    }
    let mut credentials = Credentials::new();
    let proxies = bind_all(&proxies, &mut credentials)?;
    // Nobody keeps the credentials any more once this goes, and then no proxy uses them.
    let _keeping = credentials.start(&config, config.terms()?, Settings { check_every: arguments.check_every.0, catalog: None })?;
    Ok(run(proxies)?)
}
