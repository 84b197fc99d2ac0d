//! What a piece of collateral is, wherever it came from.

use std::fmt;
use std::str::FromStr;

use attestation::{PckAuthority, ProductLine, SigningKeyKind, VcekName};
use protocol::encoding::from_hex;
use protocol::time::UnixTime;

/// Whose collateral it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Vendor {
    /// AMD: certificates and revocation lists for SEV-SNP.
    Amd,
    /// Intel: TCB info, QE identity and revocation lists for TDX.
    Intel,
}

impl Vendor {
    /// Every vendor.
    pub const ALL: [Self; 2] = [Self::Amd, Self::Intel];

    /// `amd` or `intel`, as in the configuration and in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Amd => "amd",
            Self::Intel => "intel",
        }
    }
}

/// Names a piece. In text, such as `intel/tcb/50806f000000`, it is the piece's key in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PieceKey {
    /// AMD's authority over VCEKs (ASK) or VLEKs (ASVK) of a line: a certificate, DER.
    AmdAuthority(ProductLine, SigningKeyKind),
    /// The revocation list of a line's ARK: DER.
    AmdCrl(ProductLine),
    /// The certificate of a VCEK: DER.
    Vcek(VcekName),
    /// TDX TCB info of a family of platforms (FMSPC): signed JSON.
    TcbInfo([u8; 6]),
    /// The identity of the TD quoting enclave: signed JSON.
    QeIdentity,
    /// The revocation list of an authority over PCK certificates: DER.
    PckCrl(PckAuthority),
    /// The revocation list of Intel's root: DER.
    RootCrl,
}

impl PieceKey {
    /// Every kind, as in metrics.
    pub const KINDS: [&'static str; 7] = ["amd-authority", "amd-crl", "vcek", "tcb-info", "qe-identity", "pck-crl", "root-crl"];

    /// Whose it is.
    #[must_use]
    pub const fn vendor(&self) -> Vendor {
        match self {
            Self::AmdAuthority(..) | Self::AmdCrl(_) | Self::Vcek(_) => Vendor::Amd,
            Self::TcbInfo(_) | Self::QeIdentity | Self::PckCrl(_) | Self::RootCrl => Vendor::Intel,
        }
    }

    /// Its kind, one of [`Self::KINDS`].
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::AmdAuthority(..) => "amd-authority",
            Self::AmdCrl(_) => "amd-crl",
            Self::Vcek(_) => "vcek",
            Self::TcbInfo(_) => "tcb-info",
            Self::QeIdentity => "qe-identity",
            Self::PckCrl(_) => "pck-crl",
            Self::RootCrl => "root-crl",
        }
    }
}

impl fmt::Display for PieceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AmdAuthority(line, kind) => write!(f, "amd/authority/{line}/{}", kind.as_str().to_ascii_lowercase()),
            Self::AmdCrl(line) => write!(f, "amd/crl/{line}"),
            Self::Vcek(name) => write!(f, "amd/vcek/{}/{}/{}", name.line(), hex(name.chip_id()), hex(&name.reported_tcb())),
            Self::TcbInfo(fmspc) => write!(f, "intel/tcb/{}", hex(fmspc)),
            Self::QeIdentity => f.write_str("intel/qe-identity"),
            Self::PckCrl(authority) => write!(f, "intel/pck-crl/{}", authority.as_str()),
            Self::RootCrl => f.write_str("intel/root-crl"),
        }
    }
}

/// Not the key of a piece.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no piece of collateral")]
pub struct BadKey(String);

impl FromStr for PieceKey {
    type Err = BadKey;

    fn from_str(text: &str) -> Result<Self, BadKey> {
        let line = |name: &str| ProductLine::ALL.into_iter().find(|line| line.as_str() == name);
        let read = || match *text.split('/').collect::<Vec<_>>() {
            ["amd", "authority", of, "vcek"] => Some(Self::AmdAuthority(line(of)?, SigningKeyKind::Vcek)),
            ["amd", "authority", of, "vlek"] => Some(Self::AmdAuthority(line(of)?, SigningKeyKind::Vlek)),
            ["amd", "crl", of] => Some(Self::AmdCrl(line(of)?)),
            ["amd", "vcek", of, chip, tcb] => Some(Self::Vcek(VcekName::new(line(of)?, from_hex(chip)?, from_hex(tcb)?).ok()?)),
            ["intel", "tcb", fmspc] => Some(Self::TcbInfo(from_hex(fmspc)?)),
            ["intel", "qe-identity"] => Some(Self::QeIdentity),
            ["intel", "pck-crl", "platform"] => Some(Self::PckCrl(PckAuthority::Platform)),
            ["intel", "pck-crl", "processor"] => Some(Self::PckCrl(PckAuthority::Processor)),
            ["intel", "root-crl"] => Some(Self::RootCrl),
            _ => None,
        };
        // One text a key: what is written in another way names nothing.
        read().filter(|key| key.to_string() == text).ok_or_else(|| BadKey(text.to_owned()))
    }
}

/// Lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A piece as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawPiece {
    /// DER, or a signed JSON body.
    pub bytes: Vec<u8>,
    /// The certificates of its signer, PEM; empty where none came with it.
    pub issuer_chain: Vec<u8>,
}

/// A piece that verified when it was kept.
#[derive(Clone, Debug)]
pub struct Piece {
    /// What it is.
    pub key: PieceKey,
    /// As it came.
    pub raw: RawPiece,
    /// When it came.
    pub fetched_at: UnixTime,
    /// When it was issued.
    pub issued: UnixTime,
    /// Its last second.
    pub until: UnixTime,
    /// What it raises the floor of, and to what: TCB info and QE identity have evaluation numbers.
    pub evaluation: Option<(String, u32)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_text_and_reads_back() {
        let vcek = VcekName::new(ProductLine::Milan, [0xab; 64], [4, 0, 0, 0, 0, 0, 24, 219]).unwrap();
        let keys = [
            PieceKey::AmdAuthority(ProductLine::Genoa, SigningKeyKind::Vlek),
            PieceKey::AmdAuthority(ProductLine::Turin, SigningKeyKind::Vcek),
            PieceKey::AmdCrl(ProductLine::Milan),
            PieceKey::Vcek(vcek),
            PieceKey::TcbInfo([0x50, 0x80, 0x6f, 0, 0, 0]),
            PieceKey::QeIdentity,
            PieceKey::PckCrl(PckAuthority::Platform),
            PieceKey::PckCrl(PckAuthority::Processor),
            PieceKey::RootCrl,
        ];
        for key in keys {
            assert_eq!(key.to_string().parse(), Ok(key));
            assert!(PieceKey::KINDS.contains(&key.kind()));
        }
        assert_eq!(keys[4].to_string(), "intel/tcb/50806f000000");
        for bad in
            ["", "amd", "amd/crl/Venice", "intel/tcb/50806F000000", "intel/tcb/50806f0000", "intel/qe-identity/", "amd/vcek/Milan/00/00"]
        {
            assert!(bad.parse::<PieceKey>().is_err(), "{bad}");
        }
    }
}
