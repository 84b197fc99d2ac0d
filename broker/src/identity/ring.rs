//! The issuer's keys as one immutable set: what signs now, what is published, and the step from one set to the next.

use std::sync::Arc;

use protocol::entries::IssuerUse;
use protocol::ids::AnchorClass;
use protocol::spiffe::TrustDomain;
use protocol::time::UnixTime;
use protocol::tokens::{EcKey, Jwk, RsaKey, TokenSigner};
use zeroize::Zeroizing;

use super::IssuerError;
use super::certificates::Authority;
use super::terms::{Due, Serving, Term, signer};

/// One key of the issuer.
pub(super) struct IssuerKey {
    pub(super) usage: IssuerUse,
    pub(super) term: Term,
    material: Arc<Material>,
    kid: String,
}

/// A private key, and what is published of it.
enum Material {
    /// Signs certificates: the authority's own certificate stands beside it.
    X509 { key: EcKey, certificate: Vec<u8> },
    /// Signs tokens by ES256.
    Ec(EcKey),
    /// Signs tokens by RS256.
    Rsa(Box<RsaKey>),
}

impl IssuerKey {
    /// A fresh key.
    fn generate(usage: IssuerUse, term: Term, of: &Owner<'_>, now: UnixTime) -> Result<Self, IssuerError> {
        let material = match usage {
            IssuerUse::X509 => {
                let key = EcKey::generate()?;
                let authority = Authority { trust_domain: of.trust_domain, anchors: of.anchors, key: &key };
                let certificate = authority.certificate(now, term)?;
                Material::X509 { key, certificate }
            }
            IssuerUse::JwtEs256 | IssuerUse::Result => Material::Ec(EcKey::generate()?),
            IssuerUse::JwtRs256 => Material::Rsa(Box::new(RsaKey::generate()?)),
        };
        Ok(Self::of(usage, term, material))
    }

    /// From what was kept: the private key's PKCS#8, and the authority's certificate where it is one.
    pub(super) fn restore(usage: IssuerUse, term: Term, pkcs8: &[u8], certificate: Option<Vec<u8>>) -> Result<Self, IssuerError> {
        let material = match (usage, certificate) {
            (IssuerUse::X509, Some(certificate)) => Material::X509 { key: EcKey::from_pkcs8(pkcs8)?, certificate },
            (IssuerUse::JwtEs256 | IssuerUse::Result, None) => Material::Ec(EcKey::from_pkcs8(pkcs8)?),
            (IssuerUse::JwtRs256, None) => Material::Rsa(Box::new(RsaKey::from_pkcs8(pkcs8)?)),
            _ => return Err(IssuerError::Form("a certificate stands where none belongs, or is missing".to_owned())),
        };
        Ok(Self::of(usage, term, material))
    }

    fn of(usage: IssuerUse, term: Term, material: Material) -> Self {
        let kid = match &material {
            Material::X509 { key, .. } => key.spki().digest().to_string(),
            Material::Ec(key) => key.kid().to_owned(),
            Material::Rsa(key) => key.kid().to_owned(),
        };
        Self { usage, term, material: Arc::new(material), kid }
    }

    /// The same key, which signs until then and no longer.
    fn ended(&self, at: UnixTime) -> Self {
        let term = Term { ends: at, ..self.term };
        Self { usage: self.usage, term, material: Arc::clone(&self.material), kid: self.kid.clone() }
    }

    /// What it is known by: the RFC 7638 thumbprint of a key for tokens; of an authority the SHA-256 of its key.
    pub(super) fn kid(&self) -> &str {
        &self.kid
    }

    pub(super) fn signer(&self) -> &dyn TokenSigner {
        match &*self.material {
            Material::X509 { key, .. } | Material::Ec(key) => key,
            Material::Rsa(key) => &**key,
        }
    }

    pub(super) fn jwk(&self) -> Jwk {
        match &*self.material {
            Material::X509 { key, .. } | Material::Ec(key) => key.jwk(),
            Material::Rsa(key) => key.jwk(),
        }
    }

    pub(super) fn certificate(&self) -> Option<&Vec<u8>> {
        match &*self.material {
            Material::X509 { certificate, .. } => Some(certificate),
            Material::Ec(_) | Material::Rsa(_) => None,
        }
    }

    pub(super) fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, IssuerError> {
        Ok(match &*self.material {
            Material::X509 { key, .. } | Material::Ec(key) => key.to_pkcs8()?,
            Material::Rsa(key) => key.to_pkcs8()?,
        })
    }
}

/// Whose keys these are.
#[derive(Clone, Copy)]
pub(super) struct Owner<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) anchors: AnchorClass,
}

/// All keys, and the number of the set: it grows with every change of what is published.
#[derive(Clone, Default)]
pub(super) struct Ring {
    pub(super) sequence: u64,
    pub(super) keys: Vec<Arc<IssuerKey>>,
}

impl Ring {
    /// Every key's service.
    pub(super) fn serving(&self) -> Vec<Serving<'_>> {
        self.keys.iter().map(|key| Serving { usage: key.usage, kid: key.kid(), term: key.term }).collect()
    }

    /// The set after everything that is due was done.
    pub(super) fn after(&self, due: &[Due], of: &Owner<'_>, now: UnixTime) -> Result<Self, IssuerError> {
        let mut next = self.clone();
        for due in due {
            match due {
                Due::Create { usage, term } => next.keys.push(Arc::new(IssuerKey::generate(*usage, *term, of, now)?)),
                Due::End { kid, at } => {
                    for key in next.keys.iter_mut().filter(|key| key.kid() == kid) {
                        *key = Arc::new(key.ended(*at));
                    }
                }
                Due::Retire { kid, .. } => next.keys.retain(|key| key.kid() != kid),
            }
        }
        next.sequence = self.sequence.saturating_add(1);
        Ok(next)
    }

    /// The keys for a use, in the order in which they were made.
    pub(super) fn of(&self, usage: IssuerUse) -> impl Iterator<Item = &Arc<IssuerKey>> + Clone {
        self.keys.iter().filter(move |key| key.usage == usage)
    }

    /// The key that signs for a use.
    pub(super) fn signing(&self, usage: IssuerUse, at: UnixTime) -> Result<&IssuerKey, IssuerError> {
        signer(self.of(usage), |key| key.term, at).map(|key| &**key).ok_or(IssuerError::NoKey(usage.as_str()))
    }

    /// The authority that signs certificates, and its certificate's last second.
    pub(super) fn authority(&self, at: UnixTime) -> Result<(&EcKey, UnixTime), IssuerError> {
        let key = self.signing(IssuerUse::X509, at)?;
        match &*key.material {
            Material::X509 { key: signer, .. } => Ok((signer, key.term.ends)),
            Material::Ec(_) | Material::Rsa(_) => Err(IssuerError::NoKey(IssuerUse::X509.as_str())),
        }
    }
}
