//! Intel TDX evidence, judged from top to bottom in [`judge`] (the order of Intel's quote verification library, "QuoteVerifier").

pub(crate) mod certificate;
pub(crate) mod collateral;
mod module;
pub(crate) mod p256;
pub(crate) mod pck;
pub(crate) mod pieces;
mod quote;
mod reader;
pub(crate) mod rejection;
pub(crate) mod root;
mod second_opinion;
mod sgx_extension;
pub(crate) mod standing;
mod tcb;
#[cfg(test)]
mod vectors;

use std::sync::Arc;

use aws_lc_rs::digest;
use protocol::time::UnixTime;

use self::collateral::Prepared;
use self::collateral::qe_identity::QeIdentity;
use self::pck::{PckChain, Revocations};
use self::quote::{QeReport, Quote};
use self::rejection::TdxRejection;
use crate::anchors::Anchors;
use crate::chains::{ChainCache, ChainKey, Origin, VerifiedChain};
use crate::claims::{CollateralSource, EventLog, SecondOpinion, TdAttributes, TdxClaims};
use crate::collateral::Lapsed;
use crate::event_log;
use crate::evidence::{ReportDataRule, TdxEvidence};
use crate::rejection::HexBytes;
use crate::steps::Steps;

/// Under what TDX evidence is judged.
#[derive(Clone, Copy)]
pub(crate) struct Terms<'a> {
    /// `None` where it was prepared under other anchors.
    pub(crate) collateral: Option<&'a Prepared>,
    pub(crate) anchors: &'a Anchors,
    pub(crate) expected: &'a ReportDataRule,
    pub(crate) lapsed: Lapsed,
    pub(crate) at: UnixTime,
}

/// All steps of the crate's header, in order. Only evidence that passed every one leaves its chain in the cache.
pub(crate) fn judge(
    evidence: &TdxEvidence,
    terms: Terms<'_>,
    cache: &dyn ChainCache,
    steps: &mut Steps,
) -> Result<TdxClaims, TdxRejection> {
    let Terms { collateral, anchors, expected, lapsed, at } = terms;

    // 1. Format: a version 4 or 5 ECDSA quote of a TD, every part of exactly its length, only zero behind it.
    let quote = Quote::parse(&evidence.quote)?;
    let Quote { ref report, ref qe, .. } = quote;
    steps.passed(1, || {
        let Quote { bytes, padding, version, .. } = &quote;
        format!("{} bytes, version {version}, TD {} report, {padding} zero bytes behind it", bytes.len(), report.body)
    });

    // 2 and 3. PCK certificate chain and revocation; or both from the cache, where they hold at this time.
    let root = anchors.intel()?;
    let collateral = collateral.ok_or(TdxRejection::OtherAnchors {})?;
    let key = ChainKey::of_pck(anchors, quote.pck_chain, collateral);
    let kept = cache.find(&key).and_then(|kept| kept.pck()).filter(|chain| chain.answers(&key, at));
    let (chain, origin) = match kept {
        Some(chain) => (chain, Origin::Cache),
        None => (Arc::new(PckChain::establish(quote.pck_chain, root, collateral, key, at, steps)?), Origin::New),
    };
    let pck = &chain.claims;
    let revocation = chain.revocation(lapsed, at)?;
    steps.passed(3, || {
        let Revocations { root, pck: list } = revocation;
        format!("PCK {} authority: {root}; PCK certificate: {list}", pck.authority)
    });

    // 4. Signed collateral: TCB info and QE identity, by Intel's signer of collateral over the bytes as received, in force.
    let info = collateral.tcb_info(pck.fmspc, lapsed, at)?;
    let identity = collateral.qe_identity(pck.fmspc, lapsed, at)?;
    let (tcb_info, qe_identity) = (*collateral::Content::source(info), *collateral::Content::source(identity));
    steps.passed(4, || format!("TCB info {tcb_info}; QE identity {qe_identity}"));

    // 5. Platform of the TCB info: it was chosen by FMSPC; its PCEID is the PCK certificate's too.
    if pck.pceid != info.pceid {
        return Err(TdxRejection::PceidMismatch { expected: pck.pceid.into(), found: info.pceid.into() });
    }
    steps.passed(5, || format!("FMSPC {}, PCEID {}", HexBytes::from(pck.fmspc), HexBytes::from(pck.pceid)));

    // 6. TDX module: signer and attributes are those of the identity of its major version.
    let module = module::find(info, report.tee_tcb_svn)?;
    module::check(info, module, report)?;
    steps.passed(6, || match module {
        Some(module) => format!("major version {}: signer and attributes", module.version),
        None => "major version 0: signer and attributes".to_owned(),
    });

    // 7. Quoting enclave's report: signed by the PCK certificate's key, and bound to the attestation key.
    qe_report(&quote, &chain)?;
    steps.passed(7, || "signed by the PCK certificate's key; names the attestation key and nothing else".to_owned());

    // 8. Quoting enclave's identity: it is Intel's, and not a debug enclave.
    qe_is(qe, identity)?;
    steps.passed(8, || format!("ISVPRODID {}, MRSIGNER {}", qe.isv_prod_id, HexBytes::from(qe.mrsigner)));

    // 9. Quote signature over the received bytes.
    if !p256::verifies(quote.attestation_key, quote.signed, quote.signature) {
        return Err(TdxRejection::QuoteSignature {});
    }
    steps.passed(9, || format!("bytes 0 to {:#x} under the attestation key", quote.signed.len()));

    // 10. TCB evaluation: platform, module and quoting enclave, at launch and now.
    let subject = tcb::Subject { components: &pck.components, pce_svn: pck.pce_svn, qe_isv_svn: qe.isv_svn, info, identity };
    let tcb = tcb::evaluate(subject, report.tee_tcb_svn, report.current.map(|(svn, _)| svn))?;
    steps.passed(10, || format!("{} as of {}", tcb.status, tcb.date));

    // 11. Report data: what the session asks for.
    report_data(expected, report.report_data)?;
    steps.passed(11, || match expected {
        ReportDataRule::Exactly(_) => format!("expected and found: {}", HexBytes::from(report.report_data)),
        ReportDataRule::NotCompared => format!("not compared: {}", HexBytes::from(report.report_data)),
    });

    // 12. Event log: where one came, it replays to all four registers.
    let event_log = match &evidence.event_log {
        None => EventLog::Absent,
        Some(log) => EventLog::Replayed { events: event_log::replay(log, &report.rtmrs)? },
    };
    steps.passed(12, || match &event_log {
        EventLog::Absent => "none came".to_owned(),
        EventLog::Replayed { events } => format!("{} events replay to RTMR0 to RTMR3", events.len()),
    });

    // 13. Second opinion: on the claims as a policy will read them.
    let mut claims = claims(&quote, &chain, Found { tcb, tcb_info, qe_identity, revocation, event_log });
    claims.second_opinion = second_opinion::ask(&quote, chain.key.point(), &claims)?;
    steps.passed(13, || claims.second_opinion.to_string());

    if origin == Origin::New {
        cache.keep(key, Arc::new(VerifiedChain::of_pck(chain)));
    }
    Ok(claims)
}

/// REPORTDATA of the quoting enclave: SHA-256 over attestation key and authentication data, then zero.
fn qe_report(quote: &Quote<'_>, chain: &PckChain) -> Result<(), TdxRejection> {
    if !chain.key.verifies(quote.qe.bytes, quote.qe_signature) {
        return Err(TdxRejection::QeReportSignature {});
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(quote.attestation_key);
    context.update(quote.qe_authentication_data);
    let (bound, tail) = quote.qe.report_data;
    if context.finish().as_ref() != bound {
        return Err(TdxRejection::AttestationKeyBinding {});
    }
    if tail != [0; 32] {
        return Err(TdxRejection::QeReportDataTail {});
    }
    Ok(())
}

fn qe_is(qe: &QeReport<'_>, identity: &QeIdentity) -> Result<(), TdxRejection> {
    if !identity.miscselect.is(&qe.miscselect) {
        return Err(TdxRejection::QeMiscselect { expected: identity.miscselect.value.into(), found: qe.miscselect.into() });
    }
    if !identity.attributes.is(&qe.attributes) {
        return Err(TdxRejection::QeAttributes { expected: identity.attributes.value.into(), found: qe.attributes.into() });
    }
    if qe.mrsigner != identity.mrsigner {
        return Err(TdxRejection::QeSigner { expected: identity.mrsigner.into(), found: qe.mrsigner.into() });
    }
    if qe.isv_prod_id != identity.isv_prod_id {
        return Err(TdxRejection::QeProduct { expected: identity.isv_prod_id, found: qe.isv_prod_id });
    }
    Ok(())
}

fn report_data(rule: &ReportDataRule, found: [u8; 64]) -> Result<(), TdxRejection> {
    match rule {
        ReportDataRule::Exactly(expected) if *expected != found => {
            Err(TdxRejection::ReportData { expected: HexBytes::from(*expected), found: HexBytes::from(found) })
        }
        _ => Ok(()),
    }
}

/// What the steps found beside the quote and its chain.
struct Found {
    tcb: crate::claims::TcbVerdict,
    tcb_info: CollateralSource,
    qe_identity: CollateralSource,
    revocation: Revocations,
    event_log: EventLog,
}

fn claims(quote: &Quote<'_>, chain: &PckChain, found: Found) -> TdxClaims {
    let Found { tcb, tcb_info, qe_identity, revocation, event_log } = found;
    let report = &quote.report;
    TdxClaims {
        quote_version: quote.version,
        body: report.body,
        tee_tcb_svn: report.tee_tcb_svn,
        mrseam: report.mrseam,
        mrsignerseam: report.mrsignerseam,
        seam_attributes: u64::from_le_bytes(report.seam_attributes),
        td_attributes: TdAttributes { raw: report.td_attributes },
        xfam: report.xfam,
        mrtd: report.mrtd,
        mrconfigid: report.mrconfigid,
        mrowner: report.mrowner,
        mrownerconfig: report.mrownerconfig,
        rtmrs: report.rtmrs,
        report_data: report.report_data,
        tee_tcb_svn_2: report.current.map(|(svn, _)| svn),
        mrservicetd: report.current.map(|(_, service)| service),
        extended: report.extended.clone(),
        platform: chain.claims.clone(),
        qe_isv_svn: quote.qe.isv_svn,
        tcb,
        tcb_info,
        qe_identity,
        root_revocation: revocation.root,
        revocation: revocation.pck,
        event_log,
        second_opinion: SecondOpinion::Unavailable { why: "not asked" },
    }
}
