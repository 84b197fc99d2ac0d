//! The methods of the Workload API, each over what a [`View`] knows.
//!
//! Every request is checked the same way before anything else: it carries the metadata `workload.spiffe.io: true`, which a request that
//! somebody was tricked into sending does not, and its connection is the workload's.

use std::pin::Pin;
use std::time::Duration;

use protocol::messages::identity::is_audience;
use protocol::spiffe::SpiffeId;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::answers;
use super::generated::spiffe_workload_api_server::SpiffeWorkloadApi;
use super::generated::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest, ValidateJwtsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidRequest, X509svidResponse,
};
use super::serve::Caller;
use crate::clock;
use crate::identity::view::{Identity, Standing, View};
use std::sync::Arc;

/// The metadata that every request carries.
const HEADER: &str = "workload.spiffe.io";
/// How long a workload that starts together with its sidecar waits for the first answer, rather than be told to come back.
const FIRST_ANSWER: Duration = Duration::from_secs(5);

/// What a stream gives.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The Workload API of one socket.
pub struct WorkloadApi {
    view: View,
}

impl WorkloadApi {
    /// Over one identity.
    #[must_use]
    pub const fn new(view: View) -> Self {
        Self { view }
    }

    /// The identity, once there is one; it is waited for a little while.
    async fn identity(&self) -> Result<Arc<Identity>, Status> {
        let mut standing = self.view.watch();
        let known = standing.wait_for(|standing| !matches!(standing, Standing::Unknown));
        let standing = match tokio::time::timeout(FIRST_ANSWER, known).await {
            Ok(Ok(standing)) => standing.clone(),
            Ok(Err(_)) => return Err(Status::unavailable("the sidecar is about to end")),
            Err(_) => Standing::Unknown,
        };
        match standing {
            Standing::Identified(identity) => Ok(identity),
            other => Err(answers::without_identity(&other)),
        }
    }

    /// What `answer` makes of the identity, now and whenever it makes something else of it. It ends with the identity.
    async fn stream<T: PartialEq + Send + Clone + 'static>(&self, answer: fn(&Identity) -> T) -> Result<Response<Answers<T>>, Status> {
        let mut standing = self.view.watch();
        standing.mark_unchanged();
        let mut told = answer(&*self.identity().await?);
        let (sender, receiver) = mpsc::channel(1);
        // There is room for one.
        let _ = sender.try_send(Ok(told.clone()));
        tokio::spawn(async move {
            loop {
                let changed = tokio::select! {
                    changed = standing.changed() => changed,
                    () = sender.closed() => return,
                };
                let now = standing.borrow_and_update().clone();
                let next = match (changed, now) {
                    (Err(_), _) => Err(Status::unavailable("the sidecar is about to end")),
                    (Ok(()), Standing::Identified(identity)) => Ok(answer(&identity)),
                    (Ok(()), other) => Err(answers::without_identity(&other)),
                };
                match next {
                    Ok(next) if next == told => {}
                    Ok(next) => {
                        told = next.clone();
                        if sender.send(Ok(next)).await.is_err() {
                            return;
                        }
                    }
                    Err(status) => {
                        // Where the workload has gone, nobody needs to know.
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

/// The checks that come before everything else.
fn admit<T>(request: Request<T>) -> Result<T, Status> {
    match request.metadata().get(HEADER).map(tonic::metadata::MetadataValue::as_bytes) {
        Some(b"true") => {}
        _ => return Err(Status::invalid_argument(format!("every request carries the metadata {HEADER}: true"))),
    }
    match request.extensions().get::<Caller>() {
        Some(Caller(Ok(()))) => Ok(request.into_inner()),
        // The reason is in the log; a stranger learns nothing.
        _ => Err(Status::permission_denied("no identity is issued to this caller")),
    }
}

/// The audience that a token is asked for. One: a token for two could be replayed from one to the other.
fn audience(asked: Vec<String>) -> Result<String, Status> {
    let mut asked = asked.into_iter();
    let (Some(audience), None) = (asked.next(), asked.next()) else {
        return Err(Status::invalid_argument("a token is for one audience, no more and no less"));
    };
    if is_audience(&audience) {
        Ok(audience)
    } else {
        Err(Status::invalid_argument("an audience is 1 to 256 printable ASCII characters without white space"))
    }
}

#[tonic::async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_x509svid(&self, request: Request<X509svidRequest>) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let X509svidRequest {} = admit(request)?;
        self.stream(answers::x509_svids).await
    }

    async fn fetch_x509_bundles(&self, request: Request<X509BundlesRequest>) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let X509BundlesRequest {} = admit(request)?;
        self.stream(answers::x509_bundles).await
    }

    async fn fetch_jwtsvid(&self, request: Request<JwtsvidRequest>) -> Result<Response<JwtsvidResponse>, Status> {
        let asked = admit(request)?;
        let audience = audience(asked.audience)?;
        let identity = self.identity().await?;
        if !asked.spiffe_id.is_empty() {
            let id: SpiffeId = asked.spiffe_id.parse().map_err(|_| Status::invalid_argument("spiffe_id is no SPIFFE ID"))?;
            if id != identity.id {
                return Err(Status::permission_denied("this caller has another identity"));
            }
        }
        let token = self.view.token(&audience).await.map_err(|error| answers::without_token(&error))?;
        Ok(Response::new(JwtsvidResponse { svids: vec![answers::jwt_svid(&identity, &token)] }))
    }

    async fn fetch_jwt_bundles(&self, request: Request<JwtBundlesRequest>) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        let JwtBundlesRequest {} = admit(request)?;
        self.stream(answers::jwt_bundles).await
    }

    async fn validate_jwtsvid(&self, request: Request<ValidateJwtsvidRequest>) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        let ValidateJwtsvidRequest { audience, svid } = admit(request)?;
        let identity = self.identity().await?;
        let verified = identity.bundles.verify_jwt_svid(&svid, &audience, clock::now());
        let verified = verified.map_err(|error| Status::invalid_argument(format!("the JWT-SVID is refused: {error}")))?;
        let claims =
            answers::claims(verified.token().claims()).ok_or_else(|| Status::invalid_argument("its claims are nested too deep"))?;
        Ok(Response::new(ValidateJwtsvidResponse { spiffe_id: verified.id().to_string(), claims: Some(claims) }))
    }
}
