//! The other verifiers' verdicts on a quote.

use dcap_qvl::QuoteCollateralV3;
use dcap_qvl::policy::{PckCertFlag, QuoteClaims, QuotePolicy};
use dcap_qvl::quote::{Report, TDReport10, TDReport15};
use dcap_qvl::verify::QuoteVerifier;

use protocol::time::UnixTime;

use crate::ours::{Bundle, Case, Root};
use crate::{ABSENT, Fields, Peer, Verdict, optional};

/// Everything but a policy: the quote under its chain and its collateral.
pub const WHOLE_VERIFIER: Peer = Peer {
    role: "whole verifier",
    fields: &[
        "version",
        "body",
        "tee-tcb-svn",
        "mrseam",
        "mrsignerseam",
        "seam-attributes",
        "td-attributes",
        "xfam",
        "mrtd",
        "mrconfigid",
        "mrowner",
        "mrownerconfig",
        "rtmrs",
        "report-data",
        "tee-tcb-svn-2",
        "mrservicetd",
        "vm-id",
        "td-id",
        "device-info",
        "initial-service-td",
        "current-service-td",
        "initial-cpu-svn",
        "initial-tee-tcb-svn",
        "initial-fmspc",
        "fmspc",
        "pceid",
        "ppid",
        "pce-svn",
        "components",
        "platform-instance",
        "dynamic-platform",
        "cached-keys",
        "smt-enabled",
        "qe-isv-svn",
        "status",
        "advisories",
        "date",
        "platform-date",
        "qe-status",
        "qe-date",
        "evaluation",
        "qe-evaluation",
        "qe-issued",
        "qe-next-update",
    ],
};
/// The quote under the chain that it carries; no collateral.
pub const QUOTE_VERIFIER: Peer = Peer { role: "quote verifier", fields: QUOTE_FIELDS };
/// The same without a chain: it knows no soft root, and is given the PCK certificate's key.
pub const QUOTE_VERIFIER_BY_KEY: Peer = Peer { role: "quote verifier by key", fields: QUOTE_FIELDS };

const QUOTE_FIELDS: &[&str] = &[
    "version",
    "tee-tcb-svn",
    "mrseam",
    "mrsignerseam",
    "seam-attributes",
    "td-attributes",
    "xfam",
    "mrtd",
    "mrconfigid",
    "mrowner",
    "mrownerconfig",
    "rtmrs",
    "report-data",
    "tee-tcb-svn-2",
    "mrservicetd",
];

/// What the whole verifier says. Debuggable TDs and bound service TDs are a policy's matter with us, so it is told to let them pass.
#[must_use]
pub fn whole_verifier(case: &Case) -> Verdict {
    claims_of(case, claimed)
}

/// The window of all collateral that the whole verifier used, its lists and certificates included: the latest time at which a part of it was
/// issued, and the earliest at which a part of it ends.
#[must_use]
pub fn window(case: &Case) -> Verdict {
    claims_of(case, |claims| {
        Fields::from([("issued", claims.latest_issue_date.to_string()), ("ends", claims.earliest_expiration_date.to_string())])
    })
}

fn claims_of(case: &Case, read: impl Fn(&QuoteClaims) -> Fields) -> Verdict {
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
            .map(|claims| read(&claims))
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
    let (pck, qe) = (&claims.platform.pck, &claims.qe);
    let mut advisories = claims.tcb.advisory_ids.clone();
    advisories.sort();
    advisories.dedup();
    let qe_date = UnixTime::parse(&qe.tcb_level.tcb_date).map_or(0, UnixTime::seconds);
    let flag = |flag: PckCertFlag| {
        match flag {
            PckCertFlag::True => "true",
            PckCertFlag::False => "false",
            PckCertFlag::Undefined => ABSENT,
        }
        .to_owned()
    };
    let mut fields: Fields = WHOLE_VERIFIER.fields.iter().map(|name| (*name, ABSENT.to_owned())).collect();
    fields.extend([
        ("version", claims.header.version.to_string()),
        ("fmspc", hex::encode(pck.fmspc)),
        ("pceid", hex::encode(&pck.pce_id)),
        ("ppid", hex::encode(&pck.ppid)),
        ("pce-svn", pck.pce_svn.to_string()),
        ("components", hex::encode(pck.cpu_svn)),
        ("platform-instance", optional(pck.platform_instance_id, hex::encode)),
        ("dynamic-platform", flag(pck.dynamic_platform)),
        ("cached-keys", flag(pck.cached_keys)),
        ("smt-enabled", flag(pck.smt_enabled)),
        ("qe-isv-svn", qe.report.isv_svn.to_string()),
        ("status", claims.tcb.status.to_string()),
        ("advisories", advisories.join(" ")),
        ("date", claims.platform.tcb_date_tag.min(qe_date).to_string()),
        ("platform-date", claims.platform.tcb_date_tag.to_string()),
        ("qe-status", qe.tcb_level.tcb_status.to_string()),
        ("qe-date", qe_date.to_string()),
        ("evaluation", claims.tcb.eval_data_number.to_string()),
        ("qe-evaluation", qe.tcb_eval_data_number.to_string()),
        // Of the identity and its signer's chain, which was issued before it and ends after it.
        ("qe-issued", claims.qe_iden_latest_issue_date.to_string()),
        ("qe-next-update", claims.qe_iden_earliest_expiration_date.to_string()),
    ]);
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

/// What the quote verifier says: under the chain in the quote, or by the PCK certificate's key where that is given.
///
/// # Panics
/// Never: a panic is a verdict.
#[must_use]
pub fn quote_verifier(case: &Case, pck: Option<&[u8; 64]>) -> Verdict {
    Verdict::of(|| {
        let quote = tdx_quote::Quote::from_bytes(&case.quote).map_err(|error| error.to_string())?;
        match pck {
            None => drop(quote.verify().map_err(|error| error.to_string())?),
            Some(point) => {
                let key =
                    tdx_quote::VerifyingKey::from_sec1_bytes(&[&[4], point.as_slice()].concat()).map_err(|error| error.to_string())?;
                quote.verify_with_pck(&key).map_err(|error| error.to_string())?;
            }
        }
        let body = &quote.body;
        Ok(Fields::from([
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
            ("tee-tcb-svn-2", optional(body.tee_tcb_svn_2, hex::encode)),
            ("mrservicetd", optional(body.mrservicetd, hex::encode)),
        ]))
    })
}
