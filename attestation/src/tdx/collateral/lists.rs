//! Intel's revocation lists: the root's, which can name PCK authorities and signers of collateral, and one of each PCK authority, which
//! can name PCK certificates.

use crate::claims::PckAuthority;
use crate::collateral::{TdxPiece, TdxPieceKind, TdxSignature};
use crate::tdx::certificate::{PLATFORM_CA, PROCESSOR_CA};
use crate::tdx::p256::IssuerKey;
use crate::tdx::pck::{Authority, authority_named};
use crate::tdx::rejection::TdxRejection;
use crate::tdx::root::IntelRoot;
use crate::x509::crl::{ListWindow, RevocationList};
use crate::x509::{Certificate, Malformed, common_name};

/// The lists at hand.
pub(in crate::tdx) struct Lists {
    root: Vec<List>,
    pck: Vec<PckList>,
    /// Lists of no use: nobody can tell what they would have revoked, so each refuses every chain.
    refused: Vec<(usize, TdxRejection)>,
}

/// A verified list.
struct List {
    /// Contents of each revoked INTEGER, sorted.
    revoked: Vec<Vec<u8>>,
    window: ListWindow,
}

/// A list of a PCK authority.
struct PckList {
    index: usize,
    bytes: Vec<u8>,
    /// Contents of the issuer's `Name`.
    issuer: Vec<u8>,
    list: List,
    trust: Trust,
}

/// Under whose key a list verified.
enum Trust {
    /// The `SubjectPublicKeyInfo` of an authority at hand.
    Under(Vec<u8>),
    /// No authority of the issuer's name is at hand: the one in the PCK chain has to say.
    Unasked,
    /// There is one, and the list is not its own.
    Refused(TdxRejection),
}

impl List {
    fn of(list: &RevocationList<'_>) -> Self {
        let mut revoked: Vec<Vec<u8>> = list.revoked.iter().map(|serial| serial.to_vec()).collect();
        revoked.sort_unstable();
        Self { revoked, window: list.window() }
    }

    fn names(&self, serial: &[u8]) -> bool {
        self.revoked.binary_search_by(|revoked| revoked.as_slice().cmp(serial)).is_ok()
    }
}

impl Lists {
    pub(super) fn prepare(crls: &[Vec<u8>], root: Option<&IntelRoot>, authorities: &[Authority]) -> Self {
        let mut lists = Self { root: Vec::new(), pck: Vec::new(), refused: Vec::new() };
        let Some(root) = root else { return lists };
        for (index, bytes) in crls.iter().enumerate() {
            if let Err(rejection) = lists.add(index, bytes, root, authorities) {
                lists.refused.push((index, rejection));
            }
        }
        lists
    }

    fn add(&mut self, index: usize, bytes: &[u8], root: &IntelRoot, authorities: &[Authority]) -> Result<(), TdxRejection> {
        let list = RevocationList::parse(bytes).map_err(|Malformed(what)| TdxRejection::CrlMalformed { index, what })?;
        if list.issuer == root.subject {
            if !root.key.signed(&list.signed) {
                return Err(TdxRejection::CrlSignature { index });
            }
            self.root.push(List::of(&list));
            return Ok(());
        }
        let name = common_name(list.issuer).unwrap_or_default();
        if ![PLATFORM_CA, PROCESSOR_CA].contains(&name) {
            return Err(TdxRejection::CrlIssuer { index, found: name.to_owned() });
        }
        let mut named = authorities.iter().filter(|authority| authority.subject == list.issuer).peekable();
        let trust = match (named.peek().is_some(), named.find(|authority| authority.key.signed(&list.signed))) {
            (_, Some(authority)) => Trust::Under(authority.spki.clone()),
            (true, None) => Trust::Refused(TdxRejection::CrlSignature { index }),
            (false, None) => Trust::Unasked,
        };
        self.pck.push(PckList { index, bytes: bytes.to_vec(), issuer: list.issuer.to_vec(), list: List::of(&list), trust });
        Ok(())
    }

    /// That every list at hand could be read and is somebody's.
    pub(in crate::tdx) fn check(&self) -> Result<(), TdxRejection> {
        self.refused.first().map_or(Ok(()), |(_, rejection)| Err(rejection.clone()))
    }

    /// Whether any list of the root, however old, names a serial number.
    pub(in crate::tdx) fn root_names(&self, serial: &[u8]) -> bool {
        self.root.iter().any(|list| list.names(serial))
    }

    /// From when to when each list of the root is in force.
    pub(in crate::tdx) fn root_windows(&self) -> Vec<ListWindow> {
        self.root.iter().map(|list| list.window).collect()
    }

    /// From when to when each verified list of an authority of this name is in force.
    pub(in crate::tdx) fn windows_of(&self, authority: PckAuthority) -> Vec<ListWindow> {
        let of = |list: &&PckList| common_name(&list.issuer).ok().and_then(authority_named) == Some(authority);
        let verified = self.pck.iter().filter(|list| matches!(list.trust, Trust::Under(_)));
        verified.filter(of).map(|list| list.list.window).collect()
    }

    /// The lists of one PCK authority, given with its key: whether any names `serial`, and from when to when each is in force.
    pub(in crate::tdx) fn of_authority(
        &self,
        authority: &Certificate<'_>,
        key: &IssuerKey,
        serial: &[u8],
    ) -> Result<(bool, Vec<ListWindow>), TdxRejection> {
        let mut windows = Vec::new();
        let mut named = false;
        for PckList { index, bytes, issuer, list, trust } in &self.pck {
            if issuer != authority.subject {
                continue;
            }
            match trust {
                Trust::Under(spki) if spki == authority.key => {}
                // Of another key that had the same name.
                Trust::Under(_) => continue,
                Trust::Unasked | Trust::Refused(_) => {
                    let own = RevocationList::parse(bytes).is_ok_and(|list| key.signed(&list.signed));
                    if !own {
                        return Err(TdxRejection::CrlSignature { index: *index });
                    }
                }
            }
            named |= list.names(serial);
            windows.push(list.window);
        }
        Ok((named, windows))
    }

    /// What is bad, by place in the collateral.
    pub(super) fn problems(&self) -> impl Iterator<Item = (usize, &TdxRejection)> {
        let pck = self.pck.iter().filter_map(|list| match &list.trust {
            Trust::Refused(rejection) => Some((list.index, rejection)),
            _ => None,
        });
        self.refused.iter().map(|(index, rejection)| (*index, rejection)).chain(pck)
    }

    /// What is held and trusted, and which PCK lists wait for their authority.
    pub(super) fn pieces(&self) -> Vec<TdxPiece> {
        let piece = |kind, authority, signature, window: ListWindow| TdxPiece {
            kind,
            fmspc: None,
            authority,
            signature,
            evaluation: None,
            issued: window.this_update,
            next_update: window.next_update,
        };
        let root = self.root.iter().map(|list| piece(TdxPieceKind::RootCrl, None, TdxSignature::Verified, list.window));
        let pck = self.pck.iter().filter_map(|list| {
            let signature = match list.trust {
                Trust::Under(_) => TdxSignature::Verified,
                Trust::Unasked => TdxSignature::NotJudged,
                Trust::Refused(_) => return None,
            };
            let authority = common_name(&list.issuer).ok().and_then(authority_named);
            Some(piece(TdxPieceKind::PckCrl, authority, signature, list.list.window))
        });
        root.chain(pck).collect()
    }
}
