//! `portcullis token`: what a relying party does with a token, on the command line: verify it, strictly, under keys that it got elsewhere.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};
use connection::{Client, Endpoint, HttpError};
use protocol::ids::AnchorClass;
use protocol::limits;
use protocol::spiffe::TrustDomain;
use protocol::time::UnixTime;
use protocol::tokens::result::{self, CPU, Ear, EarError, Tier, TrustClaim};
use protocol::tokens::svid::{SvidError, VerifiedSvid, verify_svid_by};
use protocol::tokens::verify::unverified_type;
use protocol::tokens::{Expected, Jwk, KeySet, KeySetError};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::clock;
use crate::console::{Console, Tone};
use crate::failure::{Exit, Failure, Outcome};
use crate::files::{self, FileError};
use crate::records::Form;

/// The claim in which a broker says under which roots it judged a guest's evidence.
const ANCHORS: &str = "portcullis.anchors";

/// Verify tokens that a broker signed
#[derive(Subcommand)]
pub(crate) enum TokenCommand {
    Verify(Box<Verify>),
}

impl TokenCommand {
    pub(crate) fn run(self, console: &mut Console<'_>) -> Outcome {
        match self {
            Self::Verify(verify) => verify.run(console),
        }
    }
}

/// Verify a JWT-SVID or an attestation result
///
/// FILE holds the token; `-` is standard input, which keeps it out of the process list. The keys are a set (JWKS) or a SPIFFE bundle
/// that you have from whom you trust: a file, or the URL at which the issuer publishes it. Nothing in the token is believed before its
/// signature holds: not which key, not which algorithm, not who issued it.
#[derive(Args)]
#[command(after_long_help = "\
Exit codes:
  0  valid; an attestation result is affirming in every part
  1  not a token that holds, for this audience, at this time, under these keys
  2  wrong use: bad arguments, keys that cannot be read
  3  a valid attestation result that does not affirm

Examples:
  A JWT-SVID under the bundle of its trust domain:
    portcullis token verify svid.jwt --keys bundle.json --trust-domain acme.example \\
        --audience tools.acme.example
  A token for a cloud, under the keys that its issuer publishes:
    portcullis token verify - --keys https://id.acme.example/identity/jwks \\
        --issuer https://id.acme.example --audience sts.amazonaws.com
  An attestation result, with a part that must be there:
    portcullis token verify result.jwt --keys results.json --audience verifier.acme.example \\
        --expect result --require cpu0")]
pub(crate) struct Verify {
    /// The token; `-` is standard input
    file: PathBuf,

    /// The keys that may have signed it: a JWKS or a SPIFFE bundle, a file or a URL
    #[arg(long, value_name = "FILE|URL")]
    keys: String,

    /// Who you are: must be among the token's audiences, to the letter
    #[arg(long, value_name = "TEXT")]
    audience: String,

    /// What it must be; by default what its own type says
    #[arg(long, value_enum)]
    expect: Option<Class>,

    /// Who must have issued it, to the letter
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,

    /// Whose keys these are: the subject must be of this trust domain
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,

    /// Under which roots the guest's evidence must have been judged: a broker of soft platforms says so in its tokens
    #[arg(long, value_enum, default_value_t = Roots::Vendor)]
    anchors: Roots,

    /// A part that an attestation result must have; cpu0 where none is named
    #[arg(long = "require", value_name = "PART")]
    required: Vec<String>,

    /// Verify as of this time; now by default
    #[arg(long, value_name = "RFC3339", value_parser = UnixTime::parse)]
    at: Option<UnixTime>,

    /// Certificates of the authorities that may vouch for the keys' host (PEM) in place of the web's
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,

    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// The classes of tokens that a broker signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Class {
    /// A JWT-SVID
    Svid,
    /// An attestation result (EAR)
    Result,
}

/// The roots that a broker judges evidence under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Roots {
    /// AMD's and Intel's
    Vendor,
    /// Those of soft platforms, for tests
    Test,
}

impl From<Roots> for AnchorClass {
    fn from(roots: Roots) -> Self {
        match roots {
            Roots::Vendor => Self::Vendor,
            Roots::Test => Self::Test,
        }
    }
}

impl Class {
    /// By the token's own word, which the verifier then holds it to.
    fn of(token: &str) -> Self {
        match unverified_type(token) {
            Ok(Some(typ)) if typ == result::TYPE => Self::Result,
            _ => Self::Svid,
        }
    }
}

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TokenCommandError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The keys cannot be fetched.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The keys' host said no.
    #[error("{url} answered with status {status}")]
    Status {
        /// The URL.
        url: String,
        /// The status.
        status: u16,
    },
    /// Not a URL with a path.
    #[error("{url} names no document: expected https://HOST/PATH")]
    NoPath {
        /// The URL.
        url: String,
    },
    /// Not a set of keys.
    #[error("{from}: {error}")]
    Keys {
        /// From where.
        from: String,
        /// Why.
        error: KeySetError,
    },
}

impl From<TokenCommandError> for Failure {
    fn from(error: TokenCommandError) -> Self {
        match error {
            TokenCommandError::File(error) => error.into(),
            TokenCommandError::Http(_) => {
                Self::usage(error).hint("keys are fetched from https://HOST/PATH; plain HTTP is spoken to this machine only")
            }
            TokenCommandError::Status { .. } | TokenCommandError::NoPath { .. } => Self::usage(error),
            TokenCommandError::Keys { .. } => {
                Self::usage(error).hint("a JWKS is an object with the list \"keys\"; a SPIFFE bundle is one too")
            }
        }
    }
}

/// Why a token is refused.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Svid(#[from] SvidError),
    #[error(transparent)]
    Result(#[from] EarError),
    #[error("the result is about {found}, not about one of trust domain {expected}")]
    TrustDomain { expected: TrustDomain, found: String },
    #[error("given under {found} roots, not under {expected} roots: --anchors says which count")]
    Anchors { expected: &'static str, found: &'static str },
    #[error("the result is bound to no Ed25519 key: anybody could present it")]
    Unbound,
}

impl Refusal {
    const fn code(&self) -> &'static str {
        match self {
            Self::Svid(error) => error.code(),
            Self::Result(error) => error.code(),
            Self::TrustDomain { .. } => "svid-trust-domain",
            Self::Anchors { .. } => "token-anchors",
            Self::Unbound => "result-unbound",
        }
    }
}

impl Verify {
    fn run(self, console: &mut Console<'_>) -> Outcome {
        let keys = self.keys()?;
        let token = self.token()?;
        let form = Form::of(self.json);
        let at = self.at.unwrap_or_else(clock::now);
        match self.verify(&token, &keys, at) {
            Ok(valid) => {
                match form {
                    Form::Json => console.json(&valid.to_json(at)),
                    Form::Text => valid.print(console),
                }
                self.hint(&valid, console);
                Ok(valid.exit())
            }
            Err(refusal) => {
                if let Form::Json = form {
                    console.json(&json!({ "valid": false, "at": at, "reason": refusal.code(), "detail": refusal.to_string() }));
                }
                console.error(&refusal.to_string());
                console.note(format!("reason: {}", refusal.code()));
                Ok(Exit::Failed)
            }
        }
    }

    /// The token without the line's end that files have.
    fn token(&self) -> Result<Zeroizing<String>, TokenCommandError> {
        // One byte more than a token may have is read, and found too much by name.
        let text = files::read_text(&self.file, "a token", limits::TOKEN.saturating_add(3))?;
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }

    fn keys(&self) -> Result<KeySet, TokenCommandError> {
        let from = || self.keys.clone();
        let bytes = if self.keys.starts_with("https://") || self.keys.starts_with("http://") {
            self.fetch(&self.keys)?
        } else {
            files::read(Path::new(&self.keys), "a set of keys", limits::SPIFFE_BUNDLE)?.to_vec()
        };
        KeySet::parse(&bytes).map_err(|error| TokenCommandError::Keys { from: from(), error })
    }

    fn fetch(&self, url: &str) -> Result<Vec<u8>, TokenCommandError> {
        let no_path = || TokenCommandError::NoPath { url: url.to_owned() };
        let host = url.find("://").map(|at| at.saturating_add(3)).ok_or_else(no_path)?;
        let path = url.get(host..).and_then(|rest| rest.find('/')).map(|at| at.saturating_add(host)).ok_or_else(no_path)?;
        let (base, path) = url.split_at_checked(path).ok_or_else(no_path)?;
        let mut endpoint = Endpoint::new(base);
        endpoint.ca_file.clone_from(&self.ca);
        let reply = Client::new(&endpoint)?.get(path, None)?;
        if reply.is_success() { Ok(reply.body) } else { Err(TokenCommandError::Status { url: url.to_owned(), status: reply.status }) }
    }

    fn verify(&self, token: &str, keys: &KeySet, at: UnixTime) -> Result<Valid, Refusal> {
        let types = [result::TYPE];
        let expected = Expected { types: &types, audience: &self.audience, keys: keys.keys(), issuer: self.issuer.as_deref(), at };
        match self.expect.unwrap_or_else(|| Class::of(token)) {
            Class::Svid => {
                let svid = verify_svid_by(token, &expected, self.trust_domain.as_ref())?;
                // Issuers that attest nothing say nothing of roots.
                if let Some(found) = svid.token().claims().get(ANCHORS) {
                    self.check_anchors(serde_json::from_value(found.clone()).ok())?;
                }
                Ok(Valid::Svid(Box::new(svid)))
            }
            Class::Result => {
                let ear = Ear::verify(token, &expected)?;
                self.check_subject(&ear)?;
                self.check_anchors(ear.anchors())?;
                if ear.key().and_then(Jwk::as_ed25519).is_none() {
                    return Err(Refusal::Unbound);
                }
                let named: Vec<&str> = self.required.iter().map(String::as_str).collect();
                let tier = ear.worst(if named.is_empty() { &[CPU] } else { &named });
                Ok(Valid::Result { ear: Box::new(ear), tier })
            }
        }
    }

    fn check_anchors(&self, found: Option<AnchorClass>) -> Result<(), Refusal> {
        let expected = AnchorClass::from(self.anchors);
        if found == Some(expected) {
            return Ok(());
        }
        Err(Refusal::Anchors { expected: expected.as_str(), found: found.map_or("unknown", AnchorClass::as_str) })
    }

    /// A result is about somebody of the trust domain that was named.
    fn check_subject(&self, ear: &Ear) -> Result<(), Refusal> {
        let Some(expected) = &self.trust_domain else { return Ok(()) };
        let found = ear.subject().unwrap_or("nobody");
        match found.parse::<protocol::spiffe::SpiffeId>() {
            Ok(id) if id.trust_domain() == expected => Ok(()),
            _ => Err(Refusal::TrustDomain { expected: expected.clone(), found: found.to_owned() }),
        }
    }

    /// What a relying party should know that was not asked for.
    fn hint(&self, valid: &Valid, console: &mut Console<'_>) {
        match valid {
            Valid::Svid(_) if self.trust_domain.is_none() && self.issuer.is_none() => {
                console.hint("with --trust-domain or --issuer it is also checked that these keys may speak for this subject");
            }
            Valid::Result { .. } => {
                console.hint("whoever presents this result has to prove that it holds the bound key; the token alone proves nothing about its bearer");
            }
            _ => {}
        }
    }
}

/// A token that holds.
enum Valid {
    Svid(Box<VerifiedSvid>),
    Result { ear: Box<Ear>, tier: Tier },
}

impl Valid {
    const fn exit(&self) -> Exit {
        match self {
            Self::Svid(_) | Self::Result { tier: Tier::Affirming, .. } => Exit::Done,
            Self::Result { .. } => Exit::Denied,
        }
    }

    fn to_json(&self, at: UnixTime) -> Value {
        match self {
            Self::Svid(svid) => json!({
                "valid": true, "at": at, "class": "jwt-svid", "subject": svid.id(), "trust_domain": svid.id().trust_domain(),
                "expires": svid.token().expires(), "kid": svid.token().header().kid, "alg": svid.token().header().algorithm.as_str(),
                "claims": svid.token().claims(),
            }),
            Self::Result { ear, tier } => json!({
                "valid": true, "at": at, "class": "attestation-result", "status": tier, "subject": ear.subject(), "issuer": ear.issuer(),
                "issued": ear.issued(), "expires": ear.expires(), "number": ear.number(), "nonce": ear.nonce(), "verifier": ear.verifier(),
                "anchors": ear.anchors(), "key": ear.key(), "parts": ear.submods(),
            }),
        }
    }

    fn print(&self, console: &mut Console<'_>) {
        match self {
            Self::Svid(svid) => print_svid(svid, console),
            Self::Result { ear, tier } => print_result(ear, *tier, console),
        }
    }
}

fn print_svid(svid: &VerifiedSvid, console: &mut Console<'_>) {
    let claims = svid.token().claims();
    let text = |name: &str| claims.get(name).and_then(Value::as_str).map(shown);
    let time = |name: &str| claims.get(name).and_then(Value::as_u64).map(|seconds| UnixTime::from_seconds(seconds).to_string());
    let header = svid.token().header();
    let anchors = claims.get(ANCHORS).and_then(|value| serde_json::from_value(value.clone()).ok());
    let mut fields = vec![("valid", console.paint(Tone::Good, "JWT-SVID")), ("subject", svid.id().to_string())];
    fields.extend(text("iss").map(|issuer| ("issuer", issuer)));
    fields.push(("audience", audiences(claims)));
    fields.extend(time("iat").map(|issued| ("issued", issued)));
    fields.push(("expires", svid.token().expires().to_string()));
    fields.extend(text("jti").map(|number| ("number", number)));
    fields.push(("key", format!("{} by {}", shown(&header.kid), header.algorithm)));
    fields.extend(class(anchors, console));
    console.fields("", fields);
}

fn print_result(ear: &Ear, tier: Tier, console: &mut Console<'_>) {
    let mut fields = vec![("valid", console.paint(Tone::Good, "attestation result")), ("status", painted(tier, console))];
    fields.extend(ear.subject().map(|subject| ("subject", shown(subject))));
    fields.extend(ear.issuer().map(|issuer| ("issuer", shown(issuer))));
    fields.extend([("issued", ear.issued().to_string()), ("expires", ear.expires().to_string())]);
    fields.extend(ear.number().map(|number| ("number", shown(number))));
    fields.extend(ear.nonce().map(|nonce| ("nonce", shown(nonce))));
    fields.push(("verifier", format!("{}, {}", shown(&ear.verifier().developer), shown(&ear.verifier().build))));
    fields.extend(ear.key().map(|key| ("bound to", format!("the key with thumbprint {}", key.thumbprint()))));
    fields.extend(class(ear.anchors(), console));
    console.fields("", fields);
    for (part, appraisal) in ear.submods() {
        let policy = appraisal.policy().map(|policy| format!(" by policy {}", shown(policy))).unwrap_or_default();
        let status = painted(appraisal.status(), console);
        console.line("");
        console.line(format!("{}: {status}{policy}", console.paint(Tone::Strong, &shown(part))));
        console.fields("  ", appraisal.vector().claims().map(|(name, claim)| (name, in_words(claim))));
    }
}

fn painted(tier: Tier, console: &Console<'_>) -> String {
    let tone = match tier {
        Tier::Affirming => Tone::Good,
        Tier::None | Tier::Warning => Tone::Warning,
        Tier::Contraindicated => Tone::Bad,
    };
    console.paint(tone, tier.as_str())
}

fn in_words(claim: TrustClaim) -> String {
    format!("{} ({})", claim.value(), claim.tier().map_or("no claim", Tier::as_str))
}

fn audiences(claims: &Value) -> String {
    match claims.get("aud") {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).map(shown).collect::<Vec<_>>().join(", "),
        Some(Value::String(one)) => shown(one),
        _ => String::new(),
    }
}

/// A test installation says so, loudly.
fn class(anchors: Option<AnchorClass>, console: &Console<'_>) -> Option<(&'static str, String)> {
    anchors.map(|anchors| match anchors {
        AnchorClass::Vendor => ("anchors", "vendor".to_owned()),
        AnchorClass::Test => ("anchors", console.paint(Tone::Warning, "TEST ROOTS")),
    })
}

/// Text of a token as it can stand on a terminal: signed does not mean harmless.
fn shown(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}
