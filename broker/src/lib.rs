//! The broker: challenge, verify, decide, record, release.
