//! Why there is no answer that the guest believes, and what that means for whoever waits.

use std::time::Duration;

use protocol::challenge::ChallengeError;
use protocol::dsse::DocumentError;
use protocol::entries::EntryError;
use protocol::hpke::HpkeError;
use protocol::ids::{DecisionId, NoRandomness};
use protocol::keys::BadKey;
use protocol::log::LogError;
use protocol::messages::{AnswerError, Item, Problem};
use protocol::tokens::TokenError;

use super::identity::IdentityError;
use crate::checkpoints::CheckpointsError;
use crate::evidence::EvidenceError;
use connection::HttpError;

/// Why there is no answer that this guest believes.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// Nobody answered.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The broker cannot serve now.
    #[error("the broker cannot serve {path} now (HTTP {status}{})", problem.as_ref().map(|problem| format!(", {}", problem.code)).unwrap_or_default())]
    Unavailable {
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// What it says.
        problem: Option<Box<Problem>>,
        /// When to come back.
        retry_after: Option<Duration>,
    },
    /// The broker refused the request as a whole: nothing was verified.
    #[error("the broker rejected the request: {} ({})", .0.title, .0.code)]
    Rejected(Box<Problem>),
    /// An answer that is no broker's.
    #[error("{path} answered HTTP {status} with something else than a broker's answer: {what}")]
    Reply {
        /// What was asked.
        path: &'static str,
        /// The HTTP status.
        status: u16,
        /// What is wrong.
        what: String,
    },
    /// Not a challenge.
    #[error(transparent)]
    Challenge(#[from] ChallengeError),
    /// No evidence.
    #[error(transparent)]
    Evidence(#[from] EvidenceError),
    /// The request cannot be made.
    #[error("the request cannot be made: {0}")]
    Request(#[from] DocumentError),
    /// No fresh keys.
    #[error(transparent)]
    Hpke(#[from] HpkeError),
    /// No fresh keys.
    #[error(transparent)]
    Key(#[from] BadKey),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] NoRandomness),
    /// The answer is not the certified broker's to this request and this guest.
    #[error("the answer is not believed: {0}")]
    Answer(#[from] AnswerError),
    /// It answers another number of items.
    #[error("the answer has {found} items, {expected} were asked for")]
    ItemCount {
        /// How many were asked for.
        expected: usize,
        /// How many are answered.
        found: usize,
    },
    /// It answers another item.
    #[error("the answer is about {}, not about {}", shown(found), shown(expected))]
    OtherItem {
        /// What was asked for.
        expected: Box<Item>,
        /// What is answered.
        found: Box<Item>,
    },
    /// A release where only a decision was asked for, or the reverse; or a model without a manifest.
    #[error("the answer about {} is not of the kind that was asked for", shown(item))]
    OtherKindOfAnswer {
        /// The item.
        item: Box<Item>,
    },
    /// None of the broker's certificates is one of its log's under the pinned root.
    #[error("none of the broker's {found} certificates is of a log under the pinned root")]
    NoLogCertificate {
        /// How many it showed.
        found: usize,
    },
    /// The log does not have the entry.
    #[error("the receipt does not hold: {0}")]
    Receipt(LogError),
    /// The receipt's entry cannot be read.
    #[error("the receipt's entry cannot be read: {0}")]
    Entry(#[from] EntryError),
    /// The receipt is for something else.
    #[error("the receipt is for another entry: its {what} differs")]
    OtherEntry {
        /// In what.
        what: &'static str,
    },
    /// What was issued for an identity is not what was asked for, or does not hold.
    #[error("what was issued is not believed: {0}")]
    Identity(#[from] IdentityError),
    /// The possession of a key cannot be proven.
    #[error("the possession of the key cannot be proven: {0}")]
    SvidKey(#[from] TokenError),
    /// The log is not the one that this guest remembers.
    #[error(transparent)]
    Checkpoints(#[from] CheckpointsError),
}

fn shown(item: &Item) -> String {
    let version = item.version.map(|version| format!("@{version}")).unwrap_or_default();
    format!("{} {}{version}", item.kind.as_str(), item.name)
}

/// What an error means for whoever waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Nobody answered, or not now: try again.
    Outage(Option<Duration>),
    /// The answer is no.
    Denied,
    /// Whoever answered is not believed. Trying again helps an attacker only.
    Untrusted,
    /// This guest has no evidence.
    NoEvidence,
    /// Something here does not work.
    Local,
}

impl ExchangeError {
    /// What it means for whoever waits.
    #[must_use]
    pub const fn class(&self) -> Class {
        match self {
            Self::Http(error) if error.is_outage() => Class::Outage(None),
            Self::Unavailable { retry_after, .. } => Class::Outage(*retry_after),
            Self::Evidence(error) if error.is_outage() => Class::Outage(None),
            Self::Rejected(_) => Class::Denied,
            Self::Evidence(_) => Class::NoEvidence,
            Self::Http(HttpError::ReplyTooLarge { .. })
            | Self::Reply { .. }
            | Self::Challenge(_)
            | Self::Answer(_)
            | Self::ItemCount { .. }
            | Self::OtherItem { .. }
            | Self::OtherKindOfAnswer { .. }
            | Self::NoLogCertificate { .. }
            | Self::Receipt(_)
            | Self::Entry(_)
            | Self::OtherEntry { .. }
            | Self::Identity(_) => Class::Untrusted,
            Self::Checkpoints(CheckpointsError::Io { .. } | CheckpointsError::Form { .. }) => Class::Local,
            Self::Checkpoints(_) => Class::Untrusted,
            Self::Http(_) | Self::Request(_) | Self::Hpke(_) | Self::Key(_) | Self::NoRandomness(_) | Self::SvidKey(_) => Class::Local,
        }
    }

    /// A stable code.
    #[must_use]
    pub fn code(&self) -> &str {
        match self {
            Self::Http(error) if error.is_outage() => "broker-unreachable",
            Self::Http(HttpError::ReplyTooLarge { .. }) => "reply-too-large",
            Self::Http(_) => "http-client",
            Self::Unavailable { .. } => "broker-unavailable",
            Self::Rejected(problem) => &problem.code,
            Self::Reply { .. } => "reply-form",
            Self::Challenge(_) => "challenge-form",
            Self::Evidence(error) => error.code(),
            Self::Request(_) => "request",
            Self::Hpke(_) | Self::Key(_) | Self::SvidKey(_) => "keys",
            Self::NoRandomness(_) => "no-randomness",
            Self::Answer(error) => answer_code(error),
            Self::ItemCount { .. } => "answer-item-count",
            Self::OtherItem { .. } => "answer-other-item",
            Self::OtherKindOfAnswer { .. } => "answer-other-kind",
            Self::NoLogCertificate { .. } => "log-no-certificate",
            Self::Receipt(_) => "receipt",
            Self::Entry(_) => "receipt-entry-form",
            Self::OtherEntry { .. } => "receipt-other-entry",
            Self::Identity(error) => error.code(),
            Self::Checkpoints(error) => error.code(),
        }
    }

    /// What may help.
    #[must_use]
    pub fn hint(&self) -> &str {
        match self {
            Self::Http(error) => error.hint(),
            Self::Unavailable { .. } => "the broker's operator sees why in its log",
            Self::Rejected(problem) => problem.hint.as_deref().unwrap_or("the broker's operator sees why: portcullis explain DECISION-ID"),
            Self::Reply { .. } | Self::Challenge(_) => "is the URL a broker's, and is it of the same version?",
            Self::Evidence(error) => error.hint(),
            Self::Answer(_) | Self::NoLogCertificate { .. } => {
                "whoever answers is not the broker of the pinned root, or its certificates have run out, or this guest's clock is wrong"
            }
            Self::ItemCount { .. }
            | Self::OtherItem { .. }
            | Self::OtherKindOfAnswer { .. }
            | Self::Receipt(_)
            | Self::Entry(_)
            | Self::OtherEntry { .. }
            | Self::Identity(_) => "the broker does not do what its version says: tell its operator and an auditor",
            Self::Request(_) => "a request asks for 1 to 64 different items",
            Self::Hpke(_) | Self::Key(_) | Self::NoRandomness(_) | Self::SvidKey(_) => "the kernel's random generator may not be ready",
            Self::Checkpoints(error) => error.hint(),
        }
    }

    /// The number that the broker's operator can look the matter up by.
    #[must_use]
    pub fn decision(&self) -> Option<DecisionId> {
        match self {
            Self::Rejected(problem) => problem.decision,
            Self::Unavailable { problem, .. } => problem.as_ref().and_then(|problem| problem.decision),
            _ => None,
        }
    }
}

const fn answer_code(error: &AnswerError) -> &'static str {
    match error {
        AnswerError::Certificate(_) => "answer-identity",
        AnswerError::Document(_) => "answer-signature",
        AnswerError::OtherRequest { .. } => "answer-other-request",
        AnswerError::Hpke(_) => "answer-not-sealed-to-us",
        AnswerError::Outcome(_) => "answer-form",
    }
}
