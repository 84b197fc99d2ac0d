//! The shape of a policy's text: which keys stand where. What their values mean is read in [`crate::compile`].
//!
//! Every table refuses keys that it does not know. Values are kept with their place, so that each later complaint can name it.

mod tdx;

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer};
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use toml::Spanned;

pub(crate) use tdx::{Event, EventList, EventRules, Register, Registers, Tdx, TdxTcb};

pub(crate) type Text = Spanned<String>;
pub(crate) type Texts = Spanned<Vec<Text>>;
pub(crate) type Number = Spanned<i64>;
/// Named sets of reference values.
pub(crate) type Sets = Spanned<BTreeMap<Text, Texts>>;

/// Read before anything else, so that a later format is told apart from a mistake in this one.
#[derive(Deserialize)]
pub(crate) struct Header {
    pub(crate) format: Option<Number>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Document {
    #[serde(rename = "format")]
    _format: Option<Number>,
    pub(crate) description: Option<String>,
    pub(crate) role: Option<Text>,
    pub(crate) configuration: Option<WordOrList>,
    pub(crate) attestation_lifetime: Option<Text>,
    pub(crate) revocation_max_age: Option<Text>,
    pub(crate) second_opinion_exceptions: Option<Texts>,
    pub(crate) record: Option<Spanned<Record>>,
    pub(crate) identity: Option<Spanned<Identity>>,
    pub(crate) snp: Option<Spanned<Snp>>,
    pub(crate) tdx: Option<Spanned<Tdx>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Record {
    pub(crate) publishers: Option<Sets>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Identity {
    pub(crate) spiffe_id: Option<Text>,
    pub(crate) x509_lifetime: Option<Text>,
    pub(crate) jwt_lifetime: Option<Text>,
    pub(crate) audiences: Option<Texts>,
    pub(crate) federation_audiences: Option<Texts>,
    pub(crate) result_audiences: Option<Texts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Snp {
    pub(crate) signing_keys: Option<Texts>,
    pub(crate) vmpl: Option<Spanned<Vec<Number>>>,
    pub(crate) host_data: Option<WordOrList>,
    pub(crate) provisional_firmware: Option<Text>,
    pub(crate) masked_chips: Option<Text>,
    pub(crate) calendar: Option<Text>,
    pub(crate) measurements: Option<Sets>,
    pub(crate) id_block: Option<Spanned<IdBlock>>,
    #[serde(default)]
    pub(crate) guest_policy: GuestPolicy,
    pub(crate) products: Option<Spanned<Products>>,
    pub(crate) platform_info: Option<PlatformInfo>,
    pub(crate) mitigations: Option<Mitigations>,
    pub(crate) chips: Option<Spanned<Lists>>,
    pub(crate) csps: Option<Spanned<Lists>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct IdBlock {
    pub(crate) id_keys: Option<Sets>,
    pub(crate) author_keys: Option<Sets>,
    pub(crate) minimum_guest_svn: Option<Number>,
    pub(crate) family_ids: Option<Texts>,
    pub(crate) image_ids: Option<Texts>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct GuestPolicy {
    pub(crate) smt: Option<Text>,
    pub(crate) cxl: Option<Text>,
    pub(crate) single_socket: Option<Text>,
    pub(crate) mem_aes_256_xts: Option<Text>,
    pub(crate) rapl_disabled: Option<Text>,
    pub(crate) ciphertext_hiding: Option<Text>,
    pub(crate) page_swap_disabled: Option<Text>,
    pub(crate) minimum_abi: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Products {
    pub(crate) milan: Option<Spanned<Product>>,
    pub(crate) genoa: Option<Spanned<Product>>,
    pub(crate) turin: Option<Spanned<Product>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct Product {
    pub(crate) minimum_tcb: Option<WordOrTcb>,
    pub(crate) grace: Option<Text>,
    pub(crate) minimum_committed_tcb: Option<Spanned<Tcb>>,
    pub(crate) minimum_reported_tcb: Option<Spanned<Tcb>>,
    pub(crate) minimum_launch_tcb: Option<Spanned<Tcb>>,
    pub(crate) minimum_firmware: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tcb {
    pub(crate) fmc: Option<u8>,
    pub(crate) bootloader: u8,
    pub(crate) tee: u8,
    pub(crate) snp: u8,
    pub(crate) microcode: u8,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct PlatformInfo {
    pub(crate) must_be_set: Option<Texts>,
    pub(crate) must_be_clear: Option<Texts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mitigations {
    pub(crate) launch: Option<Number>,
    pub(crate) current: Option<Number>,
}

/// An allow list and a deny list.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Lists {
    pub(crate) allow: Option<Texts>,
    pub(crate) deny: Option<Texts>,
}

/// One word of the language in quotes, or a list of values in brackets.
pub(crate) type WordOrList = Spanned<Choice>;

pub(crate) enum Choice {
    Word(String),
    List(Vec<Text>),
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ChoiceVisitor)
    }
}

struct ChoiceVisitor;

impl<'de> Visitor<'de> for ChoiceVisitor {
    type Value = Choice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word in quotes or a list of values")
    }

    fn visit_str<E>(self, word: &str) -> Result<Choice, E> {
        Ok(Choice::Word(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<Choice, A::Error> {
        Vec::deserialize(SeqAccessDeserializer::new(values)).map(Choice::List)
    }
}

/// One word of the language in quotes, or a TCB.
pub(crate) type WordOrTcb = Spanned<TcbChoice>;

pub(crate) enum TcbChoice {
    Word(String),
    Tcb(Tcb),
}

impl<'de> Deserialize<'de> for TcbChoice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TcbVisitor)
    }
}

struct TcbVisitor;

impl<'de> Visitor<'de> for TcbVisitor {
    type Value = TcbChoice;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a word in quotes or a table of the TCB's parts")
    }

    fn visit_str<E>(self, word: &str) -> Result<TcbChoice, E> {
        Ok(TcbChoice::Word(word.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, parts: A) -> Result<TcbChoice, A::Error> {
        Tcb::deserialize(MapAccessDeserializer::new(parts)).map(TcbChoice::Tcb)
    }
}
