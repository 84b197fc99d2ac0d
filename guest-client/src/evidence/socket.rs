//! Evidence from the VM's evidence agent: what a workload asks its own socket.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{AttestInputs, Attested, Attester, EvidenceError, check};
use crate::agent::wire::{self, Question, Reply, Timed, WireError};

/// How long the agent may take: it may stand in line for a device whose host is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// An evidence agent's socket.
pub struct AgentSocket {
    path: PathBuf,
    patience: Duration,
}

impl AgentSocket {
    /// At `path`.
    #[must_use]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), patience: PATIENCE }
    }

    /// The same with another limit of time.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    fn ask(&self, question: &Question) -> Result<Reply, EvidenceError> {
        let unreachable = |error| EvidenceError::AgentUnreachable { path: self.path.clone(), error };
        let wire = |error| match error {
            WireError::Io(error) => unreachable(error),
            other => EvidenceError::AgentAnswer(other.to_string()),
        };
        let stream = UnixStream::connect(&self.path).map_err(unreachable)?;
        let mut timed = Timed::new(&stream, self.patience);
        // An agent that is busy answers before it is asked: then the question does not arrive, and the answer does.
        let asked = wire::write(&mut timed, question);
        wire::read(&mut timed).map_err(|error| wire(asked.err().unwrap_or(error)))
    }
}

impl Attester for AgentSocket {
    /// The agent says for whom it speaks, and with which event log; that its evidence is over exactly these inputs, that role and that log is
    /// checked here.
    fn attest(&self, inputs: &AttestInputs) -> Result<Attested, EvidenceError> {
        match self.ask(&Question::new(inputs))? {
            Reply::Attested { platform, role, evidence } => {
                let transcript = inputs.transcript(platform, role, evidence.event_log_digest());
                check(&evidence, &transcript)?;
                Ok(Attested { transcript, evidence })
            }
            Reply::Refused { code, what } => Err(EvidenceError::refused(code, what)),
        }
    }
}
