//! Records: a signed statement and its envelope. Whatever is changed, unwrapping gives the publisher's secret or a named reason.

#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use portcullis_fuzz::{Signer, documents, forms, recipient};
use protocol::documents::StatementBody;
use protocol::envelope::{Envelope, RecordFile, rewrap, unwrap};

fuzz_target!(|data: &[u8]| {
    static GENUINE: OnceLock<RecordFile> = OnceLock::new();
    let Some(record) = forms::json::<RecordFile>(data) else { return };
    let genuine = GENUINE.get_or_init(documents::record);
    let publisher = [*Signer::Publisher.key().public()];
    // The envelope around its own statement, if a publisher signed that; and moved to the genuine statement.
    let statements = [record.statement.clone(), genuine.statement.clone()];
    for statement in statements.iter().filter_map(|statement| statement.authenticate::<StatementBody>(&publisher).ok()) {
        for envelope in [record.envelope.clone(), Envelope { statement: *statement.digest(), ..record.envelope.clone() }] {
            let Ok(secret) = unwrap(&envelope, &statement, &recipient()) else { continue };
            assert_eq!(*secret, documents::SECRET);
            let other = protocol::hpke::RecipientSecret::from_seed(&[9; 32]).expect("a seed");
            let moved = rewrap(&envelope, &statement, &recipient(), &[other.public().clone()]).expect("what opens can be wrapped anew");
            assert_eq!(*unwrap(&moved, &statement, &other).expect("wrapped to this key"), documents::SECRET);
            assert!(unwrap(&moved, &statement, &recipient()).is_err());
        }
    }
});
