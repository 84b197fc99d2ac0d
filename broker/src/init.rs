//! `portcullis-broker init`: a data folder with keys, an empty store, the log's first entry, and a configuration to begin with.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use attestation::{Anchors, ProductLine};
use protocol::documents::{Certificate, CertificateBody, CertificateError, CertifiedKey};
use protocol::dsse::{DocumentError, SignedDocument};
use protocol::encoding::to_base64;
use protocol::hpke::RecipientSecret;
use protocol::ids::{AnchorClass, Name, random_bytes};
use protocol::keyfile::{KeyFile, KeyFileError, Unlock};
use protocol::keys::{PublicKey, SigningKey};
use protocol::log::Origin;
use protocol::time::UnixTime;
use zeroize::Zeroizing;

use crate::custody::{CustodyError, Installation, TestAnchor, key_path, replace_private, write_private};
use crate::ledger::{Identity, Ledger, RecordError};
use crate::store::StoreError;
use crate::store::sqlite::SqliteStore;

/// What `init` is told.
pub struct Plan {
    /// The data folder; it must not exist, or be empty.
    pub data: PathBuf,
    /// The installation's name.
    pub name: Name,
    /// The root.
    pub root: Root,
    /// Test roots; none makes an installation of class `vendor`.
    pub test_anchors: Vec<TestAnchor>,
    /// What protects the key files.
    pub unlock: Unlock,
    /// How long certificates hold.
    pub validity: Duration,
    /// Now.
    pub at: UnixTime,
}

/// Who certifies the broker's keys.
pub enum Root {
    /// The root key is here for this moment; it is not kept.
    Here(SigningKey),
    /// The root key is elsewhere; `requests.json` is what to carry there.
    Elsewhere(PublicKey),
}

/// What `init` did.
pub struct Initialised {
    /// The installation.
    pub installation: Installation,
    /// What to carry to the root, where it is elsewhere.
    pub requests: Option<PathBuf>,
}

/// Initialises a data folder.
///
/// # Errors
/// [`InitError`]; a data folder that was begun is left for people to look at.
pub async fn init(plan: Plan) -> Result<Initialised, InitError> {
    let data = &plan.data;
    if data.read_dir().is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(InitError::NotEmpty(data.clone()));
    }
    let anchors = if plan.test_anchors.is_empty() { AnchorClass::Vendor } else { AnchorClass::Test };
    if anchors == AnchorClass::Test {
        test_anchors(&plan.test_anchors)?;
    }
    let origin: Origin = format!("{}/log", plan.name).parse().map_err(|_| InitError::Name(plan.name.clone()))?;
    folder(data)?;
    folder(&data.join("keys"))?;
    let identity = SigningKey::generate()?;
    let log = SigningKey::generate()?;
    let sealing = RecipientSecret::generate()?;
    let write = |kind: &str, public: &str, seed: &[u8; 32]| -> Result<(), InitError> {
        let file = KeyFile::protect(kind, public, seed, &plan.unlock)?;
        private_file(&key_path(data, kind), file.to_json().as_bytes())
    };
    write("identity", &identity.public().to_string(), &*identity.seed()?)?;
    write("log", &log.public().to_string(), &*log.seed()?)?;
    write("sealing", &to_base64(sealing.public().as_bytes()), sealing.seed())?;
    write("challenge", "", &Zeroizing::new(random_bytes()?))?;
    write("issuer", "", &Zeroizing::new(random_bytes()?))?;
    private_file(&data.join("admin.token"), format!("{}\n", to_base64(&random_bytes::<32>()?)).as_bytes())?;

    let root = match &plan.root {
        Root::Here(key) => *key.public(),
        Root::Elsewhere(key) => *key,
    };
    let keys =
        [CertifiedKey::Identity(*identity.public()), CertifiedKey::Log(*log.public()), CertifiedKey::Sealing(sealing.public().clone())];
    // An hour back: clocks of guests and publishers need not agree with this one.
    let not_before = UnixTime::from_seconds(plan.at.seconds().saturating_sub(3600));
    let not_after = plan.at.plus(plan.validity);
    let requests =
        keys.map(|certified| CertificateBody { installation: root, name: plan.name.clone(), anchors, certified, not_before, not_after });
    let certificates = match &plan.root {
        Root::Here(key) => requests.iter().map(|body| SignedDocument::sign(body, key)).collect::<Result<_, _>>()?,
        Root::Elsewhere(_) => Vec::new(),
    };
    let carried = certificates.is_empty().then(|| data.join("requests.json"));
    if let Some(path) = &carried {
        private_file(path, &json(&requests)?)?;
    }
    let installation = Installation { name: plan.name, root, anchors, test_anchors: plan.test_anchors, certificates };
    private_file(&Installation::path(data), &json(&installation)?)?;
    private_file(&data.join("broker.toml"), sample_config(&installation).as_bytes())?;
    let store = Arc::new(SqliteStore::create(&store_path(data)).await?);
    Ledger::begin(store, log, Identity { origin, installation: root, anchors }).await?;
    Ok(Initialised { installation, requests: carried })
}

/// Takes certificates that the root signed elsewhere into an installation.
///
/// # Errors
/// [`InitError::Certificate`] for any that the pinned root has not signed or that does not hold now.
pub fn install_certificates(data: &Path, signed: Vec<SignedDocument>, at: UnixTime) -> Result<Installation, InitError> {
    let mut installation = Installation::read(data)?;
    for certificate in &signed {
        let body = Certificate::verify(certificate, &installation.root, at)?;
        let body = body.body();
        if body.name != installation.name || body.anchors != installation.anchors {
            let words = |name: &Name, anchors: AnchorClass| format!("{name}, class {anchors}");
            let (expected, found) = (words(&installation.name, installation.anchors), words(&body.name, body.anchors));
            return Err(InitError::OtherInstallation { expected, found });
        }
    }
    installation.certificates.extend(signed.into_iter().filter(|new| !installation.certificates.contains(new)).collect::<Vec<_>>());
    let path = Installation::path(data);
    replace_private(&path, &json(&installation)?).map_err(|error| InitError::Write { path, error: error.to_string() })?;
    Ok(installation)
}

/// Where the store lies in the data folder.
#[must_use]
pub fn store_path(data: &Path) -> PathBuf {
    data.join("store.sqlite")
}

/// The roots that an installation judges evidence under.
///
/// # Errors
/// [`InitError::Anchor`].
pub fn anchors(installation: &Installation) -> Result<Anchors, InitError> {
    match installation.anchors {
        AnchorClass::Vendor => Ok(Anchors::vendor()),
        AnchorClass::Test => test_anchors(&installation.test_anchors),
    }
}

fn test_anchors(anchors: &[TestAnchor]) -> Result<Anchors, InitError> {
    let line = |anchor: &&TestAnchor| {
        let line = ProductLine::ALL.into_iter().find(|line| line.as_str() == anchor.product);
        line.map(|line| (line, anchor.certificate.clone())).ok_or_else(|| InitError::Product(anchor.product.clone()))
    };
    let (intel, amd): (Vec<_>, Vec<_>) = anchors.iter().partition(|anchor| anchor.product == TestAnchor::INTEL);
    let arks = amd.iter().map(line).collect::<Result<_, _>>()?;
    let made = match intel.as_slice() {
        [] => Anchors::test(arks),
        [root] => Anchors::test_with_intel(arks, root.certificate.clone()),
        [_, ..] => return Err(InitError::IntelTwice(intel.len())),
    };
    made.map_err(|error| InitError::Anchor(error.to_string()))
}

fn sample_config(installation: &Installation) -> String {
    format!(
        "# The configuration of broker {name}, anchor class {anchors}. `portcullis-broker check-config FILE` checks it.\n\
         \n\
         # Pinned by guests and publishers too. Its private key is not here, and belongs offline.\n\
         root = \"{root}\"\n\
         # Relative paths start at this file's folder.\n\
         data = \".\"\n\
         \n\
         [listen]\n\
         address = \"127.0.0.1:8443\"\n\
         # tls = {{ certificates = \"tls.pem\", key = \"tls.key\" }}\n\
         \n\
         # Who may publish which records.\n\
         # [[publisher]]\n\
         # key = \"ed25519:...\"\n\
         # names = [\"acme/*\"]\n\
         \n\
         # Who may put which policies, and revoke which records.\n\
         # [[authority]]\n\
         # key = \"ed25519:...\"\n\
         # names = [\"acme/*\"]\n\
         # identities = [\"inference/*\"]\n\
         \n\
         # The trust domain in which guests are given identities, by policies with an [identity] table. Its keys are made at the first\n\
         # start; the domain belongs to them for good.\n\
         # [identity]\n\
         # trust-domain = \"acme.example\"\n\
         # issuer = \"https://id.acme.example\"\n\
         \n\
         # Certificates and revocation lists of the processor vendors: carried here by hand, or fetched. Nobody is asked unless\n\
         # an upstream is named: \"vendor\", or the URL of a mirror.\n\
         # [collateral]\n\
         # folder = \"collateral\"\n\
         # [collateral.amd]\n\
         # upstream = \"vendor\"\n\
         # [collateral.intel]\n\
         # upstream = \"vendor\"\n",
        name = installation.name,
        anchors = installation.anchors,
        root = installation.root,
    )
}

fn json(value: &impl serde::Serialize) -> Result<Vec<u8>, InitError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| InitError::Json(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

fn folder(path: &Path) -> Result<(), InitError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| InitError::Write { path: path.to_owned(), error: error.to_string() })
}

fn private_file(path: &Path, bytes: &[u8]) -> Result<(), InitError> {
    write_private(path, bytes).map_err(|error| InitError::Write { path: path.to_owned(), error: error.to_string() })
}

/// Why an installation cannot be initialised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InitError {
    /// The folder holds something.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// The name makes no log origin.
    #[error("{0} cannot name a log")]
    Name(Name),
    /// No such product line.
    #[error("{0} is no product line; expected Milan, Genoa, Turin or Intel")]
    Product(String),
    /// Intel has one root.
    #[error("{0} roots are named Intel; expected one")]
    IntelTwice(usize),
    /// Not a root certificate.
    #[error("a test root is refused: {0}")]
    Anchor(String),
    /// A file cannot be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: String,
    },
    /// JSON cannot be made.
    #[error("cannot write JSON: {0}")]
    Json(String),
    /// A key file cannot be made.
    #[error(transparent)]
    KeyFile(#[from] KeyFileError),
    /// A key cannot be made.
    #[error(transparent)]
    Key(#[from] protocol::keys::BadKey),
    /// A sealing key cannot be made.
    #[error(transparent)]
    Hpke(#[from] protocol::hpke::HpkeError),
    /// No random bytes.
    #[error(transparent)]
    NoRandomness(#[from] protocol::ids::NoRandomness),
    /// A certificate cannot be signed.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A certificate is refused.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// A certificate is for another installation of the same root.
    #[error("a certificate is for {found}, not for {expected}")]
    OtherInstallation {
        /// This installation.
        expected: String,
        /// What the certificate names.
        found: String,
    },
    /// The installation cannot be read.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The store cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The first entry cannot be written.
    #[error(transparent)]
    Record(#[from] RecordError),
}
