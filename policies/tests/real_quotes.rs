//! Decisions over the quotes of real TDs, where they are at hand: what a reference library refuses in a genuine quote for what it says, by
//! its own rules on debugging, injected exceptions and service TDs, is what a policy denies, by the code of that rule and no other.

use std::path::{Path, PathBuf};

use attestation::{
    Anchors, Collateral, Evidence, Lapsed, PlatformClaims, PreparedCollateral, ReportDataRule, SignedBody, TdxClaims, TdxCollateral,
    TdxEvidence,
};
use policies::{Policy, Verdict};
use protocol::time::UnixTime;

/// The folder of real evidence; `None` where this checkout has none.
fn real_evidence() -> Option<PathBuf> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence");
    named.or(Some(beside)).filter(|folder| folder.join("tdx").is_dir())
}

fn collateral(folder: &Path) -> Collateral {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let signed = |body: &str, chain: &str| vec![SignedBody { body: read(body), issuer_chain: read(chain) }];
    let tdx = TdxCollateral {
        tcb_infos: signed("tcb_info.json", "tcb_signing_chain.pem"),
        qe_identities: signed("qe_identity.json", "qe_identity_signing_chain.pem"),
        crls: vec![read("root_ca_crl.der"), read("pck_crl_platform.der")],
        ..TdxCollateral::default()
    };
    Collateral { tdx, ..Collateral::default() }
}

/// A policy for the image of one TD, which leaves to the host what it may choose; `lines` stand under `[tdx]`.
fn policy(claims: &TdxClaims, lines: &str) -> Policy {
    let text = format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = \"config-is-measured\"\nattestation-lifetime = \"1 hour\"\n\
         revocation-max-age = \"400 days\"\nsecond-opinion-exceptions = [\"any-quote\"]\n[tdx]\n{lines}smt = \"allowed\"\n\
         mrconfigid = \"mrconfigid-not-trusted\"\ntd-id = \"not-checked\"\ndevice-info = \"not-checked\"\n\
         [tdx.measurements]\na = [\"{}\"]\n[tdx.rtmrs]\nrtmr0 = \"not-checked\"\nrtmr1 = \"not-checked\"\nrtmr2 = \"not-checked\"\nrtmr3 = \"not-checked\"\n",
        hex::encode(claims.mrtd)
    );
    Policy::parse(&text).unwrap_or_else(|error| panic!("{error}"))
}

/// The codes that a policy denies real claims for.
fn failed(policy: &Policy, claims: &TdxClaims, at: UnixTime) -> Vec<&'static str> {
    let checks = policy.examine(&PlatformClaims::Tdx(claims.clone()), None, None, at);
    checks.iter().filter(|check| check.verdict == Verdict::Failed).map(|check| check.code).collect()
}

#[test]
fn what_a_reference_library_refuses_of_a_genuine_quote_is_denied_by_the_code_of_that_rule() {
    let Some(folder) = real_evidence() else { return println!("skipped: no folder of real evidence") };
    let table = std::fs::read_to_string(folder.join("tdx-verdicts.csv")).unwrap();
    let (mut denied, mut permitted) = (Vec::new(), 0);
    for line in table.lines().skip(1) {
        let cells: Vec<&str> = line.splitn(7, ',').collect();
        let [quote, name, at, library, ..] = cells.as_slice() else { panic!("{line}") };
        let at = UnixTime::from_seconds(at.parse().unwrap());
        let anchors = Anchors::vendor();
        let evidence = Evidence::Tdx(TdxEvidence { quote: std::fs::read(folder.join(quote)).unwrap(), event_log: None });
        let prepared = PreparedCollateral::prepare(collateral(&folder.join(name)), &anchors);
        let judged = attestation::judge(&evidence, &prepared, &anchors, ReportDataRule::NotCompared, Lapsed::Claimed, at);
        // What nobody vouches for is no matter of a policy.
        let Ok(genuine) = judged else { continue };
        let PlatformClaims::Tdx(claims) = genuine.platform() else { panic!("not of TDX") };
        let (rule, status) = match *library {
            "ERR:Debug mode is enabled" => (Some("tdx-debug"), None),
            "ERR:SEPT_VE_DISABLE is not enabled" => (Some("tdx-sept-ve-disable"), None),
            "ERR:Invalid MR service TD" => (Some("tdx-service-td"), None),
            status => (None, Some(status)),
        };
        let (of_tcb, others): (Vec<&str>, Vec<&str>) =
            failed(&policy(claims, ""), claims, at).into_iter().partition(|code| code.starts_with("tdx-tcb-"));
        assert_eq!(others, rule.into_iter().collect::<Vec<_>>(), "{line}");
        assert_eq!(of_tcb.is_empty(), status.unwrap_or(claims.tcb.status.as_str()) == "UpToDate", "{line}: {of_tcb:?}");
        if rule == Some("tdx-service-td") {
            // The near miss: the policy names the service TD.
            let named = format!("mrservicetd = [\"{}\"]\n", hex::encode(claims.mrservicetd.unwrap()));
            assert!(!failed(&policy(claims, &named), claims, at).contains(&"tdx-service-td"), "{line}");
        }
        denied.extend(rule);
        permitted += usize::from(rule.is_none() && of_tcb.is_empty());
    }
    let times = |code: &str| denied.iter().filter(|rule| **rule == code).count();
    assert!(["tdx-debug", "tdx-sept-ve-disable", "tdx-service-td"].into_iter().all(|code| times(code) >= 2), "{denied:?}");
    assert!(permitted >= 10, "only {permitted} permitted");
}
