//! Real processes in a folder of their own: what the end-to-end tests and the demo have in common.
//!
//! One executable, `portcullis-demo`, is every program: started with `--as PART` it is the broker, the guest's client, the command
//! or the evidence agent, by the same `run` functions that the shipped binaries call. Nothing else needs to be built first.
//!
//! Only the processor is soft. Its reports come from the testbed, under test roots, by way of the guest client's own evidence agent.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`programs`] | starting programs as processes, and their ends |
//! | [`machine`] | a soft machine, and the evidence agent on it |
//! | [`td`] | the same with Intel TDX, and Intel's collateral for it |
//! | [`installation`] | keys, a broker, a guest's configuration, in one folder |
//! | [`policy`] | the text of a policy |
//! | [`outsider`] | a small client that keeps to no rules: it replays, and sends evidence with foreign keys |
//! | [`recorder`] | somebody on the network who writes down what passes |
//! | [`memory`] | where plaintext may go on this machine |
//! | [`agent`] | an agent and the tool that it uses, which know nothing of all this |
//! | [`python`] | a Python with the packages that some tests use |
//! | [`failure`] | what can go otherwise than it should |
//! | [`demo`] | the story that `cargo demo` tells |

pub mod agent;
pub mod demo;
pub mod failure;
pub mod installation;
pub mod machine;
pub mod memory;
pub mod outsider;
pub mod policy;
pub mod programs;
pub mod python;
pub mod recorder;
pub mod td;
