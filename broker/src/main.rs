//! `portcullis-broker`: see [`broker::run`].

fn main() -> std::process::ExitCode {
    broker::run(std::env::args_os())
}
