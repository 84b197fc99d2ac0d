//! Our rules where other verifiers decide otherwise: each is a sentence of `docs/advisories.md`.

pub const PROFILE: &str =
    "every certificate of a chain has the exact name, the profile and the issuer of its role, and is valid at the time of judging";
pub const ALONE: &str = "a quote is judged with its certificates, their validity and Intel's collateral, never alone";
pub const POLICY: &str = "TD attributes are claims that a policy judges, and by default it refuses every bit that it does not know";
pub const SORTED: &str = "TCB levels are tried from the highest down, whatever their order in the document";
pub const ONCE: &str = "a document has one level for one TCB, one identity for one module, and each key once";
pub const EXACT: &str = "a document has exactly the id, version and type that this verifier was written for";
pub const PCEID: &str = "TCB info is of the PCK certificate's FMSPC and of its PCEID";
pub const ROLE: &str = "the signer of collateral is Intel's TCB signer by its exact name, issued by the root itself";
pub const MASK: &str = "a masked field of the quoting enclave equals the identity's value, which has no bit outside its mask";
pub const TAIL: &str = "the second half of the quoting enclave's report data is zero";
pub const LENGTHS: &str = "every length in a quote is the true one, and its certification data is of types 6 and 5";
pub const PADDING: &str = "only zero bytes may follow a quote, and not many";
pub const CHAIN: &str =
    "a quote brings three certificates, and the last has the pinned root's name and key; whatever else that one says counts for nothing";
pub const PART: &str = "a quoting enclave or TDX module that is neither UpToDate nor OutOfDate is refused";
pub const BOUND: &str = "the quoting enclave's authentication data may have any length within a limit, since its signed report binds it";
pub const COMPONENTS: &str = "a platform's TCB is the sixteen component SVNs of its PCK certificate, whatever its CPUSVN octets say";
pub const PARTS: &str =
    "the SGX extension of a PCK certificate has each part of its profile once, with a value that the profile knows, and no other part";
pub const WIDTH: &str = "a number in a certificate or document may have any value of its width";
pub const ISSUED: &str = "a revocation list says nothing before the time at which it was issued";
pub const WINDOW: &str = "what is in force until a second is in force in that second";
pub const STATUS: &str = "every level of a document has a status that a document can give, reached or not";
