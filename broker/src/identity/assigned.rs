//! What a permitted guest is to be given: drawn by the decision, written into the log, and only then signed.

use std::time::Duration;

use policies::{Audience, IdentityRules};
use protocol::entries::Issued;
use protocol::ids::{NoRandomness, random_bytes};
use protocol::messages::IdentityAsk;
use protocol::spiffe::SpiffeId;
use protocol::tokens::P256Spki;

use crate::collateral::hex;

/// The identity of one guest, before anything of it is signed.
pub(crate) struct Assigned {
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) x509: Option<AssignedCertificate>,
    pub(crate) jwt: Vec<AssignedToken>,
    pub(crate) result: Option<AssignedResult>,
}

/// A certificate to be.
pub(crate) struct AssignedCertificate {
    /// The guest's own key, whose possession it has proven.
    pub(crate) key: P256Spki,
    pub(crate) serial: Serial,
    /// The most that it lives.
    pub(crate) life: Duration,
}

/// A JWT-SVID to be.
pub(crate) struct AssignedToken {
    pub(crate) audience: String,
    /// Which decides about the key and the issuer.
    pub(crate) kind: Audience,
    pub(crate) jti: String,
    pub(crate) life: Duration,
}

/// An attestation result to be.
pub(crate) struct AssignedResult {
    pub(crate) audience: String,
    pub(crate) jti: String,
    pub(crate) life: Duration,
}

/// A certificate's serial number: 20 bytes, positive and of full length (RFC 5280, 4.1.2.2), of which 158 bits are random.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Serial([u8; 20]);

impl Serial {
    pub(crate) fn draw() -> Result<Self, NoRandomness> {
        let mut bytes: [u8; 20] = random_bytes()?;
        let [first, ..] = &mut bytes;
        *first = (*first & 0x3f) | 0x40;
        Ok(Self(bytes))
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }

    pub(crate) fn to_hex(self) -> String {
        hex(&self.0)
    }
}

/// 128 random bits.
fn jti() -> Result<String, NoRandomness> {
    random_bytes::<16>().map(|bytes| hex(&bytes))
}

impl Assigned {
    /// Draws serial number and token ids for what was asked and is permitted.
    pub(crate) fn draw(spiffe_id: SpiffeId, key: Option<P256Spki>, ask: &IdentityAsk, rules: &IdentityRules) -> Result<Self, NoRandomness> {
        let x509 =
            key.map(|key| Serial::draw().map(|serial| AssignedCertificate { key, serial, life: rules.x509_lifetime() })).transpose()?;
        let token = |audience: &String| {
            let kind = rules.jwt_audience(audience)?;
            Some(jti().map(|jti| AssignedToken { audience: audience.clone(), kind, jti, life: rules.jwt_lifetime() }))
        };
        let jwt = ask.jwt_audiences.iter().filter_map(token).collect::<Result<_, _>>()?;
        let result = |audience: &String| jti().map(|jti| AssignedResult { audience: audience.clone(), jti, life: rules.jwt_lifetime() });
        let result = ask.result_audience.as_ref().map(result).transpose()?;
        Ok(Self { spiffe_id, x509, jwt, result })
    }

    /// What the log says of it.
    pub(crate) fn to_issued(&self) -> Issued {
        let tokens = self.jwt.iter().map(|token| &token.jti).chain(self.result.iter().map(|result| &result.jti));
        Issued {
            spiffe_id: self.spiffe_id.clone(),
            x509_serial: self.x509.as_ref().map(|certificate| certificate.serial.to_hex()),
            x509_key: self.x509.as_ref().map(|certificate| certificate.key.digest()),
            jti: tokens.cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_is_positive_and_has_20_bytes() {
        for _ in 0..64 {
            let serial = Serial::draw().unwrap();
            assert!((0x40..0x80).contains(&serial.as_bytes()[0]));
            assert_eq!(serial.to_hex().len(), 40);
        }
    }
}
