//! The claims of a TDX quote as people read them.

use attestation::{EventLog, TcbPart, TdAttributes, TdxClaims};

use super::text::{hex, listed};

/// The claims by name.
pub(super) fn fields(claims: &TdxClaims) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("quote version", format!("{}, TD report {}", claims.quote_version, claims.body)),
        ("mrtd", hex(&claims.mrtd)),
        ("rtmr0", hex(&claims.rtmrs[0])),
        ("rtmr1", hex(&claims.rtmrs[1])),
        ("rtmr2", hex(&claims.rtmrs[2])),
        ("rtmr3", hex(&claims.rtmrs[3])),
        ("report data", hex(&claims.report_data)),
        ("td attributes", attributes(claims.td_attributes)),
        ("xfam", format!("{:#x}", claims.xfam)),
        ("mrconfigid", hex(&claims.mrconfigid)),
        ("mrowner", hex(&claims.mrowner)),
        ("mrownerconfig", hex(&claims.mrownerconfig)),
    ];
    fields.extend(claims.mrservicetd.map(|service| ("mrservicetd", hex(&service))));
    fields.extend([
        ("mrseam", hex(&claims.mrseam)),
        ("mrsignerseam", hex(&claims.mrsignerseam)),
        ("seam attributes", format!("{:#x}", claims.seam_attributes)),
        ("tee tcb svn", hex(&claims.tee_tcb_svn)),
    ]);
    fields.extend(claims.tee_tcb_svn_2.map(|svn| ("tee tcb svn, now", hex(&svn))));
    if let Some(more) = &claims.extended {
        fields.extend([
            ("vm and td id", format!("{}, {}", more.vm_id, hex(&more.td_id))),
            ("device info", hex(&more.device_info)),
            ("service td, first", format!("{}, attributes {:#x}", hex(&more.initial_service_td_hash), more.initial_service_td_attributes)),
            ("service td, now", format!("{}, attributes {:#x}", hex(&more.current_service_td_hash), more.current_service_td_attributes)),
            ("first cpu svn", hex(&more.initial_cpu_svn)),
            ("first tee tcb svn", hex(&more.initial_tee_tcb_svn)),
            ("first fmspc", hex(&more.initial_fmspc)),
        ]);
    }
    let platform = &claims.platform;
    fields.extend([
        (
            "platform",
            format!("fmspc {}, pceid {}, of the {} authority", hex(&platform.fmspc), hex(&platform.pceid), platform.authority.as_str()),
        ),
        ("ppid", hex(&platform.ppid)),
        ("platform svns", format!("{}, pce svn {}", hex(&platform.components), platform.pce_svn)),
    ]);
    fields.extend(platform.platform_instance.map(|instance| ("platform instance", hex(&instance))));
    if let (Some(dynamic), Some(keys), Some(smt)) = (platform.dynamic_platform, platform.cached_keys, platform.smt_enabled) {
        let said: Vec<&str> = [("packages can be added", dynamic), ("keys kept by Intel", keys), ("smt", smt)]
            .iter()
            .filter(|(_, set)| *set)
            .map(|(name, _)| *name)
            .collect();
        fields.push(("configuration", listed(&said, "none of smt, added packages, keys kept by Intel")));
    }
    let tcb = &claims.tcb;
    let part = |part: &TcbPart| format!("{} of {}", part.status, day(part.date));
    fields.extend([
        ("tcb", format!("{} of {}", tcb.status, day(tcb.date))),
        ("superseded", tcb.superseded.map_or_else(|| "no".to_owned(), |since| format!("since {}", day(since)))),
        ("advisories", listed(&tcb.advisories.iter().map(String::as_str).collect::<Vec<_>>(), "none")),
        ("tcb, platform", part(&tcb.platform)),
        ("tcb, module", tcb.module.as_ref().map_or_else(|| "judged with the platform".to_owned(), part)),
        ("tcb, quoting enclave", format!("{}, isv svn {}", part(&tcb.qe), claims.qe_isv_svn)),
        ("tcb info", claims.tcb_info.to_string()),
        ("qe identity", claims.qe_identity.to_string()),
        ("revocation", claims.revocation.to_string()),
        ("revocation, root", claims.root_revocation.to_string()),
        ("event log", log(&claims.event_log)),
        ("second opinion", claims.second_opinion.to_string()),
    ]);
    fields
}

fn attributes(attributes: TdAttributes) -> String {
    let names = [
        ("DEBUG", TdAttributes::DEBUG),
        ("sept-ve-disable", TdAttributes::SEPT_VE_DISABLE),
        ("MIGRATABLE", TdAttributes::MIGRATABLE),
        ("pks", TdAttributes::PKS),
        ("key-locker", TdAttributes::KEY_LOCKER),
        ("perfmon", TdAttributes::PERFMON),
    ];
    let set: Vec<&str> = names.iter().filter(|(_, bit)| attributes.raw & bit != 0).map(|(name, _)| *name).collect();
    format!("{:#x}: {}", attributes.raw, listed(&set, "none"))
}

fn log(log: &EventLog) -> String {
    match log {
        EventLog::Absent => "none came with the quote".to_owned(),
        EventLog::Replayed { events } => {
            let with_data = events.iter().filter(|event| event.data.is_some()).count();
            format!("replays to all registers: {} events, {with_data} with data that the digest proves", events.len())
        }
    }
}

fn day(time: protocol::time::UnixTime) -> String {
    time.to_string().chars().take(10).collect()
}
