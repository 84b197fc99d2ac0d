//! Who a guest is that a policy permits: the `[identity]` table after reading. What it says is carried out by the broker, which alone
//! knows its trust domain, its issuer, and which paths an authority may assign.

use std::time::Duration;

use protocol::spiffe::Template;

use crate::sets::List;

/// The rules of the `[identity]` table. The guest has no say in any of it: it asks by the policy's name.
#[derive(Debug)]
pub struct IdentityRules {
    pub(crate) template: Template,
    pub(crate) x509_lifetime: Duration,
    pub(crate) jwt_lifetime: Duration,
    pub(crate) audiences: Option<List<String>>,
    pub(crate) federation_audiences: Option<List<String>>,
    pub(crate) result_audiences: Option<List<String>>,
}

/// For whom a JWT-SVID is, which decides by which key it is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Others who hold the trust domain's bundle: ES256.
    Workload,
    /// A cloud that trusts the issuer by OIDC discovery: RS256, and `iss` is the issuer.
    Federation,
}

impl IdentityRules {
    /// The template of the guest's SPIFFE ID.
    #[must_use]
    pub const fn template(&self) -> &Template {
        &self.template
    }

    /// The most that an X.509-SVID lives: 5 minutes to 24 hours.
    #[must_use]
    pub const fn x509_lifetime(&self) -> Duration {
        self.x509_lifetime
    }

    /// The most that a JWT-SVID or an attestation result lives: 1 to 5 minutes.
    #[must_use]
    pub const fn jwt_lifetime(&self) -> Duration {
        self.jwt_lifetime
    }

    /// For whom a JWT-SVID with this audience is; `None` where the policy gives none with it. Audiences are compared whole.
    #[must_use]
    pub fn jwt_audience(&self, audience: &str) -> Option<Audience> {
        match (lists(self.audiences.as_ref(), audience), lists(self.federation_audiences.as_ref(), audience)) {
            (true, _) => Some(Audience::Workload),
            (false, true) => Some(Audience::Federation),
            (false, false) => None,
        }
    }

    /// Whether the policy gives attestation results to this audience.
    #[must_use]
    pub fn gives_results_to(&self, audience: &str) -> bool {
        lists(self.result_audiences.as_ref(), audience)
    }

    /// For people: the audiences that a JWT-SVID may have.
    #[must_use]
    pub fn jwt_audiences_in_words(&self) -> String {
        match [&self.audiences, &self.federation_audiences].into_iter().flatten().map(spelled).collect::<Vec<_>>().as_slice() {
            [] => "no JWT-SVID".to_owned(),
            lists => format!("a JWT-SVID for {}", lists.join(", ")),
        }
    }

    /// For people: the audiences that an attestation result may have.
    #[must_use]
    pub fn result_audiences_in_words(&self) -> String {
        self.result_audiences.as_ref().map_or_else(|| "no result".to_owned(), |list| format!("a result for {}", spelled(list)))
    }
}

fn lists(list: Option<&List<String>>, audience: &str) -> bool {
    list.is_some_and(|list| list.contains(audience))
}

fn spelled(list: &List<String>) -> String {
    list.spell_out(Clone::clone)
}
