//! The shape of `[tdx]`.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use toml::Spanned;

use super::{Lists, Number, Sets, Text, Texts, WordOrList};

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Tdx {
    pub(crate) mrconfigid: Option<WordOrList>,
    pub(crate) mrowner: Option<WordOrList>,
    pub(crate) mrownerconfig: Option<WordOrList>,
    pub(crate) mrservicetd: Option<WordOrList>,
    pub(crate) td_id: Option<WordOrList>,
    pub(crate) device_info: Option<WordOrList>,
    pub(crate) vm_ids: Option<Spanned<Vec<Number>>>,
    pub(crate) xfam: Option<Number>,
    pub(crate) smt: Option<Text>,
    pub(crate) collateral_max_age: Option<Text>,
    pub(crate) fmspcs: Option<Texts>,
    pub(crate) measurements: Option<Sets>,
    pub(crate) mrseam: Option<Sets>,
    #[serde(default)]
    pub(crate) rtmrs: Registers,
    #[serde(default)]
    pub(crate) events: Events,
    #[serde(default)]
    pub(crate) attributes: Attributes,
    #[serde(default)]
    pub(crate) tcb: TdxTcb,
    pub(crate) platform_instances: Option<Spanned<Lists>>,
    pub(crate) ppids: Option<Spanned<Lists>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Registers {
    pub(crate) rtmr0: Option<Spanned<Register>>,
    pub(crate) rtmr1: Option<Spanned<Register>>,
    pub(crate) rtmr2: Option<Spanned<Register>>,
    pub(crate) rtmr3: Option<Spanned<Register>>,
}

/// One word of the language in quotes, or named sets.
pub(crate) enum Register {
    Word(String),
    Sets(BTreeMap<Text, Texts>),
}

impl<'de> Deserialize<'de> for Register {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RegisterVisitor)
    }
}

struct RegisterVisitor;

impl<'de> Visitor<'de> for RegisterVisitor {
    type Value = Register;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word in quotes or named sets")
    }

    fn visit_str<E>(self, word: &str) -> Result<Register, E> {
        Ok(Register::Word(word.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, sets: A) -> Result<Register, A::Error> {
        BTreeMap::deserialize(MapAccessDeserializer::new(sets)).map(Register::Sets)
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Events {
    pub(crate) rtmr0: Option<Spanned<EventRules>>,
    pub(crate) rtmr1: Option<Spanned<EventRules>>,
    pub(crate) rtmr2: Option<Spanned<EventRules>>,
    pub(crate) rtmr3: Option<Spanned<EventRules>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventRules {
    pub(crate) sequences: Option<Spanned<BTreeMap<Text, EventList>>>,
    pub(crate) allow: Option<EventList>,
    pub(crate) require: Option<EventList>,
}

pub(crate) type EventList = Spanned<Vec<Spanned<Event>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    pub(crate) kind: Number,
    pub(crate) digest: Text,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Attributes {
    pub(crate) pks: Option<Text>,
    pub(crate) key_locker: Option<Text>,
    pub(crate) perfmon: Option<Text>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct TdxTcb {
    #[serde(default)]
    pub(crate) accept: Accept,
    pub(crate) out_of_date_grace: Option<Text>,
    pub(crate) denied_advisories: Option<Texts>,
    pub(crate) not_before: Option<Text>,
    pub(crate) minimum_evaluation_number: Option<Number>,
}

/// By the status words of Intel's.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Accept {
    #[serde(rename = "SWHardeningNeeded")]
    pub(crate) sw_hardening: Option<Texts>,
    #[serde(rename = "ConfigurationNeeded")]
    pub(crate) configuration: Option<Texts>,
    #[serde(rename = "ConfigurationAndSWHardeningNeeded")]
    pub(crate) configuration_and_sw_hardening: Option<Texts>,
}
