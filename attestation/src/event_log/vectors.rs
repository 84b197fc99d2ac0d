//! Real event logs, where there is a folder of evidence: each replays to the quote that it came with, or to what an independent tool made of it.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::*;

/// The folder of evidence, where there is one.
fn folder() -> Option<PathBuf> {
    let named = std::env::var_os("PORTCULLIS_EVIDENCE").map(PathBuf::from);
    let folder = named.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/evidence"));
    if folder.join("vectors.json").is_file() {
        return Some(folder);
    }
    println!("skipped: no folder of evidence (set PORTCULLIS_EVIDENCE)");
    None
}

fn read_file(folder: &Path, name: &str) -> Vec<u8> {
    std::fs::read(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// RTMR0 to RTMR3 of a version 4 quote: behind a header of 48 bytes, 328 bytes into the body.
fn registers(quote: &[u8]) -> [[u8; 48]; 4] {
    assert_eq!(quote[..2], [4, 0]);
    [0, 1, 2, 3].map(|rtmr| quote[376 + 48 * rtmr..][..48].try_into().unwrap())
}

fn digest(hex: &str) -> [u8; 48] {
    ::hex::decode(hex).unwrap().try_into().unwrap()
}

#[test]
fn every_real_log_replays_as_an_independent_tool_replays_it() {
    let Some(folder) = folder() else { return };
    let rows: Vec<Value> = serde_json::from_slice(&read_file(&folder, "vectors.json")).unwrap();
    let mut logs = 0;
    for row in &rows {
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let (name, claims) = (text("files"), text("claims"));
        if !name.starts_with("eventlog/") || !name.ends_with(".bin") {
            continue;
        }
        let mut expected = [[0; 48]; 4];
        for word in claims.split(' ') {
            let Some((number, value)) = word.strip_prefix("MR").and_then(|word| word.split_once('=')) else { continue };
            expected[number.parse::<usize>().unwrap() - 1] = digest(value);
        }
        let (_, count) = claims.split_once(" B, ").unwrap();
        let (count, _) = count.split_once(" events").unwrap();
        let events = replay(&read_file(&folder, name), &expected).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(events.len(), count.parse::<usize>().unwrap(), "{name}");
        logs += 1;
    }
    assert_eq!(logs, 6);
}

#[test]
fn the_cos_log_replays_to_its_quote_and_its_neighbour_with_an_extended_separator_does_not() {
    let Some(folder) = folder() else { return };
    let rtmrs = registers(&read_file(&folder, "tdx/v4-google-cos113-00806f.quote.bin"));
    let events = replay(&read_file(&folder, "eventlog/cos113.ccel.bin"), &rtmrs).unwrap();
    let log = read_file(&folder, "eventlog/neg-cos113-dupe-separator.ccel.bin");
    let found = digest("a4de2df23e9611299123ba4359c42a5e578b0f8488bf1bba8ef5606d9ea5d81c97c064b482a5eac537d166bd0f0f752d");
    assert_eq!(replay(&log, &rtmrs), Err(EventLogError::Replay { rtmr: 0, expected: rtmrs[0].into(), found: found.into() }));

    // What the log's data is worth: the separators and variables are proven, the images and tables are not.
    let proven = |rtmr: u8, name: &str| -> Vec<bool> {
        let of = events.iter().filter(|event| event.rtmr == rtmr && event.kind_name() == Some(name));
        of.map(|event| event.data.is_some()).collect()
    };
    assert_eq!(proven(0, "EV_SEPARATOR"), [true]);
    assert_eq!(proven(1, "EV_SEPARATOR"), [true]);
    assert_eq!(proven(0, "EV_EFI_VARIABLE_DRIVER_CONFIG"), [true; 5]);
    assert_eq!(proven(0, "EV_EFI_VARIABLE_BOOT"), [true; 3]);
    assert_eq!(proven(0, "EV_PLATFORM_CONFIG_FLAGS"), [false; 3]);
    assert_eq!(proven(1, "EV_EFI_BOOT_SERVICES_APPLICATION"), [false; 2]);
    let texts: Vec<_> = events.iter().filter(|event| event.rtmr == 2).filter_map(|event| event.data.as_deref()).collect();
    assert_eq!(texts[0], b"defaultA=2");
    assert!(texts.last().unwrap().starts_with(b"/syslinux/vmlinuz.A init=/usr/lib/systemd/systemd"), "the kernel's command line");
}

#[test]
fn no_digest_or_register_of_a_real_log_can_be_changed() {
    let Some(folder) = folder() else { return };
    let rtmrs = registers(&read_file(&folder, "tdx/v4-google-cos113-00806f.quote.bin"));
    let log = read_file(&folder, "eventlog/cos113.ccel.bin");
    let mut offset = 65;
    let mut records = 0;
    while log[offset] != 0xff {
        for position in [0, 8, 12, 14, 30, 61] {
            let mut changed = log.clone();
            changed[offset + position] ^= 1;
            assert!(replay(&changed, &rtmrs).is_err(), "byte {:#x}", offset + position);
        }
        offset += 66 + usize::try_from(u32::from_le_bytes(log[offset + 62..][..4].try_into().unwrap())).unwrap();
        records += 1;
    }
    assert_eq!(records, replay(&log, &rtmrs).unwrap().len());
    let mut padded = log.clone();
    padded[262_143] = 0;
    assert_eq!(replay(&padded, &rtmrs), Err(EventLogError::Padding { offset: 262_143, expected: 0xff }));
    assert!(replay(&log[..offset], &rtmrs).is_ok(), "a log cut where its events end");
}

#[test]
fn a_log_in_the_agents_json_form_replays_to_all_four_registers_of_its_quote() {
    let Some(folder) = folder() else { return };
    let report: Value = serde_json::from_slice(&read_file(&folder, "eventlog/dstack-quote-report.json")).unwrap();
    let rtmrs = registers(&::hex::decode(report["quote"].as_str().unwrap()).unwrap());
    let entries: Vec<Value> = serde_json::from_str(report["event_log"].as_str().unwrap()).unwrap();
    let mut log = read_file(&folder, "eventlog/dstack.ccel.bin")[..65].to_vec();
    for entry in &entries {
        let number = |key: &str| u32::try_from(entry[key].as_u64().unwrap()).unwrap();
        let bytes = |key: &str| ::hex::decode(entry[key].as_str().unwrap()).unwrap();
        log.extend([number("imr") + 1, number("event_type"), 1].map(u32::to_le_bytes).concat());
        log.extend([&SHA384.to_le_bytes()[..], &bytes("digest")].concat());
        let data = bytes("event_payload");
        log.extend([&u32::try_from(data.len()).unwrap().to_le_bytes()[..], &data].concat());
    }
    let events = replay(&log, &rtmrs).unwrap();
    assert_eq!(events.len(), entries.len());
    assert!(events.iter().any(|event| event.rtmr == 3));
    // The near miss: the agent's last event of its own register is missing.
    let last = entries.iter().rposition(|entry| entry["imr"] == 3).unwrap();
    assert_eq!(last, entries.len() - 1);
    let cut = log.len() - 66 - entries[last]["event_payload"].as_str().unwrap().len() / 2;
    assert!(matches!(replay(&log[..cut], &rtmrs), Err(EventLogError::Replay { rtmr: 3, .. })));
}
