//! Revocation lists: AMD publishes one per line, signed by the ARK, naming revoked ASKs and ASVKs (AMD 57230, section 4.4).

use super::pss;
use super::roots::Root;
use crate::anchors::Anchors;
use crate::claims::{ProductLine, SigningKeyKind};
use crate::rejection::Rejection;
use crate::x509::crl::{ListWindow, RevocationList};
use crate::x509::{Malformed, common_name, serial_text};

/// That a list of the collateral is a root's in force, signed by it. Whoever it is not of, it does no harm to others.
pub(super) fn check(index: usize, bytes: &[u8], anchors: &Anchors) -> Result<(), Rejection> {
    let list = read(index, bytes)?;
    match anchors.root_named(list.issuer) {
        Some(issuer) => signed(index, &list, issuer),
        None => Err(Rejection::CrlIssuer { index, found: common_name(list.issuer).unwrap_or_default().to_owned() }),
    }
}

fn read(index: usize, bytes: &[u8]) -> Result<RevocationList<'_>, Rejection> {
    RevocationList::parse(bytes).map_err(|Malformed(what)| Rejection::CrlMalformed { index, what })
}

fn signed(index: usize, list: &RevocationList<'_>, root: &Root) -> Result<(), Rejection> {
    if pss::is_signed_by(&list.signed, &root.key) { Ok(()) } else { Err(Rejection::CrlSignature { index, line: root.line }) }
}

/// The lists that one root signed, verified.
pub(super) struct Lists<'a>(Vec<RevocationList<'a>>);

impl<'a> Lists<'a> {
    /// Takes the lists that `root` signed. One of the collateral that is ill-formed, or bears the root's name and not its signature, is
    /// refused by its place; one that bears another name could revoke nothing here and is left alone, whether that root is in force or
    /// not; one that the attester brought is dropped where it is no use.
    pub(super) fn verify(brought: &'a [Vec<u8>], collateral: &'a [Vec<u8>], root: &Root) -> Result<Self, Rejection> {
        let mut lists = Vec::new();
        for (index, bytes) in collateral.iter().enumerate() {
            let list = read(index, bytes)?;
            if list.issuer != root.subject {
                continue;
            }
            signed(index, &list, root)?;
            lists.push(list);
        }
        for bytes in brought {
            let Ok(list) = RevocationList::parse(bytes) else { continue };
            if list.issuer == root.subject && pss::is_signed_by(&list.signed, &root.key) {
                lists.push(list);
            }
        }
        Ok(Self(lists))
    }

    /// That no list, however old, names an authority.
    pub(super) fn check_authority(&self, line: ProductLine, subject: &str, serial: &[u8]) -> Result<(), Rejection> {
        match self.0.iter().any(|list| list.names(serial)) {
            true => Err(Rejection::AuthorityRevoked { line, subject: subject.to_owned(), serial: serial_text(serial) }),
            false => Ok(()),
        }
    }

    /// That no list names a leaf. Serial number 0 names nobody: every VCEK has it.
    pub(super) fn check_leaf(&self, line: ProductLine, kind: SigningKeyKind, serial: &[u8]) -> Result<(), Rejection> {
        match serial != [0] && self.0.iter().any(|list| list.names(serial)) {
            true => Err(Rejection::LeafRevoked { line, kind, serial: serial_text(serial) }),
            false => Ok(()),
        }
    }

    /// From when to when each list is in force.
    pub(super) fn windows(&self) -> Vec<ListWindow> {
        self.0.iter().map(RevocationList::window).collect()
    }
}
