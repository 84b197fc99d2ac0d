//! What a guest asks to be issued for its identity, and whether that is what came.
//!
//! Nothing of it is believed because the broker says so: the certificate is for the key that was made here, bears the name that is
//! said, and verifies under the bundle beside it; each token verifies under the same bundle, for the audience that was asked for; an attestation
//! result is for the audience that was asked for, about that name, and bound to the attested key, though under which key it is signed is for
//! those to judge who are shown it; and the log has the same name, serial number and `jti`s, so that nothing is issued that an auditor does
//! not see.

use protocol::entries::{Decided, Issued};
use protocol::ids::RequestId;
use protocol::keys::PublicKey;
use protocol::messages::{Identified, IdentityAsk, JwtSvid, SvidKey};
use protocol::time::UnixTime;
use protocol::tokens::result::{Binding, EarError};
use protocol::tokens::svid::verify_svid;
use protocol::tokens::{EcKey, SvidError, TokenError};

use crate::identity::bundles::{Bundles, BundlesError};
use crate::identity::svid::{self, SvidFault};

/// What is to be issued for an identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct AskFor<'a> {
    /// A certificate for this key, whose possession the request proves.
    pub x509: Option<&'a EcKey>,
    /// A JWT-SVID for each of these audiences, at most [`protocol::limits::AUDIENCES`].
    pub jwt_audiences: &'a [String],
    /// An attestation result for this audience.
    pub result_audience: Option<&'a str>,
}

impl AskFor<'_> {
    /// As it stands in a request.
    pub(super) fn message(
        &self,
        installation: &PublicKey,
        request: &RequestId,
        signing_key: &PublicKey,
    ) -> Result<IdentityAsk, TokenError> {
        let x509 = self.x509.map(|key| SvidKey::prove(key, installation, request, signing_key)).transpose()?;
        Ok(IdentityAsk { x509, jwt_audiences: self.jwt_audiences.to_vec(), result_audience: self.result_audience.map(str::to_owned) })
    }
}

/// Why what was issued is not believed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A bundle is none.
    #[error(transparent)]
    Bundles(#[from] BundlesError),
    /// Something that was asked for did not come, or something came that was not asked for.
    #[error("{expected} {what} asked for, {found} came")]
    Number {
        /// What.
        what: &'static str,
        /// How many were asked for.
        expected: usize,
        /// How many came.
        found: usize,
    },
    /// The certificate is not the one that was asked for.
    #[error(transparent)]
    Certificate(#[from] SvidFault),
    /// A token is no text.
    #[error("a token is no text")]
    TokenForm,
    /// A token is for another audience than was asked for.
    #[error("a token is for {found:?}, where {expected:?} was asked for")]
    OtherAudience {
        /// What was asked for.
        expected: String,
        /// What came.
        found: String,
    },
    /// A token does not hold.
    #[error("the token for {audience:?}: {error}")]
    Token {
        /// For whom.
        audience: String,
        /// Why.
        error: SvidError,
    },
    /// A token is somebody else's.
    #[error("the token for {audience:?} is {found}'s")]
    OtherSubject {
        /// For whom.
        audience: String,
        /// Whose.
        found: String,
    },
    /// The attestation result is none.
    #[error("the attestation result: {0}")]
    AttestationResult(#[from] EarError),
    /// The attestation result is somebody else's, or for somebody else.
    #[error("the attestation result has another {what} than was asked for")]
    OtherResult {
        /// What differs.
        what: &'static str,
    },
    /// The log says that something else was issued.
    #[error("the log has another {what} than was issued")]
    OtherIssued {
        /// What differs.
        what: &'static str,
    },
}

impl IdentityError {
    /// A stable name.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Bundles(error) => error.code(),
            Self::Number { .. } => "identity-number",
            Self::Certificate(fault) => fault.code(),
            Self::TokenForm => "identity-token-form",
            Self::OtherAudience { .. } => "identity-other-audience",
            Self::Token { .. } => "identity-token",
            Self::OtherSubject { .. } => "identity-other-subject",
            Self::AttestationResult(_) => "identity-result",
            Self::OtherResult { .. } => "identity-other-result",
            Self::OtherIssued { .. } => "identity-other-issued",
        }
    }
}

/// Checks all that came with an identity but the log's word, and reads its bundles.
pub(super) fn check(identified: &Identified, asked: &AskFor<'_>, signing_key: &PublicKey, at: UnixTime) -> Result<Bundles, IdentityError> {
    let bundles = Bundles::read(identified)?;
    number("certificates", usize::from(asked.x509.is_some()), usize::from(identified.x509.is_some()))?;
    number("tokens", asked.jwt_audiences.len(), identified.jwt.len())?;
    number("attestation results", usize::from(asked.result_audience.is_some()), usize::from(identified.result.is_some()))?;
    if let (Some(key), Some(certificate)) = (asked.x509, &identified.x509) {
        svid::check(certificate, key.spki().as_der(), &identified.spiffe_id, bundles.own(), at)?;
    }
    for (audience, token) in asked.jwt_audiences.iter().zip(&identified.jwt) {
        check_token(identified, audience, token, &bundles, at)?;
    }
    if let (Some(audience), Some(result)) = (asked.result_audience, &identified.result) {
        check_result(identified, audience, result, signing_key)?;
    }
    Ok(bundles)
}

fn number(what: &'static str, expected: usize, found: usize) -> Result<(), IdentityError> {
    if expected == found { Ok(()) } else { Err(IdentityError::Number { what, expected, found }) }
}

fn check_token(identified: &Identified, audience: &str, token: &JwtSvid, bundles: &Bundles, at: UnixTime) -> Result<(), IdentityError> {
    if token.audience != audience {
        return Err(IdentityError::OtherAudience { expected: audience.to_owned(), found: token.audience.clone() });
    }
    let text = std::str::from_utf8(token.token.expose()).map_err(|_| IdentityError::TokenForm)?;
    let verified = verify_svid(text, bundles.own(), audience, at);
    let verified = verified.map_err(|error| IdentityError::Token { audience: audience.to_owned(), error })?;
    if *verified.id() != identified.spiffe_id {
        return Err(IdentityError::OtherSubject { audience: audience.to_owned(), found: verified.id().to_string() });
    }
    Ok(())
}

/// It is about this guest, and for whom it was asked for: a result that is bound to another's key would let that one speak as this guest.
fn check_result(identified: &Identified, audience: &str, result: &str, signing_key: &PublicKey) -> Result<(), IdentityError> {
    let (binding, id) = (Binding::unverified(result)?, identified.spiffe_id.uri());
    let other = |what| Err(IdentityError::OtherResult { what });
    match () {
        () if binding.subject() != Some(id.as_str()) => other("subject"),
        () if binding.audience() != Some(audience) => other("audience"),
        () if binding.key() != Some(signing_key) => other("key"),
        () => Ok(()),
    }
}

/// Whether the log has what was issued.
pub(super) fn check_issued(decided: &Decided, identified: &Identified, asked: &AskFor<'_>) -> Result<(), IdentityError> {
    let other = |what| Err(IdentityError::OtherIssued { what });
    let Some(issued) = &decided.issued else { return other("identity") };
    let Issued { spiffe_id, x509_serial, x509_key, jti } = issued;
    let key = asked.x509.map(|key| key.spki().digest());
    // The number of an attestation result stands behind those of the tokens.
    let result = identified.result.as_deref().map(Binding::unverified).transpose()?;
    let numbers = identified.jwt.iter().map(|token| Some(token.jti.as_str())).chain(result.iter().map(Binding::number));
    let same_numbers = jti.iter().map(|number| Some(number.as_str())).eq(numbers);
    match () {
        () if *spiffe_id != identified.spiffe_id => other("SPIFFE ID"),
        () if x509_serial.as_ref() != identified.x509.as_ref().map(|x509| &x509.serial) => other("serial number"),
        () if *x509_key != key => other("key"),
        () if !same_numbers => other("jti"),
        () => Ok(()),
    }
}
