//! `sidecar`: what is told becomes what runs.

use super::args::{SidecarArguments, plaintext};
use super::failure::Failure;
use super::log_to_stderr;
use crate::config::Overrides;
use crate::isolation;
use crate::sidecar::config::SidecarConfig;
use crate::sidecar::run;

/// `sidecar`.
pub fn sidecar(arguments: &SidecarArguments) -> Result<(), Failure> {
    log_to_stderr(arguments.common.json);
    let config = arguments.common.effective(Overrides { plaintext: plaintext(arguments.to_disk), ..Overrides::default() })?;
    let pod = SidecarConfig::read(&arguments.pod)?;
    isolation::close_memory();
    let terms = config.terms()?;
    Ok(run(config, terms, pod)?)
}
