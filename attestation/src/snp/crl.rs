//! Revocation lists: AMD publishes one per line, signed by the ARK, naming revoked ASKs and ASVKs (AMD 57230, section 4.4; RFC 5280, section 5).

use der::{Decode as _, Reader as _, SliceReader, Tag};
use protocol::limits;
use protocol::time::UnixTime;

use super::anchors::{Anchors, Root};
use super::pieces::PieceWindow;
use super::pss;
use super::x509::{Malformed, Signed, common_name, contents, context, end, extensions, serial_text, time};
use crate::claims::{ProductLine, Revocation, SigningKeyKind};
use crate::rejection::Rejection;

/// A well-formed list, not yet believed.
pub(super) struct RevocationList<'a> {
    signed: Signed<'a>,
    /// Contents of the `Name`.
    issuer: &'a [u8],
    this_update: UnixTime,
    next_update: UnixTime,
    /// Contents of each revoked INTEGER.
    revoked: Vec<&'a [u8]>,
}

impl<'a> RevocationList<'a> {
    /// Reads exactly one complete version 2 list. No extension that AMD's lists have is critical; a critical one would change
    /// what the list means (a delta, a part, another issuer's certificates), and is refused.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        if bytes.len() > limits::REVOCATION_LIST {
            return Err(Malformed("longer than any list"));
        }
        let signed = Signed::parse(bytes)?;
        let mut body = SliceReader::new(signed.body)?;
        if u8::decode(&mut body)? != 1 {
            return Err(Malformed("not version 2"));
        }
        if contents(&mut body, Tag::Sequence)? != signed.algorithm {
            return Err(Malformed("two different signature algorithms"));
        }
        let issuer = contents(&mut body, Tag::Sequence)?;
        let this_update = time(&mut body)?;
        if !matches!(Tag::peek(&body), Ok(Tag::UtcTime | Tag::GeneralizedTime)) {
            return Err(Malformed("no time of the next update"));
        }
        let next_update = time(&mut body)?;
        let revoked = match Tag::peek(&body) {
            Ok(Tag::Sequence) => entries(contents(&mut body, Tag::Sequence)?)?,
            _ => Vec::new(),
        };
        if !body.is_finished() {
            no_critical(contents(&mut body, context(0))?)?;
        }
        end(body)?;
        Ok(Self { signed, issuer, this_update, next_update, revoked })
    }

    fn names(&self, serial: &[u8]) -> bool {
        self.revoked.contains(&serial)
    }

    /// Contents of the issuer's `Name`.
    pub(super) const fn issuer(&self) -> &'a [u8] {
        self.issuer
    }

    pub(super) fn is_signed_by(&self, root: &Root) -> bool {
        pss::is_signed_by(&self.signed, &root.key)
    }

    pub(super) const fn window(&self) -> PieceWindow {
        PieceWindow { issued: self.this_update, until: self.next_update }
    }
}

fn entries(bytes: &[u8]) -> Result<Vec<&[u8]>, Malformed> {
    let mut reader = SliceReader::new(bytes)?;
    let mut revoked = Vec::new();
    while !reader.is_finished() {
        let mut entry = SliceReader::new(contents(&mut reader, Tag::Sequence)?)?;
        revoked.push(contents(&mut entry, Tag::Integer)?);
        time(&mut entry)?;
        if !entry.is_finished() {
            no_critical(entry.tlv_bytes()?)?;
        }
        end(entry)?;
    }
    Ok(revoked)
}

fn no_critical(bytes: &[u8]) -> Result<(), Malformed> {
    match extensions(bytes)?.iter().any(|extension| extension.critical) {
        true => Err(Malformed("a critical extension")),
        false => Ok(()),
    }
}

/// The lists that one root signed, verified.
pub(super) struct Lists<'a>(Vec<RevocationList<'a>>);

impl<'a> Lists<'a> {
    /// Takes the lists that `root` signed. One of the collateral that is ill-formed, of nobody's or wrongly signed is refused by its
    /// place; one of another root in force is left alone; one that the attester brought is dropped where it is no use.
    pub(super) fn verify(brought: &'a [Vec<u8>], collateral: &'a [Vec<u8>], anchors: &Anchors, root: &Root) -> Result<Self, Rejection> {
        let mut lists = Vec::new();
        for (index, bytes) in collateral.iter().enumerate() {
            let list = RevocationList::parse(bytes).map_err(|Malformed(what)| Rejection::CrlMalformed { index, what })?;
            let Some(issuer) = anchors.root_named(list.issuer) else {
                return Err(Rejection::CrlIssuer { index, found: common_name(list.issuer).unwrap_or_default().to_owned() });
            };
            if issuer.line != root.line {
                continue;
            }
            if !pss::is_signed_by(&list.signed, &root.key) {
                return Err(Rejection::CrlSignature { index, line: root.line });
            }
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
        self.0.iter().map(|list| ListWindow { this_update: list.this_update, next_update: list.next_update }).collect()
    }
}

/// From when to when a verified list is in force.
#[derive(Clone, Copy)]
pub(super) struct ListWindow {
    this_update: UnixTime,
    next_update: UnixTime,
}

/// What the lists prove at a time: the freshest one that had been issued by then counts.
pub(super) fn status(lists: &[ListWindow], at: UnixTime) -> Revocation {
    let issued = lists.iter().filter(|list| list.this_update <= at);
    match issued.max_by_key(|list| (list.this_update, list.next_update)) {
        None => Revocation::Unknown,
        Some(&ListWindow { this_update, next_update }) if at <= next_update => Revocation::Checked { this_update, next_update },
        Some(&ListWindow { this_update, next_update }) => Revocation::Stale { this_update, next_update },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_freshest_list_issued_by_then_counts() {
        let time = UnixTime::from_seconds;
        let window = |this, next| ListWindow { this_update: time(this), next_update: time(next) };
        let lists = [window(100, 200), window(150, 250), window(300, 400)];
        assert_eq!(status(&lists, time(99)), Revocation::Unknown);
        assert_eq!(status(&lists, time(120)), Revocation::Checked { this_update: time(100), next_update: time(200) });
        assert_eq!(status(&lists, time(160)), Revocation::Checked { this_update: time(150), next_update: time(250) });
        assert_eq!(status(&lists, time(251)), Revocation::Stale { this_update: time(150), next_update: time(250) });
        assert_eq!(status(&lists, time(400)), Revocation::Checked { this_update: time(300), next_update: time(400) });
        assert_eq!(status(&lists, time(401)), Revocation::Stale { this_update: time(300), next_update: time(400) });
        assert_eq!(status(&[], time(1)), Revocation::Unknown);
    }
}
