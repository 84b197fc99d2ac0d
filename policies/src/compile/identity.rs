//! The `[identity]` table.

use std::time::Duration;

use protocol::ids::Role;
use protocol::messages::identity::is_audience;
use protocol::spiffe::template::Variable;
use protocol::spiffe::{Template, TemplateError};
use toml::Spanned;

use super::bounded;
use crate::error::Reason;
use crate::identity::IdentityRules;
use crate::language::{self, Text, Texts};
use crate::sets::List;
use crate::values::{Fault, fault, list, required};

/// Bounds of `x509-lifetime`. Below 5 minutes a certificate lapses between two renewals of a busy guest; beyond a day nobody
/// would notice for as long that a guest's attestation has long been refused.
const X509: (Duration, Duration) = (Duration::from_secs(300), Duration::from_secs(86400));
/// `x509-lifetime` where it is not stated.
const X509_DEFAULT: Duration = Duration::from_secs(3600);

/// Bounds of `jwt-lifetime`. A JWT-SVID is a bearer token: whoever reads it is the guest, for as long as it lives.
const JWT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(300));

pub(super) fn identity(table: &Spanned<language::Identity>, role: &Role) -> Result<IdentityRules, Fault> {
    let at = table.span().start;
    let table = table.get_ref();
    let life = |text: Option<&Text>, key, range, words, default| text.map_or(Ok(default), |text| bounded(text, key, range, words));
    let rules = IdentityRules {
        template: template(required(table.spiffe_id.as_ref(), at, "identity.spiffe-id")?, role)?,
        x509_lifetime: life(table.x509_lifetime.as_ref(), "identity.x509-lifetime", X509, ("5 minutes", "24 hours"), X509_DEFAULT)?,
        jwt_lifetime: life(table.jwt_lifetime.as_ref(), "identity.jwt-lifetime", JWT, ("1 minute", "5 minutes"), JWT.1)?,
        audiences: list(table.audiences.as_ref(), AUDIENCES, audience)?,
        federation_audiences: list(table.federation_audiences.as_ref(), FEDERATION, audience)?,
        result_audiences: list(table.result_audiences.as_ref(), RESULTS, audience)?,
    };
    disjoint(rules.audiences.as_ref(), table.federation_audiences.as_ref(), (AUDIENCES, FEDERATION))?;
    disjoint(rules.audiences.as_ref(), table.result_audiences.as_ref(), (AUDIENCES, RESULTS))?;
    disjoint(rules.federation_audiences.as_ref(), table.result_audiences.as_ref(), (FEDERATION, RESULTS))?;
    match &table.jwt_lifetime {
        Some(text) if [&rules.audiences, &rules.federation_audiences, &rules.result_audiences].iter().all(|list| list.is_none()) => {
            fault(text.span().start, Reason::JwtLifetimeWithoutAudiences)
        }
        _ => Ok(rules),
    }
}

const AUDIENCES: &str = "identity.audiences";
const FEDERATION: &str = "identity.federation-audiences";
const RESULTS: &str = "identity.result-audiences";

/// A template that the policy's own role can fill: what is wrong with it for every guest is said to its author.
fn template(text: &Text, role: &Role) -> Result<Template, Fault> {
    let refused = |why| Fault { at: text.span().start, reason: Reason::SpiffeId { found: text.get_ref().clone(), why } };
    let template: Template = text.get_ref().parse().map_err(refused)?;
    let variable = Variable::Workload.as_str();
    match role {
        _ if !template.uses(Variable::Workload) => Ok(template),
        Role::WholeVm => Err(refused(TemplateError::NoValue { variable })),
        Role::Workload(name) if name.as_str().contains('/') => Err(refused(TemplateError::Separator { variable, found: name.to_string() })),
        Role::Workload(_) => Ok(template),
    }
}

fn audience(text: &Text, key: &'static str) -> Result<String, Fault> {
    let found = text.get_ref().clone();
    if is_audience(&found) { Ok(found) } else { fault(text.span().start, Reason::Audience { key, found }) }
}

/// An audience that stands in two lists would be served by two keys, and a token for one reader would do for another.
fn disjoint(list: Option<&List<String>>, other: Option<&Texts>, keys: (&'static str, &'static str)) -> Result<(), Fault> {
    for text in other.map(|texts| texts.get_ref().as_slice()).unwrap_or_default() {
        if list.is_some_and(|list| list.contains(text.get_ref().as_str())) {
            return fault(text.span().start, Reason::Contradiction { one: keys.0, other: keys.1 });
        }
    }
    Ok(())
}
