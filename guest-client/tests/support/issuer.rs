//! A trust domain in miniature: a CA, keys of tokens, and the bundle of both.

use std::collections::BTreeMap;
use std::time::Duration;

use guest_client::identity::bundles::Bundles;
use protocol::encoding::sha256;
use protocol::entries::Issued;
use protocol::ids::{AnchorClass, Digest, RequestId};
use protocol::keys::PublicKey;
use protocol::messages::{Identified, Item, ItemOutcome, JwtSvid, Purpose, Reason, ReleaseRequest, Secret, X509Svid};
use protocol::spiffe::{Bundle, SpiffeId, TrustDomain};
use protocol::time::UnixTime;
use protocol::tokens::result::{Appraisal, Binding, CPU, EarClaims, Vector, VerifierId};
use protocol::tokens::{EcKey, JwtSvidClaims, RsaKey, TokenSigner};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PublicKeyData, SanType, SerialNumber, SignatureAlgorithm,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{Forged, Mischief, STRANGER, now};

/// What certificates and tokens are issued by.
pub struct Authority {
    pub trust_domain: TrustDomain,
    pub sequence: u64,
    key: KeyPair,
    ca: Vec<u8>,
    params: CertificateParams,
    pub es256: EcKey,
    pub rs256: RsaKey,
}

/// What a test changes in a certificate.
#[derive(Clone)]
pub struct Leaf {
    pub names: Vec<String>,
    pub not_before: UnixTime,
    pub not_after: UnixTime,
    pub usages: Vec<ExtendedKeyUsagePurpose>,
    pub ca: IsCa,
}

/// A public key that somebody else holds.
struct Spki<'a>(&'a [u8]);

impl PublicKeyData for Spki<'_> {
    fn der_bytes(&self) -> &[u8] {
        // Behind the part that all such keys have in common.
        &self.0[26..]
    }
    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn date(time: UnixTime) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(i64::try_from(time.seconds()).unwrap()).unwrap()
}

impl Authority {
    pub fn new(trust_domain: &str) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into().unwrap())];
        (params.not_before, params.not_after) = (date(earlier(3600)), date(now().plus(Duration::from_secs(365 * 86_400))));
        let ca = params.self_signed(&key).unwrap().der().to_vec();
        let (es256, rs256) = (EcKey::generate().unwrap(), RsaKey::generate().unwrap());
        Self { trust_domain: trust_domain.parse().unwrap(), sequence: 1, key, ca, params, es256, rs256 }
    }

    pub fn bundle(&self) -> Bundle {
        let keys = vec![self.es256.jwk(), self.rs256.jwk()];
        Bundle::new(self.trust_domain.clone(), self.sequence, Duration::from_secs(300), vec![self.ca.clone()], keys).unwrap()
    }

    /// A certificate as a broker issues it.
    pub fn certify(&self, spki: &[u8], id: &SpiffeId, lifetime: Duration) -> X509Svid {
        self.certify_as(spki, &Leaf::of(id, lifetime))
    }

    /// A certificate with something changed.
    pub fn certify_as(&self, spki: &[u8], leaf: &Leaf) -> X509Svid {
        let serial = RequestId::random().unwrap();
        let mut params = CertificateParams::default();
        // Positive, and without a leading zero.
        let mut bytes = serial.as_bytes().to_vec();
        bytes[0] = bytes[0] & 0x7f | 0x40;
        params.serial_number = Some(SerialNumber::from_slice(&bytes));
        params.subject_alt_names = leaf.names.iter().map(|name| SanType::URI(name.as_str().try_into().unwrap())).collect();
        params.is_ca = leaf.ca;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = leaf.usages.clone();
        params.use_authority_key_identifier_extension = true;
        (params.not_before, params.not_after) = (date(leaf.not_before), date(leaf.not_after));
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&Spki(spki), &issuer).unwrap();
        let serial = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        X509Svid { certificates: vec![certificate.der().to_vec()], serial, not_after: leaf.not_after }
    }

    /// A token as a broker issues it.
    pub fn token(&self, id: &SpiffeId, audience: &str, lifetime: Duration) -> JwtSvid {
        self.token_by(&self.es256, id, audience, lifetime)
    }

    pub fn token_by(&self, key: &dyn TokenSigner, id: &SpiffeId, audience: &str, lifetime: Duration) -> JwtSvid {
        let (iat, jti) = (now(), RequestId::random().unwrap().to_string());
        let exp = iat.plus(lifetime);
        let claims =
            JwtSvidClaims { iss: None, sub: id.clone(), aud: vec![audience.into()], iat, nbf: None, exp, jti: jti.clone(), anchors: None };
        let token = Secret::new(Zeroizing::new(claims.sign(key).unwrap().into_bytes()));
        JwtSvid { audience: audience.into(), token, jti, expires: exp }
    }

    /// An attestation result as a broker issues it.
    pub fn result(&self, id: &SpiffeId, audience: &str, key: PublicKey) -> String {
        let claims = EarClaims {
            iss: self.trust_domain.id(),
            sub: Some(id.uri()),
            aud: audience.into(),
            iat: now(),
            exp: now().plus(Duration::from_secs(300)),
            jti: RequestId::random().unwrap().to_string(),
            nonce: None,
            verifier: VerifierId::this(),
            submods: BTreeMap::from([(CPU.to_owned(), Appraisal::new(Vector::default(), None))]),
            key,
            anchors: AnchorClass::Test,
        };
        claims.sign(&self.es256).unwrap()
    }

    /// An answer without anything in it but bundles.
    pub fn identified(&self, item: Item, id: &SpiffeId, federated: &[&Self]) -> Identified {
        Identified {
            item,
            spiffe_id: id.clone(),
            expires: now().plus(Duration::from_secs(3600)),
            x509: None,
            jwt: Vec::new(),
            result: None,
            bundle: self.bundle().to_json(),
            federated: federated.iter().map(|other| (other.trust_domain.clone(), other.bundle().to_json())).collect(),
        }
    }

    pub fn bundles(&self, id: &SpiffeId, federated: &[&Self]) -> Bundles {
        Bundles::read(&self.identified(super::identity("a"), id, federated)).unwrap()
    }
}

impl Leaf {
    pub fn of(id: &SpiffeId, lifetime: Duration) -> Self {
        Self {
            names: vec![id.uri()],
            not_before: earlier(60),
            not_after: now().plus(lifetime),
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
            ca: IsCa::ExplicitNoCa,
        }
    }
}

pub fn earlier(seconds: u64) -> UnixTime {
    UnixTime::from_seconds(now().seconds() - seconds)
}

/// What the broker in miniature answers about an identity.
pub fn outcome(
    issuer: &(Authority, SpiffeId),
    item: &Item,
    request: &ReleaseRequest,
    forged: Option<Forged>,
    refused: &[String],
) -> ItemOutcome {
    let (authority, id) = issuer;
    let ask = request.identity.as_ref().unwrap();
    if request.purpose == Purpose::Check {
        return ItemOutcome::Permitted { item: item.clone(), expires: now().plus(Duration::from_secs(3600)) };
    }
    let refusal = |code: &str, found: &str| {
        let reason = Reason { code: code.into(), found: found.into(), hint: String::new() };
        ItemOutcome::Refused { item: item.clone(), reasons: vec![reason] }
    };
    if let Some(audience) = ask.jwt_audiences.iter().find(|audience| refused.contains(audience)) {
        return refusal("identity-audience", audience);
    }
    if let Some(key) = &ask.x509
        && key.check(&request.installation, &request.request, &request.signing_key).is_err()
    {
        return refusal("identity-key", "not proven");
    }
    let mut item = item.clone();
    if forged == Some(Forged::Versioned) {
        item.version = Some(protocol::ids::Version::FIRST);
    }
    let mut identified = authority.identified(item, id, &[]);
    identified.x509 = ask.x509.as_ref().and_then(|key| certificate(issuer, &key.public_key, forged));
    identified.jwt = ask.jwt_audiences.iter().filter_map(|audience| token(issuer, audience, forged)).collect();
    identified.result = ask.result_audience.as_ref().map(|audience| result(issuer, audience, request.signing_key, forged));
    match forged {
        Some(Forged::Unasked) if ask.x509.is_none() => {
            let key = EcKey::generate().unwrap();
            identified.x509 = Some(authority.certify(key.spki().as_der(), id, Duration::from_secs(60)));
        }
        Some(Forged::OtherBundle) => identified.bundle = Authority::new("acme.example").bundle().to_json(),
        Some(Forged::OwnFederated) => drop(identified.federated.insert(authority.trust_domain.clone(), identified.bundle.clone())),
        Some(Forged::NoBundle) => identified.bundle = "{\"keys\":[]}".into(),
        _ => {}
    }
    ItemOutcome::Identified(Box::new(identified))
}

fn certificate((authority, id): &(Authority, SpiffeId), spki: &[u8], forged: Option<Forged>) -> Option<X509Svid> {
    let mut leaf = Leaf::of(id, Duration::from_secs(600));
    let stranger = EcKey::generate().unwrap();
    let (mut by, mut spki) = (None, spki);
    match forged {
        Some(Forged::NoCertificate) => return None,
        Some(Forged::OtherKey) => spki = stranger.spki().as_der(),
        Some(Forged::TwoNames) => leaf.names.push("spiffe://acme.example/another".into()),
        Some(Forged::OtherName) => leaf.names = vec!["spiffe://acme.example/another".into()],
        Some(Forged::Authority) => leaf.ca = IsCa::Ca(BasicConstraints::Unconstrained),
        Some(Forged::Future) => leaf.not_before = now().plus(Duration::from_secs(300)),
        Some(Forged::OnlyClient) => leaf.usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        Some(Forged::OtherAuthority) => by = Some(Authority::new("acme.example")),
        _ => {}
    }
    let mut svid = by.as_ref().unwrap_or(authority).certify_as(spki, &leaf);
    match forged {
        Some(Forged::OtherSerial) => svid.serial = format!("01{}", &svid.serial[2..]),
        Some(Forged::Shorter) => svid.not_after = svid.not_after.plus(Duration::from_secs(600)),
        _ => {}
    }
    Some(svid)
}

fn token((authority, id): &(Authority, SpiffeId), audience: &str, forged: Option<Forged>) -> Option<JwtSvid> {
    let lifetime = Duration::from_secs(300);
    let other: SpiffeId = "spiffe://acme.example/another".parse().unwrap();
    Some(match forged {
        Some(Forged::NoToken) => return None,
        Some(Forged::OtherAudience) => authority.token(id, "another", lifetime),
        Some(Forged::MisnamedAudience) => JwtSvid { audience: audience.into(), ..authority.token(id, "another", lifetime) },
        Some(Forged::OtherSubject) => authority.token(&other, audience, lifetime),
        Some(Forged::OtherSigner) => Authority::new("acme.example").token(id, audience, lifetime),
        _ => authority.token(id, audience, lifetime),
    })
}

fn result((authority, id): &(Authority, SpiffeId), audience: &str, key: PublicKey, forged: Option<Forged>) -> String {
    match forged {
        Some(Forged::ResultSubject) => authority.result(&"spiffe://acme.example/another".parse().unwrap(), audience, key),
        Some(Forged::ResultAudience) => authority.result(id, "another", key),
        Some(Forged::ResultKey) => authority.result(id, audience, *STRANGER.key().public()),
        Some(Forged::ResultType) => {
            String::from_utf8(authority.token(id, audience, Duration::from_secs(300)).token.expose().to_vec()).unwrap()
        }
        _ => authority.result(id, audience, key),
    }
}

/// What stands in the log about it.
pub fn issued(identified: &Identified, mischief: Mischief) -> Option<Issued> {
    let key = |x509: &X509Svid| {
        let der = CertificateDer::from(x509.certificates[0].as_slice());
        sha256(webpki::EndEntityCert::try_from(&der).unwrap().subject_public_key_info().as_ref())
    };
    let mut issued = Issued {
        spiffe_id: identified.spiffe_id.clone(),
        x509_serial: identified.x509.as_ref().map(|x509| x509.serial.clone()),
        x509_key: identified.x509.as_ref().map(key),
        jti: identified.jwt.iter().map(|token| token.jti.clone()).collect(),
    };
    let result = identified.result.as_deref().and_then(|result| Binding::unverified(result).ok());
    issued.jti.extend(result.and_then(|result| result.number().map(str::to_owned)));
    match mischief {
        Mischief::Identity(Forged::LogNothing) => return None,
        Mischief::Identity(Forged::LogName) => issued.spiffe_id = "spiffe://acme.example/another".parse().unwrap(),
        Mischief::Identity(Forged::LogSerial) => issued.x509_serial = Some("1234".into()),
        Mischief::Identity(Forged::LogKey) => issued.x509_key = Some(Digest::from([0; 32])),
        Mischief::Identity(Forged::LogJti) => issued.jti = vec!["another".into()],
        Mischief::Identity(Forged::LogLacksResult) => drop(issued.jti.pop()),
        Mischief::Identity(Forged::LogMore) => issued.jti.push("another".into()),
        _ => {}
    }
    Some(issued)
}
