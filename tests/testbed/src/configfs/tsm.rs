//! What the kernel keeps per report instance and does on each write and read, without any file system around it.

use std::collections::BTreeMap;

use fuser::Errno;

use super::{Fault, OUTBLOB_MAX};
use crate::snp::{SoftEvidence, SoftGuest};
use crate::tdx::SoftTdGuest;

/// Bytes that `inblob` takes at most, and that both drivers demand exactly.
const INBLOB_LENGTH: usize = 64;

/// The highest privilege level number (GHCB specification: VMPL 3).
const PRIVLEVEL_MAX: u32 = 3;

/// What a rival writer asks a report over.
const RIVAL: [u8; INBLOB_LENGTH] = [0x52; INBLOB_LENGTH];

/// An attribute of a report instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attribute {
    Inblob,
    Outblob,
    Auxblob,
    Provider,
    Generation,
    Privlevel,
    PrivlevelFloor,
}

impl Attribute {
    pub(super) const ALL: [Self; 7] =
        [Self::Inblob, Self::Outblob, Self::Auxblob, Self::Provider, Self::Generation, Self::Privlevel, Self::PrivlevelFloor];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inblob => "inblob",
            Self::Outblob => "outblob",
            Self::Auxblob => "auxblob",
            Self::Provider => "provider",
            Self::Generation => "generation",
            Self::Privlevel => "privlevel",
            Self::PrivlevelFloor => "privlevel_floor",
        }
    }

    /// Written by its owner, or read by everybody; never both.
    pub(super) fn mode(self) -> u16 {
        if self.is_writable() { 0o200 } else { 0o444 }
    }

    pub(super) fn is_writable(self) -> bool {
        matches!(self, Self::Inblob | Self::Privlevel)
    }

    /// Binary attributes have no size, text attributes a page.
    pub(super) fn size(self) -> u64 {
        if matches!(self, Self::Inblob | Self::Outblob | Self::Auxblob) { 0 } else { 4096 }
    }
}

/// Whose reports are served: which driver is behind the folder.
#[derive(Clone, Debug)]
pub enum Guest {
    /// `sev_guest`: an SNP guest.
    Snp(Box<SoftGuest>),
    /// `tdx_guest`: a TD.
    Td(Box<SoftTdGuest>),
}

impl From<SoftGuest> for Guest {
    fn from(guest: SoftGuest) -> Self {
        Self::Snp(Box::new(guest))
    }
}

impl From<SoftTdGuest> for Guest {
    fn from(guest: SoftTdGuest) -> Self {
        Self::Td(Box::new(guest))
    }
}

impl Guest {
    fn provider(&self) -> &'static str {
        match self {
            Self::Snp(_) => "sev_guest",
            Self::Td(_) => "tdx_guest",
        }
    }

    /// The lowest privilege level that may be asked for; a TD has no levels.
    fn floor(&self) -> u32 {
        match self {
            Self::Snp(guest) => guest.report.vmpl,
            Self::Td(_) => 0,
        }
    }

    /// What the driver shows beside the attributes that every driver has.
    fn shows(&self, attribute: Attribute) -> bool {
        match self {
            Self::Snp(_) => true,
            Self::Td(_) => !matches!(attribute, Attribute::Auxblob | Attribute::Privlevel | Attribute::PrivlevelFloor),
        }
    }

    /// A quote stands where a report does; nothing comes along with it.
    fn attest(&self, report_data: &[u8; INBLOB_LENGTH], privlevel: u32) -> SoftEvidence {
        match self {
            Self::Snp(guest) => guest.attest_at(report_data, privlevel),
            Self::Td(guest) => SoftEvidence { report: guest.attest(report_data).quote, certificate_table: Vec::new() },
        }
    }
}

/// One report instance.
#[derive(Default)]
struct Instance {
    number: u64,
    inblob: Vec<u8>,
    privlevel: u32,
    write_generation: u64,
    read_generation: u64,
    evidence: Option<SoftEvidence>,
}

impl Instance {
    /// Counts a write, unless that would make an old report look new.
    fn advance(&mut self) -> Result<(), Errno> {
        if self.write_generation == self.read_generation.wrapping_sub(1) {
            return Err(Errno::EBUSY);
        }
        self.write_generation = self.write_generation.wrapping_add(1);
        Ok(())
    }

    fn write_inblob(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.advance()?;
        self.inblob = bytes.to_vec();
        Ok(())
    }
}

/// The driver and its report instances.
pub(super) struct Tsm {
    guest: Guest,
    faults: Vec<Fault>,
    instances: BTreeMap<String, Instance>,
    next_number: u64,
    pub(super) generated: u64,
}

impl Tsm {
    pub(super) fn new(guest: Guest) -> Self {
        Self { guest, faults: Vec::new(), instances: BTreeMap::new(), next_number: 1, generated: 0 }
    }

    pub(super) fn add_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.instances.keys().cloned().collect()
    }

    /// Number and name of every instance.
    pub(super) fn list(&self) -> impl Iterator<Item = (u64, &str)> {
        self.instances.iter().map(|(name, instance)| (instance.number, name.as_str()))
    }

    pub(super) fn exists(&self, number: u64) -> bool {
        self.instances.values().any(|instance| instance.number == number)
    }

    /// The attributes that an instance shows.
    pub(super) fn attributes(&self) -> Vec<Attribute> {
        let hidden = self.faults.contains(&Fault::NoAuxblob);
        let shown = Attribute::ALL.into_iter().filter(|attribute| self.guest.shows(*attribute));
        shown.filter(|attribute| !(hidden && *attribute == Attribute::Auxblob)).collect()
    }

    /// `mkdir`: the new instance's number.
    pub(super) fn create(&mut self, name: &str) -> Result<u64, Errno> {
        self.provider()?;
        if self.instances.contains_key(name) {
            return Err(Errno::EEXIST);
        }
        let read_generation = u64::from(self.faults.contains(&Fault::GenerationWrapped));
        let number = self.next_number;
        self.next_number += 1;
        self.instances.insert(name.to_owned(), Instance { number, read_generation, ..Instance::default() });
        Ok(number)
    }

    /// `rmdir`.
    pub(super) fn remove(&mut self, name: &str) -> Result<(), Errno> {
        self.instances.remove(name).map(|_| ()).ok_or(Errno::ENOENT)
    }

    /// A write to a text attribute, all of it at once.
    pub(super) fn store(&mut self, number: u64, attribute: Attribute, text: &[u8]) -> Result<(), Errno> {
        if attribute != Attribute::Privlevel {
            return Err(Errno::EACCES);
        }
        let level = unsigned(text).ok_or(Errno::EINVAL)?;
        self.provider()?;
        if level < self.guest.floor() || level > PRIVLEVEL_MAX {
            return Err(Errno::EINVAL);
        }
        let instance = self.instance(number)?;
        instance.advance()?;
        instance.privlevel = level;
        Ok(())
    }

    /// The most that a binary attribute takes.
    pub(super) fn check_size(length: usize) -> Result<(), Errno> {
        if length > INBLOB_LENGTH { Err(Errno::EFBIG) } else { Ok(()) }
    }

    /// A closed `inblob`. Its error reaches nobody.
    pub(super) fn deliver(&mut self, number: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.instance(number)?.write_inblob(bytes)?;
        if self.happens(|fault| if let Fault::RivalAfterInblob { times } = fault { Some(times) } else { None }) {
            self.instance(number)?.write_inblob(&RIVAL)?;
        }
        Ok(())
    }

    /// The whole content of an attribute, as it is at the first read of an open file.
    pub(super) fn read(&mut self, number: u64, attribute: Attribute) -> Result<Vec<u8>, Errno> {
        match attribute {
            Attribute::Inblob | Attribute::Privlevel => Err(Errno::EACCES),
            Attribute::Provider => Ok(format!("{}\n", self.provider()?).into_bytes()),
            Attribute::Generation => Ok(format!("{}\n", self.instance(number)?.write_generation).into_bytes()),
            Attribute::PrivlevelFloor => {
                self.provider()?;
                Ok(format!("{}\n", self.guest.floor()).into_bytes())
            }
            Attribute::Outblob => {
                let report = self.outblob(number)?;
                if self.happens(|fault| if let Fault::RivalAfterOutblob { times } = fault { Some(times) } else { None }) {
                    self.instance(number)?.write_inblob(&RIVAL)?;
                }
                Ok(report)
            }
            Attribute::Auxblob => self.auxblob(number),
        }
    }

    fn outblob(&mut self, number: u64) -> Result<Vec<u8>, Errno> {
        let mut report = self.evidence(number)?.report;
        for fault in &self.faults {
            match fault {
                Fault::OutblobPadded(count) => report.resize(report.len() + count, 0),
                Fault::OutblobCut(length) => report.truncate(*length),
                _ => {}
            }
        }
        limited(report)
    }

    fn auxblob(&mut self, number: u64) -> Result<Vec<u8>, Errno> {
        let table = self.evidence(number)?.certificate_table;
        let other = self.faults.iter().find_map(|fault| if let Fault::Auxblob(bytes) = fault { Some(bytes.clone()) } else { None });
        limited(other.unwrap_or(table))
    }

    /// The cached evidence, or a new one when something was written since.
    fn evidence(&mut self, number: u64) -> Result<SoftEvidence, Errno> {
        let instance = self.instance(number)?;
        if instance.inblob.is_empty() {
            return Err(Errno::EINVAL);
        }
        if instance.read_generation == instance.write_generation
            && let Some(evidence) = &instance.evidence
        {
            return Ok(evidence.clone());
        }
        let (inblob, privlevel) = (instance.inblob.clone(), instance.privlevel);
        let evidence = self.generate(&inblob, privlevel)?;
        self.generated += 1;
        let instance = self.instance(number)?;
        instance.read_generation = instance.write_generation;
        instance.evidence = Some(evidence.clone());
        Ok(evidence)
    }

    /// The driver's part.
    fn generate(&mut self, inblob: &[u8], privlevel: u32) -> Result<SoftEvidence, Errno> {
        self.provider()?;
        let mut report_data: [u8; INBLOB_LENGTH] = inblob.try_into().map_err(|_| Errno::EINVAL)?;
        if let Some(errno) = self.failure() {
            return Err(errno);
        }
        // The firmware refuses a report for a more privileged level than the guest's own.
        if privlevel < self.guest.floor() {
            return Err(Errno::EIO);
        }
        if self.faults.contains(&Fault::OtherReportData) {
            report_data = RIVAL;
        }
        Ok(self.guest.attest(&report_data, privlevel))
    }

    fn failure(&mut self) -> Option<Errno> {
        let errno = self.faults.iter().find_map(|fault| match fault {
            Fault::ReadFails { errno, times } if *times > 0 => Some(*errno),
            _ => None,
        })?;
        self.happens(|fault| if let Fault::ReadFails { times, .. } = fault { Some(times) } else { None });
        Some(Errno::from_i32(errno))
    }

    /// Whether a fault that is picked by `counter` still has a turn; takes it.
    fn happens(&mut self, counter: fn(&mut Fault) -> Option<&mut u32>) -> bool {
        for times in self.faults.iter_mut().filter_map(counter) {
            if *times > 0 {
                *times -= 1;
                return true;
            }
        }
        false
    }

    fn provider(&self) -> Result<&str, Errno> {
        let mut name = self.guest.provider();
        for fault in &self.faults {
            match fault {
                Fault::NoProvider => return Err(Errno::ENXIO),
                Fault::Provider(other) => name = other,
                _ => {}
            }
        }
        Ok(name)
    }

    fn instance(&mut self, number: u64) -> Result<&mut Instance, Errno> {
        self.instances.values_mut().find(|instance| instance.number == number).ok_or(Errno::ENOENT)
    }
}

fn limited(blob: Vec<u8>) -> Result<Vec<u8>, Errno> {
    if blob.len() > OUTBLOB_MAX { Err(Errno::EFBIG) } else { Ok(blob) }
}

/// `kstrtouint` with base 0: a decimal, `0x` hexadecimal or `0` octal number, one newline allowed behind it.
fn unsigned(text: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(text).ok()?;
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_prefix('+').unwrap_or(text);
    if text.starts_with(['+', '-']) {
        return None;
    }
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None if text.len() > 1 && text.starts_with('0') => u32::from_str_radix(text, 8).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snp::{GuestShape, Line, SoftPlatform};

    fn tsm(vmpl: u32) -> (Tsm, u64) {
        let mut tsm = Tsm::new(SoftPlatform::new(Line::Milan).guest(GuestShape { vmpl, ..GuestShape::default() }).into());
        let number = tsm.create("one").unwrap();
        (tsm, number)
    }

    fn generation(tsm: &mut Tsm, number: u64) -> String {
        String::from_utf8(tsm.read(number, Attribute::Generation).unwrap()).unwrap()
    }

    #[test]
    fn a_report_is_made_once_per_write_and_every_write_counts() {
        let (mut tsm, number) = tsm(0);
        assert_eq!(tsm.read(number, Attribute::Outblob), Err(Errno::EINVAL), "nothing written yet");
        assert_eq!(generation(&mut tsm, number), "0\n");
        tsm.deliver(number, &[1; 64]).unwrap();
        let first = tsm.read(number, Attribute::Outblob).unwrap();
        assert_eq!(first[0x50..0x90], [1; 64]);
        tsm.read(number, Attribute::Auxblob).unwrap();
        assert_eq!((tsm.generated, generation(&mut tsm, number).as_str()), (1, "1\n"));
        tsm.store(number, Attribute::Privlevel, b"2").unwrap();
        assert_eq!(tsm.read(number, Attribute::Outblob).unwrap()[0x30], 2);
        assert_eq!((tsm.generated, generation(&mut tsm, number).as_str()), (2, "2\n"));
    }

    #[test]
    fn a_td_has_a_quote_and_neither_levels_nor_certificates() {
        use crate::tdx::{SoftTdx, TdShape};
        let guest = SoftTdx::new().guest(TdShape::default());
        let mut tsm = Tsm::new(guest.clone().into());
        let number = tsm.create("one").unwrap();
        assert_eq!(tsm.attributes(), [Attribute::Inblob, Attribute::Outblob, Attribute::Provider, Attribute::Generation]);
        assert_eq!(tsm.read(number, Attribute::Provider).unwrap(), b"tdx_guest\n");
        tsm.deliver(number, &[7; 64]).unwrap();
        assert_eq!(tsm.read(number, Attribute::Outblob).unwrap(), guest.attest(&[7; 64]).quote);
        assert_eq!(generation(&mut tsm, number), "1\n");
    }

    #[test]
    fn an_inblob_of_another_length_is_refused_at_the_first_read() {
        let (mut tsm, number) = tsm(0);
        tsm.deliver(number, &[1; 63]).unwrap();
        assert_eq!(tsm.read(number, Attribute::Outblob), Err(Errno::EINVAL));
        assert_eq!(generation(&mut tsm, number), "1\n");
        assert_eq!((Tsm::check_size(64), Tsm::check_size(65)), (Ok(()), Err(Errno::EFBIG)));
    }

    #[test]
    fn a_privilege_level_is_ascii_and_between_floor_and_three() {
        let (mut tsm, number) = tsm(1);
        for refused in [b"0".as_slice(), b"4", b"\x01", b"", b"x", b"-1", b"2\n\n"] {
            assert_eq!(tsm.store(number, Attribute::Privlevel, refused), Err(Errno::EINVAL), "{refused:?}");
        }
        tsm.deliver(number, &[1; 64]).unwrap();
        assert_eq!(tsm.read(number, Attribute::Outblob), Err(Errno::EIO), "level 0 is not this guest's");
        for taken in [b"1".as_slice(), b"2\n", b"0x3", b"03"] {
            assert_eq!(tsm.store(number, Attribute::Privlevel, taken), Ok(()), "{taken:?}");
        }
        assert_eq!(tsm.read(number, Attribute::Outblob).unwrap()[0x30], 3);
    }

    #[test]
    fn a_rival_changes_report_and_generation_and_then_leaves() {
        let (mut tsm, number) = tsm(0);
        tsm.add_fault(Fault::RivalAfterInblob { times: 1 });
        tsm.deliver(number, &[1; 64]).unwrap();
        assert_eq!(generation(&mut tsm, number), "2\n");
        assert_eq!(tsm.read(number, Attribute::Outblob).unwrap()[0x50..0x90], RIVAL);
        tsm.deliver(number, &[1; 64]).unwrap();
        assert_eq!(generation(&mut tsm, number), "3\n");
        assert_eq!(tsm.read(number, Attribute::Outblob).unwrap()[0x50..0x90], [1; 64]);
    }

    #[test]
    fn writes_without_end_are_busy_and_a_missing_driver_is_no_device() {
        let (mut tsm, _) = tsm(0);
        tsm.add_fault(Fault::GenerationWrapped);
        let number = tsm.create("two").unwrap();
        assert_eq!(tsm.store(number, Attribute::Privlevel, b"0"), Err(Errno::EBUSY));
        assert_eq!(tsm.create("two"), Err(Errno::EEXIST));
        tsm.add_fault(Fault::NoProvider);
        assert_eq!(tsm.create("three"), Err(Errno::ENXIO));
        assert_eq!(tsm.read(number, Attribute::Provider), Err(Errno::ENXIO));
    }

    #[test]
    fn a_blob_above_the_limit_is_too_big_and_one_at_the_limit_is_not() {
        let (mut tsm, number) = tsm(0);
        tsm.deliver(number, &[1; 64]).unwrap();
        tsm.add_fault(Fault::OutblobPadded(OUTBLOB_MAX - 1184));
        assert_eq!(tsm.read(number, Attribute::Outblob).unwrap().len(), OUTBLOB_MAX);
        tsm.add_fault(Fault::OutblobPadded(1));
        assert_eq!(tsm.read(number, Attribute::Outblob), Err(Errno::EFBIG));
    }
}
