//! Revocation lists (RFC 5280, section 5): read, and what a set of verified ones says at a time.

use der::asn1::ObjectIdentifier;
use der::{Decode as _, Reader as _, SliceReader, Tag};
use protocol::limits;
use protocol::time::UnixTime;

use super::{Malformed, Signed, contents, context, end, extensions, time};
use crate::claims::Revocation;

/// What says that a list is none of everything that its issuer revoked: of a base, of a part, of others' certificates (RFC 5280, sections
/// 5.2.4, 5.2.5, 5.3.3). Each must be critical; one that is not is no less so, and to pass over it could be to miss what is revoked.
const DELTA_INDICATOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.27");
const DISTRIBUTION_POINT: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.28");
const CERTIFICATE_ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.29");

/// A well-formed list, not yet believed.
pub(crate) struct RevocationList<'a> {
    pub(crate) signed: Signed<'a>,
    /// Contents of the `Name`.
    pub(crate) issuer: &'a [u8],
    pub(crate) this_update: UnixTime,
    pub(crate) next_update: UnixTime,
    /// Contents of each revoked INTEGER.
    pub(crate) revoked: Vec<&'a [u8]>,
}

impl<'a> RevocationList<'a> {
    /// Reads exactly one complete version 2 list. No extension that the vendors' lists have is critical; a critical one would change
    /// what the list means, and is refused; so is, critical or not, one that makes it a delta, a part, or of another issuer's certificates.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
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
            whole(contents(&mut body, context(0))?)?;
        }
        end(body)?;
        Ok(Self { signed, issuer, this_update, next_update, revoked })
    }

    pub(crate) const fn window(&self) -> ListWindow {
        ListWindow { this_update: self.this_update, next_update: self.next_update }
    }

    /// Whether it names a serial number, given as the contents of the INTEGER.
    pub(crate) fn names(&self, serial: &[u8]) -> bool {
        self.revoked.contains(&serial)
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
            whole(entry.tlv_bytes()?)?;
        }
        end(entry)?;
    }
    Ok(revoked)
}

/// That no extension of a list or an entry changes what the list means.
fn whole(bytes: &[u8]) -> Result<(), Malformed> {
    for extension in extensions(bytes)? {
        if extension.critical {
            return Err(Malformed("a critical extension"));
        }
        if [DELTA_INDICATOR, DISTRIBUTION_POINT, CERTIFICATE_ISSUER].contains(&extension.id) {
            return Err(Malformed("a delta, a part, or of another issuer's certificates"));
        }
    }
    Ok(())
}

/// From when to when a verified list is in force.
#[derive(Clone, Copy)]
pub(crate) struct ListWindow {
    pub(crate) this_update: UnixTime,
    pub(crate) next_update: UnixTime,
}

/// What the lists prove at a time: the freshest one that had been issued by then counts.
pub(crate) fn status(lists: &[ListWindow], at: UnixTime) -> Revocation {
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
