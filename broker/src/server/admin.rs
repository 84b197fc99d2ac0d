//! What operators and publishers call, with the administrative token. Documents are believed for their signatures; the token
//! keeps strangers from reading decisions and from filling the store.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use protocol::admin::RecordSummary;
use protocol::documents::{PolicyBody, RevocationsBody, TcbBaselinesBody};
use protocol::dsse::SignedDocument;
use protocol::encoding::sha256;
use protocol::envelope::RecordFile;
use protocol::ids::{DecisionId, Name};

use super::Broker;
use super::problem::{Refusal, no_body, refuse};
use crate::documents::{ActiveDocuments, Admitted, PutError, Record};
use crate::ledger::PutFailed;
use crate::store::StoreError;

/// Lets a request pass that carries the token.
pub async fn authorised(State(broker): State<Arc<Broker>>, request: Request, next: Next) -> Response {
    // Both sides are digests of secrets with full entropy: comparing them leaks nothing that helps.
    if bearer(request.headers()).is_some_and(|token| sha256(token.as_bytes()) == broker.token) {
        return next.run(request).await;
    }
    broker.metrics.count("rejected", "admin-token");
    Refusal::new(401, "admin-token", "this needs the administrative token")
        .hint("pass --token-file with the file that init wrote")
        .into_response()
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

pub async fn put_record(State(broker): State<Arc<Broker>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&rejection).into_response(),
    };
    let file: RecordFile = match serde_json::from_slice(&body) {
        Ok(file) => file,
        Err(error) => return Refusal::new(400, "record-form", "not a record").detail(error.to_string()).into_response(),
    };
    let admitted = broker.trust.record(file).and_then(|admitted| opens(&broker, &admitted).map(|()| admitted));
    put(&broker, "record", admitted).await
}

/// A record that this broker could never release is refused when it is put, not when a guest waits for it.
fn opens(broker: &Broker, admitted: &Admitted) -> Result<(), PutError> {
    let Admitted::Record(record) = admitted else { return Ok(()) };
    protocol::envelope::unwrap(&record.envelope, &record.statement, &broker.keys.sealing).map(drop).map_err(PutError::DoesNotOpen)
}

pub async fn put_policy(State(broker): State<Arc<Broker>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&rejection).into_response(),
    };
    let admitted = SignedDocument::parse::<PolicyBody>(&body).map_err(PutError::from).and_then(|signed| broker.trust.policy(&signed));
    put(&broker, "policy", admitted).await
}

pub async fn put_revocations(State(broker): State<Arc<Broker>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&rejection).into_response(),
    };
    let signed = SignedDocument::parse::<RevocationsBody>(&body).map_err(PutError::from);
    let admitted = signed.and_then(|signed| broker.trust.revocations(&signed));
    put(&broker, "revocations", admitted).await
}

pub async fn put_calendar(State(broker): State<Arc<Broker>>, body: Result<Bytes, BytesRejection>) -> Response {
    let body = match body {
        Ok(body) => body,
        Err(rejection) => return no_body(&rejection).into_response(),
    };
    let signed = SignedDocument::parse::<TcbBaselinesBody>(&body).map_err(PutError::from);
    let admitted = signed.and_then(|signed| broker.trust.calendar(&signed));
    put(&broker, "tcb-baselines", admitted).await
}

async fn put(broker: &Broker, kind: &'static str, admitted: Result<Admitted, PutError>) -> Response {
    let result = match admitted {
        Ok(admitted) => broker.ledger.put(admitted).await,
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(accepted) => {
            broker.metrics.document(kind);
            tracing::info!(kind, document = %accepted.document, entry = accepted.entry, "document put in force");
            (StatusCode::CREATED, Json(accepted)).into_response()
        }
        Err(PutFailed::Refused(error)) => refused(&error),
        Err(PutFailed::Record(error)) => {
            tracing::error!(%error, "a document could not be recorded");
            refuse(503, "not-recorded", "the document could not be recorded, so it is not in force")
        }
    }
}

/// A document that is not taken, and why.
pub(super) fn refused(error: &PutError) -> Response {
    let (status, code) = put_error(error);
    Refusal::new(status, code, "the document was not put in force").detail(error.to_string()).into_response()
}

/// One table from error to status and code.
const fn put_error(error: &PutError) -> (u16, &'static str) {
    match error {
        PutError::Document(_) => (403, "document-refused"),
        PutError::Installation { .. } => (422, "other-installation"),
        PutError::Name { .. } => (403, "name-not-covered"),
        PutError::AnchorClass { .. } => (422, "anchor-class"),
        PutError::Envelope { .. } => (422, "envelope-of-another-statement"),
        PutError::DoesNotOpen(_) => (422, "envelope-does-not-open"),
        PutError::Policy(_) => (422, "policy-form"),
        PutError::Version { .. } => (409, "version-not-higher"),
        PutError::Unchanged => (409, "already-in-force"),
    }
}

pub async fn list_records(State(broker): State<Arc<Broker>>) -> Response {
    let documents = broker.ledger.published().documents;
    Json(documents.records().map(|record| summary(&documents, record)).collect::<Vec<_>>()).into_response()
}

fn summary(documents: &ActiveDocuments, record: &Record) -> RecordSummary {
    let body = record.statement.body();
    RecordSummary {
        kind: body.kind,
        name: body.name.clone(),
        version: body.version,
        policy: body.policy.clone(),
        policy_present: documents.policy(&body.authority, &body.policy).is_some(),
        publisher: *record.statement.signer(),
        statement: *record.statement.digest(),
        manifest: body.manifest,
        revoked: documents.revocation(body.kind, &body.name, body.version).map(|entry| entry.reason.clone()),
    }
}

pub async fn policy(State(broker): State<Arc<Broker>>, Path(name): Path<String>) -> Response {
    let Ok(name) = name.parse::<Name>() else { return refuse(404, "policy-unknown", "no such policy") };
    let documents = broker.ledger.published().documents;
    let mut policies = documents.policies(&name);
    match (policies.next(), policies.next()) {
        (Some(policy), None) => Json(policy.document.signed()).into_response(),
        (None, _) => refuse(404, "policy-unknown", "no such policy"),
        (Some(_), Some(_)) => refuse(409, "policy-ambiguous", "several authorities put a policy of this name"),
    }
}

pub async fn calendar(State(broker): State<Arc<Broker>>, Path(name): Path<String>) -> Response {
    let Ok(name) = name.parse::<Name>() else { return refuse(404, "calendar-unknown", "no such TCB calendar") };
    let documents = broker.ledger.published().documents;
    let mut calendars = documents.calendars(&name);
    match (calendars.next(), calendars.next()) {
        (Some(calendar), None) => Json(calendar.document.signed()).into_response(),
        (None, _) => refuse(404, "calendar-unknown", "no such TCB calendar"),
        (Some(_), Some(_)) => refuse(409, "calendar-ambiguous", "several authorities put a TCB calendar of this name"),
    }
}

pub async fn revocations(State(broker): State<Arc<Broker>>) -> Response {
    let documents = broker.ledger.published().documents;
    Json(documents.revocation_lists().map(|list| list.document.signed().clone()).collect::<Vec<_>>()).into_response()
}

pub async fn decision(State(broker): State<Arc<Broker>>, Path(id): Path<String>) -> Response {
    let unknown = || Refusal::new(404, "decision-unknown", "no such decision").hint("rejections are kept in memory for a while only");
    let Ok(id) = id.parse::<DecisionId>() else { return unknown().into_response() };
    if let Some(explanation) = broker.rejections.find(&id) {
        return Json(explanation).into_response();
    }
    match broker.ledger.decision(id).await {
        Ok(Some(details)) => ([(header::CONTENT_TYPE, "application/json")], details).into_response(),
        Ok(None) => unknown().into_response(),
        Err(StoreError::Damaged(what)) => {
            tracing::error!(decision = %id, what, "a stored decision is not what was recorded");
            Refusal::new(500, "decision-changed", "the store does not hold this decision as it was recorded").detail(what).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "a decision could not be read");
            refuse(503, "store-failed", "the store failed")
        }
    }
}
