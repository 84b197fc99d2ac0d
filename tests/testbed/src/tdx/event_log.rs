//! A TD's event log (UEFI CCEL; TCG PC Client Platform Firmware Profile, section 10), record by record, and the registers that it replays to.

use sha2::{Digest, Sha384};

/// `TPM_ALG_SHA384`.
pub const SHA384: u16 = 0x000c;

/// Event types (TCG PC Client Platform Firmware Profile, section 10.4.1).
pub mod event_type {
    /// `EV_NO_ACTION`: not extended.
    pub const NO_ACTION: u32 = 0x0000_0003;
    /// `EV_SEPARATOR`.
    pub const SEPARATOR: u32 = 0x0000_0004;
    /// `EV_IPL`.
    pub const IPL: u32 = 0x0000_000d;
    /// `EV_EFI_VARIABLE_DRIVER_CONFIG`.
    pub const EFI_VARIABLE: u32 = 0x8000_0001;
    /// `EV_EFI_BOOT_SERVICES_APPLICATION`.
    pub const EFI_APPLICATION: u32 = 0x8000_0003;
    /// `EV_EFI_HANDOFF_TABLES2`.
    pub const EFI_HANDOFF_TABLES2: u32 = 0x8000_000b;
    /// A runtime event of an application; outside the TCG's range.
    pub const RUNTIME: u32 = 0x0800_0001;
}

/// One `TCG_PCR_EVENT2` record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Measurement register index: 0 is MRTD, 1 to 4 are RTMR0 to RTMR3.
    pub index: u32,
    /// Event type.
    pub kind: u32,
    /// Algorithm and digest of each; one of SHA-384 by default.
    pub digests: Vec<(u16, Vec<u8>)>,
    /// Another count of digests than their number.
    pub digest_count: Option<u32>,
    /// Event data.
    pub data: Vec<u8>,
    /// Another size of the data than its own.
    pub data_size: Option<u32>,
}

impl EventRecord {
    /// An event whose digest is the SHA-384 of its data.
    #[must_use]
    pub fn hashed(rtmr: u8, kind: u32, data: &[u8]) -> Self {
        Self::given(rtmr, kind, Sha384::digest(data).into(), data)
    }

    /// An event with this digest, whatever its data.
    #[must_use]
    pub fn given(rtmr: u8, kind: u32, digest: [u8; 48], data: &[u8]) -> Self {
        let digests = vec![(SHA384, digest.to_vec())];
        Self { index: u32::from(rtmr) + 1, kind, digests, digest_count: None, data: data.to_vec(), data_size: None }
    }

    /// An `EV_NO_ACTION` record: it is logged and never extended. Its digest is zero.
    #[must_use]
    pub fn no_action(rtmr: u8, data: &[u8]) -> Self {
        Self::given(rtmr, event_type::NO_ACTION, [0; 48], data)
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.index.to_le_bytes());
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.digest_count.unwrap_or(self.digests.len() as u32).to_le_bytes());
        for (algorithm, digest) in &self.digests {
            bytes.extend(algorithm.to_le_bytes());
            bytes.extend(digest);
        }
        bytes.extend(self.data_size.unwrap_or(self.data.len() as u32).to_le_bytes());
        bytes.extend(&self.data);
        bytes
    }
}

/// The first record: a `TCG_PCR_EVENT` that says which digests follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecId {
    /// Register index: 1 in the logs of TDX firmware.
    pub index: u32,
    /// Event type: `EV_NO_ACTION`.
    pub kind: u32,
    /// Its SHA-1, zero.
    pub sha1: [u8; 20],
    /// Signature of the structure.
    pub signature: [u8; 16],
    /// Algorithms and their digests' sizes: SHA-384 alone.
    pub algorithms: Vec<(u16, u16)>,
    /// Vendor's information, at most 255 bytes.
    pub vendor: Vec<u8>,
    /// Another size of the event than its own.
    pub size: Option<u32>,
}

impl Default for SpecId {
    fn default() -> Self {
        Self {
            index: 1,
            kind: event_type::NO_ACTION,
            sha1: [0; 20],
            signature: *b"Spec ID Event03\0",
            algorithms: vec![(SHA384, 48)],
            vendor: Vec::new(),
            size: None,
        }
    }
}

impl SpecId {
    fn bytes(&self) -> Vec<u8> {
        let mut event = self.signature.to_vec();
        // Platform class 0, specification 2.0 errata 0, UINTN of 8 bytes.
        event.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        event.extend((self.algorithms.len() as u32).to_le_bytes());
        for (algorithm, size) in &self.algorithms {
            event.extend(algorithm.to_le_bytes());
            event.extend(size.to_le_bytes());
        }
        event.push(self.vendor.len() as u8);
        event.extend(&self.vendor);
        let size = self.size.unwrap_or(event.len() as u32);
        [self.index.to_le_bytes().as_slice(), &self.kind.to_le_bytes(), &self.sha1, &size.to_le_bytes(), &event].concat()
    }
}

/// What stands behind the last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Nothing.
    None,
    /// This many bytes of 0xff, as firmware leaves its buffer.
    Ones(usize),
    /// This many bytes of zero.
    Zeros(usize),
}

/// An event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// The first record; `None` leaves it out.
    pub spec_id: Option<SpecId>,
    /// The records.
    pub records: Vec<EventRecord>,
    /// What stands behind them.
    pub ending: Ending,
    /// Bytes behind that.
    pub behind: Vec<u8>,
}

impl EventLog {
    /// A log without events.
    #[must_use]
    pub fn empty() -> Self {
        Self { spec_id: Some(SpecId::default()), records: Vec::new(), ending: Ending::Ones(64), behind: Vec::new() }
    }

    /// A short boot: firmware and separator in RTMR0, a kernel in RTMR1, its command line in RTMR2, an application in RTMR3.
    #[must_use]
    pub fn boot() -> Self {
        let kernel = Sha384::digest("portcullis testbed kernel image").into();
        Self::empty()
            .then(EventRecord::hashed(0, event_type::EFI_HANDOFF_TABLES2, b"\x09TdxTable\0soft handoff tables"))
            .then(EventRecord::hashed(0, event_type::EFI_VARIABLE, b"SecureBoot\0\x01"))
            .then(EventRecord::hashed(0, event_type::SEPARATOR, &[0; 4]))
            .then(EventRecord::given(1, event_type::EFI_APPLICATION, kernel, b"soft kernel device path"))
            .then(EventRecord::hashed(1, event_type::SEPARATOR, &[0; 4]))
            .then(EventRecord::hashed(2, event_type::IPL, b"console=ttyS0 root=/dev/vda ro\0"))
            .then(EventRecord::no_action(2, b"startup locality"))
            .then(EventRecord::hashed(3, event_type::RUNTIME, b"application=inference-server"))
    }

    /// One more record.
    #[must_use]
    pub fn then(mut self, record: EventRecord) -> Self {
        self.records.push(record);
        self
    }

    /// Applies a change and hands the log back.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// The log's bytes. Cut them for a log that breaks off.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.spec_id.as_ref().map(SpecId::bytes).unwrap_or_default();
        bytes.extend(self.records.iter().flat_map(EventRecord::bytes));
        bytes.extend(match self.ending {
            Ending::None => Vec::new(),
            Ending::Ones(count) => vec![0xff; count],
            Ending::Zeros(count) => vec![0; count],
        });
        bytes.extend(&self.behind);
        bytes
    }

    /// RTMR0 to RTMR3 after these records: from zero, SHA-384 of the register and each record's first SHA-384 digest; `EV_NO_ACTION` records
    /// and records of other registers extend nothing.
    #[must_use]
    pub fn rtmrs(&self) -> [[u8; 48]; 4] {
        let mut rtmrs = [[0; 48]; 4];
        for record in self.records.iter().filter(|record| record.kind != event_type::NO_ACTION) {
            let digest = record.digests.iter().find(|(algorithm, _)| *algorithm == SHA384);
            let rtmr = record.index.checked_sub(1).and_then(|index| rtmrs.get_mut(index as usize));
            if let (Some(rtmr), Some((_, digest))) = (rtmr, digest) {
                *rtmr = Sha384::new_with_prefix(rtmr.as_slice()).chain_update(digest).finalize().into();
            }
        }
        rtmrs
    }
}
