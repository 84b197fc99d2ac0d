//! Mount servers as processes of their own: what readers get, what they get when storage changes, and what a killed server leaves.

mod ending;
mod reading;
mod remote;
mod support;
mod tampering;
