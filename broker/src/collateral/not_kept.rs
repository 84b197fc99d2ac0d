//! Why a piece is not kept.

use attestation::Rejection;
use protocol::time::UnixTime;

use super::BadKey;
use crate::store::StoreError;

/// Why a piece is not kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotKept {
    /// It does not verify.
    #[error(transparent)]
    Rejected(Box<Rejection>),
    /// It is a revocation list of a PCK authority of which no certificate is at hand: it may be anybody's.
    #[error("the certificate of its PCK authority did not come with it and is not held, so that its signature cannot be judged")]
    NoAuthority,
    /// It is nothing that this broker keeps under the roots in force.
    #[error("it is nothing that is kept under the roots in force")]
    Unknown,
    /// It is another piece than the one that was asked for.
    #[error("it is another piece: {found}")]
    Other {
        /// Which.
        found: String,
    },
    /// Its key in the store names nothing.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// It has expired.
    #[error("it ran out at {until}, before {at}")]
    Expired {
        /// Its last second.
        until: UnixTime,
        /// Now.
        at: UnixTime,
    },
    /// It is of the future.
    #[error("it was issued at {issued}, after {at}")]
    NotYet {
        /// When it was issued.
        issued: UnixTime,
        /// Now.
        at: UnixTime,
    },
    /// A newer one is held.
    #[error("it was issued at {found}, the one that is held at {held}")]
    Older {
        /// Of the one that is held.
        held: UnixTime,
        /// Of this one.
        found: UnixTime,
    },
    /// A higher evaluation number was accepted before.
    #[error("its evaluation number is {found}, and {floor} was accepted before")]
    BelowFloor {
        /// The highest number that was ever accepted.
        floor: u32,
        /// This one's.
        found: u32,
    },
    /// The store failed.
    #[error(transparent)]
    Store(StoreError),
}

impl From<Rejection> for NotKept {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}

impl From<StoreError> for NotKept {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::BelowFloor { floor, found } => Self::BelowFloor { floor, found },
            error => Self::Store(error),
        }
    }
}
