//! What runs in the guest: collects evidence, gets releases, opens models.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`evidence`] | where evidence comes from: configfs, the guest device, the evidence agent |
//! | [`agent`] | the evidence agent: typed questions, one socket for each workload |
//! | [`config`] | what a guest pins, and the digest by which a policy can demand that it does |
//! | [`exchange`] | challenge, evidence, request; then the answer, believed only where all of it holds together |
//! | [`clock`] | now, by the wall's clock and by the time since boot |
//! | [`checkpoints`] | the last checkpoint of the broker's log, kept |
//! | [`destination`] | where plaintext may go |
//! | [`capacity`] | whether it fits there |
//! | [`huge_pages`] | asked for in the tmpfs that models are opened to |
//! | [`identity`] | who a workload is: certificates and tokens, kept fresh and served to it |
//! | [`isolation`] | namespaces of one's own without privilege, and an engine without capabilities |
//! | [`mount`] | a sealed model as a folder, decrypted on first touch |
//! | [`credentials`] | credentials that are held: released, renewed, rotated, gone when they end |
//! | [`proxy`] | adds a credential to requests to one upstream, for whoever must not hold it |
//! | [`sidecar`] | keeps a pod's models open, renews, and tells the pod how they stand |
//! | [`report`] | what people and programs learn about a denial |
//! | [`connection`] | the way to a broker: a package of its own, which the `portcullis` command uses too |
//! | [`retry`] | when to try again |
//! | [`signals`] | whoever asks the process to end |
//! | [`sources`] | where sealed models lie: a folder, a web server, an object store |

pub mod agent;
pub mod capacity;
pub mod checkpoints;
pub mod clock;
mod command;
pub mod config;
pub mod credentials;
pub mod destination;
pub mod evidence;
pub mod exchange;
pub mod huge_pages;
pub mod identity;
pub mod isolation;
pub mod mount;
pub mod proxy;
pub mod report;
pub mod retry;
mod secret_file;
mod seldom;
pub mod sidecar;
pub mod signals;
pub mod sources;
mod users;

pub use command::run;
