//! The verdict as people read it.

use attestation::{PlatformClaims, SnpClaims};
use policies::{Check, Verdict as CheckVerdict};
use protocol::ids::AnchorClass;

use super::verdict::{Answer, PolicyVerdict, SECOND_OPINION, Verdict};
use crate::checks::{self, Mark, Row};
use crate::console::{Console, Tone};

/// Prints everything: steps, claims, the policy's checks, the answer.
pub(super) fn print(verdict: &Verdict, console: &mut Console<'_>) {
    let anchors = match verdict.anchors {
        AnchorClass::Vendor => "vendor (compiled in)".to_owned(),
        AnchorClass::Test => console.paint(Tone::Warning, "TEST ROOTS"),
    };
    console.fields("", [("anchors", anchors), ("at", verdict.at.to_string())]);
    console.line("");
    for step in &verdict.steps {
        print_step(step.number, Mark::Passed, step.name, &step.compared, console);
    }
    if let Some(rejection) = &verdict.rejection {
        print_step(rejection.step, Mark::Failed, rejection.name, &rejection.detail, console);
    }
    if let Some(claims) = &verdict.claims {
        console.line("");
        console.fields(
            "  ",
            match claims {
                PlatformClaims::Snp(claims) => snp(claims),
                PlatformClaims::Tdx(claims) => super::tdx::fields(claims),
            },
        );
    }
    if let Some(policy) = &verdict.policy {
        console.line("");
        print_policy(policy, console);
    }
    console.line("");
    let answer = match verdict.verdict {
        Answer::Genuine if verdict.policy.is_some() => console.paint(Tone::Good, "genuine, and permitted by the policy"),
        Answer::Genuine => console.paint(Tone::Good, "genuine"),
        Answer::Rejected => console.paint(Tone::Bad, "rejected"),
        Answer::Denied => console.paint(Tone::Bad, "genuine, and denied by the policy"),
    };
    console.line(answer);
}

fn print_step(number: u8, mark: Mark, name: &str, compared: &str, console: &mut Console<'_>) {
    let names = attestation::STEPS.iter().chain(&attestation::TDX_STEPS);
    let width = names.map(|name| name.chars().count()).max().unwrap_or(0);
    let mark = mark.paint(console);
    console.line(format!("{number:>2}  {mark}  {name:width$}  {compared}"));
}

fn print_policy(policy: &PolicyVerdict, console: &mut Console<'_>) {
    checks::print(&policy.checks.iter().map(row_of).collect::<Vec<_>>(), console);
    let (opinion, session): (Vec<&str>, Vec<&str>) = policy.left_out.iter().copied().partition(|code| *code == SECOND_OPINION);
    for (want, codes) in [("a guest's session", session), ("a second verifier of quotes in this program", opinion)] {
        if !codes.is_empty() {
            let note = console.paint(Tone::Warning, &format!("not asked, for want of {want}: {}", codes.join(", ")));
            console.line(format!("  {note}"));
        }
    }
}

fn row_of(check: &Check) -> Row<'_> {
    let mark = match check.verdict {
        CheckVerdict::Passed => Mark::Passed,
        CheckVerdict::Failed => Mark::Failed,
    };
    Row { code: check.code, expected: &check.expected, found: &check.found, mark }
}

/// The claims by name.
fn snp(claims: &SnpClaims) -> Vec<(&'static str, String)> {
    let policy = &claims.guest_policy;
    let bits = [
        ("smt", policy.smt),
        ("migrate-ma", policy.migrate_ma),
        ("DEBUG", policy.debug),
        ("single-socket", policy.single_socket),
        ("cxl", policy.cxl),
        ("mem-aes-256-xts", policy.mem_aes_256_xts),
        ("rapl-disabled", policy.rapl_disabled),
        ("ciphertext-hiding", policy.ciphertext_hiding),
        ("page-swap-disabled", policy.page_swap_disabled),
    ];
    let set: Vec<&str> = bits.iter().filter(|(_, set)| *set).map(|(name, _)| *name).collect();
    let stepping = claims.stepping.as_deref().map(|stepping| format!("-{stepping}")).unwrap_or_default();
    let mut fields = vec![
        ("report version", claims.version.to_string()),
        ("product", format!("{}{stepping}", claims.product)),
        ("signed by", claims.signing_key.to_string()),
        ("measurement", hex(&claims.measurement)),
        ("report data", hex(&claims.report_data)),
        ("host data", hex(&claims.host_data)),
        ("vmpl", claims.vmpl.to_string()),
        (
            "guest policy",
            format!(
                "{:#x}, abi {}.{}: {}",
                policy.raw,
                policy.abi_major,
                policy.abi_minor,
                listed(&set, "nothing allowed, nothing required")
            ),
        ),
        ("guest svn", claims.guest_svn.to_string()),
        ("family id", hex(&claims.family_id)),
        ("image id", hex(&claims.image_id)),
        ("id key digest", hex(&claims.id_key_digest)),
        ("author key digest", claims.author_key_digest.map_or_else(|| "none".to_owned(), |digest| hex(&digest))),
        ("platform info", format!("{:#x}", claims.platform_info)),
        ("current tcb", claims.current_tcb.to_string()),
        ("reported tcb", claims.reported_tcb.to_string()),
        ("committed tcb", claims.committed_tcb.to_string()),
        ("launch tcb", claims.launch_tcb.to_string()),
        ("firmware", format!("{}, committed {}", claims.current_version, claims.committed_version)),
    ];
    if let (Some(launch), Some(current)) = (claims.launch_mitigations, claims.current_mitigations) {
        fields.push(("mitigations", format!("launch {launch:#x}, current {current:#x}")));
    }
    fields.extend([
        ("report id", hex(&claims.report_id)),
        ("migration agent", hex(&claims.report_id_ma)),
        ("chip", claims.chip_id.map_or_else(|| "not named".to_owned(), |chip| hex(&chip))),
    ]);
    if let Some(provider) = &claims.csp_id {
        fields.push(("cloud provider", provider.clone()));
    }
    fields.extend([("revocation", claims.revocation.to_string()), ("second opinion", claims.second_opinion.to_string())]);
    fields
}

/// Names with commas between them, or what it means that there are none.
pub(super) fn listed(names: &[&str], none: &str) -> String {
    if names.is_empty() { none.to_owned() } else { names.join(", ") }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
