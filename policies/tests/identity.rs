//! The `[identity]` table: what it means, and every text that is none; beside each a near miss that is one.

use std::time::Duration;

use policies::{Audience, IdentityRules, Policy, PolicyError, Reason};
use protocol::spiffe::{SpiffeError, TemplateError};

const EXAMPLE: &str = include_str!("../examples/identity.toml");

/// The example, with one thing changed.
fn with(from: &str, to: &str) -> Result<Policy, PolicyError> {
    assert_eq!(EXAMPLE.matches(from).count(), 1, "{from:?} stands once in the example");
    Policy::parse(&EXAMPLE.replace(from, to))
}

#[track_caller]
fn refused(from: &str, to: &str) -> Reason {
    let error = with(from, to).expect_err("no policy");
    assert!(!error.hint().is_empty());
    error.reason().clone()
}

#[track_caller]
fn rules(policy: &Policy) -> &IdentityRules {
    policy.identity().expect("an identity")
}

const ID: &str = "\"spiffe://acme.example/agents/{workload}\"";

#[test]
fn the_table_says_who_and_for_how_long_and_for_whom() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let rules = rules(&policy);
    assert_eq!(rules.template().to_string(), "spiffe://acme.example/agents/{workload}");
    assert_eq!(rules.x509_lifetime(), Duration::from_secs(1800));
    assert_eq!(rules.jwt_lifetime(), Duration::from_secs(120));
    assert_eq!(rules.jwt_audience("tools.acme.example"), Some(Audience::Workload));
    assert_eq!(rules.jwt_audience("sts.amazonaws.com"), Some(Audience::Federation));
    assert!(rules.gives_results_to("verifier.acme.example"));
}

#[test]
fn audiences_are_compared_whole_and_each_list_is_its_own() {
    let policy = Policy::parse(EXAMPLE).unwrap();
    let rules = rules(&policy);
    for other in ["", "tools", "tools.acme.example/", "Tools.acme.example", " tools.acme.example", "verifier.acme.example"] {
        assert_eq!(rules.jwt_audience(other), None, "{other:?}");
    }
    for other in ["", "tools.acme.example", "sts.amazonaws.com"] {
        assert!(!rules.gives_results_to(other), "{other:?}");
    }
}

#[test]
fn a_policy_without_the_table_gives_no_identity() {
    let (before, rest) = EXAMPLE.split_once("[identity]").unwrap();
    let policy = Policy::parse(&format!("{before}{}", &rest[rest.find("[snp]").unwrap()..])).unwrap();
    assert!(policy.identity().is_none());
}

#[test]
fn without_lists_there_is_a_certificate_and_nothing_else() {
    let start = EXAMPLE.find("jwt-lifetime").unwrap();
    let end = EXAMPLE.find("[snp]").unwrap();
    let text = format!("{}{}", &EXAMPLE[..start], &EXAMPLE[end..]);
    let policy = Policy::parse(&text).unwrap();
    let rules = rules(&policy);
    assert_eq!(rules.jwt_audience("tools.acme.example"), None);
    assert!(!rules.gives_results_to("verifier.acme.example"));
    let alone = text.replace("x509-lifetime", "jwt-lifetime = \"2 minutes\"\nx509-lifetime");
    assert_eq!(*Policy::parse(&alone).unwrap_err().reason(), Reason::JwtLifetimeWithoutAudiences);
}

#[test]
fn lives_have_defaults_and_bounds() {
    let policy = with("x509-lifetime = \"30 minutes\"\n", "").unwrap();
    assert_eq!(rules(&policy).x509_lifetime(), Duration::from_secs(3600));
    let policy = with("jwt-lifetime = \"2 minutes\"\n", "").unwrap();
    assert_eq!(rules(&policy).jwt_lifetime(), Duration::from_secs(300));
    for good in ["5 minutes", "24 hours"] {
        assert!(with("\"30 minutes\"", &format!("\"{good}\"")).is_ok(), "{good}");
    }
    for bad in ["299 seconds", "25 hours", "0 days"] {
        let expected = Reason::Bounds { key: "identity.x509-lifetime", least: "5 minutes", most: "24 hours" };
        assert_eq!(refused("\"30 minutes\"", &format!("\"{bad}\"")), expected, "{bad}");
    }
    for good in ["1 minute", "5 minutes"] {
        assert!(with("\"2 minutes\"", &format!("\"{good}\"")).is_ok(), "{good}");
    }
    for bad in ["59 seconds", "301 seconds"] {
        let expected = Reason::Bounds { key: "identity.jwt-lifetime", least: "1 minute", most: "5 minutes" };
        assert_eq!(refused("\"2 minutes\"", &format!("\"{bad}\"")), expected, "{bad}");
    }
}

#[test]
fn a_template_is_required_and_makes_a_spiffe_id() {
    assert_eq!(refused(&format!("spiffe-id = {ID}\n"), ""), Reason::Missing { key: "identity.spiffe-id" });
    let why = |id: &str| match refused(ID, &format!("{id:?}")) {
        Reason::SpiffeId { found, why } if found == id => why,
        other => panic!("{id}: {other:?}"),
    };
    assert_eq!(why("https://acme.example/agents"), TemplateError::Id(SpiffeError::Scheme));
    assert_eq!(why("spiffe://acme.example"), TemplateError::Id(SpiffeError::NoPath));
    for climbing in ["spiffe://acme.example/agents/../admin", "spiffe://acme.example/agents//a", "spiffe://acme.example/agents/"] {
        assert_eq!(why(climbing), TemplateError::Id(SpiffeError::Path), "{climbing}");
    }
    for good in ["spiffe://acme.example/agents/research", "spiffe://acme.example/{anchors}/{platform}/{policy}/{workload}"] {
        assert!(with(ID, &format!("{good:?}")).is_ok(), "{good}");
    }
    for bad in ["spiffe://acme.example/{model}", "spiffe://acme.example/a-{workload}", "spiffe://{workload}/a", "spiffe://acme.example/{}"]
    {
        assert!(matches!(refused(ID, &format!("{bad:?}")), Reason::SpiffeId { .. }), "{bad}");
    }
}

#[test]
fn a_template_that_the_role_can_never_fill_is_refused() {
    let variable = "workload";
    let found = "spiffe://acme.example/agents/{workload}".to_owned();
    let role = "role = \"workload:research\"";
    let why = TemplateError::NoValue { variable };
    assert_eq!(refused(role, "role = \"whole-vm\""), Reason::SpiffeId { found: found.clone(), why });
    let why = TemplateError::Separator { variable, found: "agents/research".to_owned() };
    assert_eq!(refused(role, "role = \"workload:agents/research\""), Reason::SpiffeId { found, why });
    let whole = EXAMPLE.replace(role, "role = \"whole-vm\"").replace("/{workload}", "/{platform}");
    assert!(Policy::parse(&whole).is_ok());
    let slash = EXAMPLE.replace(role, "role = \"workload:agents/research\"").replace("/{workload}", "/research");
    assert!(Policy::parse(&slash).is_ok());
}

#[test]
fn an_audience_is_printable_and_stands_in_one_list() {
    let tools = "\"tools.acme.example\"";
    for bad in ["", "a b", "a\tb", "\u{e4}", "a\u{7f}", &"a".repeat(257)] {
        let expected = Reason::Audience { key: "identity.audiences", found: bad.to_owned() };
        assert_eq!(
            refused(
                tools,
                &format!("\"{}\"", bad.escape_default().to_string().replace("\\u{e4}", "\\u00e4").replace("\\u{7f}", "\\u007f"))
            ),
            expected,
            "{bad:?}"
        );
    }
    for good in ["a", &"a".repeat(256), "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x"] {
        assert!(with(tools, &format!("{good:?}")).is_ok(), "{good}");
    }
    assert_eq!(refused("[\"tools.acme.example\"]", "[]"), Reason::Empty { key: "identity.audiences" });
    let twice = Reason::Repeated { key: "identity.audiences" };
    assert_eq!(refused(tools, "\"tools.acme.example\", \"tools.acme.example\""), twice);
    let both = |one, other| Reason::Contradiction { one, other };
    let (own, clouds, results) = ("identity.audiences", "identity.federation-audiences", "identity.result-audiences");
    assert_eq!(refused(tools, "\"sts.amazonaws.com\""), both(own, clouds));
    assert_eq!(refused(tools, "\"verifier.acme.example\""), both(own, results));
    assert_eq!(refused("\"verifier.acme.example\"", "\"sts.amazonaws.com\""), both(clouds, results));
}

#[test]
fn an_unknown_key_is_refused() {
    let reason = refused("[identity]\n", "[identity]\nsubject = \"anybody\"\n");
    assert!(matches!(&reason, Reason::Toml(message) if message.starts_with("unknown field `subject`")), "{reason:?}");
}
