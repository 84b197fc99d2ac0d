//! What the soft platform signs, judged by OpenSSL's command line. Skipped with a line where there is none.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::rsa::{Hash, PssParameters};
use testbed::snp::{Authority, BasicConstraints, Certificate, Leaf, Line, Root, SignatureState, SoftPlatform};

/// Runs OpenSSL; `None` when it is not installed.
fn openssl(arguments: &[&str]) -> Option<Output> {
    match Command::new("openssl").args(arguments).output() {
        Ok(output) => Some(output),
        Err(_) => {
            println!("skipped: no openssl command here");
            None
        }
    }
}

/// Writes DER as the PEM that the command line wants.
fn pem(folder: &Path, name: &str, label: &str, der: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (index, group) in der.chunks(3).enumerate() {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for place in 0..4 {
            let letter = if place > group.len() { '=' } else { char::from(ALPHABET[(bits >> (18 - 6 * place) & 63) as usize]) };
            text.push(letter);
        }
        if index % 16 == 15 {
            text.push('\n');
        }
    }
    let path = folder.join(name);
    std::fs::write(&path, format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", text.trim_end())).unwrap();
    path.to_str().unwrap().to_owned()
}

/// One platform's certificates as files.
struct Files {
    folder: tempfile::TempDir,
    ark: String,
    ask: String,
    asvk: String,
    vcek: String,
    vlek: String,
}

impl Files {
    fn of(platform: &SoftPlatform) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, der: Vec<u8>| pem(folder.path(), name, "CERTIFICATE", &der);
        Self {
            ark: file("ark", platform.ark_der()),
            ask: file("ask", platform.ask_der()),
            asvk: file("asvk", platform.asvk_der()),
            vcek: file("vcek", platform.vcek_der()),
            vlek: file("vlek", platform.vlek_der()),
            folder,
        }
    }

    fn list(&self, der: &[u8]) -> String {
        pem(self.folder.path(), "crl", "X509 CRL", der)
    }
}

fn verdict(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_chain_verifies_up_to_its_own_root_and_no_other() {
    for line in Line::ALL {
        let files = Files::of(&SoftPlatform::new(line));
        let other = Files::of(&SoftPlatform::new(line).under(Root::Other));
        for (intermediate, leaf) in [(&files.ask, &files.vcek), (&files.asvk, &files.vlek)] {
            let Some(output) = openssl(&["verify", "-CAfile", &files.ark, "-untrusted", intermediate, leaf]) else { return };
            assert!(output.status.success(), "{line:?}: {}", verdict(&output));
            let wrong = openssl(&["verify", "-CAfile", &other.ark, "-untrusted", intermediate, leaf]).unwrap();
            assert!(!wrong.status.success(), "{line:?}: the other root must not verify");
        }
        let crossed = openssl(&["verify", "-CAfile", &files.ark, "-untrusted", &files.asvk, &files.vcek]).unwrap();
        assert!(!crossed.status.success(), "{line:?}: the ASVK signs no VCEK");
    }
}

#[test]
fn a_list_revokes_exactly_the_serial_numbers_that_it_names() {
    let platform = SoftPlatform::new(Line::Genoa);
    let files = Files::of(&platform);
    let check = |list: &str, certificate: &str| openssl(&["verify", "-crl_check", "-CAfile", &files.ark, "-CRLfile", list, certificate]);
    let list = files.list(&platform.crl_der(&[platform.serial(Authority::Asvk)]));
    let Some(output) = check(&list, &files.ask) else { return };
    assert!(output.status.success(), "{}", verdict(&output));
    let revoked = check(&list, &files.asvk).unwrap();
    assert!(verdict(&revoked).contains("certificate revoked"), "{}", verdict(&revoked));
    let empty = check(&files.list(&platform.crl_der(&[])), &files.asvk).unwrap();
    assert!(empty.status.success(), "{}", verdict(&empty));
    let foreign = check(&files.list(&platform.clone().under(Root::Other).crl_der(&[])), &files.ask).unwrap();
    assert!(!foreign.status.success(), "a list under the other root must not do");
}

#[test]
fn a_report_verifies_under_the_key_of_its_certificate() {
    for line in Line::ALL {
        let platform = SoftPlatform::new(line);
        let files = Files::of(&platform);
        for (leaf, certificate) in [(Leaf::Vcek, &files.vcek), (Leaf::Vlek, &files.vlek)] {
            let report = platform.sign(&platform.report_by(leaf));
            let Some(key) = openssl(&["x509", "-in", certificate, "-noout", "-pubkey"]) else { return };
            let write = |name: &str, bytes: &[u8]| -> PathBuf {
                let path = files.folder.path().join(name);
                std::fs::write(&path, bytes).unwrap();
                path
            };
            let key = write("key", &key.stdout);
            let signature = write("signature", &ecdsa_signature(&report[0x2a0..]));
            let mut signed = report[..0x2a0].to_vec();
            let mut verify = |change: u8| {
                signed[0x50] ^= change;
                let message = write("message", &signed);
                let [key, signature, message] = [&key, &signature, &message].map(|path| path.to_str().unwrap());
                openssl(&["dgst", "-sha384", "-verify", key, "-signature", signature, message]).unwrap().status.success()
            };
            assert!(verify(0), "{line:?} {leaf:?}");
            assert!(!verify(1), "{line:?} {leaf:?}: one bit of report data flipped");
        }
    }
}

#[test]
fn a_signature_follows_the_parameters_that_it_names() {
    let platform = SoftPlatform::new(Line::Milan);
    let files = Files::of(&platform);
    for (hash, mask_hash, salt_length) in [
        (Hash::Sha256, Hash::Sha256, 32),
        (Hash::Sha384, Hash::Sha384, 32),
        (Hash::Sha512, Hash::Sha256, 64),
        (Hash::Sha384, Hash::Sha384, 0),
    ] {
        let parameters = PssParameters { hash, mask_hash, salt_length, ..PssParameters::AMD };
        let ask = pem(files.folder.path(), "weak", "CERTIFICATE", &platform.ask_with(|ask| ask.parameters = parameters.clone()));
        let Some(output) = openssl(&["verify", "-CAfile", &files.ark, &ask]) else { return };
        assert!(output.status.success(), "{parameters:?}: {}", verdict(&output));
    }
}

#[test]
fn openssl_sees_what_was_made_wrong_in_an_ask() {
    type Change = fn(&mut Certificate);
    let wrong: [(&str, Change); 6] = [
        ("certificate has expired", |ask| ask.valid.not_after = ask.valid.not_before + 1),
        ("certificate is not yet valid", |ask| ask.valid.not_before = ask.valid.not_after),
        ("invalid CA certificate", |ask| ask.set_basic_constraints(BasicConstraints::NotAuthority)),
        ("invalid CA certificate", |ask| ask.set_key_usage(&[6])),
        ("certificate signature failure", |ask| ask.signature = SignatureState::Flipped),
        ("unable to get local issuer certificate", |ask| ask.subject.common_name = "SEV-Rome".to_owned()),
    ];
    let platform = SoftPlatform::new(Line::Milan);
    let files = Files::of(&platform);
    for (complaint, change) in wrong {
        let ask = pem(files.folder.path(), "wrong", "CERTIFICATE", &platform.ask_with(change));
        let Some(output) = openssl(&["verify", "-CAfile", &files.ark, "-untrusted", &ask, &files.vcek]) else { return };
        assert!(verdict(&output).contains(complaint), "expected {complaint}: {}", verdict(&output));
    }
}

/// `Ecdsa-Sig-Value` from the report's little-endian numbers.
fn ecdsa_signature(field: &[u8]) -> Vec<u8> {
    let number = |offset: usize| {
        let mut bytes = field[offset..offset + 72].to_vec();
        bytes.reverse();
        testbed::der::unsigned(&bytes)
    };
    testbed::der::sequence(&[&number(0), &number(72)])
}
