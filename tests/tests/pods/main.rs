//! Which way to a model in which pod: every row of `docs/pods.md`, with real processes in mount, PID and user namespaces of their own,
//! capabilities dropped, `no_new_privs`, and real cgroups.

mod cgroup;
mod container;
mod limits;
mod rows;
#[path = "../world/mod.rs"]
mod world;
