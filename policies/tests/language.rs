//! Texts that are no policy: each by its exact reason, place and a hint; and beside each a near miss that is one.

use policies::{Policy, Reason};
use proptest::prelude::*;

/// A policy with every key; each test below changes one thing in it.
const FULL: &str = include_str!("full.toml");

fn with(change: &[(&str, &str)]) -> String {
    let mut text = FULL.to_owned();
    for (from, to) in change {
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in full.toml");
        text = text.replace(from, to);
    }
    text
}

#[track_caller]
fn reads(change: &[(&str, &str)]) {
    let text = with(change);
    if let Err(error) = Policy::parse(&text) {
        panic!("{error}\nhint: {}", error.hint());
    }
}

/// Asserts the reason, and that the error's place is where `marker` stands in the changed text.
#[track_caller]
fn refused(change: &[(&str, &str)], marker: &str, reason: Reason) {
    let text = with(change);
    let error = Policy::parse(&text).expect_err("no policy");
    assert_eq!(*error.reason(), reason);
    let line = text.lines().nth(error.line() - 1).unwrap_or_default();
    let rest: String = line.chars().skip(error.column() - 1).collect();
    assert!(rest.starts_with(marker), "{error}: stands at {rest:?}, not at {marker:?}");
    assert!(!error.hint().is_empty());
    assert_eq!(error.to_string(), format!("line {}, column {}: {}", error.line(), error.column(), reason));
}

fn missing(key: &'static str) -> Reason {
    Reason::Missing { key }
}

#[test]
fn the_full_policy_reads() {
    reads(&[]);
}

#[test]
fn a_format_is_required_and_known() {
    refused(&[("format = 1\n", "")], "", missing("format"));
    refused(&[("format = 1", "format = 2\nnew-key = 1")], "2", Reason::Format { found: 2 });
}

#[test]
fn an_unknown_key_is_refused_in_every_table() {
    let tables = [
        "format = 1",
        "[record]",
        "[snp]",
        "[snp.id-block]",
        "[snp.guest-policy]",
        "[snp.products.genoa]",
        "[snp.platform-info]",
        "[snp.mitigations]",
        "[snp.chips]",
        "[snp.csps]",
    ];
    for table in tables {
        let text = with(&[(&format!("{table}\n"), &format!("{table}\nunchecked = true\n"))]);
        let error = Policy::parse(&text).expect_err(table);
        let line = text.lines().nth(error.line() - 1).unwrap();
        assert_eq!(line, "unchecked = true", "{error}");
        assert!(matches!(error.reason(), Reason::Toml(message) if message.starts_with("unknown field `unchecked`")), "{error}");
    }
    let error = Policy::parse(&with(&[("minimum-tcb = { bootloader = 10,", "minimum-tcb = { bootloader = 10, boot = 1,")])).unwrap_err();
    assert!(error.to_string().contains("unknown field `boot`"), "{error}");
    let error = Policy::parse(&with(&[("[snp.products.genoa]", "[snp.products.rome]")])).unwrap_err();
    assert!(error.to_string().contains("unknown field `rome`"), "{error}");
}

#[test]
fn what_has_no_default_must_be_there() {
    refused(&[("role = \"workload:chat/llama\"\n", "")], "", missing("role"));
    refused(&[("attestation-lifetime = \"1 hour\"\n", "")], "", missing("attestation-lifetime"));
    refused(&[("vmpl = [0, 1]\n", "")], "[snp]", missing("snp.vmpl"));
    refused(&[("minimum-guest-svn = 3\n", "")], "[snp.id-block]", missing("snp.id-block.minimum-guest-svn"));
    let (start, _) = FULL.split_once("[snp]").unwrap();
    let error = Policy::parse(start).unwrap_err();
    assert_eq!(*error.reason(), Reason::NoPlatform);
    let start = FULL.split_once("[snp.products").unwrap().0;
    let end = FULL.split_once("[snp.platform-info]").unwrap().1;
    let error = Policy::parse(&format!("{start}[snp.platform-info]{end}")).unwrap_err();
    assert_eq!(*error.reason(), missing("snp.products"));
    let text = "format = 1\nrole = \"whole-vm\"\nattestation-lifetime = \"1 hour\"\n[snp]\n";
    assert_eq!(*Policy::parse(text).unwrap_err().reason(), missing("configuration"));
    let genoa = "[snp.products.genoa]\nminimum-tcb = { bootloader = 10, tee = 0, snp = 23, microcode = 84 }";
    refused(&[(genoa, "[snp.products.genoa]")], "[snp.products.genoa]", missing("snp.products.*.minimum-tcb"));
}

#[test]
fn a_missing_tcb_part_is_refused() {
    let error = Policy::parse(&with(&[("minimum-tcb = { bootloader = 10, tee = 0, ", "minimum-tcb = { bootloader = 10, ")])).unwrap_err();
    assert_eq!(*error.reason(), Reason::Toml("missing field `tee`".into()));
}

#[test]
fn roles_and_words_are_exact() {
    let role = "role = \"workload:chat/llama\"";
    let expected = "\"whole-vm\" or \"workload:NAME\"";
    let word = |found: &str| Reason::Word { key: "role", found: found.into(), expected };
    refused(&[(role, "role = \"chat/llama\"")], "\"chat", word("chat/llama"));
    refused(&[(role, "role = \"*\"")], "\"*", word("*"));
    let error = Policy::parse(&with(&[(role, "role = \"\\u001b[2J\"")])).unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'), "nothing reaches a terminal raw");
    reads(&[(role, "role = \"whole-vm\"")]);
    let expected = "\"denied\" or \"allowed\"";
    let word = Reason::Word { key: "snp.guest-policy.smt", found: "any".into(), expected };
    refused(&[("smt = \"denied\"", "smt = \"any\"")], "\"any", word);
    reads(&[("smt = \"denied\"", "smt = \"allowed\"")]);
    let expected = "\"denied\" or \"accepted\"";
    let word = Reason::Word { key: "snp.masked-chips", found: "allowed".into(), expected };
    refused(&[("masked-chips = \"denied\"", "masked-chips = \"allowed\"")], "\"allowed", word);
    let expected = "\"optional\" or \"required\"";
    let word = Reason::Word { key: "snp.guest-policy.rapl-disabled", found: "denied".into(), expected };
    refused(&[("rapl-disabled = \"required\"", "rapl-disabled = \"denied\"")], "\"denied", word);
    let key = "second-opinion-exceptions";
    let word = Reason::Word { key, found: "all".into(), expected: "\"masked-version-2-report\", \"version-5-quote\" or \"any-quote\"" };
    refused(&[("[\"masked-version-2-report\"]", "[\"all\"]")], "\"all", word);
    let expected = "\"vcek\" or \"vlek\"";
    let word = Reason::Word { key: "snp.signing-keys", found: "none".into(), expected };
    refused(&[("[\"vcek\", \"vlek\"]", "[\"vcek\", \"none\"]")], "\"none", word);
}

#[test]
fn bits_of_the_platform_go_by_name() {
    let error = Policy::parse(&with(&[("must-be-set = [\"ecc-enabled\"", "must-be-set = [\"ecc\"")])).unwrap_err();
    assert!(matches!(error.reason(), Reason::Word { key: "snp.platform-info.must-be-set", found, .. } if found == "ecc"));
    refused(
        &[("must-be-clear = [\"smt-enabled\"]", "must-be-clear = [\"ecc-enabled\"]")],
        "[\"ecc",
        Reason::Contradiction { one: "snp.platform-info.must-be-set", other: "snp.platform-info.must-be-clear" },
    );
    reads(&[("must-be-clear = [\"smt-enabled\"]", "must-be-clear = [\"tio-enabled\"]")]);
}

#[test]
fn configuration_and_host_data_take_their_words_alone() {
    let configuration = format!("configuration = [\"{}\"]", "c1".repeat(32));
    let expected = "\"config-is-measured\" or a list of SHA-256 digests in hex";
    let word = |found: &str| Reason::Word { key: "configuration", found: found.into(), expected };
    refused(&[(&configuration, "configuration = \"any\"")], "\"any", word("any"));
    reads(&[(&configuration, "configuration = \"config-is-measured\"")]);
    refused(&[(&configuration, "configuration = []")], "[]", Reason::Empty { key: "configuration" });
    let error = Policy::parse(&with(&[(&configuration, "configuration = true")])).unwrap_err();
    let message = "invalid type: boolean `true`, expected a word in quotes or a list of values";
    assert_eq!(*error.reason(), Reason::Toml(message.into()));
    let host_data = format!("host-data = [\"{}\"]", "d1".repeat(32));
    for word in ["all-zero", "configuration-digest", "host-data-not-trusted"] {
        reads(&[(&host_data, &format!("host-data = \"{word}\""))]);
    }
    let expected = "\"all-zero\", \"configuration-digest\", \"host-data-not-trusted\" or a list of 32-byte values in hex";
    let word = Reason::Word { key: "snp.host-data", found: "unchecked".into(), expected };
    refused(&[(&host_data, "host-data = \"unchecked\"")], "\"unchecked", word);
    reads(&[(&format!("{host_data}\n"), "")]);
}

#[test]
fn byte_strings_are_lower_case_hex_of_their_size() {
    let measurement = "a1".repeat(48);
    let hex = || Reason::Hex { key: "snp.measurements", expected: "96 lower-case hex digits (48 bytes)" };
    for wrong in ["A1".repeat(48), "a1".repeat(47), "a1".repeat(49), format!("0x{}", "a1".repeat(48)), String::new()] {
        refused(&[(&measurement, &wrong)], &format!("\"{wrong}\""), hex());
    }
    reads(&[(&measurement, &"a9".repeat(48))]);
    let hex = Reason::Hex { key: "configuration", expected: "64 lower-case hex digits (32 bytes)" };
    refused(&[(&"c1".repeat(32), &"c1".repeat(48))], "\"c1", hex);
    let hex = Reason::Hex { key: "snp.id-block.family-ids", expected: "32 lower-case hex digits (16 bytes)" };
    refused(&[(&"f1".repeat(16), &"f1".repeat(15))], "\"f1", hex);
    let expected = "128 lower-case hex digits (64 bytes), or the 16 digits of a Turin chip";
    refused(&[(&"e1".repeat(64), &"e1".repeat(32))], "\"e1", Reason::Hex { key: "snp.chips.allow", expected });
    reads(&[(&"e1".repeat(64), &"e1".repeat(8))]);
}

#[test]
fn values_that_stand_for_none_are_refused() {
    let key = "snp.id-block.id-keys";
    refused(&[(&"b1".repeat(48), &"00".repeat(48))], "\"00", Reason::AllZero { key });
    refused(&[(&"b2".repeat(48), &"00".repeat(48))], "\"00", Reason::AllZero { key: "snp.id-block.author-keys" });
    refused(&[(&"e1".repeat(64), &"00".repeat(8))], "\"00", Reason::AllZero { key: "snp.chips.allow" });
    reads(&[(&"b1".repeat(48), &format!("{}01", "00".repeat(47)))]);
}

#[test]
fn durations_are_a_number_and_a_unit_within_bounds() {
    let lifetime = "attestation-lifetime = \"1 hour\"";
    for wrong in ["1h", "3600", "1  hour", "+1 hour", "1.5 hours", "-1 hours", "1 week", " 1 hour", "", "99999999999999999999 days"] {
        let change = format!("attestation-lifetime = \"{wrong}\"");
        refused(&[(lifetime, &change)], &format!("\"{wrong}\""), Reason::Duration { found: wrong.into() });
    }
    let bounds = || Reason::Bounds { key: "attestation-lifetime", least: "1 minute", most: "7 days" };
    for wrong in ["59 seconds", "8 days", "0 hours", "10081 minutes"] {
        refused(&[(lifetime, &format!("attestation-lifetime = \"{wrong}\""))], &format!("\"{wrong}\""), bounds());
    }
    for right in ["60 seconds", "1 minute", "168 hours", "7 days"] {
        reads(&[(lifetime, &format!("attestation-lifetime = \"{right}\""))]);
    }
    let age = "revocation-max-age = \"30 days\"";
    let bounds = || Reason::Bounds { key: "revocation-max-age", least: "1 hour", most: "800 days" };
    refused(&[(age, "revocation-max-age = \"801 days\"")], "\"801", bounds());
    refused(&[(age, "revocation-max-age = \"59 minutes\"")], "\"59", bounds());
    reads(&[(age, "revocation-max-age = \"800 days\"")]);
}

#[test]
fn numbers_have_bounds() {
    refused(&[("vmpl = [0, 1]", "vmpl = [0, 4]")], "4]", Reason::Bounds { key: "snp.vmpl", least: "0", most: "3" });
    refused(&[("vmpl = [0, 1]", "vmpl = [-1]")], "-1]", Reason::Bounds { key: "snp.vmpl", least: "0", most: "3" });
    reads(&[("vmpl = [0, 1]", "vmpl = [3]")]);
    let svn = Reason::Bounds { key: "snp.id-block.minimum-guest-svn", least: "0", most: "4294967295" };
    refused(&[("minimum-guest-svn = 3", "minimum-guest-svn = 4294967296")], "4294967296", svn);
    reads(&[("minimum-guest-svn = 3", "minimum-guest-svn = 4294967295")]);
    let mask = |key| Reason::Bounds { key, least: "0x1", most: "0x7fff_ffff_ffff_ffff" };
    refused(&[("launch = 0x3", "launch = 0")], "0", mask("snp.mitigations.launch"));
    refused(&[("current = 0xb", "current = -1")], "-1", mask("snp.mitigations.current"));
    let error = Policy::parse(&with(&[("microcode = 84", "microcode = 256")])).unwrap_err();
    assert!(matches!(error.reason(), Reason::Toml(message) if message.contains("256")), "{error}");
    reads(&[("microcode = 84", "microcode = 255")]);
}

#[test]
fn versions_are_dotted_numbers() {
    let firmware = |found: &str| Reason::Word {
        key: "snp.products.*.minimum-firmware",
        found: found.into(),
        expected: "MAJOR.MINOR.BUILD such as \"1.55.29\"",
    };
    for wrong in ["1.55", "1.55.29.0", "1.055.29", "1.55.256", "1.55.+9", "latest"] {
        refused(&[("\"1.55.40\"", &format!("\"{wrong}\""))], &format!("\"{wrong}"), firmware(wrong));
    }
    let abi = Reason::Word { key: "snp.guest-policy.minimum-abi", found: "1".into(), expected: "MAJOR.MINOR such as \"1.51\"" };
    refused(&[("\"1.51\"", "\"1\"")], "\"1\"", abi);
    reads(&[("\"1.51\"", "\"0.0\"")]);
}

#[test]
fn sets_have_names_and_values() {
    let name = Reason::SetName { found: "Llama Runtime".into() };
    refused(&[("llama-runtime-1 =", "\"Llama Runtime\" =")], "\"Llama", name);
    let set = format!("llama-runtime-1 = [\"{}\"]", "a1".repeat(48));
    refused(&[(&set, "llama-runtime-1 = []")], "[]", Reason::Empty { key: "snp.measurements" });
    let twice = format!("llama-runtime-1 = [\"{0}\", \"{0}\"]", "a1".repeat(48));
    refused(&[(&set, &twice)], "\"a1", Reason::Repeated { key: "snp.measurements" });
    let elsewhere = format!("llama-runtime-1 = [\"{}\"]\nother = [\"{}\"]", "a1".repeat(48), "a1".repeat(48));
    reads(&[(&set, &elsewhere)]);
    refused(&[("vmpl = [0, 1]", "vmpl = []")], "[]", Reason::Empty { key: "snp.vmpl" });
    refused(&[("vmpl = [0, 1]", "vmpl = [1, 1]")], "1]", Reason::Repeated { key: "snp.vmpl" });
    refused(&[("allow = [\"CN=one\"]", "allow = [\"\"]")], "\"\"", Reason::Empty { key: "snp.csps.allow" });
    refused(&[("allow = [\"CN=one\"]", "allow = []")], "[]", Reason::Empty { key: "snp.csps.allow" });
    let error = Policy::parse(&with(&[(&set, &format!("{set}\n{set}"))])).unwrap_err();
    assert!(matches!(error.reason(), Reason::Toml(message) if message.contains("duplicate key")), "{error}");
}

/// `FULL` without the tables whose headers start with one of `headers`.
fn without(headers: &[&str]) -> String {
    let mut keep = true;
    let lines = FULL.lines().filter(|line| {
        if line.starts_with('[') {
            keep = !headers.iter().any(|header| line.starts_with(header));
        }
        keep
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_policy_says_which_guest_it_means() {
    let reason = |text: &str| Policy::parse(text).map(|_| ()).map_err(|error| error.reason().clone());
    assert_eq!(reason(&without(&["[snp.measurements", "[snp.id-block"])), Err(Reason::NoIdentity));
    assert_eq!(reason(&without(&["[snp.measurements"])), Ok(()));
    assert_eq!(reason(&without(&["[snp.id-block"])), Ok(()));
    assert_eq!(reason(&without(&["[snp.id-block.id-keys", "[snp.id-block.author-keys"])), Err(Reason::NoIdBlockKey));
    assert_eq!(reason(&without(&["[snp.id-block.id-keys"])), Ok(()));
    assert_eq!(reason(&without(&["[snp.id-block.author-keys"])), Ok(()));
    let empty = format!("{}\n[snp.measurements]\n", without(&["[snp.measurements"]));
    assert_eq!(reason(&empty), Err(Reason::Empty { key: "snp.measurements" }));
    let empty = format!("{}\n[snp.products]\n", without(&["[snp.products"]));
    assert_eq!(reason(&empty), Err(Reason::Empty { key: "snp.products" }));
}

#[test]
fn a_minimum_from_the_calendar_needs_its_name_and_a_period_of_grace() {
    let milan = "minimum-tcb = { bootloader = 4, tee = 0, snp = 22, microcode = 213 }";
    let dated = "minimum-tcb = \"calendar\"\ngrace = \"30 days\"";
    let named = ("vmpl = [0, 1]", "vmpl = [0, 1]\ncalendar = \"amd\"");
    reads(&[(milan, dated), named]);
    reads(&[(milan, "minimum-tcb = \"calendar\"\ngrace = \"0 days\""), named]);
    refused(&[(milan, dated)], "[snp]", missing("snp.calendar"));
    refused(&[(milan, "minimum-tcb = \"calendar\""), named], "[snp.products.milan]", missing("snp.products.*.grace"));
    refused(&[named], "\"amd\"", Reason::CalendarWithoutProducts);
    refused(&[(milan, &format!("{milan}\ngrace = \"30 days\""))], "\"30 days\"", Reason::GraceWithoutCalendar);
    let expected = "\"calendar\" or a table of the TCB's parts";
    let word = Reason::Word { key: "snp.products.*.minimum-tcb", found: "latest".into(), expected };
    refused(&[(milan, "minimum-tcb = \"latest\"")], "\"latest", word);
    let bounds = Reason::Bounds { key: "snp.products.*.grace", least: "0 days", most: "366 days" };
    refused(&[(milan, "minimum-tcb = \"calendar\"\ngrace = \"367 days\""), named], "\"367", bounds);
    let name = Reason::CalendarName { found: "AMD".into() };
    refused(&[(milan, dated), (named.0, "vmpl = [0, 1]\ncalendar = \"AMD\"")], "\"AMD", name);
    let own = "minimum-tcb = { bootloader = 10, tee = 0, snp = 23, microcode = 84 }";
    refused(&[(own, dated), named], "[snp.products.genoa]", Reason::CalendarWithoutEffect);
    let error = Policy::parse(&with(&[(milan, "minimum-tcb = 4")])).unwrap_err();
    assert_eq!(*error.reason(), Reason::Toml("invalid type: integer `4`, expected a word in quotes or a table of the TCB's parts".into()));
}

#[test]
fn turin_has_an_fmc_and_the_older_lines_have_none() {
    refused(&[("{ fmc = 1, ", "{ ")], "{ bootloader = 1,", Reason::Fmc { line: "Turin", rule: "must have the part fmc" });
    let genoa = ("minimum-tcb = { bootloader = 10", "minimum-tcb = { fmc = 1, bootloader = 10");
    refused(&[genoa], "{ fmc = 1, bootloader = 10", Reason::Fmc { line: "Genoa", rule: "has no part fmc" });
    refused(
        &[("{ bootloader = 4", "{ fmc = 1, bootloader = 4")],
        "{ fmc = 1, bootloader = 4",
        Reason::Fmc { line: "Milan", rule: "has no part fmc" },
    );
}

#[test]
fn combinations_that_cannot_be_meant_are_refused() {
    refused(&[("[\"vcek\", \"vlek\"]", "[\"vcek\"]")], "[snp.csps]", Reason::CspsWithoutVlek);
    let reason = |text: &str| Policy::parse(text).map(|_| ()).map_err(|error| error.reason().clone());
    assert_eq!(reason(&without(&["[snp.csps"])), Err(Reason::VlekWithoutCsps));
    assert_eq!(reason(&without(&["[snp.csps"]).replace("[\"vcek\", \"vlek\"]", "[\"vcek\"]")), Ok(()));
    refused(&[("allow = [\"CN=one\"]\n", "")], "[snp]", Reason::VlekWithoutCsps);
    let masked = ("masked-chips = \"denied\"", "masked-chips = \"accepted\"");
    refused(&[masked], "[snp.chips]", Reason::MaskedWithChips);
    assert_eq!(reason(&without(&["[snp.chips"]).replace(masked.0, masked.1)), Ok(()));
    let chips = Reason::Contradiction { one: "snp.chips.allow", other: "snp.chips.deny" };
    refused(&[(&"e2".repeat(64), &"e1".repeat(64))], "\"e1", chips);
    let csps = Reason::Contradiction { one: "snp.csps.allow", other: "snp.csps.deny" };
    refused(&[("deny = [\"CN=two\"]", "deny = [\"CN=one\"]")], "\"CN=one", csps);
}

#[test]
fn a_text_beyond_the_limit_is_not_read() {
    let limit = protocol::limits::DOCUMENT;
    let padded = |size: usize| format!("{FULL}{}", "#".repeat(size - FULL.len()));
    let error = Policy::parse(&padded(limit + 1)).unwrap_err();
    assert_eq!(*error.reason(), Reason::TooLong { found: limit + 1, limit });
    Policy::parse(&padded(limit)).unwrap();
}

#[test]
fn broken_toml_is_refused_at_its_place() {
    let error = Policy::parse("format = 1\nrole = \"whole-vm\n").unwrap_err();
    assert_eq!(error.line(), 2, "{error}");
    assert!(matches!(error.reason(), Reason::Toml(_)));
    let error = Policy::parse(&format!("format = 1\nx = {}", "[".repeat(100_000))).unwrap_err();
    assert!(matches!(error.reason(), Reason::Toml(_)));
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*") {
        let _ = Policy::parse(&text);
    }

    #[test]
    fn no_change_of_a_policy_panics(at in 0..FULL.len(), cut in 0..40usize, insert in "[\\[\\]{}=\"',.#\\n a-z0-9é-]{0,8}") {
        let Some((start, rest)) = FULL.split_at_checked(at) else { return Ok(()) };
        let text = format!("{start}{insert}{}", rest.get(cut..).unwrap_or_default());
        if let Err(error) = Policy::parse(&text) {
            prop_assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty() && !error.hint().is_empty());
        }
    }
}

#[test]
fn publishers_are_keys_in_named_sets() {
    let line = "publishers.acme-release = [\"ed25519:BQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQU=\"]";
    let key = "record.publishers";
    let second = "ed25519:BgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgYGBgY=";
    reads(&[(line, &format!("{line}\npublishers.acme-canary = [\"{second}\"]"))]);
    refused(&[(line, "")], "[record]", missing(key));
    refused(&[(line, "publishers = {}")], "{}", Reason::Empty { key });
    refused(&[(line, "publishers.a = []")], "[]", Reason::Empty { key });
    refused(&[(line, "publishers.a = [\"BQUF\"]")], "\"BQUF", Reason::PublisherKey { key });
    refused(&[(line, "publishers.a = [\"ed25519:BQUF\"]")], "\"ed25519", Reason::PublisherKey { key });
    refused(&[(line, &format!("publishers.a = [\"{second}\", \"{second}\"]"))], &format!("\"{second}\"]"), Reason::Repeated { key });
    refused(&[(line, &format!("publishers.\"A b\" = [\"{second}\"]"))], "\"A b", Reason::SetName { found: "A b".into() });
}
