//! The soft TDX hierarchy beside Intel's own: the same elements in the same order in every certificate and list, and documents that are
//! rendered byte for byte as Intel renders them. Skipped with a line where the evidence folder is missing.

use std::path::{Path, PathBuf};

use serde_json::Value;
use testbed::tdx::{IsvLevel, ModuleIdentity, PlatformLevel, QeIdentity, Role, SoftTdx, Standing, TcbInfo};

fn evidence() -> Option<PathBuf> {
    let folder = std::env::var_os("PORTCULLIS_EVIDENCE")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/evidence"), PathBuf::from);
    if !folder.is_dir() {
        println!("skipped: no evidence folder");
        return None;
    }
    Some(folder.join("tdx"))
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    assert!(!found.is_empty(), "nothing in {}", folder.display());
    found
}

/// Folders of collateral that have this file, with its content.
fn collateral(folder: &Path, file: &str) -> Vec<(String, Vec<u8>)> {
    let found: Vec<_> = entries(&folder.join("collateral"))
        .into_iter()
        .filter_map(|folder| std::fs::read(folder.join(file)).ok().map(|bytes| (folder.display().to_string(), bytes)))
        .collect();
    assert!(!found.is_empty(), "no {file}");
    found
}

/// The certificates of a PEM chain, DER.
fn certificates(pem: &[u8]) -> Vec<Vec<u8>> {
    let text = String::from_utf8_lossy(pem);
    let blocks = text.split("-----BEGIN CERTIFICATE-----").skip(1);
    blocks.map(|block| base64(block.split("-----END").next().unwrap())).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let value = |letter: u8| match letter {
        b'A'..=b'Z' => Some(letter - b'A'),
        b'a'..=b'z' => Some(letter - b'a' + 26),
        b'0'..=b'9' => Some(letter - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0u32, 0);
    for six in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
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

/// 1.2.840.113741.1.13.1 in DER.
const SGX: [u8; 9] = [0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 1, 13, 1];

fn walk(mut der: &[u8], depth: usize, last_oid: &mut Vec<u8>, lines: &mut Vec<String>) {
    while !der.is_empty() {
        let (tag, content, rest) = element(der);
        let machine = last_oid.len() > SGX.len() && last_oid.starts_with(&SGX);
        let shown = match tag {
            0x06 => {
                *last_oid = content.to_vec();
                format!("{content:x?}")
            }
            // What a machine is: of any value.
            0x04 if machine => format!("{} bytes", content.len()),
            0x01 | 0x02 | 0x0a if machine => String::new(),
            // A key's identifier.
            0x04 if last_oid.ends_with(&[0x1d, 0x0e]) => format!("{} bytes", content.len()),
            0x04 => skeleton(content).join(" "),
            // Intel names the root's list with either ending, and the service by its version.
            0x86 => String::from_utf8_lossy(content).replace("RootCA.crl", "RootCA.der").replace("/v3/", "/v4/"),
            0x01 | 0x05 | 0x0c | 0x13 => String::from_utf8_lossy(content).into_owned(),
            // Serial numbers and the scalars of signatures are of any length up to 21 bytes and more.
            0x02 if content.len() < 8 => format!("{content:x?}"),
            0x02 => "number".to_owned(),
            // Key usage.
            0x03 if content.len() < 4 => format!("{content:x?}"),
            0x03 if (60..80).contains(&content.len()) && content.len() != 66 => "signature".to_owned(),
            0x03 | 0x80 => format!("{} bytes", content.len()),
            _ => String::new(),
        };
        lines.push(format!("{depth}:{tag:02x} {shown}"));
        if tag & 0x20 != 0 {
            walk(content, depth + 1, last_oid, lines);
        }
        der = rest;
    }
}

#[test]
fn every_real_chain_has_the_structure_of_a_soft_one() {
    let Some(folder) = evidence() else { return };
    let platform = SoftTdx::new();
    let soft: Vec<_> = platform.pck_chain().iter().map(|der| skeleton(der)).collect();
    let mut chains = 0;
    for path in entries(&folder).into_iter().filter(|path| path.is_file() && !path.to_string_lossy().contains("PREPROD")) {
        let quote = std::fs::read(&path).unwrap();
        let real: Vec<_> = certificates(&quote).iter().map(|der| skeleton(der)).collect();
        assert_eq!(real, soft, "{}", path.display());
        chains += 1;
    }
    assert!(chains > 0);
    let signer = [platform.certificate_der(Role::TcbSigner), platform.root_der()].map(|der| skeleton(&der)).to_vec();
    for (name, pem) in collateral(&folder, "tcb_signing_chain.pem") {
        let real: Vec<_> = certificates(&pem).iter().map(|der| skeleton(der)).collect();
        assert_eq!(real, signer, "{name}");
    }
}

#[test]
fn every_real_revocation_list_has_the_structure_of_a_soft_one() {
    let Some(folder) = evidence() else { return };
    let platform = SoftTdx::new();
    for (name, real) in collateral(&folder, "root_ca_crl.der") {
        assert_eq!(skeleton(&real), skeleton(&platform.root_list_der(&[])), "{name}");
    }
    for (name, real) in collateral(&folder, "pck_crl_platform.der") {
        let real = skeleton(&real);
        let revoked = real.iter().filter(|line| line.starts_with("4:02 ")).count();
        assert_eq!(real, skeleton(&platform.pck_list_der(&vec![vec![7; 20]; revoked])), "{name}");
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

fn number<N: TryFrom<u64>>(value: &Value) -> N {
    N::try_from(value.as_u64().expect("a number")).ok().expect("a number in range")
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    let text = text(value);
    assert_eq!(text.len(), 2 * N);
    std::array::from_fn(|index| u8::from_str_radix(&text[2 * index..2 * index + 2], 16).unwrap())
}

/// Seconds since 1970-01-01 of `YYYY-MM-DDThh:mm:ssZ` (days by the count of leap years before).
fn seconds(value: &Value) -> u64 {
    let text = text(value);
    let part = |from: usize, to: usize| text[from..to].parse::<u64>().unwrap();
    let (year, month, day) = (part(0, 4), part(5, 7), part(8, 10));
    let before = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334][month as usize - 1];
    let leap_days = (year - 1969) / 4 + u64::from(year.is_multiple_of(4) && month > 2);
    let days = (year - 1970) * 365 + leap_days + before + day - 1;
    days * 86_400 + part(11, 13) * 3_600 + part(14, 16) * 60 + part(17, 19)
}

fn standing(level: &Value) -> Standing {
    let advisories = level["advisoryIDs"].as_array().map(|list| list.iter().map(text).collect()).unwrap_or_default();
    Standing { date: seconds(&level["tcbDate"]), status: text(&level["tcbStatus"]), advisories }
}

fn list<T>(value: &Value, read: impl FnMut(&Value) -> T) -> Vec<T> {
    value.as_array().expect("an array").iter().map(read).collect()
}

fn isv_level(level: &Value) -> IsvLevel {
    IsvLevel { isv_svn: number(&level["tcb"]["isvsvn"]), standing: standing(level) }
}

fn module(value: &Value) -> ModuleIdentity {
    ModuleIdentity {
        id: value["id"].as_str().unwrap_or_default().to_owned(),
        mrsigner: bytes(&value["mrsigner"]),
        attributes: bytes(&value["attributes"]),
        attributes_mask: bytes(&value["attributesMask"]),
        levels: if value["tcbLevels"].is_array() { list(&value["tcbLevels"], isv_level) } else { Vec::new() },
    }
}

fn tcb_info(info: &Value) -> TcbInfo {
    TcbInfo {
        id: text(&info["id"]),
        version: number(&info["version"]),
        issued: seconds(&info["issueDate"]),
        next_update: seconds(&info["nextUpdate"]),
        fmspc: text(&info["fmspc"]),
        pce_id: text(&info["pceId"]),
        tcb_type: number(&info["tcbType"]),
        evaluation: number(&info["tcbEvaluationDataNumber"]),
        module: Some(module(&info["tdxModule"])),
        module_identities: info["tdxModuleIdentities"].is_array().then(|| list(&info["tdxModuleIdentities"], module)),
        levels: list(&info["tcbLevels"], |level| PlatformLevel {
            sgx: list(&level["tcb"]["sgxtcbcomponents"], |component| number(&component["svn"])),
            pce_svn: number(&level["tcb"]["pcesvn"]),
            tdx: list(&level["tcb"]["tdxtcbcomponents"], |component| number(&component["svn"])),
            standing: standing(level),
        }),
    }
}

/// The text of the signed member.
fn inner(body: &[u8], member: &str) -> String {
    let text = std::str::from_utf8(body).unwrap().trim_end();
    let text = text.strip_prefix(&format!("{{\"{member}\":")).expect("the member comes first");
    text.rsplit_once(",\"signature\":\"").expect("then the signature").0.to_owned()
}

#[test]
fn every_real_tcb_info_is_what_the_builder_renders_from_its_values() {
    let Some(folder) = evidence() else { return };
    for (name, body) in collateral(&folder, "tcb_info.json") {
        let real = inner(&body, "tcbInfo");
        assert_eq!(tcb_info(&serde_json::from_str(&real).unwrap()).json(), real, "{name}");
    }
}

#[test]
fn every_real_qe_identity_is_what_the_builder_renders_from_its_values() {
    let Some(folder) = evidence() else { return };
    for (name, body) in collateral(&folder, "qe_identity.json") {
        let real = inner(&body, "enclaveIdentity");
        let value: Value = serde_json::from_str(&real).unwrap();
        let identity = QeIdentity {
            id: text(&value["id"]),
            version: number(&value["version"]),
            issued: seconds(&value["issueDate"]),
            next_update: seconds(&value["nextUpdate"]),
            evaluation: number(&value["tcbEvaluationDataNumber"]),
            misc_select: bytes(&value["miscselect"]),
            misc_select_mask: bytes(&value["miscselectMask"]),
            attributes: bytes(&value["attributes"]),
            attributes_mask: bytes(&value["attributesMask"]),
            mrsigner: bytes(&value["mrsigner"]),
            isv_prod_id: number(&value["isvprodid"]),
            levels: list(&value["tcbLevels"], isv_level),
        };
        assert_eq!(identity.json(), real, "{name}");
    }
}
