//! How large anything from outside may be. Each number says where it comes from; a reader refuses more before it allocates.

/// One HTTP request body (bytes): a [`TD_QUOTE`] and an [`EVENT_LOG`] in base64 twice over are 939 KiB, keys and [`ASKS`] items 25 KiB more,
/// and an SNP report with its table is far smaller; the rest is room for GPU evidence later.
pub const REQUEST_BODY: usize = 1024 * 1024;

/// One signed document (bytes of its JSON form): a policy with some thousand reference values.
pub const DOCUMENT: usize = 1024 * 1024;

/// A sealed model's manifest (bytes): some hundred bytes for each of [`MANIFEST_FILES`] files.
pub const MANIFEST: usize = 64 * 1024 * 1024;

/// Files in one model: Hugging Face repositories stay below some thousand.
pub const MANIFEST_FILES: usize = 100_000;

/// One file of a model (bytes): 16 TiB, where ext4 with 4 KiB blocks ends.
pub const MODEL_FILE: u64 = 1 << 44;

/// A path inside a model (bytes): what S3 allows a key.
pub const MODEL_PATH: usize = 1024;

/// One segment of such a path (bytes): what Linux file systems allow (`NAME_MAX`).
pub const MODEL_PATH_SEGMENT: usize = 255;

/// An SNP attestation report, exactly (AMD 56860, table 23).
pub const SNP_REPORT: usize = 1184;

/// The certificate table beside an SNP report: the Linux driver's own cap (`SEV_FW_BLOB_MAX_SIZE`, 16 KiB).
pub const SNP_CERTIFICATE_TABLE: usize = 16 * 1024;

/// A TD quote (bytes): one with a TD 1.5 Ex report and a PCK chain has some 5 KiB, and is handed out in buffers of up to 8 KiB.
pub const TD_QUOTE: usize = 16 * 1024;

/// An event log (bytes): firmware sets aside 64 or 256 KiB for it (ACPI table `CCEL`, log area minimum length), and fills some 20 KiB.
pub const EVENT_LOG: usize = 512 * 1024;

/// One X.509 certificate (bytes, DER): AMD's are at most 1.7 KiB, Intel's 1.3 KiB.
pub const CERTIFICATE: usize = 8 * 1024;

/// Certificates beside one piece of evidence: leaf, intermediates and roots, with room for duplicates.
pub const CERTIFICATES: usize = 16;

/// One certificate revocation list (bytes, DER): AMD's are below 1 KiB, Intel's below 4 KiB.
pub const REVOCATION_LIST: usize = 256 * 1024;

/// One piece of collateral (bytes): a revocation list at its own limit; TCB infos are below 40 KiB.
pub const COLLATERAL_PIECE: usize = REVOCATION_LIST;

/// The issuer chain of a piece of collateral (bytes, PEM): four certificates of 2 KiB, twice over.
pub const COLLATERAL_CHAIN: usize = 16 * 1024;

/// Where a piece of collateral was found (bytes of text): an address with its query, or a path.
pub const COLLATERAL_SOURCE: usize = 1024;

/// Pieces in one bundle: a VCEK for each of some thousand machines, and a hundred lists and TCB infos.
pub const COLLATERAL_PIECES: usize = 4096;

/// One bundle (bytes of its JSON form): [`COLLATERAL_PIECES`] certificates of 1.7 KiB are 7 MiB, base64 twice over makes 12.4 MiB of them.
pub const COLLATERAL_BUNDLE: usize = 16 * 1024 * 1024;

/// Zero bytes behind a TD quote: the kernel hands quotes out in buffers of 8 KiB, and a quote is never empty.
pub const TD_QUOTE_PADDING: usize = 8 * 1024;

/// Authentication data of a quoting enclave (bytes): Intel's has 32.
pub const QE_AUTHENTICATION_DATA: usize = 64;

/// One signed body of Intel's collateral service (bytes): TCB infos have some 4 to 20 KiB.
pub const COLLATERAL_BODY: usize = 256 * 1024;

/// Items asked for in one release request: a base model with its adapters and credentials.
pub const ASKS: usize = 64;

/// A record's secret (bytes): a model key has 32, a credential such as a service account's JSON some KiB.
pub const SECRET: usize = 32 * 1024;

/// Recipients of one envelope: brokers of an installation and its recovery keys.
pub const RECIPIENTS: usize = 16;

/// Revoked records in the one complete list.
pub const REVOCATIONS: usize = 100_000;

/// Baselines in one TCB calendar: AMD publishes a few TCBs a year for each of three lines.
pub const TCB_BASELINES: usize = 1000;

/// One entry of the audit log: tlog-tiles gives a length two bytes.
pub const LOG_ENTRY: usize = 65_535;

/// Hashes in one Merkle proof: a tree of 2^63 entries has 63 levels.
pub const PROOF_HASHES: usize = 63;

/// Signatures on one checkpoint: C2SP signed-note asks readers to accept at least 16; the log's own, its witnesses', with room.
pub const LOG_SIGNATURES: usize = 32;

/// One checkpoint (bytes): 16 signatures of nearly 5 kB each, which C2SP signed-note expects of post-quantum keys, in base64.
pub const LOG_CHECKPOINT: usize = 128 * 1024;

/// One proof as text (bytes): a checkpoint, and a line of 45 bytes for each of [`PROOF_HASHES`].
pub const LOG_PROOF: usize = LOG_CHECKPOINT + 4 * 1024;

/// The name of a log (bytes): a DNS name has at most 253, a path behind it some dozen.
pub const LOG_ORIGIN: usize = 320;

/// One HTTP answer of a broker (bytes): [`ASKS`] secrets of [`SECRET`] bytes are 2 MiB, and base64 three times over makes 4.8 MiB of them.
pub const REPLY_BODY: usize = 9 * 1024 * 1024;

/// One message to or from the evidence agent (bytes): a [`TD_QUOTE`] and an [`EVENT_LOG`] in base64 are 704 KiB; with room for GPU evidence later.
pub const AGENT_MESSAGE: usize = 768 * 1024;

/// Connections that the evidence agent serves at a time on one socket; the device behind it serves one at a time anyway.
pub const AGENT_CONNECTIONS: usize = 8;

/// One signed token (bytes): AWS takes 20,000, web servers headers of 8 to 16 KiB; ours have some hundred bytes.
pub const TOKEN: usize = 16 * 1024;

/// A SPIFFE bundle or a set of keys (bytes of its JSON form): four CAs of 2 KiB and eight keys are 15 KiB; with room for a trust domain of many.
pub const SPIFFE_BUNDLE: usize = 64 * 1024;

/// Keys in one bundle or set: AWS reads 100 of each kind, Azure the first 100.
pub const KEY_SET_KEYS: usize = 100;

/// Audiences asked for in one request for an identity.
pub const AUDIENCES: usize = 8;

/// One audience (bytes): Google's have some 130.
pub const AUDIENCE: usize = 256;

/// Bundles of other trust domains beside one identity: with [`SPIFFE_BUNDLE`] 1 MiB in all, which an answer has room for.
pub const FEDERATED_BUNDLES: usize = 16;

/// Certificates of one X.509-SVID: leaf and intermediates.
pub const SVID_CERTIFICATES: usize = 4;
