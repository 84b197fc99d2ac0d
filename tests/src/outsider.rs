//! A small client that keeps to no rules: it sends what it likes, with whichever keys, as often as it likes.
//!
//! The guest client would refuse to do any of this, so an attacker would not use it either.

use std::path::Path;

use connection::{Client, Endpoint, Reply};
use guest_client::evidence::{AgentSocket, AttestInputs, Attested, Attester};
use protocol::challenge::Challenge;
use protocol::dsse::SignedDocument;
use protocol::hpke::RecipientSecret;
use protocol::ids::{Digest, RequestId};
use protocol::keys::{PublicKey, SigningKey};
use protocol::messages::{ChallengeAnswer, Item, Problem, Purpose, ReceivedRequest, ReleaseAnswer, ReleaseRequest};

use crate::failure::Failure;

/// A client of one broker.
pub struct Outsider {
    client: Client,
    root: PublicKey,
}

/// What a guest is known by.
pub struct Keys {
    /// What answers are sealed to.
    pub hpke: RecipientSecret,
    /// What signs requests.
    pub signing: SigningKey,
}

impl Keys {
    /// Fresh ones.
    ///
    /// # Errors
    /// [`Failure::Outsider`].
    pub fn generate() -> Result<Self, Failure> {
        let hpke = RecipientSecret::generate().map_err(Failure::outsider)?;
        Ok(Self { hpke, signing: SigningKey::generate().map_err(Failure::outsider)? })
    }
}

impl Outsider {
    /// Of the broker at `url`, whose installation has this root.
    ///
    /// # Errors
    /// [`Failure::Outsider`].
    pub fn new(url: &str, root: PublicKey) -> Result<Self, Failure> {
        Ok(Self { client: Client::new(&Endpoint::new(url)).map_err(Failure::outsider)?, root })
    }

    /// A fresh challenge.
    ///
    /// # Errors
    /// [`Failure::Outsider`].
    pub fn challenge(&self) -> Result<Challenge, Failure> {
        let reply = self.client.post("/v1/challenge", Vec::new(), None).map_err(Failure::outsider)?;
        let answer: ChallengeAnswer = serde_json::from_slice(&reply.body).map_err(Failure::outsider)?;
        Challenge::parse(&answer.challenge).map_err(Failure::outsider)
    }

    /// Evidence over these keys and this challenge, from the agent at `socket`.
    ///
    /// # Errors
    /// [`Failure::Outsider`].
    pub fn attest(&self, socket: &Path, challenge: &Challenge, keys: &Keys, configuration: Digest) -> Result<Attested, Failure> {
        let inputs = AttestInputs {
            nonce: *challenge.nonce(),
            installation: self.root,
            hpke_key: keys.hpke.public().clone(),
            signing_key: *keys.signing.public(),
            configuration,
        };
        AgentSocket::at(socket).attest(&inputs).map_err(Failure::outsider)
    }

    /// A request for `item` with this evidence, whatever it proves, in the name of these keys.
    ///
    /// # Errors
    /// [`Failure::Outsider`].
    pub fn request(&self, attested: &Attested, challenge: &Challenge, keys: &Keys, item: Item) -> Result<ReleaseRequest, Failure> {
        Ok(ReleaseRequest {
            request: RequestId::random().map_err(Failure::outsider)?,
            installation: self.root,
            challenge: challenge.as_bytes().to_vec(),
            platform: attested.transcript.platform,
            evidence: attested.evidence.clone(),
            hpke_key: keys.hpke.public().clone(),
            signing_key: *keys.signing.public(),
            role: attested.transcript.role.clone(),
            configuration: attested.transcript.configuration,
            purpose: Purpose::Release,
            items: vec![item],
            identity: None,
        })
    }

    /// A request that passed by, made one's own: its evidence under other keys, with another challenge.
    ///
    /// # Errors
    /// [`Failure::Outsider`].
    pub fn adopt(recorded: &[u8], challenge: &Challenge, keys: &Keys) -> Result<ReleaseRequest, Failure> {
        let mut request = ReceivedRequest::read(recorded).map_err(Failure::outsider)?.body;
        request.challenge = challenge.as_bytes().to_vec();
        request.hpke_key = keys.hpke.public().clone();
        request.signing_key = *keys.signing.public();
        Ok(request)
    }

    /// Signs a request with these keys and sends it.
    ///
    /// # Errors
    /// [`Failure::Outsider`].
    pub fn send(&self, request: &ReleaseRequest, keys: &Keys) -> Result<Answer, Failure> {
        let signed = SignedDocument::sign(request, &keys.signing).map_err(Failure::outsider)?;
        self.send_bytes(signed.to_json())
    }

    /// Sends these bytes as a request.
    ///
    /// # Errors
    /// [`Failure::Outsider`].
    pub fn send_bytes(&self, bytes: Vec<u8>) -> Result<Answer, Failure> {
        let reply = self.client.post("/v1/release", bytes, None).map_err(Failure::outsider)?;
        Answer::of(&reply)
    }
}

/// What a broker answered.
pub enum Answer {
    /// An outcome, sealed to the key that the request named.
    Sealed(Box<ReleaseAnswer>),
    /// A refusal in the clear.
    Problem(Box<Problem>),
}

impl Answer {
    fn of(reply: &Reply) -> Result<Self, Failure> {
        if reply.is_success() {
            return Ok(Self::Sealed(serde_json::from_slice(&reply.body).map_err(Failure::outsider)?));
        }
        Ok(Self::Problem(serde_json::from_slice(&reply.body).map_err(Failure::outsider)?))
    }

    /// The refusal.
    ///
    /// # Errors
    /// [`Failure::Unexpected`] where it is none.
    pub fn refusal(self) -> Result<Problem, Failure> {
        match self {
            Self::Problem(problem) => Ok(*problem),
            Self::Sealed(_) => Err(Failure::Unexpected {
                what: "the broker's answer to an outsider".to_owned(),
                expected: "a refusal".to_owned(),
                found: "a sealed outcome".to_owned(),
            }),
        }
    }
}
