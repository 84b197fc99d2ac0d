//! The evidence agent: the one process of a VM that owns the platform's interface, and lends it to workloads by typed questions.
//!
//! A workload asks for evidence over a nonce, its public keys and the digest of its configuration. It never hands in report
//! data: 64 bytes from anybody would be evidence for anything. There is one socket for each workload, made by whoever starts
//! the agent; the agent writes the role of the *socket* into the transcript, whatever the caller may think that it is, so a
//! workload that can reach its own socket alone can prove only itself. It holds as far as the measured image keeps everybody
//! else from the interface and from others' sockets.
//!
//! Trusted: the process that starts the agent, for the mapping from sockets to roles. Not trusted: callers. They can make it
//! collect evidence about themselves, no faster than the interface gives it and never more than a few at a time.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`wire`] | messages and frames |
//! | [`serve`] | the server |

mod serve;
pub mod wire;

pub use serve::{Agent, ServeError, Served, bind, serve};
