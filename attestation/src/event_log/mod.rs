//! Placeholder until the replay of event logs is merged.

use crate::claims::MeasuredEvent;

/// Why an event log was rejected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("event logs are not read yet")]
pub struct EventLogError;

pub(crate) fn replay(_log: &[u8], _rtmrs: &[[u8; 48]; 4]) -> Result<Vec<MeasuredEvent>, EventLogError> {
    Err(EventLogError)
}
