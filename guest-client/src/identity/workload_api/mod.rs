//! The SPIFFE Workload API: who a workload is, on a Unix socket of its own, for every client that speaks it.
//!
//! One socket is one workload's: it is mounted where only that workload sees it, and answers only to that workload's users. A PID
//! is no name across PID namespaces and decides nothing; a cgroup may be demanded besides, where this process sees the workload's.
//! There is no other authentication, as the specification has it: who may connect is the identity.
//!
//! Trusted: the kernel, for who connected; the operator, for the sockets' places and users. Not trusted: whoever connects. The
//! thief of a workload's user is that workload, for as long as the thief runs.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`peer`] | who is on the other end |
//! | [`serve`] | connections and their number |
//! | [`service`] | the methods |
//! | [`authority`] | what gRPC's C library sends and HTTP/2 does not allow |
//! | `answers` | messages and statuses |
//! | [`generated`] | made from `workload.proto` by `tests/generated.rs` |

mod answers;
pub mod authority;
#[rustfmt::skip]
#[allow(clippy::all, missing_docs, unused_qualifications, reason = "a generator's style")]
pub mod generated;
pub mod peer;
pub mod serve;
pub mod service;
