//! How fast the commands seal and open on this machine, beside `cp`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::str::FromStr;
use std::time::{Duration, Instant};

use testbed::model::{self, Extras, ModelShape};

use super::{GENUINE, Story, Tone};
use crate::failure::{Failure, expect};
use crate::memory::Room;

/// The model's name.
const NAME: &str = "acme/large";

/// How many models lie in memory at once: the plaintext, the sealed one, and what is made of it.
const COPIES: u64 = 3;

/// `4G`, `500M`: so many bytes, in powers of 1024.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a size such as 500M or 4G, from 1M to 1024G";
        let (digits, unit) = match text.char_indices().last() {
            Some((at, 'M' | 'm')) => (text.get(..at), 20),
            Some((at, 'G' | 'g')) => (text.get(..at), 30),
            _ => (None, 0),
        };
        let number: u64 = digits.and_then(|digits| digits.parse().ok()).ok_or(EXPECTED)?;
        let bytes = number.checked_mul(1 << unit).filter(|bytes| (1 << 20..=1 << 40).contains(bytes));
        bytes.map(Self).ok_or(EXPECTED)
    }
}

/// Room for the measurement, in memory.
///
/// # Errors
/// [`Failure::NoMemory`].
pub(super) fn room(size: Size) -> Result<Room, Failure> {
    Room::in_memory(size.0.saturating_mul(COPIES))
}

impl<W: Write> Story<'_, W> {
    /// Seals and opens a model of this size by the same commands as before, and copies it by `cp -r`, all in memory.
    pub(super) fn rates(&mut self, size: Size, room: &Room) -> Result<(), Failure> {
        self.page.step("How fast that is on this machine")?;
        self.page.say(
            "A larger model, once copied by cp -r, once sealed, once released and opened, each from memory to memory. Each time is that of the \
             whole command, with everything that it asks the broker. The first copy is not counted: it finds the memory.",
        )?;
        let at = |name: &str| room.path().join(name);
        let (plaintext, sealed, made) = (at("large"), at("large.sealed"), at("made"));
        let shape = ModelShape { seed: 2, shard_bytes: (size.0 / 2).max(ModelShape::SMALLEST_SHARD), extras: Extras::None };
        let files = model::write(&plaintext, &shape).map_err(Failure::io(&plaintext))?;
        let bytes: u64 = files.iter().map(|file| file.size).sum();
        copy(&plaintext, &made)?;
        let copied = copy(&plaintext, &made)?;
        let began = Instant::now();
        let ended = self.installation.seal(&plaintext, NAME, 1, &sealed.display().to_string())?;
        let sealing = began.elapsed();
        self.page.command(&ended.line)?;
        self.installation.publish(&format!("{}.record.json", sealed.display()))?;
        let began = Instant::now();
        let ended = self.installation.unseal("guest.toml", GENUINE, NAME, &sealed.display().to_string(), &made)?.expect(0)?;
        let opening = began.elapsed();
        self.permitted += 1;
        self.page.command(&ended.line)?;
        let opened = model::read(&made).map_err(Failure::io(&made))?;
        expect("the large model, opened, is the same byte for byte", opened == files, true)?;
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let beside = format!("beside cp -r ({} in memory, {cores} processors)", gigabytes(bytes));
        self.page.result(Tone::Quiet, &format!("{:9}", ""), &format!("{:>8}  {:>8}  {beside}", "seconds", "GB/s"))?;
        for (what, time) in [("cp -r", copied), ("seal", sealing), ("open", opening)] {
            let ratio = copied.as_secs_f64() / time.as_secs_f64();
            let line = format!("{:>8.2}  {:>8.2}  {ratio:.1} times as fast", time.as_secs_f64(), rate(bytes, time));
            self.page.result(Tone::Good, &format!("{what:<9}"), &line)?;
        }
        [&plaintext, &sealed, &made].into_iter().try_for_each(|folder| fs::remove_dir_all(folder).map_err(Failure::io(folder)))?;
        if cfg!(debug_assertions) {
            self.page.say("(This is the build for development. The ciphers are optimised in it, the commands are not; a release build is a little faster.)")?;
        }
        Ok(())
    }
}

/// Copies to a new folder, and removes what was there; the time of `cp` alone.
fn copy(from: &Path, to: &Path) -> Result<Duration, Failure> {
    let line = format!("cp -r {} {}", from.display(), to.display());
    let began = Instant::now();
    let status = Command::new("cp").arg("-r").arg(from).arg(to).status().map_err(|error| Failure::Start { line: line.clone(), error })?;
    let time = began.elapsed();
    expect(&line, status.success(), true)?;
    fs::remove_dir_all(to).map_err(Failure::io(to))?;
    Ok(time)
}

/// `4.3 GB`.
fn gigabytes(bytes: u64) -> String {
    let tenths = bytes / 100_000_000;
    format!("{}.{} GB", tenths / 10, tenths % 10)
}

/// GB a second.
fn rate(bytes: u64, time: Duration) -> f64 {
    Duration::from_nanos(bytes).as_secs_f64() / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit_and_limits() {
        assert_eq!("4G".parse(), Ok(Size(4 << 30)));
        assert_eq!("500m".parse(), Ok(Size(500 << 20)));
        for bad in ["", "4", "G", "0M", "-1G", "1025G", "99999999999999999999G", "4T", "4 G"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        assert_eq!("1024G".parse(), Ok(Size(1 << 40)));
    }

    #[test]
    fn bytes_and_rates_are_in_powers_of_ten() {
        assert_eq!(gigabytes(4 << 30), "4.2 GB");
        assert!((rate(3_000_000_000, Duration::from_secs(2)) - 1.5).abs() < 1e-9);
    }
}
