//! The keeper over time: when it renews, what an outage and a denial do to what it holds. The time and the broker are the test's.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use guest_client::clock::Moment;
use guest_client::config::Plaintext;
use guest_client::exchange::{AskFor, ExchangeError};
use guest_client::identity::files::{TokenFile, TokenFiles};
use guest_client::identity::keeper::{Answer, Issuer, Keeper, Plan};
use guest_client::identity::view::{Identity, NoToken, Order, Standing, Token, View};
use guest_client::retry::Pace;
use protocol::ids::{DecisionId, Name};
use protocol::messages::{Problem, Reason, X509Svid};
use protocol::spiffe::SpiffeId;
use protocol::time::UnixTime;
use support::issuer::Authority;
use support::{identity, now};
use tokio::sync::oneshot;

const POLICY: &str = "agents/research";
/// How long certificates, tokens and permits are issued for.
const CERTIFICATE: u64 = 3600;
const TOKEN: u64 = 300;
const PERMIT: u64 = 7200;

/// What the broker does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mood {
    Answers,
    Outage(Option<u64>),
    Denies(&'static str),
    Rejects,
    Disbelieved,
}

/// A broker that does as it is told, and remembers.
struct Broker {
    authority: Authority,
    id: SpiffeId,
    /// Trust domains that it is federated with.
    partners: Vec<Authority>,
    mood: Mood,
    refused: Vec<&'static str>,
    /// Whether a certificate was asked for, and which audiences.
    asked: Vec<(bool, Vec<String>)>,
    forgotten: usize,
    /// When the guest attested: a permit holds for so long from then.
    attested: Option<UnixTime>,
    /// Now, by the guest's clocks.
    at: Moment,
    issued: u32,
}

impl Broker {
    fn new() -> Self {
        Self {
            authority: Authority::new("acme.example"),
            id: "spiffe://acme.example/agents/research".parse().unwrap(),
            partners: Vec::new(),
            mood: Mood::Answers,
            refused: Vec::new(),
            asked: Vec::new(),
            forgotten: 0,
            attested: None,
            at: Moment { wall: now(), boot: Duration::from_secs(1000) },
            issued: 0,
        }
    }

    fn later(&self, seconds: u64) -> UnixTime {
        self.at.wall.plus(Duration::from_secs(seconds))
    }

    fn refusal(code: &str) -> Answer {
        let reason = Reason { code: code.into(), found: String::new(), hint: String::new() };
        Answer::Refused(vec![reason], DecisionId::from([7; 16]))
    }
}

impl Issuer for Broker {
    fn identify(&mut self, policy: &Name, ask: &AskFor<'_>) -> Result<Answer, ExchangeError> {
        assert_eq!(policy.as_str(), POLICY);
        self.asked.push((ask.x509.is_some(), ask.jwt_audiences.to_vec()));
        match &self.mood {
            Mood::Answers => {}
            Mood::Outage(after) => {
                let retry_after = after.map(Duration::from_secs);
                return Err(ExchangeError::Unavailable { path: "/v1/release", status: 503, problem: None, retry_after });
            }
            Mood::Denies(code) => return Ok(Self::refusal(code)),
            Mood::Rejects => return Err(ExchangeError::Rejected(Box::new(Problem::new(403, "snp-signature", "not genuine")))),
            Mood::Disbelieved => return Err(ExchangeError::OtherEntry { what: "decision" }),
        }
        if ask.jwt_audiences.iter().any(|audience| self.refused.contains(&audience.as_str())) {
            return Ok(Self::refusal("identity-audience"));
        }
        self.issued += 1;
        let mut identified = self.authority.identified(identity(POLICY), &self.id, &[]);
        identified.expires = self.attested.get_or_insert(self.at.wall).plus(Duration::from_secs(PERMIT));
        // The exchange has checked it by now: what it is does not matter here.
        let certificate = || X509Svid { certificates: vec![vec![1]], serial: self.issued.to_string(), not_after: self.later(CERTIFICATE) };
        identified.x509 = ask.x509.map(|_| certificate());
        identified.jwt =
            ask.jwt_audiences.iter().map(|audience| self.authority.token(&self.id, audience, Duration::from_secs(TOKEN))).collect();
        for token in &mut identified.jwt {
            token.expires = self.later(TOKEN);
        }
        let bundles = self.authority.bundles(&self.id, &self.partners.iter().collect::<Vec<_>>());
        Ok(Answer::Identified(Box::new(identified), bundles))
    }

    fn forget(&mut self) {
        self.forgotten += 1;
        self.attested = None;
    }
}

/// No chance: everything is as late as it can be.
struct Late;

impl Pace for Late {
    fn elapsed(&self) -> Duration {
        Duration::ZERO
    }
    fn sleep(&self, _: Duration) {}
    fn below(&self, _: Duration) -> Duration {
        Duration::ZERO
    }
}

struct Kept {
    keeper: Keeper,
    view: View,
    broker: Broker,
    folder: tempfile::TempDir,
}

impl Kept {
    /// With a token file for each of these audiences.
    fn new(audiences: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |audience: &&str| TokenFile { audience: (*audience).into(), path: folder.path().join(audience), mode: 0o600 };
        let files = TokenFiles::new(audiences.iter().map(file).collect(), Plaintext::Disk).unwrap();
        let plan = Plan { policy: POLICY.parse().unwrap(), check_every: Duration::from_secs(600) };
        let (keeper, view, _, _) = Keeper::new(plan, files, Box::new(Late));
        Self { keeper, view, broker: Broker::new(), folder }
    }

    fn step(&mut self) {
        let now = self.broker.at;
        self.keeper.step(&mut self.broker, now);
    }

    /// Every second of these, as the keeper's thread does.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.broker.at.wall = self.broker.later(1);
            self.pass_behind_the_clock(1);
        }
    }

    /// The same, while somebody holds the wall clock back.
    fn pass_behind_the_clock(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.broker.at.boot += Duration::from_secs(1);
            self.step();
        }
    }

    fn identity(&self) -> Option<Arc<Identity>> {
        if let Standing::Identified(identity) = self.view.standing() { Some(identity) } else { None }
    }

    fn serial(&self) -> String {
        self.identity().map(|identity| identity.x509.serial.clone()).unwrap_or_default()
    }

    fn token(&mut self, audience: &str) -> Result<Arc<Token>, NoToken> {
        let ((reply, mut answer), now) = (oneshot::channel(), self.broker.at);
        self.keeper.take(Order::Token(audience.into(), reply), &mut self.broker, now);
        answer.try_recv().unwrap()
    }

    fn file(&self, audience: &str) -> Option<String> {
        fs::read_to_string(self.path(audience)).ok()
    }

    fn path(&self, audience: &str) -> PathBuf {
        Path::join(self.folder.path(), audience)
    }

    fn certificates_asked(&self) -> usize {
        self.broker.asked.iter().filter(|(certificate, _)| *certificate).count()
    }
}

#[test]
fn a_certificate_is_renewed_at_half_of_its_life_under_a_new_key() {
    let mut kept = Kept::new(&[]);
    kept.step();
    assert_eq!((kept.serial(), kept.certificates_asked()), ("1".into(), 1));
    let key = kept.identity().unwrap().x509.key.clone();
    kept.pass(CERTIFICATE / 2 - 1);
    assert_eq!(kept.certificates_asked(), 1);
    kept.pass(1);
    assert_eq!(kept.certificates_asked(), 2);
    assert_ne!(kept.identity().unwrap().x509.key, key);
}

#[test]
fn the_broker_is_asked_in_between_whether_the_identity_still_holds() {
    let mut kept = Kept::new(&[]);
    kept.step();
    kept.pass(599);
    assert_eq!(kept.broker.asked.len(), 1);
    kept.pass(1);
    assert_eq!(kept.broker.asked[1], (false, vec![]), "it asks for nothing new");
    assert_eq!(kept.serial(), "1");
    kept.broker.mood = Mood::Denies("record-revoked");
    kept.pass(600);
    assert!(matches!(kept.view.standing(), Standing::Denied(denied) if denied.code == "record-revoked"));
}

#[test]
fn the_guest_attests_anew_at_half_of_the_permit() {
    let mut kept = Kept::new(&[]);
    kept.step();
    for _ in 0..5 {
        kept.pass(600);
    }
    let before = kept.broker.forgotten;
    assert_eq!(before, 0);
    kept.pass(600);
    assert_eq!(kept.broker.forgotten, 1);
    kept.pass(2 * PERMIT);
    assert!(kept.broker.forgotten > 3 && kept.identity().is_some());
}

#[test]
fn a_token_file_is_kept_fresh() {
    let mut kept = Kept::new(&["sts", "google"]);
    kept.step();
    assert_eq!(kept.broker.asked, [(true, vec!["google".into(), "sts".into()])], "all in one request");
    let first = kept.file("sts").unwrap();
    kept.pass(TOKEN / 2 - 1);
    assert_eq!(kept.file("sts"), Some(first.clone()));
    kept.pass(1);
    assert_ne!(kept.file("sts"), Some(first));
    assert_eq!(kept.certificates_asked(), 1);
}

#[test]
fn an_outage_changes_nothing_until_what_is_held_runs_out() {
    let mut kept = Kept::new(&["sts"]);
    kept.step();
    kept.broker.mood = Mood::Outage(None);
    kept.pass(CERTIFICATE);
    assert_eq!(kept.serial(), "1", "its last second counts");
    kept.pass(1);
    assert!(matches!(kept.view.standing(), Standing::Unknown));
    assert!(kept.file("sts").is_none(), "its tokens went with it");
    kept.broker.mood = Mood::Answers;
    kept.pass(60);
    assert!(kept.identity().is_some() && kept.file("sts").is_some());
}

#[test]
fn an_outage_is_waited_out_ever_more_slowly_and_as_the_broker_asks() {
    let mut kept = Kept::new(&[]);
    kept.broker.mood = Mood::Outage(Some(30));
    kept.step();
    kept.pass(30);
    assert_eq!(kept.broker.asked.len(), 1, "it asked to be left alone");
    kept.pass(1);
    assert_eq!(kept.broker.asked.len(), 2);
    kept.broker.mood = Mood::Disbelieved;
    kept.pass(100);
    assert!(kept.broker.asked.len() > 3 && kept.identity().is_none());
}

#[test]
fn a_denial_drops_everything_at_once_and_is_asked_about_again_later() {
    let mut kept = Kept::new(&["sts"]);
    kept.step();
    assert!(kept.token("tools").is_ok());
    kept.broker.mood = Mood::Denies("snp-measurement");
    kept.pass(TOKEN / 2);
    let Standing::Denied(denied) = kept.view.standing() else { panic!("{:?}", kept.view.standing()) };
    assert_eq!(denied.code, "snp-measurement");
    assert!(kept.file("sts").is_none());
    assert!(matches!(kept.token("tools"), Err(NoToken::Denied(_))));
    let asked = kept.broker.asked.len();
    kept.pass(58);
    assert_eq!(kept.broker.asked.len(), asked);
    kept.broker.mood = Mood::Answers;
    kept.pass(2);
    assert!(kept.identity().is_some());
}

#[test]
fn a_rejection_that_anybody_could_have_sent_takes_nothing_before_its_time() {
    let mut kept = Kept::new(&[]);
    kept.step();
    kept.broker.mood = Mood::Rejects;
    kept.pass(CERTIFICATE);
    assert_eq!(kept.serial(), "1");
    assert!(matches!(kept.token("tools"), Err(NoToken::Outage)));
    kept.pass(1);
    assert!(kept.identity().is_none());
    // Where there is nothing to take, it is shown, and workloads are told no more than that nobody has answered.
    kept.pass(60);
    assert!(matches!(kept.view.standing(), Standing::Rejected(denied) if denied.code == "snp-signature"));
    assert!(matches!(kept.token("tools"), Err(NoToken::Unknown)));
    kept.broker.mood = Mood::Answers;
    kept.pass(60);
    assert!(kept.identity().is_some());
}

#[test]
fn a_rejection_that_anybody_could_have_sent_is_no_denial_at_the_start_and_takes_none_back() {
    let mut kept = Kept::new(&[]);
    kept.broker.mood = Mood::Rejects;
    kept.step();
    assert!(matches!(kept.view.standing(), Standing::Rejected(denied) if denied.code == "snp-signature"));
    kept.broker.mood = Mood::Denies("snp-measurement");
    kept.pass(60);
    assert!(matches!(kept.view.standing(), Standing::Denied(denied) if denied.code == "snp-measurement"));
    kept.broker.mood = Mood::Rejects;
    kept.pass(60);
    assert!(matches!(kept.view.standing(), Standing::Denied(denied) if denied.code == "snp-measurement"), "the broker's own word stands");
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_stops_nothing() {
    let mut kept = Kept::new(&[]);
    let right = kept.broker.at.wall;
    // What is issued now has run out by this clock, and is not believed.
    (kept.broker.at.wall, kept.broker.mood) = (kept.broker.later(7200), Mood::Disbelieved);
    kept.step();
    (kept.broker.at.wall, kept.broker.mood) = (right, Mood::Answers);
    kept.pass(2);
    assert!(kept.identity().is_some());
}

#[test]
fn a_clock_that_was_ahead_when_the_broker_answered_makes_nothing_later() {
    let mut kept = Kept::new(&["sts"]);
    let right = kept.broker.at.wall;
    kept.broker.at.wall = kept.broker.later(1800);
    kept.broker.refused.push("stranger");
    kept.step();
    assert!(matches!(kept.token("stranger"), Err(NoToken::Audience(_))));
    let asked = kept.broker.asked.len();
    kept.broker.at.wall = right;
    kept.pass(TOKEN / 2);
    assert_eq!(kept.broker.asked.len(), asked + 1, "the token of a file");
    assert!(matches!(kept.token("stranger"), Err(NoToken::Audience(_))));
    assert_eq!(kept.broker.asked.len(), asked + 2, "a refusal is asked about again");
    kept.broker.mood = Mood::Denies("record-revoked");
    kept.pass(600);
    assert!(matches!(kept.view.standing(), Standing::Denied(_)));
}

#[test]
fn a_clock_that_is_held_back_does_not_prolong_an_identity() {
    let mut kept = Kept::new(&["sts"]);
    kept.step();
    kept.broker.mood = Mood::Outage(None);
    kept.pass_behind_the_clock(CERTIFICATE);
    assert_eq!(kept.serial(), "1", "its last second counts");
    kept.pass_behind_the_clock(1);
    assert!(kept.identity().is_none() && kept.file("sts").is_none());
}

#[test]
fn an_audience_that_is_refused_takes_nothing_else_with_it() {
    let mut kept = Kept::new(&["sts", "stranger"]);
    kept.broker.refused.push("stranger");
    kept.step();
    assert!(kept.identity().is_some() && kept.file("sts").is_some() && kept.file("stranger").is_none());
    let asked = kept.broker.asked.len();
    assert_eq!(asked, 4, "once together, then each alone");
    kept.pass(59);
    assert_eq!(kept.broker.asked.len(), asked, "it is not asked about at every turn");
    assert!(matches!(kept.token("stranger"), Err(NoToken::Audience(denied)) if denied.code == "identity-audience"));
    kept.broker.refused.clear();
    kept.pass(60);
    assert!(kept.file("stranger").is_some());
}

#[test]
fn a_token_on_demand_is_kept_until_half_of_its_life() {
    let mut kept = Kept::new(&[]);
    assert!(matches!(kept.token("tools"), Err(NoToken::Unknown)), "there is no identity yet");
    kept.step();
    let first = kept.token("tools").unwrap();
    assert_eq!(kept.broker.asked[1], (false, vec!["tools".into()]));
    kept.pass(TOKEN / 2 - 1);
    assert_eq!(kept.token("tools").unwrap().jti, first.jti);
    kept.pass(1);
    assert_ne!(kept.token("tools").unwrap().jti, first.jti);
}

#[test]
fn audiences_that_are_kept_have_a_number() {
    let mut kept = Kept::new(&[]);
    kept.step();
    for index in 0..64 {
        assert!(kept.token(&format!("audience-{index}")).is_ok());
    }
    assert!(matches!(kept.token("one-more"), Err(NoToken::Busy)));
    assert!(kept.token("audience-3").is_ok(), "those that are kept are still given");
    kept.pass(TOKEN + 1);
    assert!(kept.token("one-more").is_ok());
}

#[test]
fn an_older_bundle_is_not_taken() {
    let mut kept = Kept::new(&[]);
    kept.broker.authority.sequence = 7;
    kept.step();
    kept.broker.authority.sequence = 6;
    kept.pass(CERTIFICATE / 2);
    assert_eq!((kept.serial(), kept.identity().unwrap().bundles.own().sequence()), ("1".into(), 7));
    kept.broker.authority.sequence = 8;
    kept.pass(60);
    assert_eq!(kept.identity().unwrap().bundles.own().sequence(), 8);
    assert_ne!(kept.serial(), "1");
}

#[test]
fn an_older_bundle_of_a_foreign_trust_domain_takes_nothing_with_it() {
    let mut kept = Kept::new(&[]);
    kept.broker.partners.push(Authority::new("partner.example"));
    let partner = |kept: &Kept| kept.identity().unwrap().bundles.federated().map(|bundle| bundle.sequence()).collect::<Vec<_>>();
    kept.broker.partners[0].sequence = 7;
    kept.step();
    kept.broker.partners[0].sequence = 6;
    kept.broker.authority.sequence += 1;
    kept.pass(CERTIFICATE / 2);
    assert_ne!(kept.serial(), "1");
    assert_eq!((kept.identity().unwrap().bundles.own().sequence(), partner(&kept)), (2, vec![7]), "the one that is held stays");
    kept.broker.partners[0].sequence = 8;
    kept.pass(600);
    assert_eq!(partner(&kept), [8]);
    // One that is federated with no more is believed no more.
    kept.broker.partners.clear();
    kept.pass(600);
    assert!(partner(&kept).is_empty());
}

#[test]
fn another_name_comes_with_another_certificate_and_other_tokens() {
    let mut kept = Kept::new(&["sts"]);
    kept.step();
    let old = kept.file("sts").unwrap();
    kept.broker.id = "spiffe://acme.example/agents/renamed".parse().unwrap();
    kept.pass(TOKEN / 2);
    kept.pass(1);
    let identity = kept.identity().unwrap();
    assert_eq!((identity.id.path(), kept.certificates_asked()), ("/agents/renamed", 2));
    assert!(kept.file("sts").is_some_and(|new| new != old));
}

#[test]
fn who_asks_for_a_renewal_gets_a_new_certificate() {
    let mut kept = Kept::new(&[]);
    kept.step();
    let now = kept.broker.at;
    kept.keeper.take(Order::Renew, &mut kept.broker, now);
    kept.step();
    assert_eq!(kept.certificates_asked(), 2);
    kept.pass(5);
    assert_eq!(kept.certificates_asked(), 2);
}

#[test]
fn nothing_is_left_in_files_at_the_end() {
    let kept = Kept::new(&["sts"]);
    let Kept { keeper, view, mut broker, folder } = kept;
    let (orders, queue) = std::sync::mpsc::sync_channel(4);
    let running = std::thread::spawn(move || keeper.run(&mut broker, &queue));
    while !folder.path().join("sts").exists() {
        std::thread::sleep(Duration::from_millis(10));
    }
    orders.send(Order::Stop).unwrap();
    running.join().unwrap();
    assert!(!folder.path().join("sts").exists());
    assert!(matches!(view.standing(), Standing::Unknown));
}
