//! Payloads under a good signature.

use std::fmt::Debug;

use protocol::documents::{BaselineProduct, Kind, StatementBody, TcbBaseline, TcbBaselinesBody};
use protocol::dsse::{Body, Document, DocumentError, DocumentSignature, SignedDocument, pae};
use protocol::envelope::{Draft, RecordFile, write_record};
use protocol::ids::{AnchorClass, Digest, Version};
use protocol::time::UnixTime;

use crate::{NOW, Signer, recipient};

/// Any bytes as a payload of this type, signed by `signer`.
#[must_use]
pub fn signed(payload_type: &str, payload: &[u8], signer: Signer) -> SignedDocument {
    let key = signer.key();
    let signature = DocumentSignature { keyid: key.public().id(), sig: key.sign(&pae(payload_type, payload)) };
    SignedDocument { payload_type: payload_type.to_owned(), payload: payload.to_vec(), signatures: [signature] }
}

/// Any bytes as a signed body of type `B`. What passes can be written and reads back the same; under another key, as another type, or
/// with a changed byte it never passes.
///
/// # Errors
/// [`DocumentError::Body`] alone: the signature is good.
///
/// # Panics
/// Where one of these does not hold.
pub fn read<B: Body + PartialEq + Debug>(payload: &[u8], signer: Signer) -> Result<Document<B>, DocumentError> {
    let key = signer.key();
    let envelope = signed(B::PAYLOAD_TYPE, payload, signer);
    let document = match envelope.authenticate::<B>(&[*key.public()]) {
        Ok(document) => document,
        Err(error) => {
            assert!(matches!(error, DocumentError::Body { .. }), "{error}");
            return Err(error);
        }
    };
    let again = SignedDocument::sign(document.body(), &key).expect("what was read can be written");
    let again = again.authenticate::<B>(&[*key.public()]).expect("what was written can be read");
    assert_eq!(again.body(), document.body());
    if envelope.to_json().len() <= B::LIMIT {
        assert_eq!(SignedDocument::parse::<B>(&envelope.to_json()).as_ref(), Ok(&envelope));
    }
    let stranger = envelope.authenticate::<B>(&[*Signer::Stranger.key().public()]);
    assert!(matches!(stranger, Err(DocumentError::UnknownSigner { .. })));
    let mut changed = envelope;
    changed.payload.push(b' ');
    assert!(matches!(changed.authenticate::<B>(&[*key.public()]), Err(DocumentError::BadSignature { .. })));
    Ok(document)
}

/// The secret of [`record`].
pub const SECRET: &[u8] = b"a credential of the fixtures";

/// A genuine record of a credential, sealed to [`recipient`].
///
/// # Panics
/// Never: every part is well formed.
#[must_use]
pub fn record() -> RecordFile {
    let draft = Draft {
        installation: *Signer::Root.key().public(),
        name: "acme/token".parse().expect("a name"),
        version: Version::FIRST,
        kind: Kind::Credential,
        manifest: None,
        policy: "inference".parse().expect("a name"),
        authority: *Signer::Authority.key().public(),
        anchors: AnchorClass::Test,
    };
    write_record(draft, SECRET, &[recipient().public().clone()], &Signer::Publisher.key()).expect("a record")
}

/// A statement about a model.
///
/// # Panics
/// Never: every part is well formed.
#[must_use]
pub fn statement() -> StatementBody {
    StatementBody {
        installation: *Signer::Root.key().public(),
        name: "acme/llama".parse().expect("a name"),
        version: Version::FIRST,
        kind: Kind::Model,
        manifest: Some(Digest::from([1; 32])),
        policy: "inference".parse().expect("a name"),
        authority: *Signer::Authority.key().public(),
        anchors: AnchorClass::Test,
        commitment: Digest::from([2; 32]),
    }
}

/// A TCB calendar: two baselines of each line, the second half a year before [`crate::NOW`].
///
/// # Panics
/// Never: every part is well formed.
#[must_use]
pub fn calendar() -> TcbBaselinesBody {
    let half_a_year_ago = UnixTime::from_seconds(NOW.seconds() - 182 * 86_400);
    let lines = [BaselineProduct::Milan, BaselineProduct::Genoa, BaselineProduct::Turin];
    let baselines = lines.into_iter().flat_map(|product| {
        let fmc = (product == BaselineProduct::Turin).then_some(0);
        let first = TcbBaseline { product, published: UnixTime::from_seconds(0), fmc, bootloader: 0, tee: 0, snp: 0, microcode: 0 };
        [first, TcbBaseline { published: half_a_year_ago, snp: 1, ..first }]
    });
    let name = "amd".parse().expect("a name");
    TcbBaselinesBody { installation: *Signer::Root.key().public(), name, version: Version::FIRST, baselines: baselines.collect() }
}
