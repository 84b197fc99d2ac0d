//! What the benchmarks share: clocks, rounds side by side and tables, and the session that evidence answers.
//!
//! Absolute times differ from machine to machine and from hour to hour, so everything that is compared is measured in one run, in rounds
//! in which each contender has its turn, and what is reported is the median of the rounds and of the ratios within them.

pub mod clock;
pub mod process;
pub mod rounds;
pub mod session;

/// Whether a program was built for speed. Numbers of any other build are worth nothing, and are refused.
pub const OPTIMISED: bool = !cfg!(debug_assertions);

/// Ends the program unless it was built for speed.
pub fn insist_on_release() {
    if !OPTIMISED {
        eprintln!("error: this build is not optimised\nhint: cargo bench -p portcullis-benches --bench NAME");
        std::process::exit(2);
    }
}
