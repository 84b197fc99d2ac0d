//! Intel's root, compiled in: the only key that TDX evidence is trusted under in a vendor installation.

use super::certificate::{self, Fault};
use super::p256::IssuerKey;
use crate::rejection::BadAnchor;
use crate::x509::{Certificate, Malformed, Window};

/// Intel's published root certificate (`https://certificates.trustedservices.intel.com/Intel_SGX_Provisioning_Certification_RootCA.cer`).
const CERTIFICATE: &[u8] = include_bytes!("intel_root.der");

/// The root of PCK chains, collateral signers and revocation lists.
pub(crate) struct IntelRoot {
    /// Contents of its `Name`.
    pub(crate) subject: Vec<u8>,
    /// Contents of its serial number's INTEGER.
    pub(crate) serial: Vec<u8>,
    /// Its `SubjectPublicKeyInfo`.
    pub(crate) spki: Vec<u8>,
    pub(super) key: IssuerKey,
    pub(crate) valid: Window,
}

impl IntelRoot {
    /// Intel's own. A test says that it is there.
    pub(crate) fn vendor() -> Option<Self> {
        Self::self_signed(CERTIFICATE).ok()
    }

    /// Reads a root of the profile: named as Intel's, self-signed, an authority with path length 1.
    pub(crate) fn self_signed(der: &[u8]) -> Result<Self, BadAnchor> {
        let root = Certificate::parse(der).map_err(|Malformed(what)| BadAnchor::IntelMalformed { what })?;
        let name = |_| BadAnchor::IntelName { found: root.common_name().to_owned() };
        certificate::named(&root, certificate::ROOT).map_err(name)?;
        certificate::named_issuer(&root, root.subject).map_err(name)?;
        let key = certificate::authority(&root, 1).map_err(|fault| {
            let what = match fault {
                Fault::NotAnAuthority => "no certificate authority",
                Fault::PathLength => "not of path length 1",
                Fault::KeyUsage => "not for signing certificates and revocation lists",
                Fault::Profile(what) => what,
                _ => "not of its profile",
            };
            BadAnchor::IntelMalformed { what }
        })?;
        certificate::signed_by(&root, &key).map_err(|_| BadAnchor::IntelSignature)?;
        let (subject, serial, spki) = (root.subject.to_vec(), root.serial.to_vec(), root.key.to_vec());
        Ok(Self { subject, serial, spki, key, valid: root.window(certificate::ROOT) })
    }

    /// Whether a certificate is this root: its name and its key, byte by byte. Whatever else it says counts for nothing.
    pub(super) fn is(&self, certificate: &Certificate<'_>) -> bool {
        certificate.subject == self.subject && certificate.key == self.spki
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::encoding::sha256;

    #[test]
    fn the_compiled_in_root_is_the_published_one() {
        assert_eq!(sha256(CERTIFICATE).to_string(), "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3");
        let root = IntelRoot::vendor().unwrap();
        assert_eq!(sha256(&root.spki).to_string(), "a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e");
        assert_eq!(root.valid.not_after.to_string(), "2049-12-31T23:59:59Z");
    }
}
