//! What an independent reader of the same evidence makes of it: where it falls out with ours, where it agrees, and where there is none.

use axum::http::StatusCode;
use broker::clock;
use broker::server::Broker;
use protocol::admin::{Ending, Explanation};
use protocol::ids::Platform;
use protocol::messages::{EvidenceMessage, ReleaseRequest};
use protocol::transcript::Transcript;
use testbed::snp::GuestShape;
use testbed::tdx::{SoftTdx, TdShape};

use crate::feed_tdx::carry;
use crate::house::*;
use crate::http::{logs, problem, serve_house};

/// The errors in the log that speak of one decision.
fn alarms(decision: &str) -> Vec<serde_json::Value> {
    let text = String::from_utf8(logs().lock().unwrap().clone()).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|line| line["level"] == "ERROR" && line["fields"]["decision"] == decision).collect()
}

/// A guest whose reports are of version 2, which do not say of what line their chip is; the chip's number is zero behind `length` bytes.
fn version_2_of_a_chip_of(length: usize) -> Guest {
    let mut machine = platform();
    machine.chip_id[length..].fill(0);
    Guest { soft: machine.guest(GuestShape { version: Some(2), ..GuestShape::default() }), ..Guest::default() }
}

#[tokio::test]
async fn readers_that_fall_out_over_genuine_evidence_raise_an_alarm_and_the_guest_gets_nothing() {
    drop(logs());
    let served = serve_house(House::with_llama().await, None).await;
    // With 8 bytes, the independent parser takes the chip for one of Turin, whose TCB has another layout.
    let guest = version_2_of_a_chip_of(8);
    let told = problem(&served.release(&guest, &guest.request(&served.challenge().await)).await, 403, "snp-second-opinion");
    let decision = told.decision.unwrap().to_string();
    let raised = alarms(&decision);
    assert_eq!(raised.len(), 1, "{raised:?}");
    assert_eq!(raised[0]["fields"]["code"], "snp-second-opinion");
    let metrics = served.call("GET", "/metrics", Vec::new()).await;
    let text = String::from_utf8(metrics.body().to_vec()).unwrap();
    assert!(text.contains("portcullis_decisions_total{outcome=\"rejected\",reason=\"snp-second-opinion\"} 1"), "{text}");
    let answer = served.admin("GET", &format!("/v1/decisions/{decision}"), Vec::new()).await;
    let explanation: Explanation = serde_json::from_slice(answer.body()).unwrap();
    assert!(matches!(explanation.ending, Ending::Rejected { detail, .. } if detail.contains("CURRENT_TCB")));

    // With one byte more, it does not. And a signature that does not hold is no alarm.
    let near = version_2_of_a_chip_of(9);
    assert_eq!(served.release(&near, &near.request(&served.challenge().await)).await.status(), StatusCode::OK);
    let mut garbage = near.request(&served.challenge().await);
    let EvidenceMessage::SevSnp { report, .. } = &mut garbage.evidence else { panic!("SNP") };
    report[0x90] ^= 1;
    let told = problem(&served.release(&near, &garbage).await, 403, "snp-signature");
    assert_eq!(alarms(&told.decision.unwrap().to_string()), [serde_json::Value::Null; 0]);
}

/// A policy for the testbed's TD; `lines` stand at its top.
fn quote_policy(machine: &SoftTdx, lines: &str) -> String {
    let mrtd: String = machine.td_report().mrtd.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "format = 1\nrole = \"whole-vm\"\nconfiguration = [\"{}\"]\nattestation-lifetime = \"1 hour\"\n{lines}[tdx]\nsmt = \"allowed\"\n\
         [tdx.measurements]\ntestbed = [\"{mrtd}\"]\n[tdx.rtmrs]\nrtmr0 = \"not-checked\"\nrtmr1 = \"not-checked\"\n\
         rtmr2 = \"not-checked\"\nrtmr3 = \"not-checked\"\n",
        "c1".repeat(32)
    )
}

/// What a guest on this machine is refused for; nothing where it gets the record.
async fn refused(broker: &Broker, machine: &SoftTdx) -> Vec<String> {
    let (guest, at) = (Guest::default(), clock::now());
    let challenge = challenge(broker, at);
    let transcript = Transcript { platform: Platform::Tdx, ..guest.transcript(&challenge) };
    let quote = machine.guest(TdShape::default()).attest(&transcript.report_data()).quote;
    let evidence = EvidenceMessage::Tdx { quote, event_log: None };
    let request = ReleaseRequest { platform: Platform::Tdx, ..guest.request_with(&challenge, evidence) };
    let outcome = exchange(broker, &guest, &request, at).await.unwrap();
    codes(&outcome.items[0]).into_iter().map(str::to_owned).collect()
}

/// In every build: a broker that was built without the second verifier of quotes releases by a policy that says so, and by no other.
#[tokio::test]
async fn a_quote_of_which_there_is_no_second_opinion_is_denied_but_by_a_policy_that_does_without() {
    let house = House::with_llama().await;
    let machine = SoftTdx::new().dated(house.at.seconds());
    carry(&house.data().join("collateral"), &machine);
    let broker = house.open().await;
    let put = async |number, lines: &str| {
        let document = policy_document(&authority(), "acme/strict", number, &quote_policy(&machine, lines));
        broker.ledger.put(house.trust.policy(&document).unwrap()).await.unwrap();
    };
    let opinion: &[&str] = if cfg!(feature = "second-opinion-tdx") { &[] } else { &["second-opinion"] };
    put(2, "").await;
    assert_eq!(refused(&broker, &machine).await, opinion);
    // The words for other evidence do not help it.
    put(3, "second-opinion-exceptions = [\"masked-version-2-report\", \"version-5-quote\"]\n").await;
    assert_eq!(refused(&broker, &machine).await, opinion);
    put(4, "second-opinion-exceptions = [\"any-quote\"]\n").await;
    assert_eq!(refused(&broker, &machine).await, [""; 0]);
}
