//! A second opinion on version 4 quotes: the `tdx-quote` crate, which shares no code with ours and verifies by another library, must find both
//! signatures good and read the same in every field of the TD report that a policy can read. It is given only what our parser accepted.
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

/// Why there is none on a version 5 quote: it is asked for version 4 alone (decision 0009).
const VERSION_5: &str = "tdx-quote-cannot-read-version-5";

#[cfg(not(feature = "second-opinion-tdx"))]
mod not_asked {
    use crate::claims::{SecondOpinion, TdxClaims};
    use crate::tdx::quote::Quote;
    use crate::tdx::rejection::TdxRejection;

    /// Nobody to ask.
    pub(in crate::tdx) const fn ask(quote: &Quote<'_>, _: &[u8], _: &TdxClaims) -> Result<SecondOpinion, TdxRejection> {
        Ok(SecondOpinion::Unavailable { why: if quote.version == 4 { SecondOpinion::NOT_BUILT_IN } else { super::VERSION_5 } })
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
    /// `pck` is the PCK certificate's key: a point (SEC 1, section 2.3.3).
    pub(in crate::tdx) fn ask(quote: &Quote<'_>, pck: &[u8], claims: &TdxClaims) -> Result<SecondOpinion, TdxRejection> {
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
    pub(super) fn contained<T>(work: impl FnOnce() -> Result<T, TdxRejection>) -> Result<T, TdxRejection> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(TdxRejection::SecondOpinionPanicked {}))
    }

    /// The quote as the independent verifier has verified it.
    fn verified(bytes: &[u8], pck: &[u8]) -> Result<SecondQuote, TdxRejection> {
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

#[cfg(test)]
mod tests {
    use protocol::time::UnixTime;
    use testbed::tdx::{Role, SoftTdx, TdReportKind, TdShape, coordinates};

    use super::*;
    use crate::tdx::quote::Quote;
    use crate::{
        Anchors, Collateral, Evidence, Lapsed, PlatformClaims, PreparedCollateral, ReportDataRule, SecondOpinion, SignedBody, TdxClaims,
        TdxCollateral, TdxEvidence, judge,
    };

    /// A genuine quote in which no two fields are alike, and what a policy would read in it.
    fn genuine(shape: TdShape) -> (Vec<u8>, TdxClaims) {
        let platform = SoftTdx::new();
        let shape = TdShape { mrconfigid: [1; 48], mrowner: [2; 48], mrownerconfig: [3; 48], ..shape };
        let quote = platform.guest(shape).attest(&[4; 64]).quote;
        let anchors = Anchors::test_with_intel(Vec::new(), platform.root_der()).unwrap();
        let collateral = platform.collateral();
        let signed = |body| SignedBody { body, issuer_chain: collateral.issuer_chain.clone().into_bytes() };
        let tdx = TdxCollateral {
            tcb_infos: vec![signed(collateral.tcb_info.clone())],
            qe_identities: vec![signed(collateral.qe_identity.clone())],
            crls: vec![collateral.root_list.clone(), collateral.pck_list.clone()],
            certificates: Vec::new(),
            ..TdxCollateral::default()
        };
        let prepared = PreparedCollateral::prepare(Collateral { tdx, ..Collateral::default() }, &anchors);
        let evidence = Evidence::Tdx(TdxEvidence { quote: quote.clone(), event_log: None });
        let at = UnixTime::from_seconds(1_795_392_000);
        let genuine = judge(&evidence, &prepared, &anchors, ReportDataRule::NotCompared, Lapsed::Rejected, at).unwrap();
        let PlatformClaims::Tdx(claims) = genuine.platform() else { panic!("{genuine:?}") };
        (quote, claims.clone())
    }

    fn pck() -> Vec<u8> {
        [&[4], coordinates(&SoftTdx::new().key(Role::Pck)).as_slice()].concat()
    }

    #[cfg(not(feature = "second-opinion-tdx"))]
    #[test]
    fn without_the_feature_no_quote_gets_an_opinion_and_the_claims_say_so() {
        let shapes = [(TdShape::default(), SecondOpinion::NOT_BUILT_IN), (TdShape::version_5(TdReportKind::Td15), VERSION_5)];
        for (shape, why) in shapes {
            let (quote, claims) = genuine(shape);
            let unavailable = SecondOpinion::Unavailable { why };
            assert_eq!(claims.second_opinion, unavailable);
            assert_eq!(ask(&Quote::parse(&quote).unwrap(), &pck(), &claims), Ok(unavailable));
        }
    }

    #[cfg(feature = "second-opinion-tdx")]
    mod asked {
        use super::super::asked::contained;
        use super::*;
        use crate::claims::{TdBody, TdExtended};
        use crate::tdx::rejection::TdxRejection;

        /// A field, and a change in the claim that stands for it.
        type Change = (&'static str, fn(&mut TdxClaims));

        const CHANGES: [Change; 22] = [
            ("version", |claims| claims.quote_version = 5),
            ("body", |claims| claims.body = TdBody::Td15),
            ("TEE_TCB_SVN", |claims| claims.tee_tcb_svn[15] ^= 1),
            ("MRSEAM", |claims| claims.mrseam[0] ^= 1),
            ("MRSIGNERSEAM", |claims| claims.mrsignerseam[47] ^= 1),
            ("SEAMATTRIBUTES", |claims| claims.seam_attributes ^= 1 << 63),
            ("TDATTRIBUTES", |claims| claims.td_attributes.raw ^= 1),
            ("XFAM", |claims| claims.xfam ^= 1 << 17),
            ("MRTD", |claims| claims.mrtd[47] ^= 1),
            ("MRCONFIGID", |claims| claims.mrconfigid[0] ^= 1),
            ("MROWNER", |claims| claims.mrowner[0] ^= 1),
            ("MROWNERCONFIG", |claims| claims.mrownerconfig[0] ^= 1),
            ("RTMRs", |claims| claims.rtmrs[0][0] ^= 1),
            ("RTMRs", |claims| claims.rtmrs.swap(2, 3)),
            ("RTMRs", |claims| claims.rtmrs[3][47] ^= 1),
            ("REPORTDATA", |claims| claims.report_data[63] ^= 1),
            ("TEE_TCB_SVN_2", |claims| claims.tee_tcb_svn_2 = Some(claims.tee_tcb_svn)),
            ("MRSERVICETD", |claims| claims.mrservicetd = Some([0; 48])),
            ("TD 1.5 Ex fields", |claims| claims.extended = Some(extended())),
            ("QE ISVSVN", |claims| claims.qe_isv_svn += 1),
            ("QE ISVSVN", |claims| claims.qe_isv_svn <<= 8),
            ("TEE_TCB_SVN", |claims| claims.tee_tcb_svn.swap(0, 1)),
        ];

        fn extended() -> TdExtended {
            TdExtended {
                vm_id: 0,
                td_id: [0; 32],
                device_info: [0; 48],
                initial_service_td_hash: [0; 48],
                initial_service_td_attributes: 0,
                initial_cpu_svn: [0; 16],
                initial_tee_tcb_svn: [0; 16],
                initial_fmspc: [0; 12],
                current_service_td_hash: [0; 48],
                current_service_td_attributes: 0,
            }
        }

        #[test]
        fn a_difference_in_any_field_is_named() {
            let (bytes, genuine) = genuine(TdShape::default());
            let quote = Quote::parse(&bytes).unwrap();
            assert_eq!(genuine.second_opinion, SecondOpinion::Agreed);
            assert_eq!(ask(&quote, &pck(), &genuine), Ok(SecondOpinion::Agreed));
            for (field, change) in CHANGES {
                let mut claims = genuine.clone();
                change(&mut claims);
                assert_eq!(ask(&quote, &pck(), &claims), Err(TdxRejection::SecondOpinion { field }));
            }
        }

        #[test]
        fn what_our_parser_took_from_elsewhere_in_the_quote_is_compared_too() {
            let (bytes, claims) = genuine(TdShape::default());
            let mut quote = Quote::parse(&bytes).unwrap();
            quote.pck_chain = &quote.pck_chain[1..];
            assert_eq!(ask(&quote, &pck(), &claims), Err(TdxRejection::SecondOpinion { field: "PCK certificate chain" }));
            let mut quote = Quote::parse(&bytes).unwrap();
            quote.qe.bytes = &[0; 384];
            assert_eq!(ask(&quote, &pck(), &claims), Err(TdxRejection::SecondOpinion { field: "QE report" }));
        }

        #[test]
        fn padding_is_not_shown_to_the_other_verifier() {
            let (bytes, claims) = genuine(TdShape { padded_to: 8000, ..TdShape::default() });
            let quote = Quote::parse(&bytes).unwrap();
            assert!(quote.bytes.len() < bytes.len());
            assert_eq!(ask(&quote, &pck(), &claims), Ok(SecondOpinion::Agreed));
        }

        #[test]
        fn version_5_is_the_known_exception() {
            for kind in [TdReportKind::Td10, TdReportKind::Td15, TdReportKind::Td15Ex] {
                let (_, claims) = genuine(TdShape::version_5(kind));
                assert_eq!(claims.second_opinion, SecondOpinion::Unavailable { why: "tdx-quote-cannot-read-version-5" });
            }
        }

        #[test]
        fn what_the_other_verifier_refuses_is_refused() {
            let (bytes, claims) = genuine(TdShape::default());
            let refusal = |bytes: &[u8], pck: &[u8]| {
                let mut quote = Quote::parse(bytes).unwrap();
                let changed = bytes.to_vec();
                quote.bytes = &changed;
                ask(&quote, pck, &claims)
            };
            let other = [&[4], coordinates(&SoftTdx::new().key(Role::TcbSigner)).as_slice()].concat();
            let why = "Quote signature verification failed".to_owned();
            assert_eq!(refusal(&bytes, &other), Err(TdxRejection::SecondOpinionRefused { why }));
            let mut changed = bytes.clone();
            changed[48 + 136] ^= 1;
            let why = "Signature is invalid".to_owned();
            assert_eq!(refusal(&changed, &pck()), Err(TdxRejection::SecondOpinionRefused { why }));
            assert_eq!(refusal(&bytes, &pck()), Ok(SecondOpinion::Agreed));
        }

        #[test]
        fn a_panic_in_the_other_verifier_is_a_rejection_of_its_own() {
            let (bytes, claims) = genuine(TdShape::default());
            let mut quote = Quote::parse(&bytes).unwrap();
            // Never handed over by our parser; the other verifier cuts out the signed bytes before it knows that they are there.
            quote.bytes = &bytes[..100];
            assert_eq!(ask(&quote, &pck(), &claims), Err(TdxRejection::SecondOpinionPanicked {}));
            assert_eq!(contained(|| -> Result<(), _> { panic!("anything") }), Err(TdxRejection::SecondOpinionPanicked {}));
            assert_eq!(contained(|| Ok(7)), Ok(7));
        }
    }
}
