//! The signatures on addresses, held against Amazon's Signature Version 4 as its documentation has it, written anew here: the servers
//! that tests can start check who signs and until when, but not what.

use std::fs;

use guest_client::sources::address::Address;
use guest_client::sources::settings::{Addressing, Credentials, S3};
use guest_client::sources::{SealedLocation, Storage};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

fn hmac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The signature that a presigned GET should have, and the one that it has.
fn signatures(url: &str, secret: &str) -> (String, String) {
    let (place, query) = url.split_once('?').unwrap();
    let (host, path) = place.split_once("://").unwrap().1.split_once('/').unwrap();
    let mut signed: Vec<&str> = query.split('&').filter(|parameter| !parameter.starts_with("X-Amz-Signature=")).collect();
    signed.sort_unstable();
    let value = |name: &str| query.split('&').find_map(|parameter| parameter.strip_prefix(name)).unwrap().replace("%2F", "/");
    let request = format!("GET\n/{path}\n{}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD", signed.join("&"));
    let credential = value("X-Amz-Credential=");
    let scope = credential.split_once('/').unwrap().1;
    let text = format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{}", value("X-Amz-Date="), hex(&Sha256::digest(request.as_bytes())));
    let key = scope.split('/').fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part));
    (hex(&hmac(&key, &text)), value("X-Amz-Signature="))
}

fn url(place: &str, s3: S3, name: &str) -> String {
    let location: SealedLocation = place.parse().unwrap();
    let address = Address::of(&location, &Storage { s3, ..Storage::default() }).unwrap();
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(address.url(name)).unwrap()
}

#[test]
fn the_rules_here_give_the_signature_of_amazons_own_example() {
    let url = "https://examplebucket.s3.amazonaws.com/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256\
               &X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z\
               &X-Amz-Expires=86400&X-Amz-SignedHeaders=host\
               &X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let (expected, found) = signatures(url, "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY");
    assert_eq!(expected, found);
}

#[test]
fn each_address_is_signed_for_its_host_path_and_token() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("credentials.toml");
    let credentials = "access-key-id = \"AKIDEXAMPLE\"\nsecret-access-key = \"a/secret+with=all\"\n";
    for token in ["", "session-token = \"tok/en+==\"\n"] {
        fs::write(&path, format!("{credentials}{token}")).unwrap();
        for (endpoint, addressing) in [
            (None, Addressing::Auto),
            (Some("http://127.0.0.1:9000"), Addressing::Path),
            (Some("https://minio.example.com"), Addressing::VirtualHost),
        ] {
            let s3 = || S3 {
                endpoint: endpoint.map(str::to_owned),
                region: Some("eu-central-1".into()),
                addressing,
                credentials: Credentials::File(path.clone()),
            };
            for name in ["portcullis-manifest.json", "weights/part 1+2 (a&b=c)%41~.bin"] {
                let url = url("s3://acme-models/llama v1", s3(), name);
                let (expected, found) = signatures(&url, "a/secret+with=all");
                assert_eq!(expected, found, "{url}");
                assert_ne!(signatures(&url, "another secret").0, found);
                assert_eq!(url.contains("X-Amz-Security-Token="), !token.is_empty());
            }
        }
    }
}
