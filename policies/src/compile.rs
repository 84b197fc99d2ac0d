//! From the text's shape to rules: required keys, defaults, bounds, and the combinations that cannot be meant.

mod identity;
mod tdx;

use std::time::Duration;

use attestation::{ProductLine, SigningKeyKind, Tcb};
use protocol::ids::{Digest, Name, Role};
use protocol::limits;
use toml::Spanned;

use crate::error::{PolicyError, Reason};
use crate::language::{self, Choice, Document, Header, TcbChoice, Text, Texts, WordOrList, WordOrTcb};
use crate::rules::{
    Age, Configuration, Exposure, Floor, GuestPolicy, HostValue, IdBlock, PLATFORM_BITS, PlatformInfo, Product, Products, Protection,
    Rules, SecondOpinionException, Snp,
};
use crate::sets::{List, NamedSets};
use crate::values::{
    Fault, abi, bytes, chip, distinct, duration, each, fault, firmware, list, named_sets, number, publishers, required, word,
};

pub(crate) use tdx::XFAM_BASE;

/// The one format of the language.
const FORMAT: i64 = 1;

/// Bounds of `attestation-lifetime`. Below a minute guests would do nothing but attest; after a week the host's firmware and
/// the vendor's lists have moved on.
const LIFETIME: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(7 * 86400));

/// Bounds of `revocation-max-age` and `collateral-max-age`. AMD issues its lists for a year and some days; twice that is no bound any more.
const VENDOR_AGE: (Duration, Duration) = (Duration::from_secs(3600), Duration::from_secs(800 * 86400));

/// Bounds of a grace period. After a year a platform is not late, it is given up.
const GRACE: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(366 * 86400));

/// Reads a whole policy.
pub(crate) fn compile(text: &str) -> Result<Rules, PolicyError> {
    if text.len() > limits::DOCUMENT {
        return Err(PolicyError::at(text, 0, Reason::TooLong { found: text.len(), limit: limits::DOCUMENT }));
    }
    let foreign = |error: toml::de::Error| {
        let at = error.span().map_or(0, |span| span.start);
        PolicyError::at(text, at, Reason::Toml(error.message().to_owned()))
    };
    let header: Header = toml::from_str(text).map_err(foreign)?;
    let own = |fault: Fault| PolicyError::at(text, fault.at, fault.reason);
    format(&header).map_err(own)?;
    let document: Document = toml::from_str(text).map_err(foreign)?;
    rules(document).map_err(own)
}

fn format(header: &Header) -> Result<(), Fault> {
    let format = required(header.format.as_ref(), 0, "format")?;
    match *format.get_ref() {
        FORMAT => Ok(()),
        found => fault(format.span().start, Reason::Format { found }),
    }
}

fn rules(document: Document) -> Result<Rules, Fault> {
    let lifetime = required(document.attestation_lifetime, 0, "attestation-lifetime")?;
    if document.snp.is_none() && document.tdx.is_none() {
        return fault(0, Reason::NoPlatform);
    }
    let role = role(&required(document.role, 0, "role")?)?;
    Ok(Rules {
        identity: document.identity.as_ref().map(|table| identity::identity(table, &role)).transpose()?,
        role,
        configuration: configuration(&required(document.configuration, 0, "configuration")?)?,
        attestation_lifetime: bounded(&lifetime, "attestation-lifetime", LIFETIME, ("1 minute", "7 days"))?,
        revocation: age(document.revocation_max_age.as_ref(), "revocation-max-age")?,
        second_opinion_exceptions: second_opinion_exceptions(document.second_opinion_exceptions.as_ref())?,
        publishers: document.record.as_ref().map(record).transpose()?,
        description: document.description,
        snp: document.snp.as_ref().map(snp).transpose()?,
        tdx: document.tdx.as_ref().map(tdx::tdx).transpose()?,
    })
}

/// The most that a vendor's document may be old; in force by its own dates, without the key.
fn age(text: Option<&Text>, key: &'static str) -> Result<Age, Fault> {
    text.map_or(Ok(Age::InForce), |text| bounded(text, key, VENDOR_AGE, ("1 hour", "800 days")).map(Age::AtMost))
}

fn grace(text: &Text, key: &'static str) -> Result<Duration, Fault> {
    bounded(text, key, GRACE, ("0 days", "366 days"))
}

fn second_opinion_exceptions(texts: Option<&Texts>) -> Result<Vec<SecondOpinionException>, Fault> {
    let Some(texts) = texts else { return Ok(Vec::new()) };
    let words = SecondOpinionException::ALL.map(|exception| (exception.as_str(), exception));
    let expected = "\"masked-version-2-report\", \"version-5-quote\" or \"any-quote\"";
    let exception = |text: &Text, key| word(text, key, &words, expected);
    each(texts.get_ref(), texts.span().start, "second-opinion-exceptions", exception)
}

/// The table has nothing else to say, so it must say this.
fn record(table: &Spanned<language::Record>) -> Result<NamedSets<32>, Fault> {
    let key = "record.publishers";
    publishers(required(table.get_ref().publishers.as_ref(), table.span().start, key)?, key)
}

fn role(text: &Text) -> Result<Role, Fault> {
    let word = || Reason::Word { key: "role", found: text.get_ref().clone(), expected: "\"whole-vm\" or \"workload:NAME\"" };
    text.get_ref().parse().map_err(|_| Fault { at: text.span().start, reason: word() })
}

fn bounded(text: &Text, key: &'static str, range: (Duration, Duration), words: (&'static str, &'static str)) -> Result<Duration, Fault> {
    let duration = duration(text)?;
    if duration < range.0 || duration > range.1 {
        return fault(text.span().start, Reason::Bounds { key, least: words.0, most: words.1 });
    }
    Ok(duration)
}

fn configuration(choice: &WordOrList) -> Result<Configuration, Fault> {
    let at = choice.span().start;
    match choice.get_ref() {
        Choice::Word(word) if word == "config-is-measured" => Ok(Configuration::IsMeasured),
        Choice::Word(found) => {
            let expected = "\"config-is-measured\" or a list of SHA-256 digests in hex";
            fault(at, Reason::Word { key: "configuration", found: found.clone(), expected })
        }
        Choice::List(texts) => {
            let digest = |text: &Text, key| bytes::<32>(text, key).map(Digest::from);
            each(texts, at, "configuration", digest).map(List::new).map(Configuration::OneOf)
        }
    }
}

/// What a host-chosen value is called, and which words its key takes besides `all-zero` and a list.
struct HostWords {
    key: &'static str,
    configuration: bool,
    not_trusted: Option<&'static str>,
    expected: &'static str,
}

const HOST_DATA: HostWords = HostWords {
    key: "snp.host-data",
    configuration: true,
    not_trusted: Some("host-data-not-trusted"),
    expected: "\"all-zero\", \"configuration-digest\", \"host-data-not-trusted\" or a list of 32-byte values in hex",
};

/// A host-chosen value's rule; `all-zero` without the key.
fn host_value<const N: usize>(choice: Option<&WordOrList>, words: &HostWords) -> Result<HostValue<N>, Fault> {
    let Some(choice) = choice else { return Ok(HostValue::AllZero) };
    let at = choice.span().start;
    match choice.get_ref() {
        Choice::Word(word) => match (word.as_str(), words.not_trusted) {
            ("all-zero", _) => Ok(HostValue::AllZero),
            ("configuration-digest", _) if words.configuration => Ok(HostValue::ConfigurationDigest),
            (found, Some(known)) if found == known => Ok(HostValue::NotTrusted(known)),
            (found, _) => fault(at, Reason::Word { key: words.key, found: found.to_owned(), expected: words.expected }),
        },
        Choice::List(texts) => each(texts, at, words.key, bytes::<N>).map(List::new).map(HostValue::OneOf),
    }
}

fn snp(table: &Spanned<language::Snp>) -> Result<Snp, Fault> {
    let at = table.span().start;
    let table = table.get_ref();
    let vmpl = required(table.vmpl.as_ref(), at, "snp.vmpl")?;
    let levels = vmpl.get_ref().iter().map(|level| Ok((level.span().start, number(level, "snp.vmpl", (0, 3), ("0", "3"))?)));
    let levels = distinct(levels.collect::<Result<_, _>>()?, vmpl.span().start, "snp.vmpl")?;
    let signing_keys = signing_keys(table.signing_keys.as_ref())?;
    let mitigations = table.mitigations.as_ref();
    let rules = Snp {
        vmpl: List::new(levels),
        host_data: host_value(table.host_data.as_ref(), &HOST_DATA)?,
        provisional_firmware: accepted(table.provisional_firmware.as_ref(), "snp.provisional-firmware")?,
        masked_chips: accepted(table.masked_chips.as_ref(), "snp.masked-chips")?,
        calendar: table.calendar.as_ref().map(calendar).transpose()?,
        measurements: named_sets(table.measurements.as_ref(), "snp.measurements")?,
        id_block: table.id_block.as_ref().map(id_block).transpose()?,
        guest_policy: guest_policy(&table.guest_policy)?,
        products: products(required(table.products.as_ref(), at, "snp.products")?)?,
        platform_info: platform_info(table.platform_info.as_ref())?,
        launch_mitigations: mask(mitigations.and_then(|masks| masks.launch.as_ref()), "snp.mitigations.launch")?,
        current_mitigations: mask(mitigations.and_then(|masks| masks.current.as_ref()), "snp.mitigations.current")?,
        chips_allowed: list(lists(table.chips.as_ref(), Side::Allow), "snp.chips.allow", chip)?,
        chips_denied: list(lists(table.chips.as_ref(), Side::Deny), "snp.chips.deny", chip)?,
        csps_allowed: list(lists(table.csps.as_ref(), Side::Allow), "snp.csps.allow", csp)?,
        csps_denied: list(lists(table.csps.as_ref(), Side::Deny), "snp.csps.deny", csp)?,
        signing_keys,
    };
    combinations(table, at, &rules)?;
    Ok(rules)
}

/// What each key allows alone, but no two can mean together.
fn combinations(table: &language::Snp, at: usize, rules: &Snp) -> Result<(), Fault> {
    if rules.measurements.is_none() && rules.id_block.is_none() {
        return fault(at, Reason::NoIdentity);
    }
    let dated = ProductLine::ALL.iter().filter_map(|line| rules.products.of(*line)).any(|product| product.grace.is_some());
    match &table.calendar {
        None if dated => return fault(at, Reason::Missing { key: "snp.calendar" }),
        Some(name) if !dated => return fault(name.span().start, Reason::CalendarWithoutProducts),
        _ => {}
    }
    let vlek = rules.signing_keys.contains(&SigningKeyKind::Vlek);
    if let Some(csps) = &table.csps
        && !vlek
    {
        return fault(csps.span().start, Reason::CspsWithoutVlek);
    }
    if vlek && rules.csps_allowed.is_none() {
        return fault(at, Reason::VlekWithoutCsps);
    }
    if let Some(chips) = &table.chips
        && rules.masked_chips == Exposure::Accepted
    {
        return fault(chips.span().start, Reason::MaskedWithChips);
    }
    contradiction(table.chips.as_ref(), rules.chips_allowed.as_ref(), chip, ("snp.chips.allow", "snp.chips.deny"))?;
    contradiction(table.csps.as_ref(), rules.csps_allowed.as_ref(), csp, ("snp.csps.allow", "snp.csps.deny"))
}

fn contradiction<T: Ord>(
    lists: Option<&Spanned<language::Lists>>,
    allowed: Option<&List<T>>,
    read: impl Fn(&Text, &'static str) -> Result<T, Fault>,
    keys: (&'static str, &'static str),
) -> Result<(), Fault> {
    let denied = self::lists(lists, Side::Deny).map(|texts| texts.get_ref().as_slice()).unwrap_or_default();
    for text in denied {
        let value = read(text, keys.1)?;
        if allowed.is_some_and(|allowed| allowed.contains(&value)) {
            return fault(text.span().start, Reason::Contradiction { one: keys.0, other: keys.1 });
        }
    }
    Ok(())
}

/// An allow list and a deny list, where they are stated.
type Sides<T> = (Option<List<T>>, Option<List<T>>);

/// An allow and a deny list of one kind of value, without a value that stands in both.
fn accepted_lists<T: Ord + Clone>(
    table: Option<&Spanned<language::Lists>>,
    keys: (&'static str, &'static str),
    read: impl Fn(&Text, &'static str) -> Result<T, Fault> + Copy,
) -> Result<Sides<T>, Fault> {
    let allowed = list(lists(table, Side::Allow), keys.0, read)?;
    let denied = list(lists(table, Side::Deny), keys.1, read)?;
    contradiction(table, allowed.as_ref(), read, keys)?;
    Ok((allowed, denied))
}

enum Side {
    Allow,
    Deny,
}

fn lists(lists: Option<&Spanned<language::Lists>>, side: Side) -> Option<&Texts> {
    let lists = lists?.get_ref();
    match side {
        Side::Allow => lists.allow.as_ref(),
        Side::Deny => lists.deny.as_ref(),
    }
}

fn csp(text: &Text, key: &'static str) -> Result<String, Fault> {
    if text.get_ref().is_empty() {
        return fault(text.span().start, Reason::Empty { key });
    }
    Ok(text.get_ref().clone())
}

fn signing_keys(texts: Option<&Texts>) -> Result<Vec<SigningKeyKind>, Fault> {
    let Some(texts) = texts else { return Ok(vec![SigningKeyKind::Vcek]) };
    let words = [("vcek", false), ("vlek", true)];
    let kind = |text: &Text, key| word(text, key, &words, "\"vcek\" or \"vlek\"");
    let kinds = each(texts.get_ref(), texts.span().start, "snp.signing-keys", kind)?;
    Ok(kinds.into_iter().map(|vlek| if vlek { SigningKeyKind::Vlek } else { SigningKeyKind::Vcek }).collect())
}

/// `accepted` or, as without the key, `denied`.
fn accepted(text: Option<&Text>, key: &'static str) -> Result<Exposure, Fault> {
    let words = [("denied", Exposure::Denied), ("accepted", Exposure::Accepted)];
    text.map_or(Ok(Exposure::Denied), |text| word(text, key, &words, "\"denied\" or \"accepted\""))
}

/// `allowed` or, as without the key, `denied`.
fn allowed(text: Option<&Text>, key: &'static str) -> Result<Exposure, Fault> {
    let words = [("denied", Exposure::Denied), ("allowed", Exposure::Accepted)];
    text.map_or(Ok(Exposure::Denied), |text| word(text, key, &words, "\"denied\" or \"allowed\""))
}

/// `required` or, as without the key, `optional`.
fn protection(text: Option<&Text>, key: &'static str) -> Result<Protection, Fault> {
    let words = [("optional", Protection::Optional), ("required", Protection::Required)];
    text.map_or(Ok(Protection::Optional), |text| word(text, key, &words, "\"optional\" or \"required\""))
}

fn id_block(table: &Spanned<language::IdBlock>) -> Result<IdBlock, Fault> {
    let at = table.span().start;
    let table = table.get_ref();
    let svn = required(table.minimum_guest_svn.as_ref(), at, "snp.id-block.minimum-guest-svn")?;
    if table.id_keys.is_none() && table.author_keys.is_none() {
        return fault(at, Reason::NoIdBlockKey);
    }
    Ok(IdBlock {
        id_keys: named_sets(table.id_keys.as_ref(), "snp.id-block.id-keys")?,
        author_keys: named_sets(table.author_keys.as_ref(), "snp.id-block.author-keys")?,
        minimum_guest_svn: number(svn, "snp.id-block.minimum-guest-svn", (0, u32::MAX), ("0", "4294967295"))?,
        family_ids: list(table.family_ids.as_ref(), "snp.id-block.family-ids", bytes)?,
        image_ids: list(table.image_ids.as_ref(), "snp.id-block.image-ids", bytes)?,
    })
}

fn guest_policy(table: &language::GuestPolicy) -> Result<GuestPolicy, Fault> {
    Ok(GuestPolicy {
        smt: allowed(table.smt.as_ref(), "snp.guest-policy.smt")?,
        cxl: allowed(table.cxl.as_ref(), "snp.guest-policy.cxl")?,
        single_socket: protection(table.single_socket.as_ref(), "snp.guest-policy.single-socket")?,
        mem_aes_256_xts: protection(table.mem_aes_256_xts.as_ref(), "snp.guest-policy.mem-aes-256-xts")?,
        rapl_disabled: protection(table.rapl_disabled.as_ref(), "snp.guest-policy.rapl-disabled")?,
        ciphertext_hiding: protection(table.ciphertext_hiding.as_ref(), "snp.guest-policy.ciphertext-hiding")?,
        page_swap_disabled: protection(table.page_swap_disabled.as_ref(), "snp.guest-policy.page-swap-disabled")?,
        minimum_abi: table.minimum_abi.as_ref().map_or(Ok((0, 0)), |text| abi(text, "snp.guest-policy.minimum-abi"))?,
    })
}

fn products(table: &Spanned<language::Products>) -> Result<Products, Fault> {
    let lines = table.get_ref();
    let product = |line, table: Option<&_>| table.map(|table| product(line, table)).transpose();
    let products = Products {
        milan: product(ProductLine::Milan, lines.milan.as_ref())?,
        genoa: product(ProductLine::Genoa, lines.genoa.as_ref())?,
        turin: product(ProductLine::Turin, lines.turin.as_ref())?,
    };
    if ProductLine::ALL.iter().all(|line| products.of(*line).is_none()) {
        return fault(table.span().start, Reason::Empty { key: "snp.products" });
    }
    Ok(products)
}

fn product(line: ProductLine, table: &Spanned<language::Product>) -> Result<Product, Fault> {
    let at = table.span().start;
    let table = table.get_ref();
    let every = floor(line, required(table.minimum_tcb.as_ref(), at, "snp.products.*.minimum-tcb")?)?;
    let own = |table: Option<&Spanned<language::Tcb>>| match table {
        None => Ok(every),
        Some(table) => tcb(line, table.span().start, table.get_ref()).map(Floor::Fixed),
    };
    let product = Product {
        committed: own(table.minimum_committed_tcb.as_ref())?,
        reported: own(table.minimum_reported_tcb.as_ref())?,
        launch: own(table.minimum_launch_tcb.as_ref())?,
        grace: table.grace.as_ref().map(|text| grace(text, "snp.products.*.grace")).transpose()?,
        firmware: table.minimum_firmware.as_ref().map(|text| firmware(text, "snp.products.*.minimum-firmware")).transpose()?,
    };
    let calendar_counts = product.floors().contains(&Floor::Calendar);
    match &table.grace {
        None if every == Floor::Calendar => fault(at, Reason::Missing { key: "snp.products.*.grace" }),
        Some(text) if every != Floor::Calendar => fault(text.span().start, Reason::GraceWithoutCalendar),
        _ if every == Floor::Calendar && !calendar_counts => fault(at, Reason::CalendarWithoutEffect),
        _ => Ok(product),
    }
}

fn floor(line: ProductLine, choice: &WordOrTcb) -> Result<Floor, Fault> {
    let at = choice.span().start;
    match choice.get_ref() {
        TcbChoice::Word(word) if word == "calendar" => Ok(Floor::Calendar),
        TcbChoice::Word(found) => {
            let expected = "\"calendar\" or a table of the TCB's parts";
            fault(at, Reason::Word { key: "snp.products.*.minimum-tcb", found: found.clone(), expected })
        }
        TcbChoice::Tcb(parts) => tcb(line, at, parts).map(Floor::Fixed),
    }
}

fn calendar(text: &Text) -> Result<Name, Fault> {
    let found = text.get_ref();
    found.parse().map_err(|_| Fault { at: text.span().start, reason: Reason::CalendarName { found: found.clone() } })
}

fn tcb(line: ProductLine, at: usize, table: &language::Tcb) -> Result<Tcb, Fault> {
    let &language::Tcb { fmc, bootloader, tee, snp, microcode } = table;
    let rule = match (line, fmc) {
        (ProductLine::Turin, None) => Some("must have the part fmc"),
        (ProductLine::Milan | ProductLine::Genoa, Some(_)) => Some("has no part fmc"),
        _ => None,
    };
    match rule {
        Some(rule) => fault(at, Reason::Fmc { line: line.as_str(), rule }),
        None => Ok(Tcb { fmc, bootloader, tee, snp, microcode }),
    }
}

fn platform_info(table: Option<&language::PlatformInfo>) -> Result<PlatformInfo, Fault> {
    let Some(table) = table else { return Ok(PlatformInfo { must_be_set: 0, must_be_clear: 0 }) };
    let keys = ("snp.platform-info.must-be-set", "snp.platform-info.must-be-clear");
    let must_be_set = bits(table.must_be_set.as_ref(), keys.0)?;
    let must_be_clear = bits(table.must_be_clear.as_ref(), keys.1)?;
    if must_be_set & must_be_clear != 0 {
        let at = table.must_be_clear.as_ref().map_or(0, |texts| texts.span().start);
        return fault(at, Reason::Contradiction { one: keys.0, other: keys.1 });
    }
    Ok(PlatformInfo { must_be_set, must_be_clear })
}

fn bits(texts: Option<&Texts>, key: &'static str) -> Result<u64, Fault> {
    let Some(texts) = texts else { return Ok(0) };
    let words = PLATFORM_BITS.map(|(bit, name)| (name, bit));
    let expected = "smt-enabled, tsme-enabled, ecc-enabled, rapl-disabled, ciphertext-hiding-enabled, alias-check-complete or tio-enabled";
    let bits = each(texts.get_ref(), texts.span().start, key, |text, key| word(text, key, &words, expected))?;
    Ok(bits.into_iter().fold(0, |mask, bit| mask | bit))
}

fn mask(value: Option<&language::Number>, key: &'static str) -> Result<Option<u64>, Fault> {
    value.map(|value| number(value, key, (1, u64::MAX), ("0x1", "0x7fff_ffff_ffff_ffff"))).transpose()
}
