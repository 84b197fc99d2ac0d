//! The other verifiers' verdicts on a quote.

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::policy::{PckCertFlag, QuoteClaims, QuotePolicy};
use dcap_qvl::quote::{Report, TDReport10, TDReport15};
use dcap_qvl::verify::QuoteVerifier;

use crate::ours::{Bundle, Case, Root};
use crate::{Fields, Verdict};

/// `dcap-qvl`: everything but a policy.
pub const DCAP_QVL: &str = "dcap-qvl";
/// `tdx-quote`: the quote under its own chain; no collateral.
pub const TDX_QUOTE: &str = "tdx-quote";
/// The same on version 5 quotes, which it cannot read.
pub const TDX_QUOTE_5: &str = "tdx-quote on version 5";

/// What `dcap-qvl` says. Debuggable TDs and bound service TDs are a policy's matter with us, so it is told to let them pass.
#[must_use]
pub fn dcap_qvl(case: &Case) -> Verdict {
    let verifier = match &case.root {
        Root::Vendor => QuoteVerifier::new_prod(),
        Root::Soft(root) => QuoteVerifier::new(root.clone()),
    };
    let verifier = verifier.allow_debug(true).allow_service_td(true);
    let collateral = QuoteCollateralV3::from(&case.bundle);
    Verdict::of(|| {
        let policy = QuotePolicy::claims_only(case.at);
        verifier
            .verify_with_policy(&case.quote, collateral, case.at, &policy)
            .map(|claims| claimed(&claims))
            .map_err(|error| format!("{error:#}"))
    })
}

impl From<&Bundle> for QuoteCollateralV3 {
    fn from(bundle: &Bundle) -> Self {
        Self {
            pck_crl_issuer_chain: bundle.pck_list_issuer_chain.clone(),
            root_ca_crl: bundle.root_list.clone(),
            pck_crl: bundle.pck_list.clone(),
            tcb_info_issuer_chain: bundle.tcb_info_issuer_chain.clone(),
            tcb_info: bundle.tcb_info.clone(),
            tcb_info_signature: bundle.tcb_info_signature.clone(),
            qe_identity_issuer_chain: bundle.qe_identity_issuer_chain.clone(),
            qe_identity: bundle.qe_identity.clone(),
            qe_identity_signature: bundle.qe_identity_signature.clone(),
            pck_certificate_chain: None,
        }
    }
}

fn claimed(claims: &QuoteClaims) -> Fields {
    let pck = &claims.platform.pck;
    let mut advisories = claims.tcb.advisory_ids.clone();
    advisories.sort();
    advisories.dedup();
    let mut fields = Fields::from([
        ("version", claims.header.version.to_string()),
        ("fmspc", hex::encode(pck.fmspc)),
        ("pceid", hex::encode(&pck.pce_id)),
        ("ppid", hex::encode(&pck.ppid)),
        ("pce-svn", pck.pce_svn.to_string()),
        ("components", hex::encode(pck.cpu_svn)),
        ("qe-isv-svn", claims.qe.report.isv_svn.to_string()),
        ("status", claims.tcb.status.to_string()),
        ("advisories", advisories.join(" ")),
        ("evaluation", claims.tcb.eval_data_number.to_string()),
    ]);
    fields.extend(pck.platform_instance_id.map(|id| ("platform-instance", hex::encode(id))));
    let flags = [("dynamic-platform", pck.dynamic_platform), ("cached-keys", pck.cached_keys), ("smt-enabled", pck.smt_enabled)];
    fields.extend(flags.into_iter().filter_map(|(name, flag)| match flag {
        PckCertFlag::True => Some((name, "true".to_owned())),
        PckCertFlag::False => Some((name, "false".to_owned())),
        PckCertFlag::Undefined => None,
    }));
    match &claims.report {
        Report::SgxEnclave(_) => drop(fields.insert("body", "sgx".to_owned())),
        Report::TD10(report) => {
            fields.insert("body", "1.0".to_owned());
            td_report(&mut fields, report);
        }
        Report::TD15(report) => {
            fields.insert("body", "1.5".to_owned());
            td_report_15(&mut fields, report);
        }
        Report::TD15Ex(report) => {
            fields.insert("body", "1.5-ex".to_owned());
            td_report_15(&mut fields, &report.base);
            let service = |hash: &[u8; 48], attributes: &[u8; 8]| format!("{} {}", hex::encode(hash), hex::encode(attributes));
            fields.extend([
                ("vm-id", report.vmid.to_string()),
                ("td-id", hex::encode(report.td_id)),
                ("device-info", hex::encode(report.dev_info)),
                ("initial-service-td", service(&report.init_service_td_hash, &report.init_service_td_attributes)),
                ("current-service-td", service(&report.cur_service_td_hash, &report.cur_service_td_attributes)),
                ("initial-cpu-svn", hex::encode(report.init_cpu_svn)),
                ("initial-tee-tcb-svn", hex::encode(report.init_tee_tcb_svn)),
                ("initial-fmspc", hex::encode(report.init_tee_fmspc)),
            ]);
        }
    }
    fields
}

fn td_report_15(fields: &mut Fields, report: &TDReport15) {
    td_report(fields, &report.base);
    fields.insert("tee-tcb-svn-2", hex::encode(report.tee_tcb_svn2));
    fields.insert("mrservicetd", hex::encode(report.mr_service_td));
}

fn td_report(fields: &mut Fields, report: &TDReport10) {
    fields.extend([
        ("tee-tcb-svn", hex::encode(report.tee_tcb_svn)),
        ("mrseam", hex::encode(report.mr_seam)),
        ("mrsignerseam", hex::encode(report.mr_signer_seam)),
        ("seam-attributes", hex::encode(report.seam_attributes)),
        ("td-attributes", hex::encode(report.td_attributes)),
        ("xfam", hex::encode(report.xfam)),
        ("mrtd", hex::encode(report.mr_td)),
        ("mrconfigid", hex::encode(report.mr_config_id)),
        ("mrowner", hex::encode(report.mr_owner)),
        ("mrownerconfig", hex::encode(report.mr_owner_config)),
        ("rtmrs", [report.rt_mr0, report.rt_mr1, report.rt_mr2, report.rt_mr3].map(hex::encode).join(" ")),
        ("report-data", hex::encode(report.report_data)),
    ]);
}

/// What `tdx-quote` says. Under a soft root, whose chain it cannot know, it is given the PCK certificate's key.
///
/// # Panics
/// Never: a panic is a verdict.
#[must_use]
pub fn tdx_quote(case: &Case, soft_pck: Option<&[u8; 64]>) -> Verdict {
    Verdict::of(|| {
        let quote = tdx_quote::Quote::from_bytes(&case.quote).map_err(|error| error.to_string())?;
        match soft_pck {
            None => drop(quote.verify().map_err(|error| error.to_string())?),
            Some(point) => {
                let key =
                    tdx_quote::VerifyingKey::from_sec1_bytes(&[&[4], point.as_slice()].concat()).map_err(|error| error.to_string())?;
                quote.verify_with_pck(&key).map_err(|error| error.to_string())?;
            }
        }
        let body = &quote.body;
        let mut fields = Fields::from([
            ("version", quote.header.version.to_string()),
            ("tee-tcb-svn", hex::encode(body.tee_tcb_svn)),
            ("mrseam", hex::encode(body.mrseam)),
            ("mrsignerseam", hex::encode(body.mrsignerseam)),
            ("seam-attributes", hex::encode(body.seamattributes)),
            ("td-attributes", hex::encode(body.tdattributes)),
            ("xfam", hex::encode(body.xfam)),
            ("mrtd", hex::encode(body.mrtd)),
            ("mrconfigid", hex::encode(body.mrconfigid)),
            ("mrowner", hex::encode(body.mrowner)),
            ("mrownerconfig", hex::encode(body.mrownerconfig)),
            ("rtmrs", [body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3].map(hex::encode).join(" ")),
            ("report-data", hex::encode(body.reportdata)),
        ]);
        fields.extend(body.tee_tcb_svn_2.map(|svn| ("tee-tcb-svn-2", hex::encode(svn))));
        fields.extend(body.mrservicetd.map(|measurement| ("mrservicetd", hex::encode(measurement))));
        Ok(fields)
    })
}
