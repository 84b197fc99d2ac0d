//! The portcullis command: seal, publish, verify, explain, audit.
