//! The `portcullis-guest` command; what it does is in the library's `run`.

use std::process::ExitCode;

fn main() -> ExitCode {
    guest_client::run(std::env::args_os())
}
