//! Why an event log proves nothing: a variant per check, in the order of reading.

use crate::rejection::{HexBytes, rejections};

rejections! {
    /// Why an event log was rejected: the step "event log" of [`crate::TDX_STEPS`]. [`Self::code`] is stable; the sentence is for people and may
    /// change. Offsets count bytes from the start of the log.
    EventLogError, steps crate::TDX_STEPS;

    /// Longer than any firmware's log ([`protocol::limits::EVENT_LOG`]).
    12 "tdx-event-log-too-long" "expected an event log of at most {limit} bytes, found {found}"
    TooLong {
        /// The limit.
        limit: usize,
        /// How many bytes came.
        found: usize,
    }
    /// The log, or the header's data, ends within a field.
    12 "tdx-event-log-truncated" "expected {expected} bytes for the event log's {field} at {offset:#x}, found {found}"
    Truncated {
        /// Which field.
        field: &'static str,
        /// Where it begins.
        offset: usize,
        /// Its length.
        expected: usize,
        /// How many bytes are left.
        found: usize,
    }

    // The first record: the Spec ID event.
    /// The first record stands in a register that no Spec ID event stands in.
    12 "tdx-event-log-header-register" "expected the event log's header in register 0 or 1, found {found}"
    HeaderRegister {
        /// Its register.
        found: u32,
    }
    /// The first record is not EV_NO_ACTION.
    12 "tdx-event-log-header-kind" "expected an event log's header of type 3, found {found:#x}"
    HeaderKind {
        /// Its type.
        found: u32,
    }
    /// The first record's SHA-1 digest is not zero.
    12 "tdx-event-log-header-digest" "expected zero in the digest of the event log's header"
    HeaderDigest {}
    /// The first record's data does not begin with `Spec ID Event03` and a zero byte.
    12 "tdx-event-log-header-signature" "expected an event log's header that begins with \"Spec ID Event03\", found {found}"
    HeaderSignature {
        /// Its first 16 bytes.
        found: HexBytes<16>,
    }
    /// platformClass is neither 0 (client) nor 1 (server).
    12 "tdx-event-log-header-class" "expected platform class 0 or 1 in the event log's header, found {found}"
    HeaderClass {
        /// platformClass.
        found: u32,
    }
    /// The log is of another specification than 2.0 with any errata.
    12 "tdx-event-log-header-version" "expected an event log of specification 2.0, found {major}.{minor}"
    HeaderVersion {
        /// specVersionMajor.
        major: u8,
        /// specVersionMinor.
        minor: u8,
    }
    /// uintnSize is neither 1 (32 bits) nor 2 (64 bits).
    12 "tdx-event-log-header-word" "expected word size 1 or 2 in the event log's header, found {found}"
    HeaderWord {
        /// uintnSize.
        found: u8,
    }
    /// No digest algorithm is declared, or more than there are.
    12 "tdx-event-log-algorithm-count" "expected 1 to {limit} digest algorithms in the event log's header, found {found}"
    AlgorithmCount {
        /// How many are known.
        limit: usize,
        /// numberOfAlgorithms.
        found: u32,
    }
    /// A declared algorithm is unknown here.
    12 "tdx-event-log-algorithm-unknown" "the event log's header declares the unknown digest algorithm {found:#06x}"
    AlgorithmUnknown {
        /// Its TCG identifier.
        found: u16,
    }
    /// A declared algorithm has another digest size than its specification says.
    12 "tdx-event-log-algorithm-size" "expected {expected} bytes for digests of algorithm {algorithm:#06x}, the event log declares {found}"
    AlgorithmSize {
        /// Its TCG identifier.
        algorithm: u16,
        /// The size of its digests.
        expected: usize,
        /// digestSize.
        found: u16,
    }
    /// An algorithm is declared twice.
    12 "tdx-event-log-algorithm-twice" "the event log's header declares the digest algorithm {algorithm:#06x} twice"
    AlgorithmTwice {
        /// Its TCG identifier.
        algorithm: u16,
    }
    /// SHA-384, in which the registers are extended, is not declared.
    12 "tdx-event-log-algorithm-missing" "expected SHA-384 among the digest algorithms of the event log"
    AlgorithmMissing {}
    /// Bytes behind the header's vendor information.
    12 "tdx-event-log-header-trailing" "expected nothing behind the event log header's vendor information, found {found} bytes"
    HeaderTrailing {
        /// How many.
        found: usize,
    }

    // The records behind it.
    /// More records than any boot leaves.
    12 "tdx-event-log-too-many-events" "expected at most {limit} events in the event log"
    TooManyEvents {
        /// The limit.
        limit: usize,
    }
    /// Behind the record header that ends the log stand bytes that are not its padding.
    12 "tdx-event-log-padding" "expected nothing but {expected:#04x} from the end of the event log on, found another byte at {offset:#x}"
    Padding {
        /// Where the other byte stands.
        offset: usize,
        /// The byte that the end began with.
        expected: u8,
    }
    /// An event of the register 0, which is MRTD: no guest extends it, so no replay proves the event.
    12 "tdx-event-log-register-build-time" "the event at {offset:#x} claims register 0, which nothing extends after the launch"
    RegisterBuildTime {
        /// Where the record begins.
        offset: usize,
    }
    /// An event of a register that there is not.
    12 "tdx-event-log-register" "expected an event of register 1 to 4 at {offset:#x}, found {found}"
    Register {
        /// Where the record begins.
        offset: usize,
        /// Its register.
        found: u32,
    }
    /// A digest of an algorithm unknown here, so that nobody can say where the next field begins.
    12 "tdx-event-log-digest-unknown" "the record at {offset:#x} has a digest of the unknown algorithm {found:#06x}"
    DigestUnknown {
        /// Where the record begins.
        offset: usize,
        /// Its TCG identifier.
        found: u16,
    }
    /// A digest of an algorithm that the header does not declare.
    12 "tdx-event-log-digest-undeclared" "the record at {offset:#x} has a digest of algorithm {found:#06x}, which the header does not declare"
    DigestUndeclared {
        /// Where the record begins.
        offset: usize,
        /// Its TCG identifier.
        found: u16,
    }
    /// Two digests of one algorithm.
    12 "tdx-event-log-digest-twice" "the record at {offset:#x} has two digests of algorithm {algorithm:#06x}"
    DigestTwice {
        /// Where the record begins.
        offset: usize,
        /// Its TCG identifier.
        algorithm: u16,
    }
    /// No SHA-384 digest.
    12 "tdx-event-log-digest-missing" "the record at {offset:#x} has no SHA-384 digest"
    DigestMissing {
        /// Where the record begins.
        offset: usize,
    }
    /// Not one digest for each declared algorithm.
    12 "tdx-event-log-digest-count" "expected {expected} digests in the record at {offset:#x}, found {found}"
    DigestCount {
        /// Where the record begins.
        offset: usize,
        /// How many algorithms are declared.
        expected: usize,
        /// How many digests the record says that it has.
        found: u32,
    }

    // The replay.
    /// The events do not extend a register to its value in the quote.
    12 "tdx-event-log-replay" "expected the event log to replay to RTMR{rtmr} {expected}, found {found}"
    Replay {
        /// RTMR number: 0 to 3, the first that differs.
        rtmr: u8,
        /// The quote's value.
        expected: HexBytes<48>,
        /// What the log replays to.
        found: HexBytes<48>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_kebab_case_begin_alike_and_stand_once() {
        let mut seen = std::collections::HashSet::new();
        for code in EventLogError::CODES {
            assert!(seen.insert(code), "{code} twice");
            assert!(code.starts_with("tdx-event-log-"), "{code}");
            assert!(code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'), "{code}");
        }
    }
}
