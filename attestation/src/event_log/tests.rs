//! Each rule of reading and replaying, on logs made here: what breaks it is refused by its variant, and what stands beside it passes.

use super::*;
use crate::claims::EventLog;

const SHA1: u16 = 0x0004;
const SHA256: u16 = 0x000b;

const SEPARATOR: u32 = 0x4;
const TAG: u32 = 0x6;
const IPL: u32 = 0xd;
const VARIABLE_CONFIG: u32 = 0x8000_0001;
const VARIABLE_BOOT: u32 = 0x8000_0002;
const APPLICATION: u32 = 0x8000_0003;

/// A log in the making: every field can be made wrong.
#[derive(Clone)]
struct Log {
    register: u32,
    kind: u32,
    sha1: [u8; 20],
    header: Header,
    records: Vec<Record>,
    end: Vec<u8>,
}

#[derive(Clone)]
struct Header {
    signature: [u8; 16],
    class: u32,
    version: [u8; 4],
    count: Option<u32>,
    algorithms: Vec<(u16, u16)>,
    vendor: Vec<u8>,
    behind: Vec<u8>,
}

#[derive(Clone)]
struct Record {
    register: u32,
    kind: u32,
    count: Option<u32>,
    digests: Vec<(u16, Vec<u8>)>,
    data: Vec<u8>,
}

impl Record {
    /// An event whose digest is of its data.
    fn of(register: u32, kind: u32, data: &[u8]) -> Self {
        Self::digested(register, kind, sha384(&[data]), data)
    }

    fn digested(register: u32, kind: u32, digest: [u8; 48], data: &[u8]) -> Self {
        Self { register, kind, count: None, digests: vec![(SHA384, digest.to_vec())], data: data.to_vec() }
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let count = self.count.unwrap_or(u32::try_from(self.digests.len()).unwrap());
        let mut bytes = [self.register, self.kind, count].map(u32::to_le_bytes).concat();
        for (algorithm, digest) in &self.digests {
            bytes.extend_from_slice(&algorithm.to_le_bytes());
            bytes.extend_from_slice(digest);
        }
        bytes.extend_from_slice(&u32::try_from(self.data.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&self.data);
        bytes
    }
}

impl Log {
    fn new(records: Vec<Record>) -> Self {
        let header = Header {
            signature: *b"Spec ID Event03\0",
            class: 0,
            version: [0, 2, 0, 2],
            count: None,
            algorithms: vec![(SHA384, 48)],
            vendor: Vec::new(),
            behind: Vec::new(),
        };
        Self { register: 1, kind: 3, sha1: [0; 20], header, records, end: vec![0xff; 512] }
    }

    fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut changed = self.clone();
        change(&mut changed);
        changed
    }

    fn header_data(&self) -> Vec<u8> {
        let Header { signature, class, version, count, algorithms, vendor, behind } = &self.header;
        let count = count.unwrap_or(u32::try_from(algorithms.len()).unwrap());
        let mut data = [&signature[..], &class.to_le_bytes(), version, &count.to_le_bytes()].concat();
        for (algorithm, size) in algorithms {
            data.extend_from_slice(&[algorithm.to_le_bytes(), size.to_le_bytes()].concat());
        }
        [&data[..], &[u8::try_from(vendor.len()).unwrap()], vendor, behind].concat()
    }

    fn bytes(&self) -> Vec<u8> {
        let data = self.header_data();
        let mut bytes = [self.register, self.kind].map(u32::to_le_bytes).concat();
        bytes.extend_from_slice(&self.sha1);
        bytes.extend_from_slice(&u32::try_from(data.len()).unwrap().to_le_bytes());
        bytes.extend_from_slice(&data);
        self.records.iter().for_each(|record| bytes.extend(record.bytes()));
        [bytes, self.end.clone()].concat()
    }

    /// What a TD has in its registers after these events.
    fn registers(&self) -> [[u8; 48]; 4] {
        let mut registers = [[0; 48]; 4];
        for record in self.records.iter().filter(|record| record.kind != NO_ACTION) {
            let register = &mut registers[usize::try_from(record.register).unwrap() - 1];
            let (_, digest) = record.digests.iter().find(|(algorithm, _)| *algorithm == SHA384).unwrap();
            *register = sha384(&[register, digest]);
        }
        registers
    }

    /// Replayed to the registers that these events leave.
    fn replay(&self) -> Result<Vec<MeasuredEvent>, EventLogError> {
        replay(&self.bytes(), &self.registers())
    }

    fn read(&self) -> Result<Vec<MeasuredEvent>, EventLogError> {
        read(&self.bytes())
    }
}

/// Events in every register, not in the order of the registers.
fn genuine() -> Log {
    Log::new(vec![
        Record::of(2, SEPARATOR, &[0; 4]),
        Record::of(1, VARIABLE_CONFIG, b"variable"),
        Record::digested(3, APPLICATION, [7; 48], b"device path"),
        Record::of(4, 0x0800_0001, b"application"),
        Record::of(2, SEPARATOR, &[0; 4]),
        Record::of(1, SEPARATOR, &[]),
    ])
}

/// Where the header of `genuine()` ends: 32 bytes and 33 of data.
const HEADER: usize = 65;

#[test]
fn a_genuine_log_replays_and_its_events_stand_in_its_order() {
    let events = genuine().replay().unwrap();
    let seen: Vec<_> = events.iter().map(|event| (event.rtmr, event.kind, event.data.as_deref())).collect();
    let expected: [(u8, u32, Option<&[u8]>); 6] = [
        (1, SEPARATOR, Some(&[0; 4])),
        (0, VARIABLE_CONFIG, Some(b"variable")),
        (2, APPLICATION, None),
        (3, 0x0800_0001, Some(b"application")),
        (1, SEPARATOR, Some(&[0; 4])),
        (0, SEPARATOR, Some(&[])),
    ];
    assert_eq!(seen, expected);
    assert_eq!(events[2].digest, [7; 48]);
}

#[test]
fn claims_give_the_events_of_one_register_and_nothing_without_a_log() {
    let log = genuine();
    let claims = EventLog::replay(&log.bytes(), &log.registers()).unwrap();
    let kinds = |rtmr| claims.events_of(rtmr).unwrap().map(MeasuredEvent::kind_name).collect::<Vec<_>>();
    assert_eq!(kinds(0), [Some("EV_EFI_VARIABLE_DRIVER_CONFIG"), Some("EV_SEPARATOR")]);
    assert_eq!(kinds(2), [Some("EV_EFI_BOOT_SERVICES_APPLICATION")]);
    assert_eq!(kinds(3), [None]);
    assert_eq!(kinds(4), []);
    assert_eq!(claims.events().map(<[_]>::len), Some(6));
    assert!(EventLog::Absent.events().is_none() && EventLog::Absent.events_of(0).is_none());
}

#[test]
fn all_four_registers_must_be_the_quotes() {
    let log = genuine();
    let registers = log.registers();
    for rtmr in 0..4u8 {
        let mut other = registers;
        other[usize::from(rtmr)][47] ^= 1;
        let expected = other[usize::from(rtmr)].into();
        let found = registers[usize::from(rtmr)].into();
        assert_eq!(replay(&log.bytes(), &other), Err(EventLogError::Replay { rtmr, expected, found }));
    }
    // An event that the guest extended and the log leaves out; a log without any; two events in the other order.
    let shorter = log.with(|log| drop(log.records.pop()));
    assert!(matches!(replay(&shorter.bytes(), &registers), Err(EventLogError::Replay { rtmr: 0, .. })));
    let empty = Log::new(Vec::new());
    assert!(matches!(replay(&empty.bytes(), &registers), Err(EventLogError::Replay { rtmr: 0, .. })));
    assert_eq!(replay(&empty.bytes(), &[[0; 48]; 4]), Ok(Vec::new()));
    let swapped = log.with(|log| log.records.swap(1, 5));
    assert!(matches!(replay(&swapped.bytes(), &registers), Err(EventLogError::Replay { rtmr: 0, .. })));
    // The near miss: the order between registers is the log's alone.
    let interleaved = log.with(|log| log.records.swap(2, 3));
    assert!(replay(&interleaved.bytes(), &registers).is_ok());
}

#[test]
fn register_1_to_4_are_rtmr_0_to_3_and_no_other_is_extended() {
    for (register, rtmr) in [(1, 0), (2, 1), (3, 2), (4, 3)] {
        let events = Log::new(vec![Record::of(register, SEPARATOR, b"x")]).replay().unwrap();
        assert_eq!(events[0].rtmr, rtmr);
    }
    let at = |register| Log::new(vec![Record::of(register, SEPARATOR, b"x")]).read();
    assert_eq!(at(0), Err(EventLogError::RegisterBuildTime { offset: HEADER }));
    assert_eq!(at(5), Err(EventLogError::Register { offset: HEADER, found: 5 }));
    assert_eq!(at(u32::MAX), Err(EventLogError::Register { offset: HEADER, found: u32::MAX }));
}

#[test]
fn remarks_are_not_extended_wherever_they_stand() {
    let log = genuine();
    let remarked = log.with(|log| {
        log.records.insert(0, Record::digested(0, NO_ACTION, [0; 48], b"StartupLocality\0\0"));
        log.records.insert(4, Record::digested(9, NO_ACTION, [1; 48], b""));
    });
    assert_eq!(replay(&remarked.bytes(), &log.registers()), log.replay());
    // The near miss: the same as an event.
    let extended = log.with(|log| log.records.insert(0, Record::digested(1, TAG, [0; 48], b"StartupLocality\0\0")));
    assert!(matches!(replay(&extended.bytes(), &log.registers()), Err(EventLogError::Replay { rtmr: 0, .. })));
}

#[test]
fn a_log_ends_with_its_bytes_or_with_nothing_but_one_padding() {
    let log = genuine();
    for end in [vec![], vec![0xff; 1], vec![0xff; 7], vec![0xff; 8], vec![0xff; 4096], vec![0; 1], vec![0; 8], vec![0; 4096]] {
        assert_eq!(log.with(|log| log.end = end).replay(), log.replay());
    }
    let start = log.with(|log| log.end.clear()).bytes().len();
    for padding in [0xff_u8, 0] {
        for at in [8, 9, 511] {
            let mut end = vec![padding; 512];
            end[at] ^= 0x10;
            let refused = log.with(|log| log.end = end).replay();
            assert_eq!(refused, Err(EventLogError::Padding { offset: start + at, expected: padding }));
        }
    }
    // A genuine event behind the end is no event.
    let hidden = log.with(|log| log.end = [vec![0xff; 64], Record::of(1, SEPARATOR, b"x").bytes()].concat());
    assert_eq!(hidden.replay(), Err(EventLogError::Padding { offset: start + 64, expected: 0xff }));
    // Bytes that are neither a record nor padding.
    let cut = log.with(|log| log.end = vec![0xff, 0xff, 0]).replay();
    assert_eq!(cut, Err(EventLogError::Truncated { field: "register", offset: start, expected: 4, found: 3 }));
}

#[test]
fn a_log_that_ends_within_a_field_is_refused_at_every_length() {
    let log = genuine().with(|log| log.end.clear());
    let bytes = log.bytes();
    let mut starts = vec![HEADER];
    log.records.iter().for_each(|record| starts.push(starts.last().unwrap() + record.bytes().len()));
    for length in 0..bytes.len() {
        let read = read(&bytes[..length]);
        if starts.contains(&length) {
            assert!(read.is_ok(), "{length}");
        } else {
            assert!(matches!(read, Err(EventLogError::Truncated { .. })), "{length}: {read:?}");
        }
    }
    let huge = [&Log::new(Vec::new()).with(|log| log.end.clear()).bytes()[..], &Record::of(1, SEPARATOR, b"").bytes()[..62]].concat();
    let huge = [&huge[..], &u32::MAX.to_le_bytes(), b"data"].concat();
    let expected = EventLogError::Truncated { field: "data", offset: HEADER + 66, expected: 0xffff_ffff, found: 4 };
    assert_eq!(read(&huge), Err(expected));
}

#[test]
fn a_log_has_limits_of_size_and_of_events() {
    let log = genuine();
    let size = log.with(|log| log.end.clear()).bytes().len();
    let padded = |length: usize| log.with(|log| log.end = vec![0; length - size]);
    assert!(padded(limits::EVENT_LOG).replay().is_ok());
    let expected = EventLogError::TooLong { limit: limits::EVENT_LOG, found: limits::EVENT_LOG + 1 };
    assert_eq!(padded(limits::EVENT_LOG + 1).replay(), Err(expected));
    let many = |count| Log::new(vec![Record::of(4, TAG, b""); count]);
    assert_eq!(many(EVENTS).replay().unwrap().len(), EVENTS);
    assert_eq!(many(EVENTS + 1).replay(), Err(EventLogError::TooManyEvents { limit: EVENTS }));
    let remarks = Log::new(vec![Record::digested(0, NO_ACTION, [0; 48], b""); EVENTS + 1]);
    assert_eq!(remarks.replay(), Err(EventLogError::TooManyEvents { limit: EVENTS }));
}

#[test]
fn the_header_is_a_spec_id_event_of_version_2_0() {
    let log = genuine();
    let changed = |change: fn(&mut Log)| log.with(change).read().err();
    assert_eq!(changed(|log| log.register = 0), None);
    assert_eq!(changed(|log| log.register = 2), Some(EventLogError::HeaderRegister { found: 2 }));
    assert_eq!(changed(|log| log.kind = 4), Some(EventLogError::HeaderKind { found: 4 }));
    assert_eq!(changed(|log| log.sha1[19] = 1), Some(EventLogError::HeaderDigest {}));
    let older = *b"Spec ID Event02\0";
    let expected = Some(EventLogError::HeaderSignature { found: older.into() });
    assert_eq!(changed(|log| log.header.signature = *b"Spec ID Event02\0"), expected);
    assert_eq!(changed(|log| log.header.class = 1), None);
    assert_eq!(changed(|log| log.header.class = 2), Some(EventLogError::HeaderClass { found: 2 }));
    assert_eq!(changed(|log| log.header.version = [0, 2, 105, 1]), None);
    assert_eq!(changed(|log| log.header.version = [2, 1, 0, 2]), Some(EventLogError::HeaderVersion { major: 1, minor: 2 }));
    assert_eq!(changed(|log| log.header.version = [1, 2, 0, 2]), Some(EventLogError::HeaderVersion { major: 2, minor: 1 }));
    assert_eq!(changed(|log| log.header.version[3] = 0), Some(EventLogError::HeaderWord { found: 0 }));
    assert_eq!(changed(|log| log.header.version[3] = 3), Some(EventLogError::HeaderWord { found: 3 }));
    assert_eq!(changed(|log| log.header.vendor = vec![1; 255]), None);
    assert_eq!(changed(|log| log.header.behind = vec![0; 2]), Some(EventLogError::HeaderTrailing { found: 2 }));
}

#[test]
fn the_header_declares_known_algorithms_each_once_and_sha_384_among_them() {
    let declared = |algorithms: &[(u16, u16)]| {
        let log = Log::new(Vec::new()).with(|log| log.header.algorithms = algorithms.to_vec());
        log.read().err()
    };
    let all = ALGORITHMS.map(|(algorithm, size)| (algorithm, u16::try_from(size).unwrap()));
    assert_eq!(declared(&all), None);
    assert_eq!(declared(&[]), Some(EventLogError::AlgorithmCount { limit: 8, found: 0 }));
    assert_eq!(declared(&[&all[..], &all[..1]].concat()), Some(EventLogError::AlgorithmCount { limit: 8, found: 9 }));
    let endless = Log::new(Vec::new()).with(|log| log.header.count = Some(u32::MAX)).read().err();
    assert_eq!(endless, Some(EventLogError::AlgorithmCount { limit: 8, found: u32::MAX }));
    assert_eq!(declared(&[(SHA384, 48), (0x0005, 20)]), Some(EventLogError::AlgorithmUnknown { found: 5 }));
    let expected = EventLogError::AlgorithmSize { algorithm: SHA384, expected: 48, found: 47 };
    assert_eq!(declared(&[(SHA384, 47)]), Some(expected));
    assert_eq!(declared(&[(SHA384, 48), (SHA384, 48)]), Some(EventLogError::AlgorithmTwice { algorithm: SHA384 }));
    assert_eq!(declared(&[(SHA1, 20), (SHA256, 32)]), Some(EventLogError::AlgorithmMissing {}));
}

#[test]
fn a_record_has_one_digest_for_each_declared_algorithm() {
    let both = Log::new(vec![Record::of(1, SEPARATOR, b"x").with(|record| record.digests.insert(0, (SHA256, vec![9; 32])))])
        .with(|log| log.header.algorithms = vec![(SHA256, 32), (SHA384, 48)]);
    let events = both.replay().unwrap();
    assert_eq!((events.len(), events[0].digest), (1, sha384(&[b"x"])));
    let changed = |change: fn(&mut Record)| both.with(|log| change(&mut log.records[0])).read().err();
    assert_eq!(changed(|record| record.digests.reverse()), None);
    let offset = both.with(|log| (log.records.clear(), log.end.clear()).1).bytes().len();
    assert_eq!(changed(|record| record.digests[0].0 = 0x0005), Some(EventLogError::DigestUnknown { offset, found: 0x0005 }));
    let undeclared = changed(|record| record.digests[0] = (SHA1, vec![9; 20]));
    assert_eq!(undeclared, Some(EventLogError::DigestUndeclared { offset, found: SHA1 }));
    let twice = changed(|record| record.digests[0] = record.digests[1].clone());
    assert_eq!(twice, Some(EventLogError::DigestTwice { offset, algorithm: SHA384 }));
    assert_eq!(changed(|record| drop(record.digests.pop())), Some(EventLogError::DigestMissing { offset }));
    let alone = changed(|record| drop(record.digests.remove(0)));
    assert_eq!(alone, Some(EventLogError::DigestCount { offset, expected: 2, found: 1 }));
    let none = changed(|record| record.digests.clear());
    assert_eq!(none, Some(EventLogError::DigestMissing { offset }));
    let endless = changed(|record| record.count = Some(9));
    assert_eq!(endless, Some(EventLogError::DigestCount { offset, expected: 2, found: 9 }));
}

/// What stands as the data of one event.
fn data(kind: u32, digest: [u8; 48], data: &[u8]) -> Option<Vec<u8>> {
    let mut events = Log::new(vec![Record::digested(1, kind, digest, data)]).replay().unwrap();
    events.remove(0).data
}

#[test]
fn data_is_handed_on_only_where_the_digest_is_of_it() {
    for kind in [SEPARATOR, TAG, IPL, VARIABLE_CONFIG, VARIABLE_BOOT, 0x0800_0001] {
        assert_eq!(data(kind, sha384(&[b"data"]), b"data").as_deref(), Some(&b"data"[..]), "{kind:#x}");
        assert_eq!(data(kind, sha384(&[b"data"]), b"dat4"), None, "{kind:#x}");
    }
}

#[test]
fn data_is_never_handed_on_for_a_type_whose_digest_is_of_something_else() {
    for kind in [0x1, 0x7, 0xa, APPLICATION, 0x8000_0004, 0x8000_0008, 0x8000_000a, 0x8000_000b] {
        assert_eq!(data(kind, sha384(&[b"data"]), b"data"), None, "{kind:#x}");
    }
}

#[test]
fn of_a_variable_and_of_a_boot_loaders_text_the_measured_part_is_handed_on() {
    let variable = [&[1; 16][..], &2u64.to_le_bytes(), &5u64.to_le_bytes(), b"B\0O\0", b"value"].concat();
    for kind in [VARIABLE_CONFIG, VARIABLE_BOOT] {
        assert_eq!(data(kind, sha384(&[&variable]), &variable), Some(variable.clone()));
        assert_eq!(data(kind, sha384(&[b"value"]), &variable).as_deref(), Some(&b"value"[..]));
    }
    // The near misses: a length that is not the value's, lengths beyond everything, the same of a type that is no variable.
    for (characters, length) in [(2, 4), (2, 6), (1, 5), (u64::MAX, 5), (1 << 63, 5)] {
        let other = [&[1; 16][..], &u64::to_le_bytes(characters), &u64::to_le_bytes(length), b"B\0O\0", b"value"].concat();
        assert_eq!(data(VARIABLE_BOOT, sha384(&[b"value"]), &other), None, "{characters} {length}");
    }
    assert_eq!(data(TAG, sha384(&[b"value"]), &variable), None);
    for text in [&b"grub_cmd: set a: b\0"[..], b"grub_cmd: set a: b", b"set a: b\0"] {
        let measured: &[u8] = if text.starts_with(b"grub") { b"set a: b" } else { b"b" };
        assert_eq!(data(IPL, sha384(&[measured]), text).as_deref(), Some(measured));
    }
    assert_eq!(data(IPL, sha384(&[b"/boot/grub.cfg"]), b"/boot/grub.cfg\0").as_deref(), Some(&b"/boot/grub.cfg"[..]));
    assert_eq!(data(IPL, sha384(&[b"label: text"]), b"label: text\0").as_deref(), Some(&b"label: text"[..]));
    assert_eq!(data(IPL, sha384(&[b"b"]), b"grub_cmd: a: b\0"), None);
    assert_eq!(data(TAG, sha384(&[b"set a"]), b"grub_cmd: set a\0"), None);
}

#[test]
fn no_byte_of_a_log_but_an_events_type_and_unmeasured_data_can_be_changed_unseen() {
    let log = genuine().with(|log| log.end.truncate(16));
    let (bytes, registers) = (log.bytes(), log.registers());
    let events = log.replay().unwrap();
    let mut unseen = 0;
    for position in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[position] ^= 0x40;
        let Ok(found) = replay(&changed, &registers) else { continue };
        unseen += 1;
        let digests = |events: &[MeasuredEvent]| events.iter().map(|event| (event.rtmr, event.digest)).collect::<Vec<_>>();
        assert_eq!(digests(&found), digests(&events), "byte {position:#x}");
        for (found, genuine) in found.iter().zip(&events) {
            assert!(found.data == genuine.data || found.data.is_none() || genuine.data.is_none(), "byte {position:#x}");
        }
    }
    // The types, the data and the header's errata: nothing else.
    let data: usize = log.records.iter().map(|record| 4 + record.data.len()).sum();
    assert_eq!(unseen, data + 1);
}
