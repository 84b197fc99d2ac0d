//! What runs in the guest: collects evidence, gets releases, opens models.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`evidence`] | where evidence comes from: configfs, the guest device, the evidence agent |
//! | [`agent`] | the evidence agent: typed questions, one socket for each workload |
//! | [`config`] | what a guest pins, and the digest by which a policy can demand that it does |
//! | [`exchange`] | challenge, evidence, request; then the answer, believed only where all of it holds together |
//! | [`checkpoints`] | the last checkpoint of the broker's log, kept |
//! | [`destination`] | where plaintext may go |
//! | [`report`] | what people and programs learn about a denial |
//! | [`connection`] | the way to a broker: a package of its own, which the `portcullis` command uses too |
//! | [`retry`] | when to try again |

pub mod agent;
pub mod checkpoints;
mod clock;
mod command;
pub mod config;
pub mod destination;
pub mod evidence;
pub mod exchange;
pub mod report;
pub mod retry;
mod secret_file;

pub use command::run;
