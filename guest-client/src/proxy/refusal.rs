//! What an agent is answered that gets no answer of the upstream: a code, a status, a hint. Nothing of the upstream's connection and nothing of the
//! credential is in it; what an operator needs is in the log.

use protocol::messages::Problem;

use super::asked::AskedError;

/// Why there is no answer of the upstream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The request may not go on.
    #[error(transparent)]
    Asked(#[from] AskedError),
    /// Another user than those that are named.
    #[error("this user may not use this proxy")]
    OtherUser,
    /// Too many connections.
    #[error("too many connections are being served")]
    Busy,
    /// No whole head in time.
    #[error("the head of the request did not come in time")]
    HeadTimeout,
    /// The HTTP library reads the request differently than we do.
    #[error("the request has more than one reading")]
    TwoReadings,
    /// There is no credential: not yet, no longer, or nobody keeps it fresh.
    #[error("the credential is not there")]
    NoCredential,
    /// The credential is nothing that a header holds.
    #[error("the credential cannot be put into a header")]
    CredentialForm,
    /// The agent did not send the body that it announced.
    #[error("the body of the request broke off")]
    BodyBroken,
    /// No connection to the upstream, or it broke.
    #[error("the upstream cannot be reached")]
    Unreachable,
    /// No answer in time.
    #[error("the upstream did not answer in time")]
    AnswerTimeout,
    /// An answer that cannot be handed on: a coding of its transfer that is not `chunked`, or another protocol.
    #[error("the upstream's answer cannot be handed on")]
    AnswerForm,
    /// The upstream sends the credential back.
    #[error("the upstream's answer holds the credential")]
    Echo,
}

impl Refusal {
    /// A stable name for each variant.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Asked(error) => error.code(),
            Self::OtherUser => "other-user",
            Self::Busy => "proxy-busy",
            Self::HeadTimeout => "head-timeout",
            Self::TwoReadings => "two-readings",
            Self::NoCredential => "credential-absent",
            Self::CredentialForm => "credential-form",
            Self::BodyBroken => "body-broken",
            Self::Unreachable => "upstream-unreachable",
            Self::AnswerTimeout => "upstream-timeout",
            Self::AnswerForm => "upstream-answer",
            Self::Echo => "credential-echoed",
        }
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match self {
            Self::Asked(error) => error.status(),
            Self::OtherUser => 403,
            Self::Busy | Self::NoCredential => 503,
            Self::HeadTimeout => 408,
            Self::TwoReadings | Self::BodyBroken => 400,
            Self::CredentialForm | Self::Unreachable | Self::AnswerForm | Self::Echo => 502,
            Self::AnswerTimeout => 504,
        }
    }

    /// What may help.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::Asked(AskedError::NotAllowed) => "the operator lists methods and paths under allow of this proxy",
            Self::Asked(AskedError::Host) => "the upstream's name, localhost, or the proxy's own address",
            Self::Asked(_) => "send it as a plain HTTP/1.1 client does",
            Self::OtherUser => "the operator names the numbers of users under users of this proxy",
            Self::Busy => "try again, or let the operator raise connections of this proxy",
            Self::HeadTimeout | Self::BodyBroken => "send the request without long pauses",
            Self::TwoReadings => "send it as a plain HTTP/1.1 client does",
            Self::NoCredential => "it may be on its way, have expired or be revoked; the sidecar's log says which",
            Self::CredentialForm => "publish it as one line of printable ASCII of 8 bytes or more",
            Self::Unreachable | Self::AnswerTimeout => "try again; the sidecar's log says what happened",
            Self::AnswerForm | Self::Echo => "the sidecar's log says what happened",
        }
    }

    /// As a problem (RFC 9457).
    #[must_use]
    pub fn problem(&self) -> Vec<u8> {
        let mut problem = Problem::new(self.status(), self.code(), &self.to_string());
        problem.hint = Some(self.hint().to_owned());
        serde_json::to_vec(&problem).unwrap_or_default()
    }

    /// As a whole answer on a connection that ends with it.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let (status, problem) = (self.status(), self.problem());
        let reason = hyper::StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
        let retry = if *self == Self::Busy { "retry-after: 1\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status} {reason}\r\ncontent-type: {}\r\ncontent-length: {}\r\n{retry}connection: close\r\n\r\n",
            Problem::MEDIA_TYPE,
            problem.len()
        );
        [head.into_bytes(), problem].concat()
    }
}
