//! Claims in words, for people: what `explain` and logs show. Nothing decides on these.

use crate::claims::{EventLog, PlatformClaims, SnpClaims, TdxClaims};

impl PlatformClaims {
    /// Every claim by name, in a stable order. An absent claim says so.
    #[must_use]
    pub fn in_words(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Snp(claims) => snp(claims),
            Self::Tdx(claims) => tdx(claims),
        }
    }
}

fn snp(claims: &SnpClaims) -> Vec<(&'static str, String)> {
    let SnpClaims {
        version,
        product,
        product_from: _,
        stepping,
        guest_svn,
        guest_policy,
        family_id,
        image_id,
        vmpl,
        platform_info,
        signing_key,
        author_key_enabled: _,
        report_data,
        measurement,
        host_data,
        id_key_digest,
        author_key_digest,
        report_id,
        report_id_ma,
        chip_id,
        csp_id,
        current_tcb,
        reported_tcb,
        committed_tcb,
        launch_tcb,
        current_version,
        committed_version,
        launch_mitigations,
        current_mitigations,
        revocation,
        second_opinion,
    } = claims;
    let bits = |mask: &Option<u64>| mask.map_or_else(absent, |mask| format!("{mask:#x}"));
    vec![
        ("report-version", version.to_string()),
        ("product", product.to_string()),
        ("stepping", stepping.clone().unwrap_or_else(absent)),
        ("measurement", hex(measurement)),
        ("guest-policy", format!("{:#x}", guest_policy.raw)),
        ("vmpl", vmpl.to_string()),
        ("guest-svn", guest_svn.to_string()),
        ("host-data", hex(host_data)),
        ("family-id", hex(family_id)),
        ("image-id", hex(image_id)),
        ("id-key-digest", hex(id_key_digest)),
        ("author-key-digest", author_key_digest.as_ref().map_or_else(absent, |digest| hex(digest))),
        ("report-data", hex(report_data)),
        ("report-id", hex(report_id)),
        ("report-id-migration-agent", hex(report_id_ma)),
        ("signing-key", signing_key.to_string()),
        ("chip-id", chip_id.as_ref().map_or_else(absent, |id| hex(id))),
        ("csp-id", csp_id.clone().unwrap_or_else(absent)),
        ("platform-info", format!("{platform_info:#x}")),
        ("tcb-current", current_tcb.to_string()),
        ("tcb-reported", reported_tcb.to_string()),
        ("tcb-committed", committed_tcb.to_string()),
        ("tcb-launch", launch_tcb.to_string()),
        ("firmware-current", current_version.to_string()),
        ("firmware-committed", committed_version.to_string()),
        ("mitigations-launch", bits(launch_mitigations)),
        ("mitigations-current", bits(current_mitigations)),
        ("revocation", revocation.to_string()),
        ("second-opinion", second_opinion.to_string()),
    ]
}

fn tdx(claims: &TdxClaims) -> Vec<(&'static str, String)> {
    let TdxClaims {
        quote_version,
        body,
        tee_tcb_svn,
        mrseam,
        mrsignerseam,
        seam_attributes,
        td_attributes,
        xfam,
        mrtd,
        mrconfigid,
        mrowner,
        mrownerconfig,
        rtmrs: [rtmr0, rtmr1, rtmr2, rtmr3],
        report_data,
        tee_tcb_svn_2,
        mrservicetd,
        extended,
        platform,
        qe_isv_svn,
        tcb,
        tcb_info,
        qe_identity,
        revocation,
        root_revocation,
        event_log,
        second_opinion,
    } = claims;
    let flag = |flag: Option<bool>| flag.map_or_else(absent, |flag| flag.to_string());
    let names = |advisories: &[String]| if advisories.is_empty() { "none".to_owned() } else { advisories.join(" ") };
    let part = |part: &crate::claims::TcbPart| format!("{} as of {}, advisories: {}", part.status, part.date, names(&part.advisories));
    vec![
        ("quote-version", quote_version.to_string()),
        ("td-report", body.to_string()),
        ("mrtd", hex(mrtd)),
        ("rtmr0", hex(rtmr0)),
        ("rtmr1", hex(rtmr1)),
        ("rtmr2", hex(rtmr2)),
        ("rtmr3", hex(rtmr3)),
        ("td-attributes", format!("{:#x}", td_attributes.raw)),
        ("xfam", format!("{xfam:#x}")),
        ("mrconfigid", hex(mrconfigid)),
        ("mrowner", hex(mrowner)),
        ("mrownerconfig", hex(mrownerconfig)),
        ("mrservicetd", mrservicetd.as_ref().map_or_else(absent, |service| hex(service))),
        ("report-data", hex(report_data)),
        ("tee-tcb-svn", hex(tee_tcb_svn)),
        ("tee-tcb-svn-2", tee_tcb_svn_2.as_ref().map_or_else(absent, |svn| hex(svn))),
        ("mrseam", hex(mrseam)),
        ("mrsignerseam", hex(mrsignerseam)),
        ("seam-attributes", format!("{seam_attributes:#x}")),
        ("td-id", extended.as_ref().map_or_else(absent, |extended| hex(&extended.td_id))),
        ("device-info", extended.as_ref().map_or_else(absent, |extended| hex(&extended.device_info))),
        ("service-td", extended.as_ref().map_or_else(absent, |extended| hex(&extended.current_service_td_hash))),
        ("pck-authority", platform.authority.to_string()),
        ("fmspc", hex(&platform.fmspc)),
        ("pceid", hex(&platform.pceid)),
        ("ppid", hex(&platform.ppid)),
        ("tcb-components", hex(&platform.components)),
        ("pce-svn", platform.pce_svn.to_string()),
        ("platform-instance", platform.platform_instance.as_ref().map_or_else(absent, |id| hex(id))),
        ("dynamic-platform", flag(platform.dynamic_platform)),
        ("cached-keys", flag(platform.cached_keys)),
        ("smt-enabled", flag(platform.smt_enabled)),
        ("qe-isv-svn", qe_isv_svn.to_string()),
        ("tcb-status", tcb.status.to_string()),
        ("tcb-date", tcb.date.to_string()),
        ("tcb-superseded", tcb.superseded.map_or_else(|| "no".to_owned(), |since| format!("since {since}"))),
        ("tcb-advisories", names(&tcb.advisories)),
        ("tcb-platform", part(&tcb.platform)),
        ("tcb-module", tcb.module.as_ref().map_or_else(absent, part)),
        ("tcb-qe", part(&tcb.qe)),
        ("tcb-info", tcb_info.to_string()),
        ("qe-identity", qe_identity.to_string()),
        ("revocation", revocation.to_string()),
        ("root-revocation", root_revocation.to_string()),
        (
            "event-log",
            match event_log {
                EventLog::Absent => absent(),
                EventLog::Replayed { events } => format!("replayed, {} events", events.len()),
            },
        ),
        ("second-opinion", second_opinion.to_string()),
    ]
}

fn absent() -> String {
    "absent".to_owned()
}

fn hex(bytes: &[u8]) -> String {
    ::hex::encode(bytes)
}
