//! What guests call: a challenge, a release, and the installation's certified keys.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use protocol::ids::DecisionId;
use protocol::messages::{ChallengeAnswer, Purpose, ReceivedRequest};

use super::Broker;
use super::problem::{Refusal, no_body};
use crate::clock;
use crate::decision::{Judge, Rejection};
use crate::guests::HeldGuest;
use crate::ledger::{RecordError, Recorded};
use crate::rejections::Rejected;
use crate::release::{SealedGrant, release as release_recorded};

/// How often a decision is made again because documents changed under it.
const ATTEMPTS: usize = 4;

pub async fn challenge(State(broker): State<Arc<Broker>>) -> Response {
    match broker.keys.challenge.mint(clock::now(), broker.limits.challenge_life()) {
        Ok(challenge) => {
            let answer = ChallengeAnswer { challenge: challenge.as_bytes().to_vec(), expires: challenge.expires() };
            ([(header::CACHE_CONTROL, "no-store")], Json(answer)).into_response()
        }
        Err(error) => Refusal::new(503, "no-randomness", "no challenge can be made").detail(error.to_string()).into_response(),
    }
}

pub async fn installation(State(broker): State<Arc<Broker>>) -> Response {
    Json(&broker.installation).into_response()
}

pub async fn release(State(broker): State<Arc<Broker>>, body: Result<Bytes, BytesRejection>) -> Response {
    let started = Instant::now();
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&rejection).into_response(),
    };
    let response = match ReceivedRequest::read(&body) {
        Ok(request) => decide_record_release(&broker, &request).await,
        Err(error) => Err(broker.reject(None, "request-form", &error.to_string(), "see docs/protocol.md for the request's form", 400)),
    };
    broker.metrics.observe(started.elapsed().as_secs_f64());
    match response {
        Ok(sealed) => ([(header::CACHE_CONTROL, "no-store")], Json(sealed.answer())).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// The order that the types demand: decide, record, release.
async fn decide_record_release(broker: &Broker, request: &ReceivedRequest) -> Result<SealedGrant, Refusal> {
    for _ in 0..ATTEMPTS {
        let documents = broker.ledger.published().documents;
        let collateral = broker.collateral.current();
        let judge = Judge {
            installation: broker.installation.root,
            challenges: &broker.keys.challenge,
            anchors: &broker.anchors,
            collateral: &collateral,
            chains: &broker.chains,
            guests: &broker.guests,
            documents: &documents,
        };
        let (verdicts, guest) = judge.decide(request, clock::now()).map_err(|rejection| rejected(broker, request, &rejection))?;
        match broker.ledger.record(verdicts).await {
            Ok(recorded) => return answer(broker, recorded, guest),
            Err(RecordError::DocumentsChanged) => {}
            Err(error) => return Err(not_recorded(broker, request, &error)),
        }
    }
    Err(Refusal::new(503, "documents-changing", "the documents in force keep changing").retry_after(Duration::from_secs(1)))
}

fn answer(broker: &Broker, recorded: Recorded, guest: HeldGuest) -> Result<SealedGrant, Refusal> {
    let purpose = recorded.verdicts.purpose;
    let decision = recorded.verdicts.id;
    for item in &recorded.verdicts.items {
        let reason = item.failed().next().map_or("", |check| check.code);
        let outcome = match (item.permit.is_some(), purpose) {
            (false, _) => "refused",
            (true, Purpose::Check) => "permitted",
            (true, Purpose::Release) => "granted",
        };
        broker.metrics.count(outcome, reason);
        tracing::info!(%decision, item = %item.item.name, kind = item.item.kind.as_str(), outcome, reason, "decided");
    }
    // A guest that may have nothing has nothing to renew, and takes no place of one that has.
    if recorded.verdicts.items.iter().any(|item| item.permit.is_some()) {
        broker.guests.keep(guest);
    }
    release_recorded(recorded, &broker.keys, clock::now())
        .map_err(|error| Refusal::new(422, "guest-key", "the guest's key cannot be sealed to").detail(error.to_string()).decision(decision))
}

fn rejected(broker: &Broker, request: &ReceivedRequest, rejection: &Rejection) -> Refusal {
    let status = match rejection {
        Rejection::AttestAgain => 409,
        Rejection::NoRandomness(_) => 503,
        _ => 403,
    };
    broker.reject(Some(request), rejection.code(), &rejection.to_string(), rejection.hint(), status)
}

fn not_recorded(broker: &Broker, request: &ReceivedRequest, error: &RecordError) -> Refusal {
    match error {
        RecordError::Replayed => {
            let hint = "each challenge serves one request; ask for a new one";
            broker.reject(Some(request), "challenge-replayed", &error.to_string(), hint, 403)
        }
        RecordError::Busy => Refusal::new(503, "busy", "too many requests wait for the audit log").retry_after(Duration::from_secs(1)),
        error => {
            tracing::error!(%error, "a decision could not be recorded; nothing was released");
            Refusal::new(503, "not-recorded", "the decision could not be recorded, so nothing is released")
                .retry_after(Duration::from_secs(5))
        }
    }
}

impl Broker {
    /// Counts and keeps a rejection; the caller learns its code and number.
    fn reject(&self, request: Option<&ReceivedRequest>, code: &'static str, detail: &str, hint: &str, status: u16) -> Refusal {
        self.metrics.count("rejected", code);
        let refusal = Refusal::new(status, code, "nothing is proven, and nothing is released").hint(hint);
        let Ok(decision) = DecisionId::random() else { return refusal };
        // One line a rejection only where somebody looks for it: unverified callers cannot fill the log. Sums are logged.
        tracing::debug!(%decision, code, "rejected");
        self.rejections.add(Rejected {
            decision,
            at: clock::now(),
            anchors: self.trust.anchors,
            request: request.map(|request| request.digest),
            code,
            detail: detail.to_owned(),
            hint: hint.to_owned(),
        });
        refusal.decision(decision)
    }
}
