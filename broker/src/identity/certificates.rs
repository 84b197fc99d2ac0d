//! The trust domain's certificates: its authority, and the X.509-SVIDs that it signs (SPIFFE X509-SVID: exactly one URI, the SPIFFE ID;
//! a leaf signs nothing; an authority has a path of no further authority).

use std::time::Duration;

use protocol::ids::AnchorClass;
use protocol::spiffe::TrustDomain;
use protocol::time::UnixTime;
use protocol::tokens::{EcKey, P256Spki};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber, SignatureAlgorithm, SigningKey,
};
use time::OffsetDateTime;

use super::IssuerError;
use super::assigned::{AssignedCertificate, Serial};
use super::terms::Term;

/// How far back a leaf's validity begins: clocks of whoever checks it need not agree with this one.
const BACK: Duration = Duration::from_secs(60);

/// How far back an authority's begins: no leaf's lies before it.
const AUTHORITY_BACK: Duration = Duration::from_secs(3600);

/// Bytes of the point in a P-256 key's SubjectPublicKeyInfo, which ends with it.
const POINT: usize = 65;

/// A public key on P-256, as rcgen wants to see it.
struct Public<'a>(&'a P256Spki);

impl PublicKeyData for Public<'_> {
    fn der_bytes(&self) -> &[u8] {
        let der = self.0.as_der();
        der.get(der.len().saturating_sub(POINT)..).unwrap_or_default()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// The authority's key, as rcgen wants to sign with it.
struct Private<'a>(&'a EcKey);

impl PublicKeyData for Private<'_> {
    fn der_bytes(&self) -> &[u8] {
        let der = self.0.spki().as_der();
        der.get(der.len().saturating_sub(POINT)..).unwrap_or_default()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for Private<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign_asn1(message).map_err(|_| rcgen::Error::RemoteKeyError)
    }
}

/// Whose certificates these are.
#[derive(Clone, Copy)]
pub(super) struct Authority<'a> {
    pub(super) trust_domain: &'a TrustDomain,
    pub(super) anchors: AnchorClass,
    pub(super) key: &'a EcKey,
}

impl Authority<'_> {
    /// The authority's own certificate, for as long as its key may sign.
    pub(super) fn certificate(&self, published: UnixTime, term: Term) -> Result<Vec<u8>, IssuerError> {
        let serial = Serial::draw()?;
        let mut params = self.params("authority", &self.trust_domain.id(), &serial, (back(published, AUTHORITY_BACK), term.ends))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Ok(der(&params.self_signed(&Private(self.key))?))
    }

    /// A leaf for the guest's key, from a minute ago until `not_after`.
    pub(super) fn leaf(&self, id: &str, asked: &AssignedCertificate, at: UnixTime, not_after: UnixTime) -> Result<Vec<u8>, IssuerError> {
        let mut params = self.params("workload", id, &asked.serial, (back(at, BACK), not_after))?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let mut of_authority = CertificateParams::default();
        of_authority.distinguished_name = self.name("authority");
        let issuer = Issuer::from_params(&of_authority, Private(self.key));
        Ok(der(&params.signed_by(&Public(&asked.key), &issuer)?))
    }

    /// What both have in common.
    fn params(
        &self,
        role: &str,
        uri: &str,
        serial: &Serial,
        (from, until): (UnixTime, UnixTime),
    ) -> Result<CertificateParams, IssuerError> {
        let mut params = CertificateParams::default();
        params.not_before = date(from)?;
        params.not_after = date(until)?;
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.distinguished_name = self.name(role);
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    /// Names are for people: who somebody is stands in the URI alone. The class of roots is there, so that a test installation's
    /// certificate never looks like another's.
    fn name(&self, role: &str) -> DistinguishedName {
        let mut name = DistinguishedName::new();
        name.push(DnType::OrganizationName, "Portcullis");
        name.push(DnType::OrganizationalUnitName, format!("anchors: {}", self.anchors));
        name.push(DnType::CommonName, role);
        name
    }
}

fn back(at: UnixTime, by: Duration) -> UnixTime {
    UnixTime::from_seconds(at.seconds().saturating_sub(by.as_secs()))
}

fn date(at: UnixTime) -> Result<OffsetDateTime, IssuerError> {
    let seconds = i64::try_from(at.seconds()).map_err(|_| IssuerError::Time(at))?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| IssuerError::Time(at))
}

fn der(certificate: &Certificate) -> Vec<u8> {
    certificate.der().to_vec()
}
