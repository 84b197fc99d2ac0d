//! Private keys that sign tokens and certificates: ECDSA on P-256, and RSA for those who read nothing else. They have no `Debug`
//! that shows them and no `Clone`; what leaves them is PKCS#8 DER, erased when it goes.

use std::fmt;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256,
    RsaKeyPair, UnparsedPublicKey,
};
use der::asn1::{ObjectIdentifier, UintRef};
use der::{Decode, Reader, SliceReader};
use zeroize::Zeroizing;

use super::jwk::Curve;
use super::{Algorithm, Jwk, JwkError, TokenError, TokenSigner};

/// An ECDSA private key on P-256.
pub struct EcKey {
    /// Signs tokens: two numbers side by side.
    fixed: EcdsaKeyPair,
    /// Signs for X.509: the same numbers in DER.
    asn1: EcdsaKeyPair,
    spki: P256Spki,
    kid: String,
}

impl EcKey {
    const KIND: TokenError = TokenError::PrivateKey { expected: "ECDSA on P-256" };

    /// A fresh key.
    ///
    /// # Errors
    /// [`TokenError::PrivateKey`] where the implementation makes none.
    pub fn generate() -> Result<Self, TokenError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).map_err(|_| Self::KIND)?;
        let pkcs8 = erased(pair.to_pkcs8v1().map_err(|_| Self::KIND)?.as_ref());
        Self::from_pkcs8(&pkcs8)
    }

    /// From PKCS#8 DER.
    ///
    /// # Errors
    /// [`TokenError::PrivateKey`] where it is no P-256 key.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TokenError> {
        let pair = |algorithm| EcdsaKeyPair::from_pkcs8(algorithm, der).map_err(|_| Self::KIND);
        let (fixed, asn1) = (pair(&ECDSA_P256_SHA256_FIXED_SIGNING)?, pair(&ECDSA_P256_SHA256_ASN1_SIGNING)?);
        let spki = P256Spki::of_point(fixed.public_key().as_ref()).map_err(|_| Self::KIND)?;
        let kid = spki.jwk().thumbprint();
        Ok(Self { fixed, asn1, spki, kid })
    }

    /// PKCS#8 DER.
    ///
    /// # Errors
    /// [`TokenError::PrivateKey`] where the implementation does not give it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        self.fixed.to_pkcs8v1().map(|der| erased(der.as_ref())).map_err(|_| Self::KIND)
    }

    /// Its public half, as it stands in a certificate.
    #[must_use]
    pub const fn spki(&self) -> &P256Spki {
        &self.spki
    }

    /// Its public half, named by its thumbprint, for this algorithm alone.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        let named = self.spki.jwk().clone().with_kid(&self.kid);
        named.clone().with_algorithm(Algorithm::Es256).unwrap_or(named)
    }

    /// Signs `message` with SHA-256; the signature is in DER, as X.509 has it.
    ///
    /// # Errors
    /// [`TokenError::Signing`].
    pub fn sign_asn1(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let signature = self.asn1.sign(&SystemRandom::new(), message);
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| TokenError::Signing)
    }
}

impl fmt::Debug for EcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EcKey({})", self.kid)
    }
}

impl TokenSigner for EcKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Es256
    }

    fn kid(&self) -> &str {
        &self.kid
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let signature = self.fixed.sign(&SystemRandom::new(), message);
        signature.map(|signature| signature.as_ref().to_vec()).map_err(|_| TokenError::Signing)
    }
}

/// An RSA private key. It signs by RS256 alone, which is what Azure reads.
pub struct RsaKey {
    pair: RsaKeyPair,
    public: Jwk,
    kid: String,
}

impl RsaKey {
    const KIND: TokenError = TokenError::PrivateKey { expected: "RSA of 2048 to 8192 bits" };

    /// A fresh key of 2048 bits.
    ///
    /// # Errors
    /// [`TokenError::PrivateKey`] where the implementation makes none.
    pub fn generate() -> Result<Self, TokenError> {
        Self::of(RsaKeyPair::generate(KeySize::Rsa2048).map_err(|_| Self::KIND)?)
    }

    /// From PKCS#8 DER.
    ///
    /// # Errors
    /// [`TokenError::PrivateKey`] where it is no RSA key of 2048 to 8192 bits.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, TokenError> {
        Self::of(RsaKeyPair::from_pkcs8(der).map_err(|_| Self::KIND)?)
    }

    fn of(pair: RsaKeyPair) -> Result<Self, TokenError> {
        let public = rsa_jwk(pair.public_key().as_ref()).map_err(|_| Self::KIND)?;
        let kid = public.thumbprint();
        Ok(Self { pair, public, kid })
    }

    /// PKCS#8 DER.
    ///
    /// # Errors
    /// [`TokenError::PrivateKey`] where the implementation does not give it.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, TokenError> {
        let der: Pkcs8V1Der<'_> = self.pair.as_der().map_err(|_| Self::KIND)?;
        Ok(erased(der.as_ref()))
    }

    /// Its public half, as X.509 has it.
    ///
    /// # Errors
    /// [`TokenError::PrivateKey`] where the implementation does not give it.
    pub fn spki(&self) -> Result<Vec<u8>, TokenError> {
        let der = AsDer::<aws_lc_rs::encoding::PublicKeyX509Der<'_>>::as_der(self.pair.public_key()).map_err(|_| Self::KIND)?;
        Ok(der.as_ref().to_vec())
    }

    /// Its public half, named by its thumbprint, for this algorithm alone.
    #[must_use]
    pub fn jwk(&self) -> Jwk {
        let named = self.public.clone().with_kid(&self.kid);
        named.clone().with_algorithm(Algorithm::Rs256).unwrap_or(named)
    }
}

impl fmt::Debug for RsaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RsaKey({})", self.kid)
    }
}

impl TokenSigner for RsaKey {
    fn algorithm(&self) -> Algorithm {
        Algorithm::Rs256
    }

    fn kid(&self) -> &str {
        &self.kid
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, TokenError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message, &mut signature).map_err(|_| TokenError::Signing)?;
        Ok(signature)
    }
}

fn erased(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_vec())
}

/// An RSA public key by its PKCS#1 DER: SEQUENCE of modulus and exponent.
pub(crate) fn rsa_jwk(pkcs1: &[u8]) -> Result<Jwk, JwkError> {
    let member = |name| move |_: der::Error| JwkError::Member { name };
    let mut reader = SliceReader::new(pkcs1).map_err(member("n"))?;
    let (modulus, exponent) = reader
        .sequence(|inner| Ok::<_, der::Error>((UintRef::decode(inner)?.as_bytes().to_vec(), UintRef::decode(inner)?.as_bytes().to_vec())))
        .map_err(member("n"))?;
    reader.finish().map_err(member("e"))?;
    Jwk::rsa(modulus, exponent)
}

/// A public key on P-256 as X.509 has it (SubjectPublicKeyInfo): always 91 bytes, 26 of them the same for every such key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct P256Spki {
    der: Vec<u8>,
    jwk: Jwk,
}

/// SEQUENCE, SEQUENCE of the identifiers of ECDSA keys and of P-256, and a BIT STRING without unused bits (RFC 5480).
const P256_SPKI: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01,
    0x07, 0x03, 0x42, 0x00,
];

impl P256Spki {
    /// The size in bytes.
    pub const SIZE: usize = 91;

    /// Reads one: exactly this form, the point uncompressed and on the curve.
    ///
    /// # Errors
    /// [`JwkError`].
    pub fn parse(der: &[u8]) -> Result<Self, JwkError> {
        match der.split_at_checked(P256_SPKI.len()) {
            Some((prefix, point)) if prefix == P256_SPKI => Self::of_point(point),
            _ => Err(JwkError::NotP256),
        }
    }

    fn of_point(point: &[u8]) -> Result<Self, JwkError> {
        let jwk = Jwk::ec(Curve::P256, point.to_vec())?;
        Ok(Self { der: [&P256_SPKI, point].concat(), jwk })
    }

    /// The DER.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// The same key as JSON, without a name.
    #[must_use]
    pub const fn jwk(&self) -> &Jwk {
        &self.jwk
    }

    /// SHA-256 of the DER: what stands in the audit log.
    #[must_use]
    pub fn digest(&self) -> crate::ids::Digest {
        crate::encoding::sha256(&self.der)
    }

    /// Whether `signature`, in DER, is this key's over `message` with SHA-256.
    #[must_use]
    pub fn verifies_asn1(&self, message: &[u8], signature: &[u8]) -> bool {
        let point = self.der.get(P256_SPKI.len()..).unwrap_or_default();
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point).verify(message, signature).is_ok()
    }
}

/// Identifiers of keys in SubjectPublicKeyInfo (RFC 5480, RFC 8017).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// A public key by the parts of a SubjectPublicKeyInfo: algorithm, the DER of its parameters, and the bits.
pub(crate) fn public_key(algorithm: &ObjectIdentifier, parameters: Option<&[u8]>, bits: &[u8]) -> Result<Jwk, JwkError> {
    match *algorithm {
        RSA_ENCRYPTION => rsa_jwk(bits),
        EC_PUBLIC_KEY => {
            let named = parameters.and_then(|der| ObjectIdentifier::from_der(der).ok()).ok_or(JwkError::Unsupported { what: "crv" })?;
            let curve = match named {
                P256 => Curve::P256,
                P384 => Curve::P384,
                P521 => Curve::P521,
                _ => return Err(JwkError::Unsupported { what: "crv" }),
            };
            Jwk::ec(curve, bits.to_vec())
        }
        _ => Err(JwkError::Unsupported { what: "kty" }),
    }
}
