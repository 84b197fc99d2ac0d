//! What the soft TDX hierarchy signs, judged by OpenSSL's command line. Skipped with a line where there is none.

use std::process::{Command, Output};

use testbed::tdx::{BasicConstraints, Certificate, Name, PckAuthority, Role, Root, SignatureState, SoftTdx, pem};

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

fn verdict(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// One machine's certificates as files.
struct Files {
    folder: tempfile::TempDir,
    root: String,
    authority: String,
    pck: String,
    signer: String,
}

impl Files {
    fn of(platform: &SoftTdx) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, der: Vec<u8>| write(&folder, name, pem::chain(&[der]).as_bytes());
        Self {
            root: file("root", platform.root_der()),
            authority: file("authority", platform.pck_authority_der()),
            pck: file("pck", platform.pck_der()),
            signer: file("signer", platform.tcb_signer_der()),
            folder,
        }
    }

    /// The list as the PEM that the command line wants.
    fn list(&self, der: &[u8]) -> String {
        let input = write(&self.folder, "list.der", der);
        let output = self.folder.path().join("list").to_str().unwrap().to_owned();
        assert!(openssl(&["crl", "-inform", "der", "-in", &input, "-out", &output]).unwrap().status.success());
        output
    }
}

fn write(folder: &tempfile::TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn every_chain_verifies_up_to_its_own_root_and_no_other() {
    for authority in [PckAuthority::Platform, PckAuthority::Processor] {
        let platform = SoftTdx::new().certified_by(authority);
        let files = Files::of(&platform);
        let other = Files::of(&platform.clone().under(Root::Other));
        let verify = |root: &str, leaf: &str| openssl(&["verify", "-x509_strict", "-CAfile", root, "-untrusted", &files.authority, leaf]);
        for leaf in [&files.pck, &files.signer] {
            let Some(output) = verify(&files.root, leaf) else { return };
            assert!(output.status.success(), "{authority:?}: {}", verdict(&output));
            assert!(!verify(&other.root, leaf).unwrap().status.success(), "{authority:?}: the other root must not verify");
        }
    }
    let platform = Files::of(&SoftTdx::new());
    let processor = Files::of(&SoftTdx::new().certified_by(PckAuthority::Processor));
    let Some(crossed) = openssl(&["verify", "-CAfile", &platform.root, "-untrusted", &processor.authority, &platform.pck]) else { return };
    assert!(!crossed.status.success(), "the processor authority signed no PCK of the platform authority");
}

#[test]
fn a_list_revokes_exactly_the_serial_numbers_that_it_names() {
    let platform = SoftTdx::new();
    let files = Files::of(&platform);
    let check = |list: &[u8], chain: &str, leaf: &str| {
        let list = files.list(list);
        openssl(&["verify", "-crl_check", "-CAfile", &files.root, "-untrusted", chain, "-CRLfile", &list, leaf]).unwrap()
    };
    if openssl(&["version"]).is_none() {
        return;
    }
    let empty = check(&platform.root_list_der(&[]), &files.root, &files.signer);
    assert!(empty.status.success(), "{}", verdict(&empty));
    let revoked = check(&platform.root_list_der(&[platform.serial(Role::TcbSigner)]), &files.root, &files.signer);
    assert!(verdict(&revoked).contains("certificate revoked"), "{}", verdict(&revoked));
    let other = check(&platform.root_list_der(&[platform.serial(Role::TcbSigner)]), &files.root, &files.authority);
    assert!(other.status.success(), "{}", verdict(&other));
    let empty = check(&platform.pck_list_der(&[]), &files.authority, &files.pck);
    assert!(empty.status.success(), "{}", verdict(&empty));
    let revoked = check(&platform.pck_list_der(&[platform.serial(Role::Pck)]), &files.authority, &files.pck);
    assert!(verdict(&revoked).contains("certificate revoked"), "{}", verdict(&revoked));
    let foreign = check(&platform.clone().under(Root::Other).pck_list_der(&[]), &files.authority, &files.pck);
    assert!(!foreign.status.success(), "a list under the other root must not do");
}

#[test]
fn openssl_sees_what_was_made_wrong_in_a_pck_authority() {
    type Change = fn(&mut Certificate);
    let wrong: [(&str, Change); 6] = [
        ("certificate has expired", |ca| ca.valid.not_after = ca.valid.not_before + 1),
        ("certificate is not yet valid", |ca| ca.valid.not_before = ca.valid.not_after),
        ("invalid CA certificate", |ca| ca.set_basic_constraints(BasicConstraints::NotAuthority)),
        ("invalid CA certificate", |ca| ca.set_key_usage(&[6])),
        ("certificate signature failure", |ca| ca.signature = SignatureState::Flipped),
        ("unable to get local issuer certificate", |ca| ca.subject = Name::intel("Intel SGX PCK Processor CA")),
    ];
    let platform = SoftTdx::new();
    let files = Files::of(&platform);
    for (complaint, change) in wrong {
        let authority = write(&files.folder, "wrong", pem::chain(&[platform.pck_authority_with(change)]).as_bytes());
        let Some(output) = openssl(&["verify", "-CAfile", &files.root, "-untrusted", &authority, &files.pck]) else { return };
        assert!(verdict(&output).contains(complaint), "expected {complaint}: {}", verdict(&output));
    }
}

#[test]
fn a_document_verifies_under_the_tcb_signers_key_over_the_exact_bytes_of_its_member() {
    let platform = SoftTdx::new();
    let files = Files::of(&platform);
    let Some(key) = openssl(&["x509", "-in", &files.signer, "-noout", "-pubkey"]) else { return };
    let key = write(&files.folder, "key", &key.stdout);
    let bodies = [("tcbInfo", platform.collateral().tcb_info), ("enclaveIdentity", platform.collateral().qe_identity)];
    for (member, body) in bodies {
        let text = String::from_utf8(body).unwrap();
        let inner = text.strip_prefix(&format!("{{\"{member}\":")).unwrap();
        let (inner, signature) = inner.rsplit_once(",\"signature\":\"").unwrap();
        let scalars: Vec<u8> = (0..64).map(|index| u8::from_str_radix(&signature[2 * index..2 * index + 2], 16).unwrap()).collect();
        assert_eq!(&signature[128..], "\"}");
        let signature = testbed::der::sequence(&[&testbed::der::unsigned(&scalars[..32]), &testbed::der::unsigned(&scalars[32..])]);
        let signature = write(&files.folder, "signature", &signature);
        let message = write(&files.folder, "message", inner.as_bytes());
        let output = openssl(&["dgst", "-sha256", "-verify", &key, "-signature", &signature, &message]).unwrap();
        assert!(output.status.success(), "{member}: {}", verdict(&output));
        let message = write(&files.folder, "message", inner.replace("\"version\":", "\"version\": ").as_bytes());
        let output = openssl(&["dgst", "-sha256", "-verify", &key, "-signature", &signature, &message]).unwrap();
        assert!(!output.status.success(), "{member}: one space more");
    }
}
