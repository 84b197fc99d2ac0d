//! Who a workload is, in the forms that its ecosystem speaks: a SPIFFE ID in an X.509-SVID and in JWT-SVIDs, kept fresh for as long as the
//! broker permits it, and served to that workload alone.
//!
//! ```text
//!               what is issued                     gRPC on a socket
//!   broker ◄───────────────────► keeper ──► view ──► Workload API ──► the workload
//!            a session of its own   │          └───► local API, metrics
//!                                   └──► token files ──► the clouds' own libraries
//! ```
//!
//! A keeper is one thread for one identity. It alone talks to the broker; everybody else reads what it last wrote. The name comes from
//! the broker's policy, which is asked for by its own name: nothing here says who a workload is.
//!
//! Private keys are made here, live in memory, and go with the certificate; they leave only for the workload. A JWT is good for whoever
//! has it until it expires, so a token is for one audience, lives for minutes, and lies in memory.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`config`] | what the sidecar is told |
//! | [`keeper`] | what is asked for, and when; what an outage and a denial do |
//! | [`view`] | an identity as everybody but its keeper sees it |
//! | [`bundles`] | by what others are believed |
//! | [`svid`] | whether a certificate is the one that was asked for |
//! | [`files`] | tokens as files |
//! | [`workload_api`] | the SPIFFE Workload API on a Unix socket |

pub mod bundles;
pub mod config;
pub mod files;
pub mod keeper;
pub mod svid;
pub mod view;
pub mod workload_api;
