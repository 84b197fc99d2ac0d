//! Who signed a document: Intel SGX TCB Signing, under the pinned root and no one else, by name and place. Other end-entity
//! certificates of the root's have other roles.

use std::rc::Rc;

use protocol::time::UnixTime;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::lists::Lists;
use crate::tdx::certificate::{self, Fault};
use crate::tdx::p256::SignerKey;
use crate::tdx::rejection::TdxRejection;
use crate::tdx::root::IntelRoot;
use crate::x509::{Certificate, Malformed, Untimely, Window, serial_text};

/// Verifies documents' signers, each signer's certificate once.
pub(super) struct Signers<'a> {
    root: Option<&'a IntelRoot>,
    lists: &'a Lists,
    /// By the chain as received.
    known: Vec<(&'a [u8], Known)>,
}

/// A signer, or what is wrong with it.
type Known = Rc<Result<Signer, Fault>>;

struct Signer {
    key: SignerKey,
    /// Contents of the INTEGER.
    serial: Vec<u8>,
    valid: Window,
}

impl<'a> Signers<'a> {
    pub(super) const fn new(root: Option<&'a IntelRoot>, lists: &'a Lists) -> Self {
        Self { root, lists, known: Vec::new() }
    }

    /// Verifies a document's signature and signer, but for the time. Gives when the signer's certificate is valid.
    pub(super) fn verify(
        &mut self,
        chain: &'a [u8],
        message: &[u8],
        signature: &[u8; 64],
        document: &'static str,
    ) -> Result<Window, TdxRejection> {
        let root = self.root.ok_or(TdxRejection::NotAnchored {})?;
        let known = self.known.iter().find(|(known, _)| *known == chain).map(|(_, signer)| Rc::clone(signer));
        let signer = known.unwrap_or_else(|| {
            let signer = Rc::new(Signer::read(chain, root));
            self.known.push((chain, Rc::clone(&signer)));
            signer
        });
        let signer = signer.as_ref().as_ref().map_err(|fault| fault.clone().of_signer(document))?;
        if self.lists.root_names(&signer.serial) {
            return Err(TdxRejection::SignerRevoked { document, serial: serial_text(&signer.serial) });
        }
        if !signer.key.verifies(message, signature) {
            return Err(TdxRejection::DocumentSignature { document });
        }
        Ok(signer.valid)
    }
}

impl Signer {
    /// Reads a chain of exactly signer and root.
    fn read(chain: &[u8], root: &IntelRoot) -> Result<Self, Fault> {
        let certificates: Vec<CertificateDer<'_>> =
            CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().map_err(|_| Fault::Malformed("no PEM of certificates"))?;
        let [signer, last] = certificates.as_slice() else {
            return Err(Fault::Malformed("expected two certificates"));
        };
        let signer = Certificate::parse(signer).map_err(|Malformed(what)| Fault::Malformed(what))?;
        let last = Certificate::parse(last).map_err(|Malformed(what)| Fault::Malformed(what))?;
        certificate::named(&signer, certificate::TCB_SIGNING)?;
        if !root.is(&last) {
            return Err(Fault::Issuer { found: last.common_name().to_owned() });
        }
        let key = certificate::end_entity(&signer)?;
        certificate::issued_by(&signer, &root.subject, &root.key)?;
        Ok(Self { key, serial: signer.serial.to_vec(), valid: signer.window(certificate::TCB_SIGNING) })
    }
}

/// That a signer's certificate is valid at a time.
pub(super) fn timely(signer: &Window, document: &'static str, at: UnixTime) -> Result<(), TdxRejection> {
    signer.check(at).map_err(|untimely| match untimely {
        Untimely::NotYet { not_before, at, .. } => TdxRejection::SignerNotYetValid { document, not_before, at },
        Untimely::Expired { not_after, at, .. } => TdxRejection::SignerExpired { document, not_after, at },
    })
}
