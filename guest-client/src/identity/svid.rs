//! Whether an X.509-SVID is the one that was asked for: for our key, with our name, under the bundle that came with it.

use protocol::messages::X509Svid;
use protocol::spiffe::{Bundle, SpiffeId};
use protocol::time::UnixTime;
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime as PkiTime};
use std::time::Duration;
use webpki::{EndEntityCert, ExtendedKeyUsageValidator, KeyUsage};

/// How certificates may be signed.
const ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] = &[
    webpki::aws_lc_rs::ECDSA_P256_SHA256,
    webpki::aws_lc_rs::ECDSA_P256_SHA384,
    webpki::aws_lc_rs::ECDSA_P384_SHA256,
    webpki::aws_lc_rs::ECDSA_P384_SHA384,
];

/// Why it is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SvidFault {
    /// There is no certificate in it.
    #[error("the SVID has no certificate")]
    Empty,
    /// The leaf is no certificate.
    #[error("the leaf is no certificate: {0}")]
    Leaf(webpki::Error),
    /// It is for another key than the one that was made here.
    #[error("the certificate is for another key")]
    OtherKey,
    /// It has another serial number than is said.
    #[error("the certificate's serial number is {found}, not {said}")]
    OtherSerial {
        /// What was said.
        said: String,
        /// What stands in it.
        found: String,
    },
    /// It has no name, or several.
    #[error("the certificate has {found} URI names, not one")]
    Names {
        /// How many.
        found: usize,
    },
    /// It has another name.
    #[error("the certificate is for {found}, not for {expected}")]
    OtherName {
        /// Who we are.
        expected: SpiffeId,
        /// Who it is for.
        found: String,
    },
    /// An authority of the bundle is no certificate.
    #[error("an authority of the bundle is no certificate: {0}")]
    Authority(webpki::Error),
    /// It is not good for this.
    #[error("the certificate does not verify {usage} at {at}: {error}")]
    Path {
        /// For what.
        usage: &'static str,
        /// When.
        at: UnixTime,
        /// Why.
        error: webpki::Error,
    },
}

impl SvidFault {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Empty => "svid-empty",
            Self::Leaf(_) => "svid-leaf",
            Self::OtherKey => "svid-other-key",
            Self::OtherSerial { .. } => "svid-other-serial",
            Self::Names { .. } => "svid-names",
            Self::OtherName { .. } => "svid-other-name",
            Self::Authority(_) => "svid-authority",
            Self::Path { .. } => "svid-path",
        }
    }
}

/// Checks it, a variant per check, in their order. It must hold now and at its said end, as a client and as a server.
///
/// # Errors
/// [`SvidFault`].
pub fn check(svid: &X509Svid, spki: &[u8], id: &SpiffeId, bundle: &Bundle, at: UnixTime) -> Result<(), SvidFault> {
    let chain: Vec<CertificateDer<'_>> = svid.certificates.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (first, intermediates) = chain.split_first().ok_or(SvidFault::Empty)?;
    let leaf = EndEntityCert::try_from(first).map_err(SvidFault::Leaf)?;
    if leaf.subject_public_key_info().as_ref() != spki {
        return Err(SvidFault::OtherKey);
    }
    let found = hex(leaf.serial());
    if found != svid.serial.trim_start_matches('0') {
        return Err(SvidFault::OtherSerial { said: svid.serial.clone(), found });
    }
    let names: Vec<&str> = leaf.valid_uri_names().collect();
    let [name] = names.as_slice() else { return Err(SvidFault::Names { found: names.len() }) };
    if *name != id.uri() {
        return Err(SvidFault::OtherName { expected: id.clone(), found: (*name).to_owned() });
    }
    let authorities: Vec<CertificateDer<'_>> = bundle.x509_authorities().iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let anchors = authorities.iter().map(webpki::anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>().map_err(SvidFault::Authority)?;
    for at in [at, svid.not_after] {
        verify(&leaf, &anchors, intermediates, at, "as a client", KeyUsage::client_auth())?;
        verify(&leaf, &anchors, intermediates, at, "as a server", KeyUsage::server_auth())?;
    }
    Ok(())
}

fn verify(
    leaf: &EndEntityCert<'_>,
    anchors: &[TrustAnchor<'_>],
    intermediates: &[CertificateDer<'_>],
    at: UnixTime,
    usage: &'static str,
    key_usage: impl ExtendedKeyUsageValidator,
) -> Result<(), SvidFault> {
    let time = PkiTime::since_unix_epoch(Duration::from_secs(at.seconds()));
    let verified = leaf.verify_for_usage(ALGORITHMS, anchors, intermediates, time, key_usage, None, None);
    verified.map(drop).map_err(|error| SvidFault::Path { usage, at, error })
}

/// Without leading zeros, which DER has where the first bit is set.
fn hex(serial: &[u8]) -> String {
    let text: String = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    text.trim_start_matches('0').to_owned()
}
