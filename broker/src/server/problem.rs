//! How a no looks on the wire: RFC 9457, a stable code, a hint, and when to come back.

use std::time::Duration;

use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use protocol::ids::DecisionId;
use protocol::messages::Problem;

/// When to come back from an outage, where nothing better is known.
const OUTAGE: Duration = Duration::from_secs(5);

/// A refusal on its way out.
pub struct Refusal {
    problem: Box<Problem>,
    retry_after: Option<Duration>,
}

impl Refusal {
    /// With a status, a code and a title.
    pub fn new(status: u16, code: &str, title: &str) -> Self {
        Self { problem: Box::new(Problem::new(status, code, title)), retry_after: None }
    }

    /// With what happened.
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.problem.detail = Some(detail.into());
        self
    }

    /// With what may help.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.problem.hint = Some(hint.into());
        self
    }

    /// With what the operator can look it up by.
    pub fn decision(mut self, decision: DecisionId) -> Self {
        self.problem.decision = Some(decision);
        self
    }

    /// What the operator can look it up by.
    pub fn number(&self) -> Option<&DecisionId> {
        self.problem.decision.as_ref()
    }

    /// With when to come back: whole seconds, at least one.
    pub const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, Problem::MEDIA_TYPE)], body).into_response();
        let again = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(wait) = self.retry_after.or(again.then_some(OUTAGE)) {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        response
    }
}

/// A refusal with no more than a code.
pub fn refuse(status: u16, code: &str, title: &str) -> Response {
    Refusal::new(status, code, title).into_response()
}

/// A body that did not arrive: too large, or cut off.
pub fn no_body(rejection: &BytesRejection) -> Refusal {
    if rejection.status() == StatusCode::PAYLOAD_TOO_LARGE {
        Refusal::new(413, "body-too-large", "the body is larger than such a request can be")
    } else {
        Refusal::new(400, "body-cut-off", "the body did not arrive")
    }
}
