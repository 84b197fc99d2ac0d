//! What the soft hierarchy issues for a machine: certificates, chains and revocation lists.

use super::certificates::{Certificate, oid};
use super::keys;
use super::pem;
use super::platform::{Role, SoftTdx};
use super::revocation::RevocationList;
use crate::der;
use crate::x509::{Extension, SignatureState, Window, authority_key_value};

impl SoftTdx {
    /// This role's certificate with a change made before it is signed.
    #[must_use]
    pub fn certificate_with(&self, role: Role, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        let mut certificate = self.certificate(role);
        change(&mut certificate);
        certificate.der()
    }

    /// This role's certificate, DER.
    #[must_use]
    pub fn certificate_der(&self, role: Role) -> Vec<u8> {
        self.certificate_with(role, |_| ())
    }

    /// The root's certificate, self-signed, DER.
    #[must_use]
    pub fn root_der(&self) -> Vec<u8> {
        self.certificate_der(Role::Root)
    }

    /// The certificate of this machine's PCK authority, DER.
    #[must_use]
    pub fn pck_authority_der(&self) -> Vec<u8> {
        self.pck_authority_with(|_| ())
    }

    /// The certificate of this machine's PCK authority with a change made before it is signed.
    #[must_use]
    pub fn pck_authority_with(&self, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        self.certificate_with(Role::PckAuthority(self.authority), change)
    }

    /// The PCK certificate, DER.
    #[must_use]
    pub fn pck_der(&self) -> Vec<u8> {
        self.pck_with(|_| ())
    }

    /// The PCK certificate with a change made before it is signed.
    #[must_use]
    pub fn pck_with(&self, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        self.certificate_with(Role::Pck, change)
    }

    /// The TCB signer's certificate, DER.
    #[must_use]
    pub fn tcb_signer_der(&self) -> Vec<u8> {
        self.tcb_signer_with(|_| ())
    }

    /// The TCB signer's certificate with a change made before it is signed.
    #[must_use]
    pub fn tcb_signer_with(&self, change: impl FnOnce(&mut Certificate)) -> Vec<u8> {
        self.certificate_with(Role::TcbSigner, change)
    }

    /// PCK certificate, its authority, root: what a quote carries, DER, in this order.
    #[must_use]
    pub fn pck_chain(&self) -> Vec<Vec<u8>> {
        vec![self.pck_der(), self.pck_authority_der(), self.root_der()]
    }

    /// TCB signer and root, PEM: the issuer chain of TCB info and QE identity.
    #[must_use]
    pub fn tcb_issuer_chain(&self) -> String {
        pem::chain(&[self.tcb_signer_der(), self.root_der()])
    }

    /// PCK authority and root, PEM: the issuer chain of that authority's list.
    #[must_use]
    pub fn pck_list_issuer_chain(&self) -> String {
        pem::chain(&[self.pck_authority_der(), self.root_der()])
    }

    /// The root's revocation list with these serial numbers, DER.
    #[must_use]
    pub fn root_list_der(&self, serials: &[Vec<u8>]) -> Vec<u8> {
        self.root_list_with(|list| serials.iter().for_each(|serial| list.revoke(serial)))
    }

    /// The root's empty revocation list with a change made before it is signed.
    #[must_use]
    pub fn root_list_with(&self, change: impl FnOnce(&mut RevocationList)) -> Vec<u8> {
        self.list_with(Role::Root, self.validity.root_list, change)
    }

    /// The revocation list of this machine's PCK authority with these serial numbers, DER.
    #[must_use]
    pub fn pck_list_der(&self, serials: &[Vec<u8>]) -> Vec<u8> {
        self.pck_list_with(|list| serials.iter().for_each(|serial| list.revoke(serial)))
    }

    /// The empty revocation list of this machine's PCK authority with a change made before it is signed.
    #[must_use]
    pub fn pck_list_with(&self, change: impl FnOnce(&mut RevocationList)) -> Vec<u8> {
        self.list_with(Role::PckAuthority(self.authority), self.validity.pck_list, change)
    }

    fn list_with(&self, role: Role, valid: Window, change: impl FnOnce(&mut RevocationList)) -> Vec<u8> {
        let signer = self.key(role);
        let mut list = RevocationList {
            version: Some(1),
            issuer: self.name(role),
            this_update: valid.not_before,
            next_update: Some(valid.not_after),
            revoked: Vec::new(),
            extensions: vec![
                Extension::new(oid::CRL_NUMBER, der::integer(1)),
                Extension::new(oid::AUTHORITY_KEY, authority_key_value(&keys::key_identifier(&signer))),
            ],
            inner_algorithm: None,
            outer_algorithm: None,
            signer,
            signature: SignatureState::Genuine,
        };
        change(&mut list);
        list.der()
    }
}
