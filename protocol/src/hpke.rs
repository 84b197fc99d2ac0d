//! The one wrapping suite: RFC 9180 base mode with X-Wing (MLKEM768-X25519, 0x647a), HKDF-SHA256, AES-256-GCM.
//!
//! The key schedule and the AEAD are the `hpke` crate's (over `hkdf` and `aes-gcm`). The KEM below is X-Wing
//! (draft-connolly-cfrg-xwing-kem-10) over `aws-lc-rs`: a release pays for one encapsulation and one decapsulation,
//! and this takes about a quarter of the portable implementation's time. Tests cross it with the `hpke` crate's own
//! X-Wing in both directions.
//!
//! Base mode does not authenticate the sender: whatever must come from somebody is signed besides.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::agreement::{EphemeralPrivateKey, PrivateKey, UnparsedPublicKey, X25519, agree, agree_ephemeral};
use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, EncapsulationKey, ML_KEM_768};
use hpke::hybrid_array::typenum::{U32, U1120, U1216, Unsigned};
use hpke::kem::SharedSecret;
use hpke::{Deserializable, HpkeError, Kem, OpModeR, OpModeS, Serializable};
use ml_kem::KeyExport as _;
use sha2::Digest as _;
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroizing;

use crate::ids::{NoRandomness, random_bytes};
