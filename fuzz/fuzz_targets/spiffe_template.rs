//! SPIFFE IDs, trust domains and templates, and what templates make.
//!
//! Input: a byte that chooses which, then the text; for a template a line with the workload's name, then a line with the policy's.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::ids::{AnchorClass, Name, Platform};
use protocol::spiffe::template::Variable;
use protocol::spiffe::{SpiffeId, Template, TrustDomain, Variables};

fuzz_target!(|data: &[u8]| {
    let Some((choice, bytes)) = data.split_first() else { return };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match choice % 3 {
        0 => {
            if let Ok(id) = text.parse::<SpiffeId>() {
                canonical(&id);
                // Case in scheme and trust domain is all that may differ.
                assert!(id.uri().eq_ignore_ascii_case(text) && text.ends_with(id.path()));
            }
        }
        1 => {
            if let Ok(domain) = TrustDomain::from_id(text) {
                assert_eq!(TrustDomain::from_id(&domain.id()), Ok(domain));
            }
        }
        _ => template(text),
    }
});

fn canonical(id: &SpiffeId) {
    let uri = id.uri();
    assert!(uri.len() <= SpiffeId::MAX && uri.starts_with("spiffe://"));
    assert!(uri[9..].bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte)));
    assert!(id.path()[1..].split('/').all(|segment| !matches!(segment, "" | "." | "..")));
    assert_eq!(uri.parse().as_ref(), Ok(id));
}

fn template(text: &str) {
    let mut lines = text.splitn(3, '\n');
    let (Some(text), workload, policy) = (lines.next(), lines.next(), lines.next()) else { return };
    let Ok(template) = text.parse::<Template>() else { return };
    assert_eq!(template.to_string().parse().as_ref(), Ok(&template));
    let workload = workload.and_then(|name| name.parse::<Name>().ok());
    let policy = policy.and_then(|name| name.parse().ok()).unwrap_or_else(|| "policy".parse::<Name>().expect("a name"));
    let variables = Variables { workload: workload.as_ref(), platform: Platform::Tdx, policy: &policy, anchors: AnchorClass::Test };
    if let Ok(id) = template.render(&variables) {
        canonical(&id);
        assert_eq!(id.trust_domain(), template.trust_domain());
        // As many segments as the template has: nothing climbs, nothing widens.
        assert_eq!(id.path().matches('/').count(), template.to_string()[9..].matches('/').count());
        assert!(workload.is_some() || !template.uses(Variable::Workload));
    }
}
