//! Why a text is no policy: one variant per rule of the language, with its place in the text and a hint.

use std::fmt;

use protocol::spiffe::TemplateError;

/// A text is no policy. [`fmt::Display`] gives one line, `line 3, column 8: …`; [`Self::hint`] says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    line: usize,
    column: usize,
    reason: Reason,
}

impl PolicyError {
    /// At byte `offset` of `text`; an offset past its end counts as its end.
    pub(crate) fn at(text: &str, offset: usize, reason: Reason) -> Self {
        let mut before = text.get(..offset).unwrap_or(text).split('\n');
        let last = before.next_back().unwrap_or_default();
        Self { line: before.count() + 1, column: last.chars().count() + 1, reason }
    }

    /// The line, from 1.
    #[must_use]
    pub const fn line(&self) -> usize {
        self.line
    }

    /// The column in characters, from 1.
    #[must_use]
    pub const fn column(&self) -> usize {
        self.column
    }

    /// What is wrong there.
    #[must_use]
    pub const fn reason(&self) -> &Reason {
        &self.reason
    }

    /// What to do about it, in one clause.
    #[must_use]
    pub fn hint(&self) -> String {
        self.reason.hint()
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}: {}", self.line, self.column, self.reason)
    }
}

impl std::error::Error for PolicyError {}

/// What is wrong with a policy's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Longer than [`protocol::limits::DOCUMENT`].
    #[error("the policy has {found} bytes, more than {limit}")]
    TooLong {
        /// Its size in bytes.
        found: usize,
        /// The most that is read.
        limit: usize,
    },
    /// No TOML, a key that the language does not have, a key that stands twice, or a value of another type; in the TOML reader's words.
    #[error("{0}")]
    Toml(String),
    /// Another format of the language.
    #[error("format {found} is unknown; this program reads format 1")]
    Format {
        /// The number in the text.
        found: i64,
    },
    /// A key that has no default is not there.
    #[error("`{key}` is missing")]
    Missing {
        /// The key, from the root of the document.
        key: &'static str,
    },
    /// A word that the key does not know.
    #[error("`{}` is no value of `{key}`; expected {expected}", found.escape_debug())]
    Word {
        /// The key.
        key: &'static str,
        /// The word in the text.
        found: String,
        /// The words or forms that it takes.
        expected: &'static str,
    },
    /// Not a byte string of the right size.
    #[error("`{key}` takes {expected}")]
    Hex {
        /// The key.
        key: &'static str,
        /// The form, such as `96 lower-case hex digits`.
        expected: &'static str,
    },
    /// Not a publisher's key.
    #[error("`{key}` takes publishers' keys")]
    PublisherKey {
        /// The key of the language.
        key: &'static str,
    },
    /// Not a number of seconds, minutes, hours or days.
    #[error("`{}` is no duration", found.escape_debug())]
    Duration {
        /// The text.
        found: String,
    },
    /// A number or duration outside its bounds.
    #[error("`{key}` must lie between {least} and {most}")]
    Bounds {
        /// The key.
        key: &'static str,
        /// The least.
        least: &'static str,
        /// The most.
        most: &'static str,
    },
    /// A set's name is no [`protocol::ids::Name`].
    #[error("`{}` is no name for a set", found.escape_debug())]
    SetName {
        /// The name in the text.
        found: String,
    },
    /// A list or table without an entry: it would accept nothing, or exclude nothing.
    #[error("`{key}` is empty")]
    Empty {
        /// The key.
        key: &'static str,
    },
    /// The same value twice in one list.
    #[error("`{key}` lists the same value twice")]
    Repeated {
        /// The key.
        key: &'static str,
    },
    /// All zero where the hardware writes zeros for "there is none".
    #[error("`{key}` lists the all-zero value, which stands for a guest that has none")]
    AllZero {
        /// The key.
        key: &'static str,
    },
    /// No table for any platform: nobody at all could pass.
    #[error("the policy has neither `[snp]` nor `[tdx]`")]
    NoPlatform,
    /// Neither measurements nor an ID block: any guest at all would do.
    #[error("the policy does not say which guest it means")]
    NoIdentity,
    /// An ID block without a key that must have signed it.
    #[error("`snp.id-block` names neither `id-keys` nor `author-keys`")]
    NoIdBlockKey,
    /// A Turin TCB without, or an older one with, the FMC part.
    #[error("the TCB of {line} {rule}")]
    Fmc {
        /// The processor line.
        line: &'static str,
        /// What it must have.
        rule: &'static str,
    },
    /// A calendar's name is no [`protocol::ids::Name`].
    #[error("`{}` is no name for a TCB calendar", found.escape_debug())]
    CalendarName {
        /// The name in the text.
        found: String,
    },
    /// A calendar that no product's minimum comes from.
    #[error("`snp.calendar` has no effect: no product says `minimum-tcb = \"calendar\"`")]
    CalendarWithoutProducts,
    /// A grace period for a minimum that has no date.
    #[error("`grace` has no effect: `minimum-tcb` is not \"calendar\"")]
    GraceWithoutCalendar,
    /// A calendar whose every use is overridden.
    #[error("`minimum-tcb = \"calendar\"` has no effect: all three of its TCBs have minimums of their own")]
    CalendarWithoutEffect,
    /// A runtime register that the policy is silent about.
    #[error("the policy does not say what {register} must be")]
    SilentRegister {
        /// The register, such as `rtmr2`.
        register: &'static str,
    },
    /// A register whose events are judged and which is said to be not checked.
    #[error("`{register} = \"not-checked\"` contradicts `tdx.events.{register}`")]
    RegisterNotCheckedWithEvents {
        /// The register.
        register: &'static str,
    },
    /// Event rules that would accept nothing, or mean two things.
    #[error("`tdx.events.{register}` takes `sequences` alone, or `allow` and `require`")]
    EventRules {
        /// The register.
        register: &'static str,
    },
    /// An event of a type that no register is ever extended with.
    #[error("`{key}` has an event of type 3: EV_NO_ACTION is a remark, which extends no register")]
    Remark {
        /// The key.
        key: &'static str,
    },
    /// An XFAM mask without the features that every TD has.
    #[error("`tdx.xfam` must include 0x3: every TD has x87 and SSE")]
    XfamWithoutBase,
    /// No template of a SPIFFE ID, or one that this policy's role cannot fill.
    #[error("`{}` makes no SPIFFE ID: {why}", found.escape_debug())]
    SpiffeId {
        /// The template in the text.
        found: String,
        /// What is wrong with it.
        why: TemplateError,
    },
    /// Not an audience of a token.
    #[error("`{}` is no audience for `{key}`", found.escape_debug())]
    Audience {
        /// The key.
        key: &'static str,
        /// The audience in the text.
        found: String,
    },
    /// A life of tokens that no audience may have.
    #[error("`identity.jwt-lifetime` has no effect: the table names no audience of a JWT-SVID")]
    JwtLifetimeWithoutAudiences,
    /// VLEK accepted without saying whose.
    #[error("`signing-keys` accepts `vlek`, but `snp.csps.allow` names no cloud provider")]
    VlekWithoutCsps,
    /// Cloud providers named where no VLEK is accepted: the rule could never run.
    #[error("`snp.csps` has no effect: `signing-keys` does not accept `vlek`")]
    CspsWithoutVlek,
    /// The same value demanded and excluded.
    #[error("`{one}` and `{other}` name the same value")]
    Contradiction {
        /// One key.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// A list of chips cannot be applied to a report that does not name its chip.
    #[error("`masked-chips = \"accepted\"` contradicts `snp.chips`: a masked chip is on no list")]
    MaskedWithChips,
}

impl Reason {
    fn hint(&self) -> String {
        match self {
            Self::TooLong { .. } => "split the policy, or drop reference values of retired releases".into(),
            Self::Toml(_) => "every key and value is in policies/LANGUAGE.md; working examples are in policies/examples".into(),
            Self::Format { .. } => "write `format = 1`, or upgrade the program".into(),
            Self::Missing { key } => missing(key).into(),
            Self::Word { expected, .. } => format!("write {expected}"),
            Self::PublisherKey { .. } => "write \"ed25519:…\", the line of the publisher's .pub file".to_owned(),
            Self::Hex { expected, .. } => format!("write {expected} in quotes, no 0x, no spaces"),
            Self::Duration { .. } => {
                "write a whole number and a unit, such as \"90 seconds\", \"15 minutes\", \"1 hour\" or \"7 days\"".into()
            }
            Self::Bounds { least, most, .. } => format!("choose a value from {least} to {most}"),
            Self::SetName { .. } => "use a-z 0-9 . _ - and single slashes, quoted where it has a dot: \"llama-runtime-1.4\"".into(),
            Self::Empty { .. } => "add a value, or remove the key".into(),
            Self::Repeated { .. } => "keep one of the two; a set that is shared by two releases needs one name".into(),
            Self::AllZero { .. } => "remove it: it would accept every guest that was launched without one".into(),
            Self::NoPlatform => "add `[snp]` with the rules for AMD SEV-SNP guests, `[tdx]` with those for Intel TDX, or both".into(),
            Self::NoIdentity => {
                "add `[snp.measurements]` with a set of launch digests, or `[snp.id-block]` with the keys that sign your images".into()
            }
            Self::NoIdBlockKey => {
                "name the SHA-384 digest of the key that signs your ID blocks: family, image and SVN mean nothing without it".into()
            }
            Self::Fmc { .. } => "Turin has fmc, bootloader, tee, snp and microcode; Milan and Genoa have no fmc".into(),
            Self::CalendarName { .. } => "use a-z 0-9 . _ - and single slashes, as in the document that your authority signs".into(),
            Self::CalendarWithoutProducts => "write `minimum-tcb = \"calendar\"` for a product, or remove `calendar`".into(),
            Self::GraceWithoutCalendar => "write `minimum-tcb = \"calendar\"`, or remove `grace`".into(),
            Self::CalendarWithoutEffect => "remove one of the three, or write the `minimum-tcb` that you mean".into(),
            Self::SilentRegister { register } => format!(
                "list its values under `[tdx.rtmrs.{register}]`, judge its events under `[tdx.events.{register}]`, or write `{register} = \"all-zero\"` or `{register} = \"not-checked\"` under `[tdx.rtmrs]`"
            ),
            Self::RegisterNotCheckedWithEvents { .. } => "remove one of the two: event rules need no value beside them".into(),
            Self::EventRules { .. } => {
                "write `sequences` for exact orders, or `allow` and `require` for what may and what must be there".into()
            }
            Self::Remark { .. } => "remove it; a log's remarks are neither required nor in the way".into(),
            Self::XfamWithoutBase => "write a mask such as 0x6dbe7, the default".into(),
            Self::SpiffeId { .. } => {
                "write \"spiffe://TRUST-DOMAIN/PATH\"; variables are {workload}, {platform}, {policy} and {anchors}, each within one segment".into()
            }
            Self::Audience { .. } => "write 1 to 256 printable ASCII characters without a space, as the audience names itself".into(),
            Self::JwtLifetimeWithoutAudiences => "name `audiences` or `federation-audiences`, or remove it".into(),
            Self::VlekWithoutCsps => "add `[snp.csps]` with `allow = [\"CN=…\"]`: a VLEK says which provider, not which chip".into(),
            Self::CspsWithoutVlek => "add \"vlek\" to `signing-keys`, or remove `[snp.csps]`".into(),
            Self::Contradiction { .. } => "remove it from one of the two".into(),
            Self::MaskedWithChips => "choose one: `masked-chips = \"accepted\"`, or lists of chips".into(),
        }
    }
}

/// What to write for a key that has no default.
fn missing(key: &str) -> &'static str {
    match key {
        "format" => "start the policy with `format = 1`",
        "role" => {
            "write `role = \"whole-vm\"`, or `role = \"workload:NAME\"` where an evidence agent in the measured image tells workloads apart"
        }
        "configuration" => {
            "list the SHA-256 digests of the configurations that you reviewed, or write `configuration = \"config-is-measured\"` where the launch measurement covers it"
        }
        "attestation-lifetime" => "say how long one attestation is good for, such as `attestation-lifetime = \"1 hour\"`",
        "snp.vmpl" => "write `vmpl = [0]`, or the level at which your measured paravisor runs the guest",
        "snp.products" => "add a table such as `[snp.products.genoa]` with the `minimum-tcb` from AMD's security bulletins",
        "snp.products.*.minimum-tcb" => {
            "write `minimum-tcb = { bootloader = 10, tee = 0, snp = 23, microcode = 84 }` with the numbers of AMD's security bulletins"
        }
        "snp.id-block.minimum-guest-svn" => "write `minimum-guest-svn = 0`, and raise it to retire old releases",
        "snp.products.*.grace" => {
            "say how long a baseline of the calendar is good for after the next one's date, such as `grace = \"30 days\"`"
        }
        "snp.calendar" => "write `calendar = \"NAME\"` under `[snp]`: the name of the signed TCB baselines by the policy's own authority",
        "tdx.measurements" => "add `[tdx.measurements]` with a set of MRTDs: register and event rules mean nothing on firmware of another",
        "identity.spiffe-id" => "say who the guest is, such as `spiffe-id = \"spiffe://acme.example/inference/{workload}\"`",
        "snp.csps.allow" => "name the providers that may run the guest",
        _ => "every key is in policies/LANGUAGE.md",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters_from_one() {
        let text = "a\nbé = 1\n";
        let place = |offset| {
            let error = PolicyError::at(text, offset, Reason::NoIdentity);
            (error.line(), error.column())
        };
        assert_eq!([place(0), place(1), place(2), place(5), place(9), place(99)], [(1, 1), (1, 2), (2, 1), (2, 3), (2, 7), (3, 1)]);
    }
}
