//! Manifests of format 2: what they say beyond what opens the model has one spelling, and is checked.

use super::publisher;
use crate::manifest::{ManifestBody, ManifestError, SignatureBody, TensorsBody};
use crate::signature::SignerId;
use crate::{Inspection, OpenError};
use protocol::dsse::SignedDocument;

/// The manifest of vector `genuine`, changed and signed anew.
fn changed(change: impl FnOnce(&mut ManifestBody)) -> Result<Inspection, OpenError> {
    let json = std::fs::read(super::vectors::vectors().join("sealed/genuine").join(crate::MANIFEST_NAME)).unwrap();
    let document: SignedDocument = serde_json::from_slice(&json).unwrap();
    let mut body: ManifestBody = serde_json::from_slice(&document.payload).unwrap();
    change(&mut body);
    let signed = SignedDocument::sign(&body, &publisher()).unwrap();
    Inspection::read(&signed.to_json(), &[*publisher().public()])
}

fn tensors(parameters: u64, dtypes: &[(&str, u64)]) -> Option<TensorsBody> {
    Some(TensorsBody { parameters, dtypes: dtypes.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect() })
}

fn refused(change: impl FnOnce(&mut ManifestBody)) -> ManifestError {
    match changed(change) {
        Err(OpenError::Manifest(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_manifest_has_the_lowest_format_that_has_its_members() {
    assert!(changed(|_| ()).is_ok());
    assert_eq!(refused(|body| body.format = 2), ManifestError::Members { format: 2 });
    let described = |body: &mut ManifestBody| body.files[0].tensors = tensors(8, &[("BF16", 1), ("F32", 2)]);
    assert_eq!(refused(described), ManifestError::Members { format: 1 });
    let read = changed(|body| {
        described(body);
        body.format = 2;
    });
    let found = read.unwrap().contents.files()[0].tensors().cloned().unwrap();
    assert_eq!((found.count(), found.parameters()), (3, 8));
    assert_eq!(refused(|body| body.format = 3), ManifestError::Format { expected: 2, found: 3 });
    assert_eq!(refused(|body| body.format = 0), ManifestError::Format { expected: 2, found: 0 });
}

#[test]
fn tensors_are_those_that_a_header_can_have() {
    let of = |body: Option<TensorsBody>| {
        changed(|manifest| {
            manifest.files[0].tensors = body;
            manifest.format = 2;
        })
    };
    assert!(of(tensors(0, &[])).is_ok() && of(tensors(1, &[("BF16", 1)])).is_ok());
    let bad: [&[(&str, u64)]; 5] =
        [&[("BF17", 1)], &[("BF16", 0)], &[("F32", 1), ("BF16", 1)], &[("F32", 1), ("F32", 1)], &[("BF16", u64::MAX), ("F32", 1)]];
    for dtypes in bad {
        assert!(matches!(of(tensors(1, dtypes)), Err(OpenError::Manifest(ManifestError::Tensors { .. }))), "{dtypes:?}");
    }
}

#[test]
fn the_models_signature_is_one_of_its_files() {
    let named = |path: &str| {
        changed(|body| {
            body.model_signature = Some(SignatureBody { path: path.to_owned(), key: SignerId::from_bytes([7; 32]) });
            body.format = 2;
        })
    };
    let path = changed(|_| ()).unwrap().contents.files()[0].path().to_string();
    assert_eq!(named(&path).unwrap().contents.signature().unwrap().path().as_str(), path);
    let absent = named("absent.sig");
    assert!(matches!(absent, Err(OpenError::Manifest(ManifestError::SignatureFile { path })) if path == "absent.sig"));
}

#[test]
fn a_list_of_dtypes_takes_no_more_memory_than_there_are_dtypes() {
    let body = |count: usize| format!("{{\"parameters\":1,\"dtypes\":[{}]}}", vec!["[\"\",1]"; count].join(","));
    assert!(serde_json::from_str::<TensorsBody>(&body(22)).is_ok(), "whether they are known is looked at later");
    assert!(serde_json::from_str::<TensorsBody>(&body(23)).err().unwrap().to_string().contains("at most 22 dtypes"));
}

#[test]
fn an_optional_member_that_is_null_is_refused() {
    let json = std::fs::read(super::vectors::vectors().join("sealed/genuine").join(crate::MANIFEST_NAME)).unwrap();
    let document: SignedDocument = serde_json::from_slice(&json).unwrap();
    let text = String::from_utf8(document.payload).unwrap();
    assert!(serde_json::from_str::<ManifestBody>(&text).is_ok());
    let with_null = text.replacen("\"format\":1", "\"format\":1,\"model_signature\":null", 1);
    assert_ne!(text, with_null);
    assert!(serde_json::from_str::<ManifestBody>(&with_null).is_err());
}
