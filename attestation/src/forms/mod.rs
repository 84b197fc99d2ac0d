//! The forms in which collateral is found, read into pieces: DER and PEM, bodies of Intel's collateral service with their issuer chains,
//! the JSON of `dcap-qvl`, what Intel's PCS client tool writes, and our own bundles.
//!
//! Reading proves nothing. It finds out what a file is, pairs signed bodies with the chains beside them, and leaves every signed byte as
//! it was signed; pieces are verified where they are used ([`crate::PreparedCollateral`]).
//!
//! | form | recognised by |
//! | --- | --- |
//! | certificate, revocation list | DER, PEM (also behind what `openssl -text` prints), or DER in hex digits, as caching services have their lists, or in base64; the issuer's name says whose |
//! | TCB info, QE identity | a JSON object with `tcbInfo` or `enclaveIdentity`; its chain is the signing chain in the folder whose name begins most like its own |
//! | signing chain | PEM, also percent-encoded as in HTTP headers, that begins with Intel's TCB signing certificate |
//! | quote collateral | the JSON of `dcap-qvl` (`QuoteCollateralV3`): `tcb_info`, `qe_identity`, their signatures and chains, CRLs in hex |
//! | platform collaterals | what Intel's PCS client tool writes for a caching service: `collaterals` with `tcbinfos`, `tdqeidentity`, `pckcacrl`, `rootcacrl` |
//! | bundle | a signed document of [`protocol::collateral`] |

mod json;
mod peek;
mod summary;
#[cfg(test)]
mod tests;

use std::fmt;

use protocol::collateral::{CollateralKind, CollateralPiece};
use protocol::limits;
use rustls_pki_types::pem::{PemObject as _, SectionKind};

use crate::collateral::{Collateral, SignedBody, TdxCollateral};
use peek::{Content, Peeked, Vendor};

pub use summary::{PieceSummary, Validity};

/// A file that may hold collateral.
#[derive(Clone, Copy, Debug)]
pub struct CollateralFile<'a> {
    /// Its name, without folder. Signed bodies find their chains by it.
    pub name: &'a str,
    /// What it holds; at most [`limits::COLLATERAL_BUNDLE`] bytes are read.
    pub bytes: &'a [u8],
}

/// What some files held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// The pieces, each once, in the order of the files.
    pub pieces: Vec<CollateralPiece>,
    /// What each file was, in order.
    pub files: Vec<FileRead>,
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRead {
    /// Its name.
    pub name: String,
    /// Its form, or why nothing was taken from it.
    pub read: Result<Form, FormError>,
}

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// One certificate, DER.
    Certificate,
    /// One revocation list, DER.
    RevocationList,
    /// Certificates or revocation lists, PEM.
    Pem,
    /// The chain of Intel's TCB signing certificate, PEM.
    SigningChain,
    /// Intel's TCB info.
    TcbInfo,
    /// Intel's identity of the TD quoting enclave.
    QeIdentity,
    /// The collateral of one quote, as `dcap-qvl` keeps it.
    QuoteCollateral,
    /// What Intel's PCS client tool writes.
    PlatformCollaterals,
    /// Our own bundle. Its signature is not checked here.
    Bundle,
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::RevocationList => "revocation list",
            Self::Pem => "certificates or revocation lists, PEM",
            Self::SigningChain => "signing chain",
            Self::TcbInfo => "TCB info",
            Self::QeIdentity => "QE identity",
            Self::QuoteCollateral => "quote collateral (dcap-qvl)",
            Self::PlatformCollaterals => "platform collaterals (PCS client tool)",
            Self::Bundle => "bundle",
        })
    }
}

/// Why nothing was taken from a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormError {
    /// More than any form has.
    #[error("{found} bytes are more than the {limit} that any form of collateral has")]
    TooLarge {
        /// The limit in bytes.
        limit: usize,
        /// The size in bytes.
        found: usize,
    },
    /// Not DER, PEM or JSON that is known.
    #[error("no form of collateral")]
    Unknown,
    /// It begins as JSON, and cannot be read as any: cut off, or changed on its way.
    #[error("begins as JSON and is none: {0}")]
    BrokenJson(String),
    /// What a client printed of an answer, with its head.
    #[error("an HTTP answer with its head before it")]
    HttpAnswer,
    /// Half a byte of hex digits.
    #[error("an odd number of hex digits")]
    OddHex,
    /// PEM that cannot be read.
    #[error("damaged PEM: {0}")]
    Pem(String),
    /// PEM without certificates or lists.
    #[error("PEM that holds neither certificates nor revocation lists")]
    OtherPem,
    /// DER that is neither certificate nor list.
    #[error("neither a certificate nor a revocation list")]
    Der,
    /// Of somebody else.
    #[error("issued by {found:?}, which is no authority of AMD's or Intel's")]
    Issuer {
        /// The common name of the issuer.
        found: String,
    },
    /// A root: those in force are compiled in, or configured.
    #[error("a root, which nobody believes for being brought along")]
    Root,
    /// A platform's own certificate.
    #[error("a PCK certificate, which every quote brings along")]
    PckCertificate,
    /// JSON that is not as its form has it.
    #[error("not as {form} has it: {what}")]
    Json {
        /// The form that it seemed to be.
        form: Form,
        /// What is wrong.
        what: String,
    },
    /// For SGX enclaves, not for TDs.
    #[error("of SGX, not of TDX")]
    Sgx,
    /// It breaks the rules of a piece.
    #[error("{0}")]
    Piece(&'static str),
    /// A body without its chain.
    #[error("no signing chain lies beside it")]
    NoChain,
}

/// Reads files that lie beside each other.
#[must_use]
pub fn gather(files: &[CollateralFile<'_>]) -> Gathered {
    let read: Vec<_> = files.iter().map(|file| (file.name, read(file))).collect();
    let chains: Vec<(&str, &Chain)> = read
        .iter()
        .filter_map(|(name, parts)| Some((*name, parts.as_ref().ok()?)))
        .flat_map(|(name, (_, parts))| parts.iter().filter_map(Part::chain).map(move |chain| (name, chain)))
        .collect();
    let parts = read.iter().filter_map(|(_, parts)| parts.as_ref().ok()).flat_map(|(_, parts)| parts);
    let lists = parts.filter_map(Part::list_issuer).filter(|issuer| *issuer != peek::INTEL_ROOT).map(str::to_owned).collect();
    let beside = Beside { chains, lists };
    let mut gathered = Gathered::default();
    for (name, parts) in &read {
        let outcome = match parts {
            Ok((form, parts)) => take(name, parts, &beside, &mut gathered.pieces).map(|()| *form),
            Err(error) => Err(error.clone()),
        };
        gathered.files.push(FileRead { name: (*name).to_owned(), read: outcome });
    }
    gathered
}

/// The pieces as the verifier takes them.
#[must_use]
pub fn collateral(pieces: &[CollateralPiece]) -> Collateral {
    let mut collateral = Collateral::default();
    for piece in pieces {
        let Collateral { certificates, crls, tdx } = &mut collateral;
        let bytes = piece.bytes.clone();
        let body = || SignedBody { body: piece.bytes.clone(), issuer_chain: piece.issuer_chain.clone().unwrap_or_default().into_bytes() };
        match piece.kind {
            CollateralKind::SnpCertificate => certificates.push(bytes),
            CollateralKind::SnpCrl => crls.push(bytes),
            CollateralKind::TdxTcbInfo => tdx.tcb_infos.push(body()),
            CollateralKind::TdxQeIdentity => tdx.qe_identities.push(body()),
            CollateralKind::TdxCrl => {
                tdx.crls.push(bytes);
                tdx.certificates.append(&mut certificates_of(piece.issuer_chain.as_deref().unwrap_or_default()));
            }
            CollateralKind::TdxCertificate => tdx.certificates.push(bytes),
        }
    }
    let authorities = &mut collateral.tdx.certificates;
    authorities.sort();
    authorities.dedup();
    collateral
}

/// The pieces that some collateral is made of, each with the same `source`.
#[must_use]
pub fn pieces(collateral: &Collateral, source: &str) -> Vec<CollateralPiece> {
    let piece = |kind, bytes: &[u8], chain: Option<&[u8]>| CollateralPiece {
        kind,
        bytes: bytes.to_vec(),
        issuer_chain: chain.map(|chain| String::from_utf8_lossy(chain).into_owned()),
        source: source.to_owned(),
    };
    let Collateral { certificates, crls, tdx } = collateral;
    // What was replaced is of use where it was held, and nobody's to carry.
    let TdxCollateral { tcb_infos, qe_identities, crls: tdx_crls, certificates: tdx_certificates, replaced: _ } = tdx;
    let bodies = |kind, bodies: &[SignedBody]| -> Vec<_> {
        bodies.iter().map(|signed| piece(kind, &signed.body, Some(&signed.issuer_chain))).collect()
    };
    let plain = |kind, all: &[Vec<u8>]| -> Vec<CollateralPiece> { all.iter().map(|bytes| piece(kind, bytes, None)).collect() };
    [
        bodies(CollateralKind::TdxTcbInfo, tcb_infos),
        bodies(CollateralKind::TdxQeIdentity, qe_identities),
        plain(CollateralKind::TdxCrl, tdx_crls),
        plain(CollateralKind::TdxCertificate, tdx_certificates),
        plain(CollateralKind::SnpCrl, crls),
        plain(CollateralKind::SnpCertificate, certificates),
    ]
    .concat()
}

/// Whether a certificate (DER) says that it is one chip's (VCEK) or one provider's (VLEK), and not an authority's.
#[must_use]
pub fn is_of_a_chip(der: &[u8]) -> bool {
    peek::peek(der).is_some_and(|peeked| matches!(peeked.subject(), Some("SEV-VCEK" | "SEV-VLEK")))
}

/// What a file is made of, before bodies and chains have found each other.
enum Part {
    /// Complete.
    Piece(CollateralPiece),
    /// A signed body that waits for its chain.
    Body { kind: CollateralKind, bytes: Vec<u8> },
    /// A revocation list that takes the chain of its issuer where one lies beside it.
    TdxCrl { issuer: String, bytes: Vec<u8> },
    /// Certificates in one PEM file.
    Chain(Chain),
}

/// A PEM chain of Intel's.
struct Chain {
    pem: String,
    /// Whether it begins with Intel's TCB signing certificate.
    signs_bodies: bool,
    /// The common names of its subjects.
    subjects: Vec<String>,
    /// Its authorities but the root, DER.
    authorities: Vec<Vec<u8>>,
}

impl Part {
    const fn chain(&self) -> Option<&Chain> {
        match self {
            Self::Chain(chain) => Some(chain),
            _ => None,
        }
    }

    fn list_issuer(&self) -> Option<&str> {
        match self {
            Self::TdxCrl { issuer, .. } => Some(issuer),
            _ => None,
        }
    }
}

/// What lies beside a file: chains with the names of their files, and the issuers of Intel's lists but the root.
struct Beside<'a> {
    chains: Vec<(&'a str, &'a Chain)>,
    lists: Vec<String>,
}

type Parts = (Form, Vec<Part>);

fn read(file: &CollateralFile<'_>) -> Result<Parts, FormError> {
    let CollateralFile { name, bytes } = *file;
    let bytes = without_byte_order_mark(bytes);
    if bytes.len() > limits::COLLATERAL_BUNDLE {
        return Err(FormError::TooLarge { limit: limits::COLLATERAL_BUNDLE, found: bytes.len() });
    }
    match bytes.trim_ascii_start().first() {
        Some(b'{') => json::read(bytes, name),
        Some(0x30) => der(bytes, name),
        Some(b'-') => pem(bytes, name),
        _ if bytes.starts_with(b"HTTP/") => Err(FormError::HttpAnswer),
        _ if bytes.windows(PEM.len()).any(|window| window == PEM) => pem(bytes, name),
        _ => der(&der_in_text(bytes).unwrap_or(Err(FormError::Unknown))?, name),
    }
}

/// How a block of PEM begins.
const PEM: &[u8] = b"-----BEGIN ";

/// A file without the mark that some editors put before text.
#[must_use]
pub fn without_byte_order_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// DER in hex digits or base64, with or without line ends, spaces and quotation marks. Every certificate and list begins with the byte 0x30 and a
/// length of more than one byte, so that neither is taken for the other: hex begins `308`, base64 `MI`.
fn der_in_text(bytes: &[u8]) -> Option<Result<Vec<u8>, FormError>> {
    let text = core::str::from_utf8(bytes).ok()?.trim().trim_matches('"');
    let text: String = text.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    if text.starts_with("308") && text.bytes().all(|letter| letter.is_ascii_hexdigit()) {
        return Some(hex::decode(text).map_err(|_| FormError::OddHex));
    }
    text.starts_with("MI").then(|| protocol::encoding::from_base64(&text))?.map(Ok)
}

fn der(bytes: &[u8], source: &str) -> Result<Parts, FormError> {
    let peeked = peek::peek(bytes).ok_or(FormError::Der)?;
    let form = match peeked.content {
        Content::Certificate { .. } => Form::Certificate,
        Content::RevocationList { .. } => Form::RevocationList,
    };
    Ok((form, vec![part(bytes, &peeked, source)?]))
}

/// One certificate or list by whose it is.
fn part(bytes: &[u8], peeked: &Peeked, source: &str) -> Result<Part, FormError> {
    let piece = |kind| Part::Piece(CollateralPiece { kind, bytes: bytes.to_vec(), issuer_chain: None, source: shown(source) });
    if peeked.is_root() {
        return Err(FormError::Root);
    }
    match (peeked.vendor(), &peeked.content) {
        (None, _) => Err(FormError::Issuer { found: peeked.issuer.clone() }),
        (Some(Vendor::Amd), Content::Certificate { .. }) => Ok(piece(CollateralKind::SnpCertificate)),
        (Some(Vendor::Amd), Content::RevocationList { .. }) => Ok(piece(CollateralKind::SnpCrl)),
        (Some(Vendor::Intel), Content::RevocationList { .. }) => Ok(Part::TdxCrl { issuer: peeked.issuer.clone(), bytes: bytes.to_vec() }),
        (Some(Vendor::Intel), Content::Certificate { subject, .. }) if subject == peek::PCK => Err(FormError::PckCertificate),
        (Some(Vendor::Intel), Content::Certificate { .. }) => Ok(piece(CollateralKind::TdxCertificate)),
    }
}

fn pem(bytes: &[u8], source: &str) -> Result<Parts, FormError> {
    let decoded = percent_decoded(bytes);
    let (mut intel, mut parts, mut roots) = (Vec::new(), Vec::new(), Vec::new());
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(&decoded) {
        let (kind, der) = section.map_err(|error| FormError::Pem(error.to_string()))?;
        if !matches!(kind, SectionKind::Certificate | SectionKind::Crl) {
            continue;
        }
        let peeked = peek::peek(&der).ok_or(FormError::Der)?;
        match (peeked.vendor(), &peeked.content) {
            (Some(Vendor::Intel), Content::Certificate { .. }) => intel.push((der, peeked)),
            // The last of AMD's chains; alone in its file, it is named.
            _ if peeked.is_root() => roots.push(der),
            _ => parts.push(part(&der, &peeked, source)?),
        }
    }
    let Some((_, first)) = intel.first() else {
        return match (parts.is_empty(), roots.is_empty()) {
            (false, _) => Ok((Form::Pem, parts)),
            (true, false) => Err(FormError::Root),
            (true, true) => Err(FormError::OtherPem),
        };
    };
    let signs_bodies = first.subject() == Some(peek::TCB_SIGNING);
    parts.push(Part::Chain(Chain {
        pem: String::from_utf8(decoded).map_err(|error| FormError::Pem(error.to_string()))?,
        signs_bodies,
        subjects: intel.iter().filter_map(|(_, peeked)| peeked.subject().map(str::to_owned)).collect(),
        authorities: intel.iter().filter(|(_, peeked)| peeked.is_intermediate()).map(|(der, _)| der.clone()).collect(),
    }));
    Ok((if signs_bodies { Form::SigningChain } else { Form::Pem }, parts))
}

/// Puts a file's parts among the pieces: all of them or none.
fn take(name: &str, parts: &[Part], beside: &Beside<'_>, pieces: &mut Vec<CollateralPiece>) -> Result<(), FormError> {
    let Beside { chains, lists } = beside;
    let piece = |kind, bytes: &[u8], issuer_chain| CollateralPiece { kind, bytes: bytes.to_vec(), issuer_chain, source: shown(name) };
    let mut own = Vec::with_capacity(parts.len());
    for part in parts {
        match part {
            Part::Piece(piece) => own.push(piece.clone()),
            Part::Body { kind, bytes } => {
                let chain = signing_chain(name, chains).ok_or(FormError::NoChain)?;
                own.push(piece(*kind, bytes, Some(chain.pem.clone())));
            }
            Part::TdxCrl { issuer, bytes } => {
                let named = |(_, chain): &&(&str, &Chain)| issuer != peek::INTEL_ROOT && chain.subjects.contains(issuer);
                let issuer_chain = chains.iter().find(named).map(|(_, chain)| chain.pem.clone());
                own.push(piece(CollateralKind::TdxCrl, bytes, issuer_chain));
            }
            // A chain that stands beside a list of its authority travels with that.
            Part::Chain(chain) if !chain.signs_bodies && !lists.iter().any(|issuer| chain.subjects.contains(issuer)) => {
                own.extend(chain.authorities.iter().map(|der| piece(CollateralKind::TdxCertificate, der, None)));
            }
            Part::Chain(_) => {}
        }
    }
    own.iter().try_for_each(CollateralPiece::check).map_err(FormError::Piece)?;
    own.into_iter().for_each(|piece| add(pieces, piece));
    Ok(())
}

/// Each piece once: the same bytes in two files are one piece, and a list with its chain is more than one without.
fn add(pieces: &mut Vec<CollateralPiece>, piece: CollateralPiece) {
    match pieces.iter_mut().find(|known| known.kind == piece.kind && known.bytes == piece.bytes) {
        Some(known) => known.issuer_chain = known.issuer_chain.take().or(piece.issuer_chain),
        None => pieces.push(piece),
    }
}

/// The signing chain whose file is named most like `name`.
fn signing_chain<'c>(name: &str, chains: &[(&str, &'c Chain)]) -> Option<&'c Chain> {
    let common = |other: &str| name.bytes().zip(other.bytes()).take_while(|(one, two)| one == two).count();
    let signing = chains.iter().filter(|(_, chain)| chain.signs_bodies);
    signing.rev().max_by_key(|(other, _)| common(other)).map(|(_, chain)| *chain)
}

/// The certificates of a PEM chain, DER.
fn certificates_of(pem: &str) -> Vec<Vec<u8>> {
    let sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    sections.filter(|(kind, _)| *kind == SectionKind::Certificate).map(|(_, der)| der).collect()
}

/// A chain as it stands in an HTTP header of Intel's service, or as it is.
fn percent_decoded(bytes: &[u8]) -> Vec<u8> {
    if !bytes.windows(9).any(|window| window == b"BEGIN%20C") {
        return bytes.to_vec();
    }
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, behind)) = rest.split_first() {
        let escaped = match (first, behind) {
            (b'%', [high, low, after @ ..]) => digit(*high).zip(digit(*low)).map(|(high, low)| ((high << 4) | low, after)),
            _ => None,
        };
        let (byte, after) = escaped.unwrap_or((*first, behind));
        decoded.push(byte);
        rest = after;
    }
    decoded
}

const fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        b'A'..=b'F' => Some(character - b'A' + 10),
        _ => None,
    }
}

/// A file's name as a source: without control characters, cut to what a piece may say.
fn shown(name: &str) -> String {
    let mut source: String = name.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    while source.len() > limits::COLLATERAL_SOURCE {
        source.pop();
    }
    source
}
