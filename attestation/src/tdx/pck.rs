//! From the PCK certificate to the pinned root, and what Intel revoked: steps 2 and 3. What passed can be kept and used again, under the
//! same anchors and lists and for the same bytes only, and at any time within its windows.

use protocol::encoding::{Fields, sha256};
use protocol::time::UnixTime;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::certificate::{self, PCK, PLATFORM_CA, PROCESSOR_CA};
use super::collateral::Prepared;
use super::p256::{IssuerKey, SignerKey};
use super::rejection::TdxRejection;
use super::root::IntelRoot;
use super::sgx_extension;
use crate::anchors::Anchors;
use crate::chains::ChainKey;
use crate::claims::{PckAuthority, PckClaims, Revocation};
use crate::collateral::Lapsed;
use crate::steps::Steps;
use crate::x509::crl::{self, ListWindow};
use crate::x509::{Certificate, Malformed, Window, serial_text};

/// What the two upper certificates of a chain are called in rejections.
const AUTHORITY: &str = "PCK authority's certificate";
const ROOT: &str = "root certificate of the PCK chain";
const LEAF: &str = "PCK certificate";

impl ChainKey {
    /// The key of a PCK chain: the anchors, the chain as received, and the revocation lists at hand.
    pub(super) fn of_pck(anchors: &Anchors, chain: &[u8], prepared: &Prepared) -> Self {
        let fields = Fields::new("portcullis/tdx-pck-chain/v1");
        Self::new(&fields.field(anchors.digest()).field(sha256(chain)).field(prepared.digest))
    }
}

/// A PCK authority that the root issued: name and signature verified, revocation and time not.
pub(super) struct Authority {
    der: Vec<u8>,
    /// Contents of its `Name`.
    pub(super) subject: Vec<u8>,
    /// Its `SubjectPublicKeyInfo`.
    pub(super) spki: Vec<u8>,
    pub(super) key: IssuerKey,
}

/// The PCK authorities among certificates. Others are no use, and left out.
pub(super) fn authorities(certificates: &[Vec<u8>], root: &IntelRoot) -> Vec<Authority> {
    let mut found: Vec<Authority> = Vec::new();
    for der in certificates {
        if found.iter().any(|earlier| earlier.der == *der) {
            continue;
        }
        let Ok(certificate) = Certificate::parse(der) else { continue };
        let Ok((_, key)) = issued_authority(&certificate, root, AUTHORITY) else { continue };
        found.push(Authority { der: der.clone(), subject: certificate.subject.to_vec(), spki: certificate.key.to_vec(), key });
    }
    found
}

/// Which PCK authority a certificate is, and its key, once the root has issued it. `name`: what it is called in rejections.
pub(super) fn issued_authority(
    certificate: &Certificate<'_>,
    root: &IntelRoot,
    name: &'static str,
) -> Result<(PckAuthority, IssuerKey), TdxRejection> {
    let found = certificate.common_name();
    let kind = authority_named(found).ok_or_else(|| TdxRejection::CertificateName { certificate: name, found: found.to_owned() })?;
    let key = certificate::authority(certificate, 0).map_err(|fault| fault.of_chain(name))?;
    certificate::issued_by(certificate, &root.subject, &root.key).map_err(|fault| fault.of_chain(name))?;
    Ok((kind, key))
}

/// The authority of a common name, which is exact.
pub(super) fn authority_named(name: &str) -> Option<PckAuthority> {
    match name {
        PLATFORM_CA => Some(PckAuthority::Platform),
        PROCESSOR_CA => Some(PckAuthority::Processor),
        _ => None,
    }
}

/// What the two lists say that could name a certificate of the chain.
#[derive(Clone, Copy)]
pub(super) struct Revocations {
    /// The root's: of PCK authorities and signers of collateral.
    pub(super) root: Revocation,
    /// The PCK authority's: of PCK certificates.
    pub(super) pck: Revocation,
}

/// A PCK certificate whose chain ends in the pinned root and of which nothing is revoked.
pub(crate) struct PckChain {
    cache_key: ChainKey,
    pub(super) claims: PckClaims,
    pub(super) key: SignerKey,
    /// Of the leaf, its issuer and the root.
    windows: [Window; 3],
    root_lists: Vec<ListWindow>,
    pck_lists: Vec<ListWindow>,
}

impl PckChain {
    /// Whether this answers the question of `key` at a time: it was established for that key, and every certificate is valid.
    pub(super) fn answers(&self, key: &ChainKey, at: UnixTime) -> bool {
        self.cache_key == *key && self.windows.iter().all(|window| window.check(at).is_ok())
    }

    /// What is known of revocation at a time. Where nobody has a policy on it, both lists have to be in force.
    pub(super) fn revocation(&self, lapsed: Lapsed, at: UnixTime) -> Result<Revocations, TdxRejection> {
        let issuer = match self.claims.authority {
            PckAuthority::Platform => PLATFORM_CA,
            PckAuthority::Processor => PROCESSOR_CA,
        };
        let found = Revocations { root: crl::status(&self.root_lists, at), pck: crl::status(&self.pck_lists, at) };
        for (issuer, status) in [(certificate::ROOT, found.root), (issuer, found.pck)] {
            match (lapsed, status) {
                (Lapsed::Rejected, Revocation::Unknown) => return Err(TdxRejection::CrlMissing { issuer, at }),
                (Lapsed::Rejected, Revocation::Stale { next_update, .. }) => {
                    return Err(TdxRejection::CrlLapsed { issuer, next_update, at });
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// Steps 2 and 3 in order.
    pub(super) fn establish(
        pem: &[u8],
        root: &IntelRoot,
        prepared: &Prepared,
        cache_key: ChainKey,
        at: UnixTime,
        steps: &mut Steps,
    ) -> Result<Self, TdxRejection> {
        // 2. PCK certificate chain: leaf, PCK authority, pinned root, each of its exact name and profile, signed by the next, valid.
        let certificates = split(pem)?;
        let [leaf, authority, last] = certificates.as_slice() else {
            return Err(TdxRejection::PckChainCount { found: certificates.len() });
        };
        let (leaf, authority, last) = (parse(leaf, LEAF)?, parse(authority, AUTHORITY)?, parse(last, ROOT)?);
        if !root.is(&last) {
            return Err(TdxRejection::RootMismatch {});
        }
        let kind = authority_named(authority.common_name())
            .ok_or_else(|| TdxRejection::CertificateName { certificate: AUTHORITY, found: authority.common_name().to_owned() })?;
        let authority_key = certificate::authority(&authority, 0).map_err(|fault| fault.of_chain(AUTHORITY))?;
        certificate::named_issuer(&authority, &root.subject).map_err(|fault| fault.of_chain(AUTHORITY))?;
        if !prepared.authorities.iter().any(|verified| verified.der == authority.der) {
            certificate::signed_by(&authority, &root.key).map_err(|fault| fault.of_chain(AUTHORITY))?;
        }
        certificate::named(&leaf, PCK).map_err(|fault| fault.of_chain(LEAF))?;
        let key = certificate::end_entity(&leaf).map_err(|fault| fault.of_chain(LEAF))?;
        certificate::issued_by(&leaf, authority.subject, &authority_key).map_err(|fault| fault.of_chain(LEAF))?;
        let windows = [leaf.window(LEAF), authority.window(AUTHORITY), root.valid];
        windows.iter().try_for_each(|window| window.check(at))?;
        let claims = sgx_extension::read(&leaf, kind)?;
        steps.passed(2, || {
            let until = windows.iter().map(|window| window.not_after).min().unwrap_or(at);
            format!("{PCK} by {} by the pinned root, valid at {at} and until {until}", authority.common_name())
        });

        // 3. Revocation: no list of the root names the root itself or the authority, no list of the authority names the leaf.
        let lists = &prepared.lists;
        lists.check()?;
        if lists.root_names(&root.serial) {
            return Err(TdxRejection::RootRevoked { serial: serial_text(&root.serial) });
        }
        if lists.root_names(authority.serial) {
            return Err(TdxRejection::AuthorityRevoked { authority: kind, serial: serial_text(authority.serial) });
        }
        let (named, pck_lists) = lists.of_authority(&authority, &authority_key, leaf.serial)?;
        if named {
            return Err(TdxRejection::PckRevoked { authority: kind, serial: serial_text(leaf.serial) });
        }
        Ok(Self { cache_key, claims, key, windows, root_lists: lists.root_windows(), pck_lists })
    }
}

/// The certificates of a chain in PEM. It may end in NUL bytes, as text in C does.
fn split(pem: &[u8]) -> Result<Vec<CertificateDer<'_>>, TdxRejection> {
    let end = pem.iter().rposition(|byte| *byte != 0).map_or(0, |last| last.saturating_add(1));
    let text = pem.get(..end).unwrap_or_default();
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    certificates.map_err(|_| TdxRejection::PckChainMalformed { what: "no PEM of certificates" })
}

fn parse<'a>(der: &'a CertificateDer<'_>, certificate: &'static str) -> Result<Certificate<'a>, TdxRejection> {
    Certificate::parse(der).map_err(|Malformed(what)| TdxRejection::CertificateMalformed { certificate, what })
}
