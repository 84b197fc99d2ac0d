//! What guests call: a challenge, a release, and the installation's certified keys.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use attestation::{SigningKeyKind, SnpEvidence, VcekName};
use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use protocol::documents::Kind;
use protocol::ids::DecisionId;
use protocol::messages::{ChallengeAnswer, EvidenceMessage, Purpose, ReceivedRequest};

use super::problem::{Refusal, no_body};
use super::{Broker, client_network};
use crate::clock;
use crate::collateral::{PieceKey, Vendor};
use crate::decision::{Judge, Rejection};
use crate::feed::Wanted;
use crate::guests::HeldGuest;
use crate::identity::Issuer;
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

pub async fn release(
    State(broker): State<Arc<Broker>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let started = Instant::now();
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&rejection).into_response(),
    };
    let response = match ReceivedRequest::read(&body) {
        Ok(request) => decide_record_release(&broker, &request, client_network(peer.ip())).await,
        Err(error) => Err(broker.reject(None, "request-form", &error.to_string(), "see docs/protocol.md for the request's form", 400)),
    };
    broker.metrics.observe(started.elapsed().as_secs_f64());
    match response {
        Ok(sealed) => ([(header::CACHE_CONTROL, "no-store")], Json(sealed.answer())).into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

/// The order that the types demand: decide, record, release.
async fn decide_record_release(broker: &Arc<Broker>, request: &ReceivedRequest, client: IpAddr) -> Result<SealedGrant, Refusal> {
    for _ in 0..ATTEMPTS {
        let documents = broker.ledger.published().documents;
        let missing = missing(broker, request);
        let collateral = broker.collateral.current();
        let judge = Judge {
            installation: broker.installation.root,
            challenges: &broker.keys.challenge,
            anchors: &broker.anchors,
            collateral: &collateral,
            leaves: broker.collateral.leaves(),
            chains: &broker.chains,
            guests: &broker.guests,
            documents: &documents,
            realm: broker.issuer.as_deref().map(Issuer::realm),
        };
        let (verdicts, guest) = match judge.decide(request, clock::now()) {
            Ok(decided) => decided,
            Err(rejection) => match missing.filter(|_| lacks_collateral(&rejection)) {
                // It has come in this moment.
                Some(key) if broker.collateral.piece(&key).is_some() => continue,
                Some(key) => return Err(wait_for(broker, request, &rejection, key, client)),
                None => match missing_document(&rejection) {
                    Some(key) => return Err(wait_for(broker, request, &rejection, key, client)),
                    None => return Err(rejected(broker, request, &rejection)),
                },
            },
        };
        learn(broker, &guest);
        match broker.ledger.record(verdicts).await {
            Ok(recorded) => return answer(broker, recorded, guest),
            Err(RecordError::DocumentsChanged) => {}
            Err(error) => return Err(not_recorded(broker, request, &error)),
        }
    }
    Err(Refusal::new(503, "documents-changing", "the documents in force keep changing").retry_after(Duration::from_secs(1)))
}

/// What this evidence needs, if it is not at hand: the certificate of its VCEK.
fn missing(broker: &Broker, request: &ReceivedRequest) -> Option<PieceKey> {
    let EvidenceMessage::SevSnp { report, certificate_table } = &request.body.evidence else { return None };
    let name = VcekName::of_report(report)?;
    let key = PieceKey::Vcek(name);
    let brought = || {
        SnpEvidence::from_certificate_table(Vec::new(), certificate_table)
            .is_ok_and(|came| came.certificates.iter().any(|der| name.is_of(der)))
    };
    (broker.collateral.piece(&key).is_none() && !brought()).then_some(key)
}

/// The document that TDX evidence lacks.
fn missing_document(rejection: &Rejection) -> Option<PieceKey> {
    let Rejection::Evidence(rejection) = rejection else { return None };
    let attestation::Rejection::Tdx(attestation::TdxRejection::CollateralMissing { what, fmspc }) = &**rejection else { return None };
    match *what {
        "qe-identity" => Some(PieceKey::QeIdentity),
        _ => format!("intel/tcb/{fmspc}").parse().ok(),
    }
}

/// Whether a rejection may come of a missing certificate: none was there, or another chip's or TCB version's was taken for it.
fn lacks_collateral(rejection: &Rejection) -> bool {
    let Rejection::Evidence(rejection) = rejection else { return false };
    matches!(
        **rejection,
        attestation::Rejection::LeafMissing { .. }
            | attestation::Rejection::LeafKind { .. }
            | attestation::Rejection::IntermediateMissing { .. }
            | attestation::Rejection::Signature { .. }
            | attestation::Rejection::TcbMismatch { .. }
            | attestation::Rejection::ChipIdMismatch { .. }
    )
}

/// Has the feed ask for what is missing, and tells the guest to come back; or that nothing will come of it.
fn wait_for(broker: &Broker, request: &ReceivedRequest, rejection: &Rejection, key: PieceKey, client: IpAddr) -> Refusal {
    let wait = |code: &'static str, title: &str, wait: Duration| {
        broker.metrics.count("rejected", code);
        Refusal::new(503, code, title).hint("come back after Retry-After seconds; nothing is wrong with the guest yet").retry_after(wait)
    };
    let hint = match broker.feed.want(key, client, clock::now()) {
        Wanted::Coming(after) => return wait("collateral-being-fetched", "the platform's collateral is being fetched", after),
        Wanted::OverBudget(after) => return wait("collateral-over-budget", "too many fetches of collateral were asked for", after),
        Wanted::Absent if key == PieceKey::QeIdentity => {
            "the service that the broker asks has no identity of the quoting enclave, without which no platform of Intel's is verified: it \
             said so lately; its operator is to look at [collateral.intel] upstream"
        }
        Wanted::Absent => "the vendor's service knows no such platform: it said so lately",
        Wanted::Unusable => {
            "the service that the broker asks answers with nothing of use for this platform; the broker's log says what it answered, and it is \
             asked again in a quarter of an hour"
        }
        Wanted::NoUpstream if key == PieceKey::QeIdentity => {
            "the identity of the quoting enclave is not held, and nobody is asked for it: [collateral.intel] upstream"
        }
        Wanted::NoUpstream if key.vendor() == Vendor::Intel => {
            "this platform's TCB document is not held, and nobody is asked for it: [collateral.intel] upstream"
        }
        Wanted::NoUpstream => {
            "the certificate of this platform's key did not come with the evidence, is not held, and nobody is asked for it: \
             [collateral.amd] upstream"
        }
    };
    // Why a piece that was brought is not there, is the operator's to know: it stands in the explanation alone.
    let refused: String = broker.collateral.why_not(&key).iter().map(|refused| format!("; {refused}")).collect();
    broker.reject(Some(request), rejection.code(), &format!("{rejection}{refused}"), hint, 403)
}

/// Keeps what a verified guest brought, out of the way of its answer.
fn learn(broker: &Arc<Broker>, guest: &HeldGuest) {
    if !broker.collateral.may_learn(guest.evidence()) {
        return;
    }
    let (broker, evidence) = (Arc::clone(broker), Arc::clone(guest.evidence()));
    tokio::spawn(async move { broker.collateral.learn(&evidence, clock::now()).await });
}

fn answer(broker: &Broker, recorded: Recorded, guest: HeldGuest) -> Result<SealedGrant, Refusal> {
    let purpose = recorded.verdicts.purpose;
    let decision = recorded.verdicts.id;
    broker.sightings.note(&recorded.verdicts);
    for item in &recorded.verdicts.items {
        let reason = item.failed().next().map_or("", |check| check.code);
        let outcome = match (item.permit.is_some(), purpose) {
            (false, _) => "refused",
            (true, Purpose::Check) => "permitted",
            (true, Purpose::Release) if item.item.kind == Kind::Identity => "identified",
            (true, Purpose::Release) => "granted",
        };
        broker.metrics.count(outcome, reason);
        tracing::info!(%decision, item = %item.item.name, kind = item.item.kind.as_str(), outcome, reason, "decided");
    }
    // A guest that may have nothing has nothing to renew, and takes no place of one that has.
    let now = clock::now();
    if let Some(until) = recorded.verdicts.permitted_until() {
        broker.guests.keep(guest, until, now);
    }
    release_recorded(recorded, &broker.keys, broker.issuer.as_deref(), now)
        .map_err(|error| Refusal::new(422, "guest-key", "the guest's key cannot be sealed to").detail(error.to_string()).decision(decision))
}

fn rejected(broker: &Broker, request: &ReceivedRequest, rejection: &Rejection) -> Refusal {
    let status = match rejection {
        Rejection::AttestAgain => 409,
        Rejection::NoRandomness(_) => 503,
        _ => 403,
    };
    let hint = unnamed_leaf(request, rejection).unwrap_or_else(|| rejection.hint());
    let refusal = broker.reject(Some(request), rejection.code(), &rejection.to_string(), hint, status);
    if let Rejection::Evidence(rejection) = rejection {
        broker.alarms.consider(rejection, refusal.number());
    }
    refusal
}

/// What helps a guest that came without a certificate that nobody can be asked for, because the report does not say which it is.
fn unnamed_leaf(request: &ReceivedRequest, rejection: &Rejection) -> Option<&'static str> {
    let Rejection::Evidence(rejection) = rejection else { return None };
    let attestation::Rejection::LeafMissing { kind } = **rejection else { return None };
    let EvidenceMessage::SevSnp { report, .. } = &request.body.evidence else { return None };
    Some(match (kind, report.first_chunk()) {
        (SigningKeyKind::Vlek, _) => {
            "the report is signed by a VLEK, whose certificate nobody but the cloud has: its host has to hand it out with the report (certificate \
             table)"
        }
        (SigningKeyKind::Vcek, Some([2, 0, 0, 0])) => {
            "a report of version 2 does not say of which product line its machine is, so its certificate can be neither asked for nor found among \
             those held: the host has to hand out the VCEK's with the report (certificate table), or newer firmware makes reports of version 3"
        }
        (SigningKeyKind::Vcek, _) => {
            "the report does not say which machine signed it (its chip id is masked), so its certificate can be neither asked for nor found among \
             those held: the host has to hand out the VCEK's with the report (certificate table)"
        }
    })
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
