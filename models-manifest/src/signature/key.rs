//! The public key of a model's signer: an elliptic curve in PEM, as `openssl ec -pubout` writes it.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, EcdsaVerificationAlgorithm, ParsedPublicKey,
};
use protocol::encoding::{from_base64, sha256, to_base64};
use std::fmt;
use std::str::FromStr;

use crate::keys::public_bytes;

public_bytes!(
    /// Names a signer's key: SHA-256 of its DER (SubjectPublicKeyInfo).
    SignerId,
    32
);

/// The curves that the format names. A SubjectPublicKeyInfo (RFC 5480) of an uncompressed point is these bytes and the point's.
struct Curve {
    prefix: &'static [u8],
    point: usize,
    algorithm: &'static EcdsaVerificationAlgorithm,
    name: &'static str,
}

const CURVES: [Curve; 3] = [
    Curve {
        prefix: &[
            0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
            0x01, 0x07, 0x03, 0x42, 0x00,
        ],
        point: 65,
        algorithm: &ECDSA_P256_SHA256_ASN1,
        name: "P-256",
    },
    Curve {
        prefix: &[
            0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22, 0x03,
            0x62, 0x00,
        ],
        point: 97,
        algorithm: &ECDSA_P384_SHA384_ASN1,
        name: "P-384",
    },
    Curve {
        prefix: &[
            0x30, 0x81, 0x9b, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23,
            0x03, 0x81, 0x86, 0x00,
        ],
        point: 133,
        algorithm: &ECDSA_P521_SHA512_ASN1,
        name: "P-521",
    },
];

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";

/// A signer's public key (ECDSA; P-256 with SHA-256, P-384 with SHA-384, P-521 with SHA-512). In text: PEM.
#[derive(Clone)]
pub struct ModelSigner {
    der: Vec<u8>,
    key: ParsedPublicKey,
    curve: &'static str,
}

impl ModelSigner {
    /// Its name: what manifests call it.
    #[must_use]
    pub fn id(&self) -> SignerId {
        SignerId::from_bytes(*sha256(&self.der).as_bytes())
    }

    /// The curve, such as `P-256`.
    #[must_use]
    pub const fn curve(&self) -> &'static str {
        self.curve
    }

    /// What bundles call the key: SHA-256 of its PEM text, with lines of 64 characters and a line feed behind each.
    #[must_use]
    pub fn hint(&self) -> String {
        sha256(self.to_string().as_bytes()).to_string()
    }

    /// Whether `signature` (DER) is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }
}

impl fmt::Display for ModelSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{BEGIN}")?;
        let text = to_base64(&self.der);
        let mut rest = text.as_str();
        while let Some((line, behind)) = rest.split_at_checked(rest.len().min(64)).filter(|(line, _)| !line.is_empty()) {
            writeln!(f, "{line}")?;
            rest = behind;
        }
        writeln!(f, "{END}")
    }
}

impl fmt::Debug for ModelSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelSigner({} {})", self.curve, self.id())
    }
}

impl PartialEq for ModelSigner {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Eq for ModelSigner {}

impl FromStr for ModelSigner {
    type Err = KeyError;
    fn from_str(pem: &str) -> Result<Self, KeyError> {
        let pem = pem.trim();
        let body = pem.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END)).ok_or(KeyError::Pem)?;
        let text: String = body.split_ascii_whitespace().collect();
        let der = from_base64(&text).ok_or(KeyError::Pem)?;
        let curve = CURVES.iter().find(|curve| der.strip_prefix(curve.prefix).is_some_and(|point| point.len() == curve.point));
        let curve = curve.ok_or(KeyError::Curve)?;
        let point = der.get(curve.prefix.len()..).unwrap_or_default();
        let key = ParsedPublicKey::new(curve.algorithm, point).map_err(|_| KeyError::Point)?;
        Ok(Self { key, curve: curve.name, der })
    }
}

/// Why a text is no signer's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not one PEM block of a public key.
    #[error("not one PEM block \"PUBLIC KEY\"")]
    Pem,
    /// Another kind of key.
    #[error("not an elliptic curve key on P-256, P-384 or P-521 with an uncompressed point")]
    Curve,
    /// The point is not on the curve.
    #[error("the point is not on the curve")]
    Point,
}
