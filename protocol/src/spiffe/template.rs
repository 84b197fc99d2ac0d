//! Templates: a policy says which SPIFFE ID its guests have, and a guest has no say in it. `spiffe://acme.example/inference/{workload}`
//! and what was proven about the guest make one ID.
//!
//! A variable is a whole segment of the path, so that different values make different IDs, and its value is one segment: a name with a
//! slash in it is refused, since `a/b` under one template and `b` under another could otherwise be one identity.

use std::fmt;
use std::str::FromStr;

use super::{SpiffeError, SpiffeId, TrustDomain, is_segment, without_scheme};
use crate::ids::{AnchorClass, Name, Platform};

/// A SPIFFE ID with places for what is proven about a guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    trust_domain: TrustDomain,
    segments: Vec<Segment>,
}

/// One segment of a template's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// Stands as it is.
    Text(String),
    /// Is filled in.
    Variable(Variable),
}

/// What a template may refer to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variable {
    /// `{workload}`: the workload for which the evidence speaks.
    Workload,
    /// `{platform}`: the kind of confidential VM.
    Platform,
    /// `{policy}`: the policy's name.
    Policy,
    /// `{anchors}`: the class of roots under which the guest was judged.
    Anchors,
}

impl Variable {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Workload, Self::Platform, Self::Policy, Self::Anchors];

    /// Its name, without braces.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Workload => "workload",
            Self::Platform => "platform",
            Self::Policy => "policy",
            Self::Anchors => "anchors",
        }
    }
}

/// What was proven about a guest, and the policy that decides about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variables<'a> {
    /// The workload for which the evidence speaks; `None` where it speaks for the whole VM.
    pub workload: Option<&'a Name>,
    /// The kind of confidential VM.
    pub platform: Platform,
    /// The policy's name.
    pub policy: &'a Name,
    /// The class of roots under which the guest was judged.
    pub anchors: AnchorClass,
}

impl<'a> Variables<'a> {
    fn value(&self, variable: Variable) -> Option<&'a str> {
        match variable {
            Variable::Workload => self.workload.map(Name::as_str),
            Variable::Platform => Some(self.platform.as_str()),
            Variable::Policy => Some(self.policy.as_str()),
            Variable::Anchors => Some(self.anchors.as_str()),
        }
    }
}

impl Template {
    /// The trust domain of every ID that it makes.
    #[must_use]
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Whether it refers to `variable`.
    #[must_use]
    pub fn uses(&self, variable: Variable) -> bool {
        self.segments.contains(&Segment::Variable(variable))
    }

    /// The ID of a guest about which this was proven.
    ///
    /// # Errors
    /// [`TemplateError::NoValue`], [`TemplateError::Separator`], or [`TemplateError::Id`] where the whole would be too long.
    pub fn render(&self, variables: &Variables<'_>) -> Result<SpiffeId, TemplateError> {
        let mut path = String::new();
        for segment in &self.segments {
            path.push('/');
            match segment {
                Segment::Text(text) => path.push_str(text),
                Segment::Variable(variable) => {
                    let value = variables.value(*variable).ok_or(TemplateError::NoValue { variable: variable.as_str() })?;
                    if value.contains('/') {
                        return Err(TemplateError::Separator { variable: variable.as_str(), found: value.to_owned() });
                    }
                    path.push_str(value);
                }
            }
        }
        Ok(SpiffeId::new(self.trust_domain.clone(), &path)?)
    }
}

impl FromStr for Template {
    type Err = TemplateError;
    fn from_str(text: &str) -> Result<Self, TemplateError> {
        if text.len() > SpiffeId::MAX {
            return Err(SpiffeError::TooLong { limit: SpiffeId::MAX, found: text.len() }.into());
        }
        let (domain, path) = without_scheme(text)?.split_once('/').ok_or(SpiffeError::NoPath)?;
        let segments = path.split('/').map(segment).collect::<Result<_, _>>()?;
        Ok(Self { trust_domain: domain.parse()?, segments })
    }
}

fn segment(text: &str) -> Result<Segment, TemplateError> {
    if let Some(name) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).filter(|name| !name.contains(['{', '}'])) {
        let variable = Variable::ALL.into_iter().find(|variable| variable.as_str() == name);
        return variable.map(Segment::Variable).ok_or_else(|| TemplateError::UnknownVariable { found: name.to_owned() });
    }
    if text.contains(['{', '}']) {
        return Err(TemplateError::PartOfSegment { found: text.to_owned() });
    }
    if is_segment(text) { Ok(Segment::Text(text.to_owned())) } else { Err(SpiffeError::Path.into()) }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.trust_domain.id())?;
        for segment in &self.segments {
            match segment {
                Segment::Text(text) => write!(f, "/{text}")?,
                Segment::Variable(variable) => write!(f, "/{{{}}}", variable.as_str())?,
            }
        }
        Ok(())
    }
}

/// Why a text is no template, or a template makes no ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// What stands around the variables is no SPIFFE ID, or the whole would not be one.
    #[error(transparent)]
    Id(#[from] SpiffeError),
    /// It refers to something that nobody proves.
    #[error("there is no variable {{{found}}}: expected {{workload}}, {{platform}}, {{policy}} or {{anchors}}")]
    UnknownVariable {
        /// What stands in the braces.
        found: String,
    },
    /// A variable is only a part of a segment.
    #[error("a variable is a whole segment of the path, which {found:?} is not")]
    PartOfSegment {
        /// The segment.
        found: String,
    },
    /// Nothing was proven for it: evidence that speaks for the whole VM names no workload.
    #[error("there is no value for {{{variable}}}")]
    NoValue {
        /// Its name.
        variable: &'static str,
    },
    /// Its value is more than one segment.
    #[error("the value of {{{variable}}} is one segment of a path, which {found:?} is not")]
    Separator {
        /// Its name.
        variable: &'static str,
        /// The value.
        found: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn render(template: &str, workload: Option<&str>, policy: &str) -> Result<String, TemplateError> {
        let (workload, policy) = (workload.map(name), name(policy));
        let variables = Variables { workload: workload.as_ref(), platform: Platform::Tdx, policy: &policy, anchors: AnchorClass::Vendor };
        template.parse::<Template>()?.render(&variables).map(|id| id.uri())
    }

    #[test]
    fn a_template_is_filled_with_what_was_proven() {
        let made = render("spiffe://acme.example/{anchors}/{platform}/{policy}/{workload}", Some("vllm"), "research");
        assert_eq!(made.as_deref(), Ok("spiffe://acme.example/vendor/tdx/research/vllm"));
        assert_eq!(render("spiffe://acme.example/fixed", None, "a/b").as_deref(), Ok("spiffe://acme.example/fixed"));
    }

    #[test]
    fn a_value_with_a_separator_is_refused() {
        let refused = |variable, found: &str| Err(TemplateError::Separator { variable, found: found.to_owned() });
        assert_eq!(render("spiffe://a/{workload}", Some("x/y"), "p"), refused("workload", "x/y"));
        assert_eq!(render("spiffe://a/{policy}", Some("x"), "agents/research"), refused("policy", "agents/research"));
        assert_eq!(render("spiffe://a/{workload}", Some("x"), "agents/research").as_deref(), Ok("spiffe://a/x"));
    }

    #[test]
    fn the_whole_vm_has_no_workload() {
        assert_eq!(render("spiffe://a/{workload}", None, "p"), Err(TemplateError::NoValue { variable: "workload" }));
        assert_eq!(render("spiffe://a/{platform}", None, "p").as_deref(), Ok("spiffe://a/tdx"));
    }

    #[test]
    fn a_text_that_is_no_template_is_refused_by_name() {
        let parse = |text: &str| text.parse::<Template>();
        for bad in ["{model}", "{}", "{Workload}", "{workload...}", "{ workload}"] {
            let found = bad.trim_matches(['{', '}']).to_owned();
            assert_eq!(parse(&format!("spiffe://a/{bad}")), Err(TemplateError::UnknownVariable { found }), "{bad}");
        }
        for bad in ["x{workload}", "{workload}x", "{workload}{policy}", "{workload}-{policy}", "{", "}", "{workload", "{{workload}}"] {
            assert_eq!(parse(&format!("spiffe://a/{bad}")), Err(TemplateError::PartOfSegment { found: bad.to_owned() }), "{bad}");
        }
        for bad in ["spiffe://a/", "spiffe://a/b//c", "spiffe://a/../{workload}", "spiffe://a/{workload}/", "spiffe://a/b%2f"] {
            assert_eq!(parse(bad), Err(SpiffeError::Path.into()), "{bad}");
        }
        assert_eq!(parse("spiffe://{workload}/a"), Err(SpiffeError::TrustDomain.into()));
        assert_eq!(parse("spiffe://a"), Err(SpiffeError::NoPath.into()));
        assert_eq!(parse("{workload}"), Err(SpiffeError::Scheme.into()));
        let long = format!("spiffe://a/{}", "b".repeat(SpiffeId::MAX));
        assert_eq!(parse(&long), Err(SpiffeError::TooLong { limit: 2048, found: 2059 }.into()));
    }

    #[test]
    fn an_id_that_would_be_too_long_is_refused() {
        let template = format!("spiffe://a/{}/{{workload}}", "b".repeat(2048 - 11 - 11));
        assert_eq!(render(&template, Some(&"w".repeat(10)), "p").unwrap().len(), 2048);
        assert_eq!(render(&template, Some(&"w".repeat(11)), "p"), Err(SpiffeError::TooLong { limit: 2048, found: 2049 }.into()));
    }

    #[test]
    fn what_a_template_refers_to_can_be_asked() {
        let template: Template = "spiffe://acme.example/{workload}/x".parse().unwrap();
        assert!(template.uses(Variable::Workload) && !template.uses(Variable::Policy));
        assert_eq!(
            (template.trust_domain().as_str(), template.to_string().as_str()),
            ("acme.example", "spiffe://acme.example/{workload}/x")
        );
    }

    proptest! {
        #[test]
        fn different_values_make_different_ids(
            one in "[a-z0-9._-]{1,12}", two in "[a-z0-9._-]{1,12}", first in "[a-z0-9._-]{1,12}", second in "[a-z0-9._-]{1,12}",
        ) {
            let valid = |text: &String| text.parse::<Name>().is_ok();
            prop_assume!([&one, &two, &first, &second].into_iter().all(valid));
            let made = |workload: &str, policy: &str| render("spiffe://a/{workload}/{policy}", Some(workload), policy).unwrap();
            prop_assert_eq!(made(&one, &first) == made(&two, &second), (one, first) == (two, second));
        }

        #[test]
        fn whatever_renders_is_a_spiffe_id_of_the_templates_trust_domain(text in "spiffe://a(/([a-zA-Z.]{1,6}|\\{workload\\}|\\{policy\\}|[{}/]{1,3})){1,4}", workload in "[a-z0-9._/-]{1,20}") {
            if let (Ok(template), Ok(workload)) = (text.parse::<Template>(), workload.parse::<Name>()) {
                let policy = name("p");
                let variables =
                    Variables { workload: Some(&workload), platform: Platform::SevSnp, policy: &policy, anchors: AnchorClass::Test };
                prop_assert_eq!(template.to_string(), text);
                if let Ok(id) = template.render(&variables) {
                    prop_assert_eq!(id.trust_domain(), template.trust_domain());
                    prop_assert_eq!(id.uri().parse::<SpiffeId>(), Ok(id));
                }
            }
        }
    }
}
