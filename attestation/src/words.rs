//! Claims in words, for people: what `explain` and logs show. Nothing decides on these.

use crate::claims::{PlatformClaims, SnpClaims};

impl PlatformClaims {
    /// Every claim by name, in a stable order. An absent claim says so.
    #[must_use]
    pub fn in_words(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Snp(claims) => snp(claims),
            Self::Tdx(_) => Vec::new(),
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

fn absent() -> String {
    "absent".to_owned()
}

fn hex(bytes: &[u8]) -> String {
    ::hex::encode(bytes)
}
