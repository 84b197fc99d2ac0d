//! The soft certificates beside AMD's own: same elements, same order, same identifiers, same names; only keys, times and values differ.
//! Skipped with a line where the evidence folder is missing.

use std::path::PathBuf;

use testbed::rsa::PssParameters;
use testbed::snp::{Line, SoftPlatform};

fn evidence() -> Option<PathBuf> {
    let folder = std::env::var_os("PORTCULLIS_EVIDENCE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence"), PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: no evidence folder");
        return None;
    }
    Some(folder.join("snp"))
}

/// First element of `der`: tag, content, rest.
fn element(der: &[u8]) -> (u8, &[u8], &[u8]) {
    let (length, start) = match der[1] {
        short @ 0..=0x7f => (usize::from(short), 2),
        long => {
            let count = usize::from(long & 0x7f);
            (der[2..2 + count].iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), 2 + count)
        }
    };
    (der[0], &der[start..start + length], &der[start + length..])
}

/// The elements of `der` in order: tags, and whatever content is the same in every certificate of a kind.
fn skeleton(der: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    walk(der, 0, &mut Vec::new(), &mut lines);
    lines
}

fn walk(mut der: &[u8], depth: usize, last_oid: &mut Vec<u8>, lines: &mut Vec<String>) {
    while !der.is_empty() {
        let (tag, content, rest) = element(der);
        let amd = last_oid.starts_with(&[0x2b, 6, 1, 4, 1, 0x9c, 0x78, 1]);
        let shown = match tag {
            0x06 => {
                *last_oid = content.to_vec();
                format!("{content:x?}")
            }
            // hwID has no type inside: its length tells the line.
            0x04 if amd && last_oid.ends_with(&[1, 4]) => format!("{} raw octets", content.len()),
            // Other extension values of AMD: an INTEGER or an IA5String, of any value.
            0x04 if amd => format!("{:02x}", content[0]),
            // A key's identifier and a list's number are another key's and another day's.
            0x04 if last_oid.ends_with(&[0x1d, 0x0e]) => format!("{} bytes", content.len()),
            0x04 if last_oid.ends_with(&[0x1d, 0x14]) => format!("{:02x}", content[0]),
            0x04 => skeleton(content).join(" "),
            0x01 | 0x05 | 0x0c | 0x13 | 0x86 => String::from_utf8_lossy(content).into_owned(),
            0x02 if content.len() < 8 => format!("{content:x?}"),
            0x02 | 0x03 | 0x80 => format!("{} bytes", content.len()),
            _ => String::new(),
        };
        lines.push(format!("{depth}:{tag:02x} {shown}"));
        if tag & 0x20 != 0 {
            walk(content, depth + 1, last_oid, lines);
        }
        der = rest;
    }
}

fn certificates_in(folder: &std::path::Path, ending: &str) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.contains(ending) && name.ends_with(".der") && !name.starts_with("neg-") {
            found.push((name, std::fs::read(path).unwrap()));
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no {ending} in the evidence folder");
    found
}

#[test]
fn every_real_vcek_has_the_structure_of_a_soft_one() {
    let Some(folder) = evidence() else { return };
    for (name, real) in certificates_in(&folder, "vcek") {
        let line = Line::ALL.into_iter().find(|line| real.windows(9).any(|part| part == format!("SEV-{}", line.name()).as_bytes()));
        let platform = SoftPlatform::new(line.expect("the issuer names the line"));
        let with_trailer = platform.vcek_with(|vcek| vcek.parameters = PssParameters::AMD);
        let expected = skeleton(&real);
        let same = [platform.vcek_der(), with_trailer].iter().any(|soft| skeleton(soft) == expected);
        assert!(same, "{name}:\nreal {expected:#?}\nsoft {:#?}", skeleton(&platform.vcek_der()));
    }
}

#[test]
fn a_real_vlek_has_the_structure_of_a_soft_one() {
    let Some(folder) = evidence() else { return };
    for (name, real) in certificates_in(&folder, "vlek.der") {
        assert_eq!(skeleton(&real), skeleton(&SoftPlatform::new(Line::Milan).vlek_der()), "{name}");
    }
}

#[test]
fn every_real_authority_has_the_structure_of_a_soft_one() {
    let Some(folder) = evidence() else { return };
    for line in Line::ALL {
        let platform = SoftPlatform::new(line);
        for (kind, soft) in [("ark", platform.ark_der()), ("ask", platform.ask_der()), ("asvk", platform.asvk_der())] {
            let file = folder.join("ca").join(format!("{}-{kind}.der", line.name().to_lowercase()));
            let real = std::fs::read(&file).unwrap();
            assert_eq!(skeleton(&real), skeleton(&soft), "{}", file.display());
        }
    }
}

#[test]
fn a_real_revocation_list_has_the_structure_of_a_soft_one() {
    let Some(folder) = evidence() else { return };
    let lists = [(Line::Milan, "milan-ark-20250506", [].as_slice()), (Line::Genoa, "genoa-ark-20241023", &[0x02_0001])];
    for (line, name, serials) in lists {
        let real = std::fs::read(folder.join("crl").join(format!("{name}.crl.der"))).unwrap();
        assert_eq!(skeleton(&real), skeleton(&SoftPlatform::new(line).crl_der(serials)), "{name}");
    }
}
