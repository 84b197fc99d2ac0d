//! `broker.toml`: what an operator decides. Strict: an unknown key is an error with its line.
//!
//! Nothing here switches a check off. What weakens anything is named for what it does.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::ids::Name;
use protocol::keys::PublicKey;
use protocol::limits;
use protocol::spiffe::{SpiffeId, TrustDomain};
use serde::Deserialize;

use crate::collateral::{Named, Vendors};
use crate::feed::{self, upstream::Update};
use crate::identity::Terms;

/// The whole file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The pinned installation root. Trusted: certifies this broker's keys. Its thief can stand up another broker.
    pub root: PublicKey,
    /// Where `init` put keys and store. Its thief gains ciphertext, and the keys that are not protected.
    pub data: PathBuf,
    /// Where to listen, and how.
    pub listen: Listen,
    /// What unlocks protected key files.
    #[serde(default)]
    pub unlock: Unlock,
    /// Who may publish which records. Trusted: to say what a name stands for.
    #[serde(default, rename = "publisher")]
    pub publishers: Vec<Signer>,
    /// Who may put which policies, and revoke which records. Trusted: to decide who gets them. Whoever takes an authority out
    /// takes its policies and its revocations out of force: put them under another one first.
    #[serde(default, rename = "authority")]
    pub authorities: Vec<Signer>,
    /// The vendors' collateral. Not trusted: each piece is verified.
    #[serde(default)]
    pub collateral: Collateral,
    /// In which trust domain guests are given identities. Absent: they are given none.
    pub identity: Option<Identity>,
    /// How much a caller may ask.
    #[serde(default)]
    pub limits: Limits,
    /// How to log.
    #[serde(default)]
    pub log: Logging,
}

/// Where to listen.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port.
    pub address: SocketAddr,
    /// Certificate chain and key for TLS, PEM.
    pub tls: Option<Tls>,
    /// Plain HTTP beyond loopback, for a proxy that ends TLS on a network that you trust with request rates, and nothing more:
    /// requests and answers are signed and sealed besides. The administrative token would cross in the clear.
    #[serde(default)]
    pub plain_http: PlainHttp,
}

/// Whether plain HTTP is spoken beyond loopback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PlainHttp {
    /// On loopback addresses only.
    #[default]
    LoopbackOnly,
    /// On the given address, whatever it is.
    BehindAProxy,
}

/// TLS material.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain, PEM, leaf first.
    pub certificates: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
}

/// What unlocks protected key files: nothing, a passphrase in a file, or a key file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unlock {
    /// A file that holds the passphrase on its first line: a credential of systemd, a mounted secret.
    pub passphrase_file: Option<PathBuf>,
    /// A file whose bytes are the key.
    pub key_file: Option<PathBuf>,
}

/// A key, and the names that it may speak for.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signer {
    /// The public key.
    pub key: PublicKey,
    /// Patterns: `*`, `acme/*` or `acme/llama`.
    pub names: Vec<String>,
    /// Patterns of the paths of SPIFFE IDs that the policies of an authority may assign, in the same form; none: no identity at all.
    /// Trusted: to say who a guest is. Nothing of a publisher's.
    #[serde(default)]
    pub identities: Vec<String>,
}

impl Signer {
    /// Whether this key speaks for `name`.
    #[must_use]
    pub fn covers(&self, name: &Name) -> bool {
        self.names.iter().any(|pattern| name.is_covered_by(pattern))
    }
}

/// The trust domain in which this broker gives identities to guests. Its keys are its own: none of them serves anything else.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Identity {
    /// The trust domain of every SPIFFE ID that this broker vouches for. It belongs to the issuer's keys for good.
    pub trust_domain: TrustDomain,
    /// The issuer that clouds know by OIDC discovery: an https URL, exactly as it stands in their configuration. Its files may lie on any
    /// web server (`portcullis identity export`). Absent: no token is given for federation.
    pub issuer: Option<String>,
    /// How long a key signs.
    #[serde(default = "key_life", deserialize_with = "span")]
    pub key_life: Duration,
    /// How long before it signs a key is published: longer than clouds and guests keep a copy of the published keys. Absent: a quarter
    /// of the key's life, 7 days at most.
    #[serde(default, deserialize_with = "some_span")]
    pub overlap: Option<Duration>,
    /// Foreign trust domains whose workloads guests may verify.
    #[serde(default)]
    pub federated: Vec<Federated>,
}

/// A foreign trust domain.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Federated {
    /// Its name.
    pub trust_domain: TrustDomain,
    /// A file with its SPIFFE bundle, read again when it changes. Trusted: whoever writes it says who that domain's workloads are, to
    /// every guest with an identity; of our own trust domain it can say nothing.
    pub bundle: PathBuf,
}

/// `identity.key-life` where it is not stated.
const fn key_life() -> Duration {
    Duration::from_secs(30 * DAY)
}

const DAY: u64 = 24 * 3600;

/// Bounds of `identity.key-life`. A certificate may live for a day, so a key signs for one at least.
const KEY_LIFE: RangeInclusive<Duration> = Duration::from_secs(DAY)..=Duration::from_secs(366 * DAY);

/// The least `identity.overlap`: a step of rotation comes every hour.
const OVERLAP: Duration = Duration::from_secs(2 * 3600);

/// The longest `identity.overlap` by default.
const OVERLAP_DEFAULT: Duration = Duration::from_secs(7 * DAY);

impl Identity {
    /// When keys serve.
    #[must_use]
    pub fn terms(&self) -> Terms {
        Terms { life: self.key_life, overlap: self.overlap.unwrap_or_else(|| OVERLAP_DEFAULT.min(self.key_life / 4)) }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let issuer = self.issuer.as_deref();
        let hint = "say issuer = \"https://HOST[/PATH]\", in lower case, without query, fragment or a slash at its end";
        rule(issuer.is_some_and(|issuer| !is_issuer(issuer)), "identity.issuer is no issuer URL", hint)?;
        rule(!KEY_LIFE.contains(&self.key_life), "identity.key-life outside 1 to 366 days", "30 days suit most")?;
        let overlap = self.terms().overlap;
        let hint = "7 days suit keys that live for 30";
        rule(overlap < OVERLAP || overlap > self.key_life / 2, "identity.overlap outside 2 hours to half of the key's life", hint)?;
        rule(self.federated.len() > limits::FEDERATED_BUNDLES, "more than 16 federated trust domains", "each goes to every guest")?;
        let mut seen = HashSet::from([&self.trust_domain]);
        let hint = "each [[identity.federated]] names another domain than our own, once: bundles are never merged";
        rule(!self.federated.iter().all(|federated| seen.insert(&federated.trust_domain)), "a trust domain twice under [identity]", hint)
    }
}

/// Whether this can be an OIDC issuer (OpenID Connect Core, "iss"; the clouds compare it byte by byte).
fn is_issuer(text: &str) -> bool {
    let Some(uri) = text.parse::<axum::http::Uri>().ok().filter(|uri| uri.scheme_str() == Some("https")) else { return false };
    let host = uri.authority().is_some_and(|authority| {
        let text = authority.as_str();
        !text.contains('@') && !text.bytes().any(|byte| byte.is_ascii_uppercase())
    });
    host && text.starts_with("https://") && text.len() <= 255 && !text.contains(['?', '#']) && !text.ends_with('/')
}

/// The vendors' collateral: where it lies, and whom to ask for it. Nobody is asked unless a vendor's table names an upstream.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Collateral {
    /// A folder of collateral, in any form that `portcullis collateral show` reads; read again when it changes.
    pub folder: Option<PathBuf>,
    /// How long before a piece expires the log warns of it, once a day.
    #[serde(deserialize_with = "span")]
    pub warn_before: Duration,
    /// That AMD's platforms are served here, and whom to ask.
    pub amd: Option<VendorCollateral>,
    /// That Intel's platforms are served here, and whom to ask.
    pub intel: Option<VendorCollateral>,
    /// How many fetches guests may cause.
    pub budget: FetchBudget,
}

impl Default for Collateral {
    fn default() -> Self {
        let warn_before = Duration::from_secs(7 * 24 * 3600);
        Self { folder: None, warn_before, amd: None, intel: None, budget: FetchBudget::default() }
    }
}

/// A vendor's collateral. Its table alone says that platforms of the vendor's are served here: where none of any vendor that has one could
/// be verified, the broker is not ready.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VendorCollateral {
    /// `vendor`, or the URL of a caching service or a mirror. Absent: nobody is asked, and collateral is carried here.
    /// Not trusted: who controls it can withhold what is new, and learns which machines ask.
    pub upstream: Option<String>,
    /// Authorities that may vouch for the upstream's host, PEM. Absent: the web's.
    pub ca_file: Option<PathBuf>,
    /// Intel alone: `early` or `standard`.
    pub update: Option<Update>,
    /// Intel alone: the URL of the revocation list of Intel's root, or `vendor` for where the root says that it is. Absent: at the
    /// upstream, where caching services have it; for `vendor`, where the root says.
    pub root_crl_url: Option<String>,
}

/// How many fetches guests may cause in an hour. What an unverified guest says of its platform is its own choice.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FetchBudget {
    /// One client network: an IPv4 address, or the 64-bit prefix of an IPv6 address.
    pub per_client: u32,
    /// All clients together. Those of one 48-bit prefix of IPv6 have a quarter of it, and no less than one client.
    pub in_all: u32,
}

impl Default for FetchBudget {
    fn default() -> Self {
        Self { per_client: feed::PER_CLIENT, in_all: feed::IN_ALL }
    }
}

impl Collateral {
    /// What the feed is to do.
    #[must_use]
    pub fn feed(&self) -> feed::Settings {
        let upstream = |of: &Option<VendorCollateral>, vendor: &str| {
            let of = of.as_ref()?;
            let url = of.upstream.as_ref()?;
            let url = if url == VENDOR { vendor.to_owned() } else { url.clone() };
            Some(feed::Upstream { url, ca_file: of.ca_file.clone() })
        };
        let root_crl = self.intel.as_ref().and_then(|of| match of.root_crl_url.as_deref()? {
            // The vendor's host has a certificate of the web's, whoever vouches for the upstream.
            VENDOR => Some(feed::Upstream { url: feed::upstream::INTEL_ROOT_CRL.to_owned(), ca_file: None }),
            url => Some(feed::Upstream { url: url.to_owned(), ca_file: of.ca_file.clone() }),
        });
        feed::Settings {
            amd: upstream(&self.amd, feed::upstream::AMD),
            intel: upstream(&self.intel, feed::upstream::INTEL),
            root_crl,
            update: self.intel.as_ref().and_then(|intel| intel.update).unwrap_or_default(),
            per_client: self.budget.per_client,
            in_all: self.budget.in_all,
            ..feed::Settings::default()
        }
    }

    /// The vendors whose platforms are served here.
    #[must_use]
    pub fn vendors(&self) -> Vendors {
        let named = |is: bool| if is { Named::Yes } else { Named::No };
        Vendors {
            amd: named(self.amd.is_some()),
            intel: named(self.intel.is_some()),
            intel_upstream: named(self.intel.as_ref().is_some_and(|intel| intel.upstream.is_some())),
        }
    }
}

/// The word for a vendor's own service.
const VENDOR: &str = "vendor";

/// Whether an upstream is `vendor`, or a URL of a host without user, query or fragment.
fn is_upstream(text: &str) -> bool {
    text == VENDOR || (is_place(text) && !text.contains('?'))
}

/// Whether it is a URL of a host without user or fragment.
fn is_place(text: &str) -> bool {
    let uri = text.parse::<axum::http::Uri>().ok().filter(|uri| matches!(uri.scheme_str(), Some("http" | "https")));
    uri.as_ref().and_then(axum::http::Uri::authority).is_some_and(|host| !host.as_str().contains('@')) && !text.contains('#')
}

/// A whole number and a unit, such as `7 days`.
fn span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let read = || {
        let (number, unit) = text.split_once(' ')?;
        let seconds = match unit {
            "second" | "seconds" => 1,
            "minute" | "minutes" => 60,
            "hour" | "hours" => 3600,
            "day" | "days" => 24 * 3600,
            _ => return None,
        };
        let number = Some(number).filter(|number| number.bytes().all(|byte| byte.is_ascii_digit()))?;
        number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
    };
    read().ok_or_else(|| serde::de::Error::custom(format_args!("{text:?} is no span of time such as \"7 days\" or \"12 hours\"")))
}

fn some_span<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    span(deserializer).map(Some)
}

/// Limits on callers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Challenges and release requests a second, for one client address.
    pub requests_per_second: u32,
    /// How far a client may exceed it at once.
    pub burst: u32,
    /// Requests under way at once; more are answered 503 with `Retry-After`.
    pub concurrent: usize,
    /// Connections at once; more wait in the operating system's queue.
    pub connections: usize,
    /// How long a challenge lives, in seconds; at most 600.
    pub challenge_seconds: u64,
    /// How long a request may take to arrive and be answered, in seconds.
    pub request_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_second: 50, burst: 200, concurrent: 512, connections: 4096, challenge_seconds: 120, request_seconds: 30 }
    }
}

impl Limits {
    /// How long a challenge lives.
    #[must_use]
    pub const fn challenge_life(&self) -> Duration {
        Duration::from_secs(self.challenge_seconds)
    }
}

/// How to log.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Logging {
    /// `json` for machines, `text` for people.
    pub format: LogFormat,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For a terminal.
    Text,
}

impl Config {
    /// Reads and checks a file. Relative paths in it start at its folder.
    ///
    /// # Errors
    /// [`ConfigError`], naming file, line and rule.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Read { path: path.to_owned(), error: error.to_string() })?;
        let mut config = Self::parse(&text)?;
        let base = path.parent().unwrap_or_else(|| Path::new(""));
        config.resolve(base);
        Ok(config)
    }

    /// Reads and checks the text of a file.
    ///
    /// # Errors
    /// [`ConfigError::Form`] with line and column, [`ConfigError::Rule`].
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| ConfigError::Form(error.to_string().trim_end().to_owned()))?;
        config.check()?;
        Ok(config)
    }

    fn resolve(&mut self, base: &Path) {
        let Self { data, listen, unlock, collateral, identity, .. } = self;
        let bundles = identity.iter_mut().flat_map(|identity| &mut identity.federated).map(|federated| &mut federated.bundle);
        let tls = listen.tls.iter_mut().flat_map(|tls| [&mut tls.certificates, &mut tls.key]);
        let optional = [&mut unlock.passphrase_file, &mut unlock.key_file, &mut collateral.folder].into_iter().flatten();
        let authorities = [&mut collateral.amd, &mut collateral.intel].into_iter().flatten().filter_map(|vendor| vendor.ca_file.as_mut());
        for path in tls.chain(optional).chain(authorities).chain(bundles).chain([data]) {
            *path = base.join(&*path);
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let plain = self.listen.tls.is_none();
        let beyond = !self.listen.address.ip().is_loopback() && self.listen.plain_http == PlainHttp::LoopbackOnly;
        rule(plain && beyond, "plain HTTP beyond loopback", "add [listen.tls], or say plain_http = \"behind-a-proxy\"")?;
        let unlock = &self.unlock;
        let both = unlock.passphrase_file.is_some() && unlock.key_file.is_some();
        rule(both, "both a passphrase file and a key file", "name one under [unlock]")?;
        let limits = &self.limits;
        rule(!(10..=600).contains(&limits.challenge_seconds), "limits.challenge_seconds outside 10 to 600", "120 suits most")?;
        rule(limits.requests_per_second == 0 || limits.burst == 0, "a rate limit of zero", "it would refuse everybody")?;
        rule(
            limits.concurrent == 0 || limits.connections == 0 || limits.request_seconds == 0,
            "a limit of zero",
            "it would refuse everybody",
        )?;
        let Collateral { amd, intel, budget, .. } = &self.collateral;
        for upstream in [amd, intel].into_iter().flatten().filter_map(|vendor| vendor.upstream.as_ref()) {
            let hint = "say upstream = \"vendor\", or the URL of a mirror: https://HOST[:PORT][/PREFIX]";
            rule(!is_upstream(upstream), "an upstream that is neither \"vendor\" nor a URL", hint)?;
        }
        rule(amd.as_ref().is_some_and(|amd| amd.update.is_some()), "collateral.amd.update", "only Intel has two evaluations")?;
        let own_root = amd.as_ref().is_some_and(|amd| amd.root_crl_url.is_some());
        rule(own_root, "collateral.amd.root_crl_url", "AMD's lists are at its service")?;
        if let Some(VendorCollateral { root_crl_url: Some(url), upstream, .. }) = intel {
            rule(upstream.is_none(), "collateral.intel.root_crl_url without an upstream", "name an upstream, or nobody is asked")?;
            let hint = "say root_crl_url = \"vendor\", or a whole URL: https://HOST[:PORT]/PATH";
            rule(url != VENDOR && !is_place(url), "a root_crl_url that is neither \"vendor\" nor a URL", hint)?;
        }
        rule(budget.per_client == 0 || budget.in_all == 0, "a budget of zero fetches", "name no upstream, and nobody is asked")?;
        for signers in [&self.publishers, &self.authorities] {
            let distinct: HashSet<_> = signers.iter().map(|signer| signer.key).collect();
            rule(distinct.len() != signers.len(), "the same key twice in one list", "give it one entry with all its names")?;
            for pattern in signers.iter().flat_map(|signer| &signer.names) {
                rule(
                    !is_pattern(pattern),
                    "a name pattern that is none of *, NAME/*, NAME",
                    "names are a-z 0-9 . _ - in segments divided by /",
                )?;
            }
            rule(signers.iter().any(|signer| signer.names.is_empty()), "a key without names", "say names = [\"*\"] or narrower")?;
        }
        let assigning = self.publishers.iter().any(|publisher| !publisher.identities.is_empty());
        rule(assigning, "identities of a publisher", "an [[authority]] signs the policies that assign them")?;
        let paths = self.authorities.iter().flat_map(|authority| &authority.identities);
        let hint = "paths of SPIFFE IDs stand without the trust domain and its slash, such as \"inference/*\"";
        rule(!paths.clone().all(|pattern| is_path_pattern(pattern)), "a pattern of identities that is none of *, PATH/*, PATH", hint)?;
        self.identity.as_ref().map_or(Ok(()), Identity::check)?;
        Ok(())
    }
}

fn is_pattern(pattern: &str) -> bool {
    pattern == "*" || pattern.strip_suffix("/*").unwrap_or(pattern).parse::<Name>().is_ok()
}

fn is_path_pattern(pattern: &str) -> bool {
    let path = pattern.strip_suffix("/*").unwrap_or(pattern);
    pattern == "*" || format!("spiffe://a/{path}").parse::<SpiffeId>().is_ok()
}

/// A rule beyond the types.
fn rule(broken: bool, rule: &'static str, hint: &'static str) -> Result<(), ConfigError> {
    if broken { Err(ConfigError::Rule { rule, hint }) } else { Ok(()) }
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        error: String,
    },
    /// Not this kind of TOML; the message shows the line.
    #[error("{0}")]
    Form(String),
    /// A rule beyond the types.
    #[error("{rule}\nhint: {hint}")]
    Rule {
        /// What is wrong.
        rule: &'static str,
        /// What may help.
        hint: &'static str,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(listen: &str, more: &str) -> String {
        let key = PublicKey::from_bytes([1; 32]);
        format!("root = \"{key}\"\ndata = \"data\"\n{more}\n[listen]\n{listen}\n")
    }

    fn rule(listen: &str, more: &str) -> &'static str {
        match Config::parse(&sample(listen, more)) {
            Err(ConfigError::Rule { rule, .. }) => rule,
            other => panic!("{other:?}"),
        }
    }

    const LOOPBACK: &str = "address = \"127.0.0.1:8443\"";

    #[test]
    fn plain_http_stays_on_loopback_unless_said() {
        assert!(Config::parse(&sample(LOOPBACK, "")).is_ok());
        assert_eq!(rule("address = \"0.0.0.0:8443\"", ""), "plain HTTP beyond loopback");
        assert!(Config::parse(&sample("address = \"0.0.0.0:8443\"\nplain_http = \"behind-a-proxy\"", "")).is_ok());
        assert!(Config::parse(&sample("address = \"0.0.0.0:8443\"\ntls = { certificates = \"c\", key = \"k\" }", "")).is_ok());
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error = Config::parse(&sample(LOOPBACK, "insecure = true")).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("insecure"), "{error}");
    }

    #[test]
    fn signers_have_names_and_stand_once() {
        let key = PublicKey::from_bytes([2; 32]);
        let signer = |names: &str| format!("[[publisher]]\nkey = \"{key}\"\nnames = {names}\n");
        let parse = |more: &str| Config::parse(&format!("{}{more}", sample(LOOPBACK, "")));
        assert!(parse(&signer("[\"*\", \"acme/*\", \"acme\"]")).is_ok());
        for bad in ["[]", "[\"acme*\"]", "[\"Acme\"]", "[\"\"]"] {
            assert!(matches!(parse(&signer(bad)), Err(ConfigError::Rule { .. })), "{bad}");
        }
        assert!(matches!(parse(&(signer("[\"*\"]") + &signer("[\"*\"]"))), Err(ConfigError::Rule { .. })));
    }

    #[test]
    fn nobody_is_asked_for_collateral_unless_an_upstream_is_named() {
        let parse = |text: &str| Config::parse(&format!("{}{text}", sample(LOOPBACK, ""))).map(|config| config.collateral);
        let urls = |text: &str| {
            let feed = parse(text).unwrap().feed();
            [feed.amd, feed.intel].map(|upstream| upstream.map(|upstream| upstream.url))
        };
        assert_eq!(urls(""), [None, None]);
        assert_eq!(urls("[collateral.amd]\n[collateral.intel]\n"), [None, None]);
        let vendors = parse("[collateral.amd]\n").unwrap().vendors();
        assert_eq!(vendors, Vendors { amd: Named::Yes, ..Vendors::default() });
        let vendors = parse("[collateral.intel]\n").unwrap().vendors();
        assert_eq!(vendors, Vendors { intel: Named::Yes, ..Vendors::default() });
        let vendors = parse("[collateral.intel]\nupstream = \"vendor\"\n").unwrap().vendors();
        assert_eq!(vendors, Vendors { intel: Named::Yes, intel_upstream: Named::Yes, ..Vendors::default() });
        assert_eq!(urls("[collateral.amd]\nupstream = \"vendor\"\n"), [Some(feed::upstream::AMD.to_owned()), None]);
        let mirror = "[collateral.intel]\nupstream = \"http://pccs:8081/x\"\nupdate = \"standard\"\n";
        assert_eq!(urls(mirror), [None, Some("http://pccs:8081/x".to_owned())]);
        assert_eq!((parse(mirror).unwrap().feed().update, parse("").unwrap().feed().update), (Update::Standard, Update::Early));
        for bad in ["Vendor", "", "kdsintf.amd.com", "ftp://a", "https://a?b=c", "https://u:p@a", "https://a#b"] {
            let text = format!("[collateral.amd]\nupstream = \"{bad}\"\n");
            assert!(matches!(parse(&text), Err(ConfigError::Rule { .. })), "{bad}");
        }
        assert!(parse("[collateral.amd]\nupdate = \"early\"\n").is_err());
        assert!(parse("[collateral.budget]\nin_all = 0\n").is_err());
    }

    #[test]
    fn the_list_of_intels_root_is_where_the_configuration_says() {
        let parse = |text: &str| Config::parse(&format!("{}{text}", sample(LOOPBACK, ""))).map(|config| config.collateral.feed().root_crl);
        let intel = |more: &str| parse(&format!("[collateral.intel]\nupstream = \"https://pcs.test\"\nca_file = \"ca.pem\"\n{more}\n"));
        let named = |more: &str| intel(more).unwrap().map(|of| (of.url, of.ca_file.is_some()));
        assert_eq!(named(""), None);
        assert_eq!(named("root_crl_url = \"vendor\""), Some((feed::upstream::INTEL_ROOT_CRL.to_owned(), false)));
        for url in ["https://pcs.test/root.der", "http://pcs.test:8081/crl?uri=https://a/b.der"] {
            assert_eq!(named(&format!("root_crl_url = \"{url}\"")), Some((url.to_owned(), true)));
        }
        let rule = |outcome| matches!(outcome, Err(ConfigError::Rule { .. }));
        for bad in ["Vendor", "", "pcs.test/root.der", "ftp://pcs.test/a", "https://u@pcs.test/a", "https://pcs.test/a#b"] {
            assert!(rule(intel(&format!("root_crl_url = \"{bad}\""))), "{bad}");
        }
        assert!(rule(parse("[collateral.intel]\nroot_crl_url = \"vendor\"\n")), "nobody is asked");
        assert!(rule(parse("[collateral.amd]\nupstream = \"vendor\"\nroot_crl_url = \"vendor\"\n")));
    }

    #[test]
    fn a_span_is_a_number_and_a_unit() {
        let parse = |text: &str| Config::parse(&format!("{}[collateral]\nwarn_before = \"{text}\"\n", sample(LOOPBACK, "")));
        for (text, seconds) in [("7 days", 604_800), ("1 hour", 3600), ("0 seconds", 0)] {
            assert_eq!(parse(text).unwrap().collateral.warn_before, Duration::from_secs(seconds), "{text}");
        }
        for bad in ["7", "7d", "-1 days", "+1 days", "7  days", "1.5 days", "99999999999999999999 days", "7 weeks"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    fn identity(more: &str) -> Result<Config, ConfigError> {
        Config::parse(&format!("{}[identity]\ntrust-domain = \"acme.example\"\n{more}\n", sample(LOOPBACK, "")))
    }

    #[test]
    fn an_issuer_is_an_https_url_and_nothing_more() {
        for good in ["https://id.acme.example", "https://id.acme.example:8443/tenants/a"] {
            assert!(identity(&format!("issuer = \"{good}\"")).is_ok(), "{good}");
        }
        for bad in [
            "http://id.acme.example",
            "https://id.acme.example/",
            "https://id.acme.example/a/",
            "https://Id.acme.example",
            "HTTPS://id.acme.example",
            "https://a@id.acme.example",
            "https://id.acme.example?a=b",
            "https://id.acme.example#a",
            "id.acme.example",
            "https://",
            "",
        ] {
            let refused = identity(&format!("issuer = \"{bad}\"")).err();
            assert!(matches!(refused, Some(ConfigError::Rule { rule: "identity.issuer is no issuer URL", .. })), "{bad}: {refused:?}");
        }
    }

    #[test]
    fn keys_live_for_a_day_or_more_and_overlap() {
        let terms = |more| identity(more).unwrap().identity.unwrap().terms();
        let hours =
            |life: u64, overlap: u64| Terms { life: Duration::from_secs(3600 * life), overlap: Duration::from_secs(3600 * overlap) };
        assert_eq!(terms(""), hours(30 * 24, 7 * 24));
        assert_eq!(terms("key-life = \"4 days\""), hours(4 * 24, 24));
        assert_eq!(terms("key-life = \"1 day\"\noverlap = \"12 hours\""), hours(24, 12));
        for bad in ["key-life = \"23 hours\"", "key-life = \"367 days\"", "overlap = \"1 hour\"", "overlap = \"16 days\""] {
            assert!(matches!(identity(bad), Err(ConfigError::Rule { .. })), "{bad}");
        }
    }

    #[test]
    fn a_trust_domain_stands_once_and_none_is_our_own() {
        let federated = |domain: &str| format!("[[identity.federated]]\ntrust-domain = \"{domain}\"\nbundle = \"b.json\"\n");
        assert!(identity(&(federated("one.example") + &federated("two.example"))).is_ok());
        for bad in [federated("acme.example"), federated("ACME.example"), federated("one.example") + &federated("one.example")] {
            assert!(matches!(identity(&bad), Err(ConfigError::Rule { rule: "a trust domain twice under [identity]", .. })), "{bad}");
        }
        let many: String = (0..17).map(|number| federated(&format!("d{number}.example"))).collect();
        assert!(identity(&many).is_err());
        assert!(matches!(identity(&federated("one.example/a")), Err(ConfigError::Form(_))));
    }

    #[test]
    fn an_authority_assigns_what_its_patterns_say_and_a_publisher_nothing() {
        let key = PublicKey::from_bytes([2; 32]);
        let signer = |kind: &str, identities: &str| {
            let text = format!("[[{kind}]]\nkey = \"{key}\"\nnames = [\"*\"]\nidentities = {identities}\n");
            Config::parse(&format!("{}{text}", sample(LOOPBACK, "")))
        };
        assert!(signer("authority", "[\"*\", \"inference/*\", \"inference/Llama_8b\"]").is_ok());
        for bad in ["[\"\"]", "[\"/a\"]", "[\"a*\"]", "[\"a/../b\"]", "[\"spiffe://a/b\"]", "[\"a/\"]", "[\"/*\"]"] {
            assert!(matches!(signer("authority", bad), Err(ConfigError::Rule { .. })), "{bad}");
        }
        assert!(matches!(signer("publisher", "[\"*\"]"), Err(ConfigError::Rule { rule: "identities of a publisher", .. })));
    }

    #[test]
    fn limits_are_never_zero_and_challenges_short() {
        for bad in
            ["concurrent = 0", "connections = 0", "burst = 0", "requests_per_second = 0", "request_seconds = 0", "challenge_seconds = 601"]
        {
            let text = format!("{}[limits]\n{bad}\n", sample(LOOPBACK, ""));
            assert!(matches!(Config::parse(&text), Err(ConfigError::Rule { .. })), "{bad}");
        }
    }
}
