//! A second opinion on version 4 quotes: the `tdx-quote` crate, which shares no code with ours and verifies by another library, must find both
//! signatures good and read the same in every field that a policy can read. It is given only what our parser accepted.
//!
//! It verifies the quote under its attestation key, that key's binding to the quoting enclave's report, and that report under the PCK
//! certificate's key. It knows nothing of collateral, and of certificates only the chain's bytes; the key is the one that our chain proved, which
//! holds under any anchors.
//!
//! It is AGPL-3.0-or-later, hence the feature `second-opinion-tdx`. Without it no quote gets an opinion, and a policy says whether it does without.

#[cfg(feature = "second-opinion-tdx")]
pub(super) use asked::ask;

#[cfg(not(feature = "second-opinion-tdx"))]
pub(super) use not_asked::ask;

/// Why there is none on a version 5 quote: the other verifier has the signed bytes of version 5 wrong, and does not know every body.
#[cfg(feature = "second-opinion-tdx")]
const VERSION_5: &str = "tdx-quote-cannot-read-version-5";

/// Why there is none in a build without the feature.
#[cfg(not(feature = "second-opinion-tdx"))]
const NOT_BUILT_IN: &str = "tdx-quote-is-not-built-in";

#[cfg(not(feature = "second-opinion-tdx"))]
mod not_asked {
    use crate::claims::{SecondOpinion, TdxClaims};
    use crate::tdx::quote::Quote;
    use crate::tdx::rejection::TdxRejection;

    /// Nobody to ask.
    pub(in crate::tdx) const fn ask(_: &Quote<'_>, _: &[u8; 65], _: &TdxClaims) -> Result<SecondOpinion, TdxRejection> {
        Ok(SecondOpinion::Unavailable { why: super::NOT_BUILT_IN })
    }
}

#[cfg(feature = "second-opinion-tdx")]
mod asked {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use tdx_quote::{Quote as SecondQuote, TDXVersion, VerifyingKey};

    use crate::claims::{SecondOpinion, TdBody, TdxClaims};
    use crate::tdx::quote::Quote;
    use crate::tdx::rejection::TdxRejection;

    /// Compares `claims`, as a policy would read them, with what the independent verifier reads in the same bytes once it has verified them.
    /// `pck` is the PCK certificate's key: an uncompressed point.
    pub(in crate::tdx) fn ask(quote: &Quote<'_>, pck: &[u8; 65], claims: &TdxClaims) -> Result<SecondOpinion, TdxRejection> {
        if quote.version != 4 {
            return Ok(SecondOpinion::Unavailable { why: super::VERSION_5 });
        }
        contained(|| {
            let second = verified(quote.bytes, pck)?;
            match difference(quote, claims, &second) {
                Some(field) => Err(TdxRejection::SecondOpinion { field }),
                None => Ok(SecondOpinion::Agreed),
            }
        })
    }

    /// Runs somebody else's code on the attester's bytes: a panic in it is a rejection. Nothing that it touches is used after one.
    fn contained<T>(work: impl FnOnce() -> Result<T, TdxRejection>) -> Result<T, TdxRejection> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(TdxRejection::SecondOpinionPanicked {}))
    }

    /// The quote as the independent verifier has verified it.
    fn verified(bytes: &[u8], pck: &[u8; 65]) -> Result<SecondQuote, TdxRejection> {
        let refused = |why: String| TdxRejection::SecondOpinionRefused { why };
        let second = SecondQuote::from_bytes(bytes).map_err(|error| refused(error.to_string()))?;
        let key = VerifyingKey::from_sec1_bytes(pck).map_err(|error| refused(error.to_string()))?;
        second.verify_with_pck(&key).map_err(|error| refused(error.to_string()))?;
        Ok(second)
    }

    /// The first field that differs.
    fn difference(quote: &Quote<'_>, claims: &TdxClaims, second: &SecondQuote) -> Option<&'static str> {
        let body = &second.body;
        let qe = second.qe_report_certification_data();
        let same = [
            ("version", claims.quote_version == second.header.version),
            ("body", claims.body == TdBody::Td10 && body.tdx_version == TDXVersion::One),
            ("TEE_TCB_SVN", claims.tee_tcb_svn == body.tee_tcb_svn),
            ("MRSEAM", claims.mrseam == body.mrseam),
            ("MRSIGNERSEAM", claims.mrsignerseam == body.mrsignerseam),
            ("SEAMATTRIBUTES", claims.seam_attributes.to_le_bytes() == body.seamattributes),
            ("TDATTRIBUTES", claims.td_attributes.raw.to_le_bytes() == body.tdattributes),
            ("XFAM", claims.xfam.to_le_bytes() == body.xfam),
            ("MRTD", claims.mrtd == body.mrtd),
            ("MRCONFIGID", claims.mrconfigid == body.mrconfigid),
            ("MROWNER", claims.mrowner == body.mrowner),
            ("MROWNERCONFIG", claims.mrownerconfig == body.mrownerconfig),
            ("RTMRs", claims.rtmrs == [body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3]),
            ("REPORTDATA", claims.report_data == body.reportdata),
            ("TEE_TCB_SVN_2", claims.tee_tcb_svn_2 == body.tee_tcb_svn_2),
            ("MRSERVICETD", claims.mrservicetd == body.mrservicetd),
            ("TD 1.5 Ex fields", claims.extended.is_none()),
            ("QE report", qe.as_ref().is_some_and(|qe| qe.qe_report == *quote.qe.bytes)),
            ("QE ISVSVN", qe.as_ref().and_then(|qe| isv_svn(&qe.qe_report)) == Some(claims.qe_isv_svn)),
            ("PCK certificate chain", second.pck_cert_chain().is_ok_and(|chain| chain == quote.pck_chain)),
        ];
        same.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
    }

    /// ISVSVN, at 258 of an SGX report.
    fn isv_svn(report: &[u8; 384]) -> Option<u16> {
        report.get(258..260).and_then(|bytes| bytes.try_into().ok()).map(u16::from_le_bytes)
    }
}
