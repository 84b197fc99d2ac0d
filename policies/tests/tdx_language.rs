//! Texts of `[tdx]` that are no policy: each by its exact reason, place and a hint; and beside each a near miss that is one.

use policies::{Policy, Reason};
use proptest::prelude::*;

/// A policy with every key of `[tdx]`; each test below changes one thing in it.
const FULL: &str = include_str!("tdx.toml");

fn with(change: &[(&str, &str)]) -> String {
    let mut text = FULL.to_owned();
    for (from, to) in change {
        assert_eq!(text.matches(from).count(), 1, "{from:?} stands once in tdx.toml");
        text = text.replace(from, to);
    }
    text
}

#[track_caller]
fn reads(change: &[(&str, &str)]) {
    if let Err(error) = Policy::parse(&with(change)) {
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
}

fn hex(byte: &str, size: usize) -> String {
    byte.repeat(size)
}

#[test]
fn the_full_policy_reads() {
    reads(&[]);
}

#[test]
fn an_unknown_key_is_refused_in_every_table() {
    let tables = [
        "[tdx]",
        "[tdx.rtmrs]",
        "[tdx.events.rtmr2]",
        "[tdx.attributes]",
        "[tdx.tcb]",
        "[tdx.tcb.accept]",
        "[tdx.platform-instances]",
        "[tdx.ppids]",
    ];
    for table in tables {
        let text = with(&[(&format!("{table}\n"), &format!("{table}\nunchecked = true\n"))]);
        let error = Policy::parse(&text).expect_err(table);
        assert_eq!(text.lines().nth(error.line() - 1), Some("unchecked = true"), "{error}");
        assert!(matches!(error.reason(), Reason::Toml(message) if message.starts_with("unknown field `unchecked`")), "{error}");
    }
    let error = Policy::parse(&with(&[("{ type = 13, digest = \"e4", "{ type = 13, data = 1, digest = \"e4")])).unwrap_err();
    assert!(error.to_string().contains("unknown field `data`"), "{error}");
    let error = Policy::parse(&with(&[("[tdx.events.rtmr2]", "[tdx.events.rtmr4]")])).unwrap_err();
    assert!(error.to_string().contains("unknown field `rtmr4`"), "{error}");
    for status in ["OutOfDate", "UpToDate", "Revoked", "TDRelaunchAdvised", "swhardeningneeded"] {
        let error = Policy::parse(&with(&[("SWHardeningNeeded =", &format!("{status} ="))])).unwrap_err();
        assert!(error.to_string().contains(&format!("unknown field `{status}`")), "{error}");
    }
    for key in ["debug = \"allowed\"", "migratable = \"allowed\"", "sept-ve-disable = \"optional\""] {
        Policy::parse(&with(&[("[tdx.attributes]", &format!("[tdx.attributes]\n{key}"))])).expect_err(key);
    }
}

#[test]
fn a_policy_says_what_was_in_the_td() {
    let sets = "[tdx.measurements]\n";
    let (start, rest) = FULL.split_once(sets).unwrap();
    let rest = rest.split_once("[tdx.mrseam]").unwrap().1;
    let error = Policy::parse(&format!("{start}[tdx.mrseam]{rest}")).unwrap_err();
    assert_eq!(*error.reason(), Reason::Missing { key: "tdx.measurements" });
    assert!(error.hint().contains("MRTD"));
    refused(&[(&hex("a1", 48), &hex("00", 48))], "\"00", Reason::AllZero { key: "tdx.measurements" });
    refused(&[(&hex("a5", 48), &hex("00", 48))], "\"00", Reason::AllZero { key: "tdx.mrseam" });
    let short = Reason::Hex { key: "tdx.measurements", expected: "96 lower-case hex digits (48 bytes)" };
    refused(&[(&hex("a1", 48), &hex("a1", 32))], "\"a1", short);
}

#[test]
fn no_register_is_unchecked_by_silence() {
    let silent = |register| Reason::SilentRegister { register };
    let rtmr0 = format!("rtmr0 = {{ machine = [\"{}\"] }}\n", hex("b0", 48));
    refused(&[(&rtmr0, "")], "[tdx]", silent("rtmr0"));
    refused(&[("rtmr3 = \"all-zero\"\n", "")], "[tdx]", silent("rtmr3"));
    refused(&[("[tdx.events.rtmr1.sequences]", "[tdx.events.rtmr3.sequences]")], "[tdx]", silent("rtmr1"));
    reads(&[(&rtmr0, "rtmr0 = \"not-checked\"\n")]);
    reads(&[(&rtmr0, "rtmr0 = \"all-zero\"\n")]);
    reads(&[(&hex("b0", 48), &hex("00", 48))]);
    let expected = "\"all-zero\", \"not-checked\" or named sets";
    let word = Reason::Word { key: "tdx.rtmrs.rtmr3", found: "any".into(), expected };
    refused(&[("rtmr3 = \"all-zero\"", "rtmr3 = \"any\"")], "\"any", word);
    refused(&[("rtmr3 = \"all-zero\"", "rtmr3 = {}")], "{}", Reason::Empty { key: "tdx.rtmrs.rtmr3" });
    let error = Policy::parse(&with(&[("rtmr3 = \"all-zero\"", "rtmr3 = true")])).unwrap_err();
    assert_eq!(*error.reason(), Reason::Toml("invalid type: boolean `true`, expected a word in quotes or named sets".into()));
    let both = Reason::RegisterNotCheckedWithEvents { register: "rtmr1" };
    refused(&[("rtmr3 = \"all-zero\"", "rtmr3 = \"all-zero\"\nrtmr1 = \"not-checked\"")], "\"not-checked", both);
    reads(&[("rtmr3 = \"all-zero\"", "rtmr3 = \"all-zero\"\nrtmr1 = \"all-zero\"")]);
}

#[test]
fn event_rules_mean_one_thing() {
    let rules = || Reason::EventRules { register: "rtmr2" };
    let (allow, require) = (
        format!("allow = [{{ type = 13, digest = \"{}\" }}]\n", hex("e4", 48)),
        format!("require = [{{ type = 13, digest = \"{}\" }}]\n", hex("e5", 48)),
    );
    refused(&[(&allow, ""), (&require, "")], "[tdx.events.rtmr2]", rules());
    reads(&[(&allow, "")]);
    reads(&[(&require, "")]);
    let sequence = format!("sequences = {{ a = [{{ type = 1, digest = \"{}\" }}] }}\n", hex("e6", 48));
    refused(&[(&allow, &sequence)], "[tdx.events.rtmr2]", rules());
    reads(&[(&allow, &sequence), (&require, "")]);
    let key = "tdx.events.rtmr2";
    refused(&[(&allow, "allow = []\n")], "[]", Reason::Empty { key });
    refused(&[(&allow, "sequences = {}\n"), (&require, "")], "{}", Reason::Empty { key });
    refused(&[(&allow, "sequences = { a = [] }\n"), (&require, "")], "[]", Reason::Empty { key });
    let twice = format!("allow = [{{ type = 13, digest = \"{0}\" }}, {{ type = 13, digest = \"{0}\" }}]\n", hex("e4", 48));
    refused(&[(&allow, &twice)], "{ type", Reason::Repeated { key });
    refused(&[("type = 13, digest = \"e4", "type = -1, digest = \"e4")], "-1", Reason::Bounds { key, least: "0", most: "0xffff_ffff" });
    reads(&[("type = 13, digest = \"e4", "type = 0xffffffff, digest = \"e4")]);
    refused(&[("type = 13, digest = \"e4", "type = 3, digest = \"e4")], "{ type = 3", Reason::Remark { key });
    reads(&[("type = 13, digest = \"e4", "type = 2, digest = \"e4")]);
    let short = Reason::Hex { key, expected: "96 lower-case hex digits (48 bytes)" };
    refused(&[(&hex("e4", 48), &hex("e4", 32))], "\"e4", short);
    refused(&[("release-2 = [{", "\"Release 2\" = [{")], "\"Release", Reason::SetName { found: "Release 2".into() });
    let error = Policy::parse(&with(&[("{ type = 13, digest = \"e4", "{ digest = \"e4")])).unwrap_err();
    assert_eq!(*error.reason(), Reason::Toml("missing field `type`".into()));
}

#[test]
fn host_chosen_values_take_their_words_alone() {
    let config = format!("mrconfigid = [\"{}\"]", hex("d1", 48));
    for word in ["all-zero", "configuration-digest", "mrconfigid-not-trusted"] {
        reads(&[(&config, &format!("mrconfigid = \"{word}\""))]);
    }
    let expected = "\"all-zero\", \"configuration-digest\", \"mrconfigid-not-trusted\" or a list of 48-byte values in hex";
    let word = Reason::Word { key: "tdx.mrconfigid", found: "host-data-not-trusted".into(), expected };
    refused(&[(&config, "mrconfigid = \"host-data-not-trusted\"")], "\"host", word);
    let expected = "\"all-zero\" or a list of 48-byte values in hex";
    for (key, byte) in [("mrowner", "d2"), ("mrownerconfig", "d3"), ("mrservicetd", "d4")] {
        let own = format!("{key} = [\"{}\"]", hex(byte, 48));
        reads(&[(&own, &format!("{key} = \"all-zero\""))]);
        let error = Policy::parse(&with(&[(&own, &format!("{key} = \"not-checked\""))])).unwrap_err();
        assert!(matches!(error.reason(), Reason::Word { expected: found, .. } if *found == expected), "{error}");
        refused(&[(&own, &format!("{key} = []"))], "[]", Reason::Empty { key: ["tdx.", key].concat().leak() });
    }
    let (td_id, device) = (format!("td-id = [\"{}\"]", hex("d5", 32)), format!("device-info = [\"{}\"]", hex("d6", 48)));
    reads(&[(&td_id, "td-id = \"not-checked\""), (&device, "device-info = \"not-checked\"")]);
    let expected = "\"all-zero\", \"not-checked\" or a list of 32-byte values in hex";
    let word = Reason::Word { key: "tdx.td-id", found: "configuration-digest".into(), expected };
    refused(&[(&td_id, "td-id = \"configuration-digest\"")], "\"configuration", word);
    let hex32 = Reason::Hex { key: "tdx.td-id", expected: "64 lower-case hex digits (32 bytes)" };
    refused(&[(&hex("d5", 32), &hex("d5", 48))], "\"d5", hex32);
}

#[test]
fn numbers_and_masks_have_bounds() {
    refused(&[("xfam = 0x600e7", "xfam = 0x600e4")], "0x600e4", Reason::XfamWithoutBase);
    refused(&[("xfam = 0x600e7", "xfam = 0")], "0", Reason::Bounds { key: "tdx.xfam", least: "0x1", most: "0x7fff_ffff_ffff_ffff" });
    reads(&[("xfam = 0x600e7", "xfam = 0x3")]);
    refused(&[("vm-ids = [0, 1]", "vm-ids = [0, 4]")], "4]", Reason::Bounds { key: "tdx.vm-ids", least: "0", most: "3" });
    refused(&[("vm-ids = [0, 1]", "vm-ids = []")], "[]", Reason::Empty { key: "tdx.vm-ids" });
    let number = Reason::Bounds { key: "tdx.tcb.minimum-evaluation-number", least: "1", most: "4294967295" };
    refused(&[("minimum-evaluation-number = 17", "minimum-evaluation-number = 0")], "0", number);
    let age = Reason::Bounds { key: "tdx.collateral-max-age", least: "1 hour", most: "800 days" };
    refused(&[("collateral-max-age = \"20 days\"", "collateral-max-age = \"801 days\"")], "\"801", age);
    let grace = Reason::Bounds { key: "tdx.tcb.out-of-date-grace", least: "0 days", most: "366 days" };
    refused(&[("out-of-date-grace = \"30 days\"", "out-of-date-grace = \"367 days\"")], "\"367", grace);
    reads(&[("out-of-date-grace = \"30 days\"", "out-of-date-grace = \"366 days\"")]);
}

#[test]
fn advisories_days_and_platforms_have_their_form() {
    let expected = "an advisory such as \"INTEL-SA-00960\" or \"INTEL-DOC-10000\"";
    for wrong in ["INTEL-SA-960", "intel-sa-00960", "SA-00960", "INTEL-SA-00960 ", "CVE-2024-12345", ""] {
        let word = Reason::Word { key: "tdx.tcb.denied-advisories", found: wrong.into(), expected };
        refused(&[("\"INTEL-SA-00999\"", &format!("\"{wrong}\""))], &format!("\"{wrong}\""), word);
    }
    let word = Reason::Word { key: "tdx.tcb.accept", found: "any".into(), expected };
    refused(&[("\"INTEL-SA-00982\"", "\"any\"")], "\"any", word);
    refused(&[("\"INTEL-SA-00982\"", "\"INTEL-SA-00960\"")], "\"INTEL-SA-00960\"]", Reason::Repeated { key: "tdx.tcb.accept" });
    let day = |found: &str| Reason::Word { key: "tdx.tcb.not-before", found: found.into(), expected: "a day such as \"2024-03-13\"" };
    for wrong in ["2024-02-30", "13.03.2024", "2024-3-13", "2024-03-13T00:00:00Z", ""] {
        refused(&[("\"2024-03-13\"", &format!("\"{wrong}\""))], &format!("\"{wrong}\""), day(wrong));
    }
    let error = Policy::parse(&with(&[("not-before = \"2024-03-13\"", "not-before = 2024-03-13")])).unwrap_err();
    assert!(matches!(error.reason(), Reason::Toml(_)), "{error}");
    let fmspc = Reason::Hex { key: "tdx.fmspcs", expected: "12 lower-case hex digits (6 bytes)" };
    refused(&[("\"b0c06f000000\"", "\"B0C06F000000\"")], "\"B0", fmspc);
    let one = Reason::Contradiction { one: "tdx.ppids.allow", other: "tdx.ppids.deny" };
    refused(&[(&hex("f4", 16), &hex("f3", 16))], "\"f3", one);
    let one = Reason::Contradiction { one: "tdx.platform-instances.allow", other: "tdx.platform-instances.deny" };
    refused(&[(&hex("f2", 16), &hex("f1", 16))], "\"f1", one);
}

proptest! {
    #[test]
    fn no_change_of_a_policy_panics(at in 0..FULL.len(), cut in 0..40usize, insert in "[\\[\\]{}=\"',.#\\n a-z0-9é-]{0,8}") {
        let Some((start, rest)) = FULL.split_at_checked(at) else { return Ok(()) };
        let text = format!("{start}{insert}{}", rest.get(cut..).unwrap_or_default());
        if let Err(error) = Policy::parse(&text) {
            prop_assert!(error.line() >= 1 && error.column() >= 1 && !error.to_string().is_empty() && !error.hint().is_empty());
        }
    }
}
