//! One entry of the log, for people or programs.

use protocol::entries::{Decided, Entry, Event, Issued, Verdict};
use protocol::messages::Purpose;
use serde_json::json;

use crate::console::{Console, Tone};
use crate::records::Form;

pub(super) fn print(index: u64, entry: &Entry, form: Form, console: &mut Console<'_>) {
    match form {
        Form::Json => console.event(&json!({ "index": index, "entry": entry })),
        Form::Text => {
            let event = describe(&entry.event, console);
            console.line(format!("{index:>8}  {}  {event}", entry.at));
        }
    }
}

fn describe(event: &Event, console: &Console<'_>) -> String {
    match event {
        Event::Initialised {} => "initialised".to_owned(),
        Event::Started { version } => format!("started, version {version}"),
        Event::RecordPut { name, version, publisher, .. } => format!("record {name} version {version} by {publisher}"),
        Event::PolicyPut { name, version, authority, .. } => format!("policy {name} version {version} by {authority}"),
        Event::TcbBaselinesPut { name, version, authority, .. } => format!("TCB calendar {name} version {version}, by {authority}"),
        Event::RevocationsPut { version, revoked, authority, .. } => format!("revocations {version}: {revoked} revoked, by {authority}"),
        Event::CollateralImported { pieces, authority, .. } => format!("collateral imported: {pieces} pieces, by {authority}"),
        Event::Decision { decision, purpose, items, .. } => {
            let purpose = match purpose {
                Purpose::Release => "decision",
                Purpose::Check => "check",
            };
            let items: Vec<String> = items.iter().map(|item| describe_item(item, console)).collect();
            format!("{purpose} {decision}: {}", items.join("; "))
        }
        Event::IssuerKey { usage, kid, action, not_before } => {
            format!("issuer key {} {kid} {}, signs from {not_before}", usage.as_str(), action.as_str())
        }
        Event::IdentityFederated { trust_domain, sequence, .. } => format!("bundle {sequence} of trust domain {trust_domain} taken"),
        Event::Rejections { counts } => {
            let counts: Vec<String> = counts.iter().map(|count| format!("{} {}", count.count, count.code)).collect();
            format!("rejected: {}", counts.join(", "))
        }
    }
}

fn describe_item(item: &Decided, console: &Console<'_>) -> String {
    let version = item.version.map(|version| format!("@{version}")).unwrap_or_default();
    let verdict = match item.verdict {
        Verdict::Permitted => console.paint(Tone::Good, "permitted"),
        Verdict::Refused => format!("{} ({})", console.paint(Tone::Bad, "refused"), item.reasons.join(", ")),
    };
    let issued = item.issued.as_ref().map(|issued| format!(", {}", describe_issued(issued))).unwrap_or_default();
    format!("{} {}{version} {verdict}{issued}", item.kind.as_str(), item.name)
}

/// An identity with the numbers that it was given under.
fn describe_issued(issued: &Issued) -> String {
    let serial = issued.x509_serial.as_ref().map(|serial| format!(" certificate {serial}")).unwrap_or_default();
    let tokens = if issued.jti.is_empty() { String::new() } else { format!(" tokens {}", issued.jti.join(" ")) };
    format!("{}{serial}{tokens}", issued.spiffe_id)
}
