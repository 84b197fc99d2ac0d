//! End-to-end tests and the demo.
