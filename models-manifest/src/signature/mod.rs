//! A model's own signature: a bundle of OpenSSF Model Signing 1.0 made with a key, by whoever trained or released the model.
//!
//! It says, file by file, what the signer signed, and is older than any sealing. Three parties look at it:
//!
//! | who | what is verified |
//! | --- | --- |
//! | the publisher, sealing | the signature under the key that was asked for; that exactly the signed files are there; each file's digest, of the bytes that were sealed |
//! | whoever reads the manifest | nothing: that the publisher did the above under which key is part of what the publisher signed |
//! | the guest | the same as the publisher, from the opened bytes; or, where its configuration says so, all but the files' digests |
//!
//! The bundle is sealed as an ordinary file: the digests in it would tell the storage which public files a model has.

mod bundle;
mod error;
mod key;
mod verify;

pub use bundle::{Bundle, HashType, SignedModel};
pub use error::SignatureError;
pub use key::{KeyError, ModelSigner, SignerId};
pub use verify::{Depth, verify};

pub(crate) use bundle::LIMIT;
pub(crate) use verify::{check_listing, check_name, verify_at};

/// The name that a bundle gets in the model where it comes from elsewhere, and by which it is looked for.
pub const NAME: &str = "model.sig";
